"""A folder is recognised as one variant, or one line says why not and what to do."""

import errno
import os
from pathlib import Path

import pytest

from triptych.datasets.variants import Variant, recognize

PHOTOS = Variant(
    name="photos",
    title="the archive of JPEG images",
    download="photos.zip of the authors' page",
    markers=("images/*.jpg", "labels/*.png", "lists/train.txt"),
    tasks=("semseg",),
)
PICTURES = Variant(
    name="pictures",
    title="the archive of PNG images",
    download="pictures.zip of the authors' page",
    markers=("images/*.png", "depth/*.npy", "lists/train.txt"),
    tasks=("depth",),
)
SINGLE = Variant(name="single", title="one file", download="all.mat", markers=("all.mat",), tasks=("depth",))
VARIANTS = {one.name: one for one in (PHOTOS, PICTURES, SINGLE)}


def grow(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def photos(root: Path) -> Path:
    return grow(root, "images/1.jpg", "labels/1.png", "lists/train.txt")


def pictures(root: Path) -> Path:
    return grow(root, "images/1.png", "depth/1.npy", "lists/train.txt")


def complaint(root: Path, variant: str = "auto") -> str:
    with pytest.raises(ValueError) as caught:
        recognize(root, VARIANTS, variant=variant)
    text = str(caught.value)
    assert "\n" not in text
    assert str(root) in text
    return text


def test_each_variant_is_told_by_its_markers(tmp_path: Path) -> None:
    assert recognize(photos(tmp_path / "a"), VARIANTS) is PHOTOS
    assert recognize(pictures(tmp_path / "b"), VARIANTS) is PICTURES
    assert recognize(grow(tmp_path / "c", "all.mat"), VARIANTS) is SINGLE
    assert recognize(tmp_path / "c/all.mat", VARIANTS) is SINGLE
    assert recognize(str(tmp_path / "a"), VARIANTS, variant="photos") is PHOTOS


def test_more_markers_win_over_fewer(tmp_path: Path) -> None:
    larger = Variant("larger", "", "", (*PHOTOS.markers, "depth/*.npy"), ("semseg", "depth"))
    root = grow(photos(tmp_path), "depth/1.npy")
    assert recognize(root, {**VARIANTS, "larger": larger}) is larger


@pytest.mark.parametrize("place", ["data", "data/archive"])
def test_the_right_root_below_is_suggested(tmp_path: Path, place: str) -> None:
    right = photos(tmp_path / "top" / place)
    assert f"{right} is (photos)" in complaint(tmp_path / "top")


def test_the_right_root_above_is_suggested(tmp_path: Path) -> None:
    root = photos(tmp_path)
    assert f"{root} is (photos)" in complaint(root / "images")


def test_a_partial_archive_names_what_is_missing(tmp_path: Path) -> None:
    (photos(tmp_path) / "labels/1.png").unlink()
    text = complaint(tmp_path)
    assert "part of photos" in text
    assert "missing labels/*.png;" in text
    assert "photos.zip" in text


def test_several_variants_in_one_folder(tmp_path: Path) -> None:
    root = pictures(photos(tmp_path))
    text = complaint(root)
    assert "photos (images/*.jpg)" in text
    assert "pictures (images/*.png)" in text
    assert recognize(root, VARIANTS, variant="pictures") is PICTURES


@pytest.mark.parametrize(
    ("wanted", "actual"),
    [
        ("labels/1.png", "Labels/1.png"),
        ("images/1.jpg", "images/1.JPG"),
        ("images/1.jpg", "images/1.jpeg"),
        ("lists/train.txt", "lists/Train.txt"),
    ],
)
def test_reports_the_actual_name(tmp_path: Path, wanted: str, actual: str) -> None:
    names = ["images/1.jpg", "labels/1.png", "lists/train.txt"]
    grow(tmp_path, *(actual if name == wanted else name for name in names))
    assert f"it has {actual} where" in complaint(tmp_path)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    text = complaint(grow(tmp_path / "x" / "y" / "z", "notes.txt"))
    for one in VARIANTS.values():
        assert all(marker in text for marker in one.markers)


def test_names_that_do_not_exist(tmp_path: Path) -> None:
    (tmp_path / "NYU").mkdir()
    assert f"did you mean {tmp_path / 'NYU'}?" in complaint(tmp_path / "nyu")
    assert "does not exist" in complaint(tmp_path / "elsewhere")
    assert "is a file" in complaint(grow(tmp_path, "some.txt") / "some.txt")
    with pytest.raises(ValueError, match="unknown variant 'photo'; did you mean 'photos'"):
        recognize(tmp_path, VARIANTS, variant="photo")


def test_hidden_files_are_no_markers(tmp_path: Path) -> None:
    """Some systems leave `._1.jpg` beside every file of an archive."""
    root = photos(tmp_path)
    (root / "labels/1.png").rename(root / "labels/._1.png")
    assert "missing labels/*.png" in complaint(root)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    root = photos(tmp_path / "root")
    (root / "round").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    assert recognize(root, VARIANTS) is PHOTOS
    (root / "labels/1.png").unlink()
    assert "missing labels/*.png" in complaint(root)
    (root / "labels").rmdir()
    (root / "labels").symlink_to(root / "labels")
    assert f"{root / 'labels'} is a link that leads nowhere or in a circle" in complaint(root)
    assert "is a link that leads nowhere or in a circle" in complaint(root / "self")


def test_an_unreadable_folder_is_a_missing_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, listdir = photos(tmp_path), os.listdir

    def refuse(folder: object) -> object:
        if Path(str(folder)).name == "labels":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", refuse)  # root may read everything
    assert "missing labels/*.png" in complaint(root)
