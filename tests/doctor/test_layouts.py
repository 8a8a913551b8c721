"""Folders as people bring them: read right, asked to be checked, or refused by name; never wrong in silence."""

from pathlib import Path

import pytest
from folder_layouts import LAYOUTS
from folder_truth import Layout, judge


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.title)
def test_no_layout_is_wrong_in_silence(tmp_path: Path, layout: Layout) -> None:
    verdict = judge(layout, tmp_path)
    assert verdict.outcome != "wrong", verdict.detail
    assert verdict.outcome == "right" or layout.says, "what has to be said of it?"
