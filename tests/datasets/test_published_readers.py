"""What readers of published datasets have in common."""

from pathlib import Path

import pytest
from PIL import Image
from published_trees import TREES

from triptych.__main__ import main
from triptych.datasets import DATASETS

LOOPS = {
    "cityscapes": "leftImg8bit/train/loop",
    "vkitti2": "Scene09",
    "synthia": "RGB/loop",
    "omnidata": "rgb/taskonomy/loop",
}
"""Where a link to the root is met."""


@pytest.mark.parametrize("name", LOOPS)
def test_the_documented_command(name: str, tmp_path: Path) -> None:
    TREES[name](tmp_path)
    out = tmp_path / "sheet.png"
    assert main(["data", "show", name, "--root", str(tmp_path), "--split", "val", "--out", str(out)]) == 0
    with Image.open(out) as sheet:
        assert sheet.width > 100


@pytest.mark.parametrize("name", LOOPS)
def test_links_that_loop_end(name: str, tmp_path: Path) -> None:
    TREES[name](tmp_path)
    keys = DATASETS[name](tmp_path, split="all").keys
    (tmp_path / LOOPS[name]).symlink_to(tmp_path, target_is_directory=True)
    assert DATASETS[name](tmp_path, split="all").keys == keys
