"""The two GPU commands, rehearsed on a CPU: rows as they go, an end by the clock, nothing left running."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_studies import ROOT


def run(*words: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TRIPTYCH_GPU_REHEARSAL": "1", "PYTHON": sys.executable}
    command = [str(ROOT / "benchmarks" / "gpu.sh"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)


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


@pytest.mark.slow
def test_the_study_ends_by_the_clock_and_leaves_nothing_running(tmp_path: Path) -> None:
    started = time.monotonic()
    found = run("study", "--seconds", "8", "--results", str(tmp_path / "results"), "--out", str(tmp_path / "out"))
    assert time.monotonic() - started < 60
    assert found.returncode in (0, 1), found.stderr
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(tmp_path / "out") not in running
