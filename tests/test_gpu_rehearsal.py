"""The two GPU commands, rehearsed on a CPU: rows as they go, an end by the clock, nothing left running."""

import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
from test_studies import ROOT, load


def run(*words: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TRIPTYCH_GPU_REHEARSAL": "1", "PYTHON": sys.executable}
    command = [str(ROOT / "benchmarks" / "gpu.sh"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)


def left_running(out: Path) -> list[str]:
    """Processes that have a folder on their command line."""
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    return [line for line in running.splitlines() if str(out) in line]


def test_a_part_has_to_be_named() -> None:
    found = run("everything")
    assert found.returncode == 2
    assert "usage: benchmarks/gpu.sh check|study" in found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("part", ["kernels", "branch", "mti-net hrnet_w48, fp32", "invpt vit_large, bf16"])
def test_parts_of_the_check_write_their_numbers(part: str, tmp_path: Path) -> None:
    found = run("check", part, "--results", str(tmp_path))
    assert found.returncode == 0, found.stderr
    [row] = map(json.loads, (tmp_path / "gpu-check.jsonl").read_text().splitlines())
    assert row["part"] == part
    assert row["rehearsal"]
    numbers = {name: value for name, value in row.items() if isinstance(value, float)}
    assert numbers
    if part == "kernels":
        assert row["fused"]
        assert max(numbers.values()) < 1e-4


def test_the_check_ends_by_the_clock_and_says_what_ran_out_of_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A part that no machine finishes in its time leaves a row without numbers, and no other begins."""
    check = load("gpu_check", "benchmarks")
    monkeypatch.setattr(check, "start", lambda *_: subprocess.Popen(["sleep", "600"], start_new_session=True))
    path, children = tmp_path / "results" / "gpu-check.jsonl", []
    started = time.monotonic()
    check.check_all(Namespace(seconds=5.5, out=tmp_path), path, children)
    assert time.monotonic() - started < 30
    assert [child.returncode for child in children] == [-signal.SIGKILL]
    [row] = map(json.loads, path.read_text().splitlines())
    assert (row["part"], row["failed"]) == ("kernels", "ran out of time")
    assert "time is over before tests" in capsys.readouterr().out


@pytest.mark.slow
def test_the_study_writes_rows_as_they_come_and_goes_on(tmp_path: Path) -> None:
    """The first row is there while the command still runs; killed, a later call repeats none of it."""
    path = tmp_path / "results" / "geometry-gpu.jsonl"
    environment = {**os.environ, "TRIPTYCH_GPU_REHEARSAL": "1", "PYTHON": sys.executable}
    words = ["study", "--results", str(path.parent), "--out", str(tmp_path / "out"), "--processes", "1"]
    command = [str(ROOT / "benchmarks" / "gpu.sh"), *words, "--seconds", "600"]
    for count in (1, 2):
        with (tmp_path / "log.txt").open("a") as log:
            child = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        while child.poll() is None and (not path.is_file() or len(path.read_text().splitlines()) < count):
            time.sleep(0.2)
        assert child.poll() is None, (tmp_path / "log.txt").read_text()
        child.terminate()
        child.wait()
        assert not left_running(tmp_path / "out")
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["arm"], row["seed"]) for row in found[:2]] == [("A", 400), ("D", 400)]
    assert {len(row["facts"]["trunk"]) for row in found} == {64}


@pytest.mark.slow
def test_the_study_ends_by_the_clock_and_leaves_nothing_running(tmp_path: Path) -> None:
    started = time.monotonic()
    found = run("study", "--seconds", "8", "--results", str(tmp_path / "results"), "--out", str(tmp_path / "out"))
    assert time.monotonic() - started < 60
    assert found.returncode in (0, 1), found.stderr
    assert not left_running(tmp_path / "out")
