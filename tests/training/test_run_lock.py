"""A run folder has one training at a time, and a process that died holds nothing."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from training.tiny import RECIPE, change

from triptych.training import loop
from triptych.training.rehearsal import rehearse
from triptych.training.run_lock import FILE, RunLock

ONE = change(RECIPE, schedule__steps=1, data__val_split="", training__evaluate_every=0)
HOLD = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.lockf(file, fcntl.LOCK_EX)
os.write(file, f"process {os.getpid()} on here".encode())
print("locked", flush=True)
input()
"""


def train(run: Path, recipe=ONE, **options: bool) -> Path:
    return loop.train(recipe, run, device="cpu", progress=False, **options)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Another process that has the lock of `tmp_path / "run"`, as of one whose start is not far."""
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-S", "-c", HOLD, str(tmp_path / "run" / FILE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def is_refused_elsewhere(run: Path) -> bool:
    """Whether another process, forked from this one, may not train a run."""
    child = os.fork()
    if child == 0:
        try:
            RunLock(run, main=True).__enter__()
        except BlockingIOError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_a_run_that_another_process_trains_is_refused_and_one_of_a_dead_process_is_not(
    holder: subprocess.Popen, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(BlockingIOError) as refused:
        train(run)
    assert str(refused.value) == (
        f"run folder {run} is being trained by process {holder.pid} on here; wait for its end, stop it, or choose "
        "another --out."
    )
    assert [path.name for path in run.iterdir()] == [FILE]
    holder.kill()
    holder.wait()
    train(run)
    assert not (run / FILE).exists()


def test_random_numbers_are_the_callers_again(tmp_path: Path) -> None:
    """A search that draws a value before each training would else draw one value again and again."""
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train(tmp_path / "run")
    rehearse(ONE, device="cpu")
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_a_run_is_locked_as_long_as_it_is_trained(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, refused = tmp_path / "run", []
    steps = loop._loop

    def ask(*arguments: object) -> None:
        refused.append(is_refused_elsewhere(run))
        steps(*arguments)  # type: ignore[arg-type]
        refused.append(is_refused_elsewhere(run))

    monkeypatch.setattr(loop, "_loop", ask)
    train(run)
    assert not is_refused_elsewhere(run)
    train(run, **{option: True})
    assert refused == [True] * 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_second_training_in_the_same_process_is_refused_and_costs_the_first_no_lock(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with RunLock(run, main=True):
        with pytest.raises(BlockingIOError, match=r"is being trained by another thread of this process; wait for"):
            train(tmp_path / "other" / ".." / "run")
        assert is_refused_elsewhere(run)
    assert not is_refused_elsewhere(run)
    with RunLock(run, main=True):
        pass


def test_another_run_in_the_same_process_is_refused(tmp_path: Path) -> None:
    """Both would draw from the generator of torch, and neither were the run of its seed."""
    with RunLock(tmp_path / "run", main=True):
        with pytest.raises(BlockingIOError, match=r"this process trains .*run already.*train .*other afterwards, or"):
            train(tmp_path / "other")
        assert not (tmp_path / "other").exists()
    train(tmp_path / "other")


def test_a_training_that_does_not_begin_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no-such"):
        train(tmp_path / "run", change(ONE, data__tasks=("no-such",)))
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    run = train(tmp_path / "run")
    line = f"{run} cannot be locked (No locks available): see that nothing else trains it"
    assert line in (run / "log.txt").read_text()


def test_a_folder_that_another_training_takes_away_at_its_end_is_locked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, opened = tmp_path / "run", os.open

    def come_late(*arguments) -> int:
        monkeypatch.setattr(os, "open", opened)
        run.rmdir()
        return opened(*arguments)

    monkeypatch.setattr(os, "open", come_late)
    with RunLock(run, main=True) as lock:
        assert lock.lines == []
        assert is_refused_elsewhere(run)
