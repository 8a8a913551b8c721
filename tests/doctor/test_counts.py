"""Looking at the distinct numbers of a label file says what looking at all of its pixels says."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clinic import SIZE
from doctor.test_examine import FAULTS
from PIL import Image
from saved_maps import save

from triptych.data.arrays import read_array
from triptych.data.files import files_remembered, match_files
from triptych.data.label_files import read_counts
from triptych.datasets.folder import Folder
from triptych.doctor import examine as examining
from triptych.doctor import inspection
from triptych.doctor.examine import examine

MAPS = {
    "any classes": ("semseg/train/1.png", lambda draw: draw.integers(0, 3, SIZE, np.uint8)),
    "classes out of range": ("semseg/train/1.png", lambda draw: draw.integers(0, 9, SIZE, np.uint8)),
    "16-bit classes": ("semseg/train/1.png", lambda draw: draw.choice([0, 1, 2, 255, 65535], SIZE).astype(np.uint16)),
    "shades": ("saliency/train/1.png", lambda draw: draw.integers(0, 256, SIZE, np.uint8)),
    "many boundaries": ("boundary/train/1.png", lambda draw: (draw.random(SIZE) < 0.7).astype(np.uint8) * 255),
    "half-size boundaries": ("boundary/train/1.png", lambda draw: draw.integers(0, 256, (12, 16), np.uint8)),
    "depth": ("depth/train/1.png", lambda draw: draw.integers(0, 9000, SIZE).astype(np.uint16)),
    "marks": ("depth/train/1.png", lambda draw: draw.choice([0, 900, 2500, 65535], SIZE).astype(np.uint16)),
    "a far plane": ("depth/train/1.png", lambda draw: draw.choice([1800, 1900, 2000, 60000], SIZE).astype(np.uint16)),
    "no depth": ("depth/train/1.png", lambda draw: np.zeros(SIZE, np.uint16)),
    "depth in another unit": ("depth/train/1.png", lambda draw: draw.integers(1, 30, SIZE).astype(np.uint16)),
}


def both_ways(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    shutil.rmtree(root / "normals", ignore_errors=True)  # depth beside normals is compared pixel by pixel
    descriptor = root / "dataset.toml"
    descriptor.write_text(descriptor.read_text().replace('[tasks.normals]\nfiles = "normals/{split}/{key}.npy"\n', ""))
    counted = examine(root).to_json()
    with monkeypatch.context() as patch:
        patch.setattr(inspection, "_is_countable", lambda *arguments: False)
        return counted, examine(root).to_json()


@pytest.mark.parametrize("kind", MAPS)
def test_counting_says_the_same_of_any_map(clinic: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, draw = MAPS[kind]
    save(clinic / name, draw(np.random.default_rng(len(kind))))
    counted, whole = both_ways(clinic, monkeypatch)
    assert counted == whole


def test_counting_says_the_same_of_planted_faults(clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, (plant, _, check, _) in enumerate(FAULTS.values()):
        if check in ("values", "threshold", "depth unit", "boundary share", "empty"):
            root = Path(shutil.copytree(clean, tmp_path / str(place)))
            plant(root)
            counted, whole = both_ways(root, monkeypatch)
            assert counted == whole


def test_depth_beside_normals_is_compared_by_pixels(clinic: Path) -> None:
    (angle,) = inspection.inspect_sample(Folder(clinic), 1).angles
    assert angle == pytest.approx(0, abs=1)


def test_images_that_differ_in_one_pixel_are_no_copies(clinic: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    other = image.copy()
    other[1, 1] ^= 255
    for name, pixels in (("0", image), ("1", other), ("2", other)):
        save(clinic / f"images/train/{name}.png", pixels)
    copies = [finding for finding in examine(clinic).findings if finding.check == "copy"]
    assert [(Path(finding.file).name, finding.text) for finding in copies] == [
        ("2.png", f"it is the same file as {clinic}/images/train/1.png")
    ]


def test_files_are_listed_once_where_they_are_remembered(clinic: Path) -> None:
    pattern, new = "images/{split}/{key}.*", clinic / "images/train/new.png"
    with files_remembered():
        first = match_files(clinic, pattern, "train")
        save(new, np.zeros((*SIZE, 3), np.uint8))
        first["mine"] = new
        assert sorted(match_files(clinic, pattern, "train")) == list("012345")
        assert sorted(match_files(clinic, pattern, "val")) == list("01")
    assert "new" in match_files(clinic, pattern, "train")


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGB", "I;16", "LA"])
def test_counts_of_a_picture_are_those_of_its_array(tmp_path: Path, mode: str) -> None:
    stored = np.random.default_rng(0).integers(0, 9, SIZE, np.uint8)
    picture = Image.fromarray(stored.astype(np.uint16)) if mode == "I;16" else Image.fromarray(stored).convert(mode)
    picture.save(tmp_path / "a.png")
    found, array = read_counts(tmp_path / "a.png"), read_array(tmp_path / "a.png")
    if isinstance(found, np.ndarray):
        np.testing.assert_array_equal(found, array)
        return
    values, counts = np.unique(array, return_counts=True)
    assert (found.values.tolist(), found.counts.tolist(), found.size) == (values.tolist(), counts.tolist(), SIZE)
    assert found.values.dtype == array.dtype


def test_processes_say_what_threads_say(clinic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_threads = examine(clinic, num_threads=2).to_json()
    monkeypatch.setattr(examining, "MANY", 1)
    assert examine(clinic, num_threads=2).to_json() == by_threads


def test_what_killed_processes_leave_is_looked_at(clinic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, parent, look = examine(clinic).to_json(), os.getpid(), inspection.inspect_sample

    def die(*arguments: Any, **options: Any) -> Any:
        return look(*arguments, **options) if os.getpid() == parent else os._exit(9)

    monkeypatch.setattr(examining, "MANY", 1)
    monkeypatch.setattr(examining, "inspect_sample", die)
    assert examine(clinic, num_threads=2).to_json() == expected


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_copy_is_found_where_photographs_are_jpeg_alone_or_not(clinic: Path, suffix: str) -> None:
    for path in sorted((clinic / "images").rglob("*.png")):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    first = clinic / "images/train/1.jpg"
    (clinic / "images/val/1.jpg").unlink()
    Image.open(first).save(clinic / "images/val/1.png") if suffix == ".png" else shutil.copy(
        first, clinic / "images/val/1.jpg"
    )
    (clinic / "dataset.toml").write_text((clinic / "dataset.toml").read_text().replace("{key}.png", "{key}.*"))
    assert [finding.split for finding in examine(clinic).findings if finding.check == "copy"] == ["val"]
