"""The log of a run: how long it still takes."""

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.table import Table

from triptych.__main__ import main
from triptych.terminal import say, terminal
from triptych.training.log import RunLog


@contextmanager
def unread() -> Iterator[None]:
    """A screen whose reader left, as a `tee` that died does."""
    reader, writer = os.pipe()
    os.close(reader)
    file = os.fdopen(writer, "w")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", file)
        yield
    with suppress(BrokenPipeError):  # of what is left in its buffer
        file.close()


def test_work_goes_on_without_a_screen(tmp_path: Path) -> None:
    log = RunLog(tmp_path, steps=4, first_step=0, enabled=True, progress=True)
    with unread():
        for step in (1, 2):
            log.training({**RECORD, "step": step})
        log.close()
    with unread():
        say("a line")
        say("another one")
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 2


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii", "utf-8"])
def test_no_character_ends_a_training(encoding: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on Windows, where a file or pipe takes Latin letters alone, and of names that no encoding holds."""
    written = io.BytesIO()
    text = "mIoU ↑ ± caf\u00e9 \udce9"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    log = RunLog(tmp_path, steps=1, first_step=0, enabled=True, progress=True)
    log.message(text)
    log.console.print(Table(text, title=text))
    say(text)
    monkeypatch.setattr("triptych.__main__.TRIPTYCH", SimpleNamespace(run=lambda *words: print(text)))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    assert main(["list"]) == 0
    sys.stdout.flush()
    shown = written.getvalue().decode(encoding).splitlines()
    assert len([line for line in shown if "mIoU" in line]) == 5
    assert ("\\u2191" in shown[0]) == (encoding != "utf-8")
    log.close()


def test_control_characters_of_names_are_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    name = "split\x1b[2J :car:"
    table = Table("run", title=name)
    table.add_row(name)
    terminal().print(table)
    terminal().print(name)
    say(name)
    written = capsys.readouterr().out
    assert "\x1b" not in written
    assert written.count(r"split\x1b[2J :car:") == 4


def test_a_file_has_no_width(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    names = [f"runs/a study with a long name/method-{number}" for number in range(8)]
    terminal().print(Table(*names))
    written = capsys.readouterr().out
    assert all(name in written for name in names)
    table = Table(*"abcdefg")
    table.add_row(*["0.1234567890"] * 7)
    terminal(width=40).print(table)  # a narrow terminal wraps
    assert capsys.readouterr().out.count("7") == 7


def test_words_that_nobody_reads_are_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triptych.__main__.TRIPTYCH", SimpleNamespace(run=lambda *words: print("a line", flush=True)))
    with unread():
        assert main(["list"]) == 1


RECORD = {"loss": 1.0, "losses": {"depth": 1.0}, "weighted": {"depth": 1.0}, "parts": {}, "images_per_second": 8.0}


def test_lines_say_the_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    log = RunLog(tmp_path, steps=400, first_step=100, enabled=True, progress=False)  # resumed at step 100
    for step, seconds in ((110, 20.0), (250, 300.0), (400, 700.0)):
        now = 1000.0 + seconds
        log.training({**RECORD, "step": step})
    log.close()
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert lines[0].endswith("8 images/s  9 min 40 s left")  # 290 steps of 2 s
    assert lines[1].endswith("8 images/s  5 min 00 s left")  # 150 steps of 2 s
    assert lines[2].endswith("8 images/s")  # nothing is left
    assert "left" not in (tmp_path / "metrics.jsonl").read_text()
