"""The log of a run: how long it still takes."""

import time
from pathlib import Path

import pytest

from triptych.training.log import RunLog

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
