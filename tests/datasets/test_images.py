"""Pictures without labels."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from triptych.data.subset import LABEL_SETTINGS
from triptych.datasets import open_dataset


def paint(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 6, 3), value, np.uint8)).save(path)


def test_every_picture_below_a_folder_is_an_image_without_labels(tmp_path: Path) -> None:
    for value, name in enumerate(("b/2.png", "a.png", "b/10.PNG", "c/d/2.png", ".hidden/x.png")):
        paint(tmp_path / name, value)
    (tmp_path / "notes.txt").write_text("no picture")
    dataset = open_dataset("images", tmp_path)
    assert [dataset.key(i) for i in range(len(dataset))] == ["a.png", "b/10.PNG", "b/2.png", "c/d/2.png"]
    assert dataset.tasks == {}
    for sample, value in zip((dataset[i] for i in range(4)), (1, 2, 0, 3), strict=True):
        torch.testing.assert_close(sample.image, torch.full((3, 4, 6), value / 255))
        assert not sample.targets
    before = dataset.fingerprint()
    paint(tmp_path / "z.png", 0)
    assert open_dataset("images", tmp_path).fingerprint() != before


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 on other systems")
def test_names_need_not_be_text(tmp_path: Path) -> None:
    """A name of other bytes, as old archives hold them, is read, known by its fingerprint and keeps its labels."""
    paint(tmp_path / os.fsdecode(b"\xff.png"), 0)
    dataset = open_dataset("images", tmp_path)
    assert len(dataset[0].image) == 3
    [before, key] = dataset.fingerprint(), dataset.key(0)
    paint(tmp_path / os.fsdecode(b"\xfe.png"), 0)
    assert open_dataset("images", tmp_path).fingerprint() != before
    assert all(choose(key, ["semseg", "depth"]) for choose in LABEL_SETTINGS.values())


def test_raises_for_what_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no images; looked for \.jpg"):
        open_dataset("images", tmp_path)
    with pytest.raises(ValueError, match=r"'.*nowhere' does not exist; give the folder that holds the images"):
        open_dataset("images", tmp_path / "nowhere")
    paint(tmp_path / "a.png", 0)
    (tmp_path / "b.heic").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"1 photographs in .* are not read, such as .*b\.heic; convert them to JPEG"):
        open_dataset("images", tmp_path)
    (tmp_path / "b.heic").unlink()
    with pytest.raises(ValueError, match="no labels and one split, train, and was asked for split 'val'"):
        open_dataset("images", tmp_path, split="val")
    with pytest.raises(ValueError, match=r"and depth; for images with labels choose dataset 'folder'"):
        open_dataset("images", tmp_path, tasks=("depth",))
