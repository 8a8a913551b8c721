"""Folders as people bring them: read right, or named with the cure; never silently wrong."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clinic import init_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from saved_maps import save

from triptych.__main__ import main
from triptych.data.photos import to_image_tensor
from triptych.datasets.folder import Folder
from triptych.doctor.examine import examine
from triptych.doctor.report import describe
from triptych.folders.folder_guess import FolderGuess
from triptych.folders.guessing import describe_folder
from triptych.labels.masks import BoundaryMask, SaliencyMask
from triptych.types import IGNORE

SIZE = (12, 16)
HALF = np.zeros(SIZE, np.uint8)
HALF[:, 8:] = 1
VOID_TOP = np.arange(SIZE[0])[:, None] < 3


def photo(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), dtype=np.uint8)


def build(root: Path, folder: str, *labels: np.ndarray, suffix: str = ".png", splits: int = 1) -> Path:
    """Images and one folder of labels: the last files are those of val where there are two splits."""
    for i, label in enumerate(labels):
        split = "val" if splits == 2 and i >= len(labels) - len(labels) // 3 else "train"
        save(root / f"images/{split}/{i}.png", photo(i))
        save(root / f"{folder}/{split}/{i}{suffix}", label)
    return root


def said(guess: FolderGuess) -> str:
    """What init asks to check, and what it leaves out."""
    return "\n".join([*guess.doubts, *guess.left_out])


def targets(root: Path, task: str = "semseg", split: str = "train") -> torch.Tensor:
    init_folder(root)
    return Folder(root, split=split)[0].targets[task]


def codes(target: torch.Tensor) -> dict[int, int]:
    values, counts = target.unique(return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def test_a_word_and_a_number_in_names_belong_to_the_key(tmp_path: Path) -> None:
    for scene in range(3):
        for i in range(4):
            name = f"scene{scene}/left_image_{i:04d}.png"
            save(tmp_path / "images" / name, photo(10 * scene + i))
            save(tmp_path / "semseg" / name, HALF)
    init_folder(tmp_path)
    dataset = Folder(tmp_path, split="all")
    assert len(dataset) == len(dataset.labels["semseg"]) == 12


def test_an_ending_of_some_names_is_no_pattern(tmp_path: Path) -> None:
    for i in range(8):
        name = f"{i}_rgb.png" if i < 2 else f"{i}.png"
        save(tmp_path / "images" / name, photo(i))
        save(tmp_path / "semseg" / name, HALF)
    assert len(Folder(init_folder(tmp_path)[0], split="all")) == 8


def test_a_split_without_a_label_that_training_has_is_told(tmp_path: Path) -> None:
    build(tmp_path, "semseg", HALF, HALF, HALF, splits=2)
    build(tmp_path, "depth", np.full(SIZE, 2000, np.uint16), np.full(SIZE, 2500, np.uint16))
    init_folder(tmp_path)

    def told() -> list[tuple[str, str]]:
        findings = examine(tmp_path).findings
        return [(each.split, each.task) for each in findings if "chosen without it" in each.text]

    assert told() == [("val", "depth")]
    save(tmp_path / "depth/val/2.png", np.full(SIZE, 2000, np.uint16))
    assert told() == []


def test_what_no_pattern_takes_is_counted_and_named(tmp_path: Path) -> None:
    build(tmp_path, "semseg", HALF, HALF, HALF, splits=2)
    for i in range(3):
        save(tmp_path / f"old/{'train' if i < 2 else 'val'}/photo{i}.png", photo(i))
    save(tmp_path / "semseg/train/77.npy", HALF)
    text = said(describe_folder(tmp_path))
    assert "old/{split}/*.png: 3 files" in text
    assert "semseg/{split}/{key}.npy: 1 file" in text


def test_folders_of_unknown_names_that_match_the_images_are_offered(tmp_path: Path) -> None:
    build(tmp_path, "semseg", HALF, HALF, HALF)
    build(tmp_path, "garments", HALF, HALF, HALF)
    path, doubts = init_folder(tmp_path)
    expected = "garments/: 3 files match the images; name its task"
    assert any(expected in doubt for doubt in doubts)
    assert expected in path.read_text()


def test_a_folder_of_unknown_labels_alone_gets_a_file_to_complete(tmp_path: Path) -> None:
    build(tmp_path, "garments", HALF, HALF, HALF)
    path, doubts = init_folder(tmp_path)
    assert any("name its task" in doubt for doubt in doubts)
    path.write_text(
        path.read_text().replace("# [tasks", "[tasks").replace("# type", "type").replace("# files", "files")
    )
    with pytest.raises(ValueError, match="classes is 0"):
        Folder(tmp_path)


def test_prefixes_are_patterns_too(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / f"rgb_{i:03d}.png", photo(i))
        save(tmp_path / f"depth_{i:03d}.png", np.full(SIZE, 2000 + i, np.uint16))
    init_folder(tmp_path)
    dataset = Folder(tmp_path, split="all")
    assert (len(dataset), len(dataset.labels["depth"])) == (4, 4)


def test_the_same_name_twice_keeps_the_likelier_suffix(tmp_path: Path) -> None:
    build(tmp_path, "semseg", HALF, HALF, HALF)
    save(tmp_path / "images/train/0.jpg", photo(0))
    guess = describe_folder(tmp_path)
    assert guess.images == "images/{split}/{key}.png"
    assert "images/{split}/{key}.jpg: 1 file" in said(guess)


def test_reports_two_folders_of_one_split(tmp_path: Path) -> None:
    build(tmp_path, "semseg", HALF, HALF)
    save(tmp_path / "images/training/9.png", photo(9))
    save(tmp_path / "semseg/training/9.png", HALF)
    path, doubts = init_folder(tmp_path)
    assert Folder(path, split="train").keys == ["0", "1"]
    assert Folder(path, split="training").keys == ["9"]
    assert any("training" in doubt for doubt in doubts)


def test_labels_of_half_the_size_are_offered_with_resize(tmp_path: Path) -> None:
    build(tmp_path, "semseg", HALF[::2, ::2], HALF[::2, ::2])
    path, doubts = init_folder(tmp_path)
    assert any("resize" in doubt for doubt in doubts)
    assert codes(Folder(path)[0].targets["semseg"]) == {0: 96, 1: 96}


def test_labels_that_were_cut_are_not_stretched(tmp_path: Path) -> None:
    """A rim cut from all sides changes the shape by a few hundredths: NYUv2's 427 x 561 of 480 x 640."""
    image = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    for i in range(2):
        save(tmp_path / f"images/{i}.png", image)
        save(tmp_path / f"semseg/{i}.png", (np.indices((240, 320))[1] // 160).astype(np.uint8)[10:-10, 10:-10])
    path, doubts = init_folder(tmp_path)
    assert any("220x300 where the image is 240x320: it has another shape: was it cut?" in doubt for doubt in doubts)
    assert [(f.severity, f.check) for f in examine(path).findings if "220x300" in f.text] == [("error", "size")] * 2
    path.write_text(path.read_text().replace("[tasks.semseg]", "[tasks.semseg]\nresize = true"))
    with pytest.raises(ValueError, match="220x300, its image 240x320; it has another shape"):
        Folder(path, split="all")[0]


def test_frames_are_kept_together_whatever_lies_between_their_folder_and_its_name(tmp_path: Path) -> None:
    for scene in range(4):
        for i in range(10):
            save(tmp_path / f"seq{scene}/rgb/{i:04d}.png", photo(10 * scene + i))
            save(tmp_path / f"seq{scene}/semseg/{i:04d}.png", HALF)
    advice = describe_folder(tmp_path).advice
    assert any("group = 'folder' keeps frames together" in line for line in advice), advice


def test_values_that_a_map_lacks_are_told(tmp_path: Path) -> None:
    build(tmp_path, "semseg", 100 * HALF, np.where(VOID_TOP, 200, 100 * HALF).astype(np.uint8))
    path, _ = init_folder(tmp_path)
    listed = path.read_text()
    assert '"200"' in listed
    path.write_text(re.sub(r"map = .*", 'map = { "0" = 0, "100" = 1 }', listed))
    found = [str(finding) for finding in examine(path).findings if finding.check == "values"]
    assert len(found) == 1
    assert "33% of its pixels have values that map does not list, most of them 200" in found[0]
    path.write_text(re.sub(r"map = .*", 'map = { "0" = 0, "100" = 1 }\ninvalid = [200]', listed))
    assert not [finding for finding in examine(path).findings if finding.check == "values"]


def test_palettes_that_differ_are_told_of_a_written_descriptor_too(tmp_path: Path) -> None:
    colors = ([0, 0, 0, 255, 0, 0, 0, 255, 0], [0, 0, 0, 0, 255, 0, 255, 0, 0])
    for i in range(4):
        save(tmp_path / f"images/{i}.png", photo(i))
        (tmp_path / "semseg").mkdir(exist_ok=True)
        picture = Image.fromarray(HALF, "P")
        picture.putpalette(colors[i == 3])
        picture.save(tmp_path / f"semseg/{i}.png")
    text = '[images]\nfiles = "images/{key}.png"\n[tasks.semseg]\nfiles = "semseg/{key}.png"\n'
    (tmp_path / "dataset.toml").write_text(text + 'classes = ["bg", "red", "green"]\n')
    found = [str(finding) for finding in examine(tmp_path).findings if finding.check == "palettes"]
    assert len(found) == 1
    assert "semseg/3.png: index 1 is (255, 0, 0) in the palette of" in found[0]
    (tmp_path / "dataset.toml").write_text(text + "classes = 3\ncolors = [[0, 0, 0], [255, 0, 0], [0, 255, 0]]\n")
    assert not [finding for finding in examine(tmp_path).findings if finding.check == "palettes"]


def test_a_label_of_several_images_is_an_error(tmp_path: Path) -> None:
    for i in range(2):
        save(tmp_path / f"semseg/{i}.png", HALF)
        for split in ("train", "val"):
            save(tmp_path / f"images/{split}/{i}.png", photo(i + 5 * (split == "val")))
    text = '[images]\nfiles = "images/{split}/{key}.png"\n[tasks.semseg]\nclasses = 2\n'
    (tmp_path / "dataset.toml").write_text(text + 'files = "semseg/{key}.png"\n')
    found = [finding for finding in examine(tmp_path).findings if finding.check == "shared label"]
    assert len(found) == 2
    assert {finding.severity for finding in found} == {"error"}
    assert "it is the label of 2 images" in str(found[0])


def test_sizes_of_planes_and_entries_are_compared_with_those_of_images(tmp_path: Path) -> None:
    planes = np.eye(5, dtype=np.uint8)[np.arange(HALF.size).reshape(SIZE) % 5].transpose(2, 0, 1)
    for i in range(2):
        save(tmp_path / f"images/{i}.png", photo(i))
        save(tmp_path / f"semseg/{i}.npy", planes)
        (tmp_path / "depth").mkdir(exist_ok=True)
        entries = {"confidence": HALF, "depth": np.full((1, SIZE[0] // 2, SIZE[1] // 2), 2.5, np.float32)}
        np.savez(tmp_path / f"depth/{i}.npz", **entries)
    path, doubts = init_folder(tmp_path)
    assert not any("was it cut" in doubt for doubt in doubts)
    sample = Folder(path, split="all")[0]  # with resize = true
    assert sample.targets["depth"].unique().tolist() == [2.5]
    assert sample.targets["semseg"].flatten()[:7].tolist() == [0, 1, 2, 3, 4, 0, 1]


def test_one_of_several_entries_is_chosen_and_named(tmp_path: Path) -> None:
    for i in range(2):
        save(tmp_path / f"images/{i}.png", photo(i))
        (tmp_path / "depth").mkdir(exist_ok=True)
        np.savez(tmp_path / f"depth/{i}.npz", confidence=HALF, depth=np.full(SIZE, 2.5, np.float32))
    path, doubts = init_folder(tmp_path)
    assert Folder(path, split="all")[0].targets["depth"].unique().tolist() == [2.5]
    assert any("confidence" in doubt for doubt in doubts)


MIXED = [HALF, HALF, HALF * 255, HALF * 255]


def test_masks_of_two_codes_are_told_by_init_and_doctor(tmp_path: Path) -> None:
    build(tmp_path, "masks", *MIXED)
    path, doubts = init_folder(tmp_path)
    assert any("0 and 1" in doubt and "0 and 255" in doubt for doubt in doubts)
    dataset = Folder(path)
    assert all(codes(dataset[i].targets["semseg"]) == {0: 96, 1: 96} for i in range(4))
    path.write_text(path.read_text().replace("map =", "# map ="))
    report = examine(tmp_path)
    assert "codes" in {finding.check for finding in report.findings}, describe(report)


def test_a_void_of_255_beside_the_class_is_no_mixture(tmp_path: Path) -> None:
    void = HALF.copy()
    void[:2] = 255
    build(tmp_path, "masks", void, void)
    assert codes(targets(tmp_path)) == {0: 80, 1: 80, 255: 32}
    assert not examine(tmp_path).findings


@pytest.mark.parametrize(
    ("maps", "says"),
    [
        ([HALF * 254 + 1] * 3, "all pixels are 1 or 255"),
        ([HALF * 255, HALF * 255, np.where(VOID_TOP, 255, HALF)], "2 of 3 files hold 0 and 255 alone"),
        ([np.where(VOID_TOP, 255, HALF)] * 3, ""),
    ],
)
def test_a_void_of_255_is_asked_about_where_it_may_be_the_object(
    tmp_path: Path, maps: list[np.ndarray], says: str
) -> None:
    text = said(describe_folder(build(tmp_path, "masks", *(one.astype(np.uint8) for one in maps))))
    assert says in text if says else not text


def test_a_list_that_names_no_image_is_told(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / f"images/{i:03d}.png", photo(i))
        save(tmp_path / f"masks/{i:03d}.png", HALF)
    (tmp_path / "train.txt").write_text("images\\000.png\nimages\\001.png\n")
    assert describe_folder(tmp_path).splits == {"train": "train.txt"}
    (tmp_path / "train.txt").write_text("frame0\nframe1\n")
    assert "train.txt is no list of splits: 0 of 2 lines" in "".join(describe_folder(tmp_path).doubts)


def test_images_in_no_list_are_counted_where_they_have_labels(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path / f"images/{i}.png", photo(i))
        save(tmp_path / f"masks/{i}.png", HALF)
    (tmp_path / "train.txt").write_text("0\n3\n")
    (tmp_path / "val.txt").write_text("4\n")
    text = "2 of 5 images are in no list of [splits], such as 1.png; 2 of them with a label"
    assert describe_folder(tmp_path).left_out == [text]
    init_folder(tmp_path)
    assert text in examine(tmp_path).notes
    for i in (1, 2):
        (tmp_path / f"masks/{i}.png").unlink()
    assert describe_folder(tmp_path).left_out == [text.replace("2 of them", "none of them")]
    assert not any("no list" in note for note in examine(tmp_path).notes)
    (tmp_path / "val.txt").write_text("1\n2\n4\n")
    assert not describe_folder(tmp_path).left_out


def test_splits_that_training_needs_and_frames_of_videos_are_advice_alone(tmp_path: Path) -> None:
    build(tmp_path / "alone", "masks", HALF, HALF)
    guess = describe_folder(tmp_path / "alone")
    assert guess.advice == ["folders of images tell no split val (to choose weights on): add it, or name another"]
    for i in range(10):
        save(tmp_path / f"clip/images/frame_{i:03d}.png", photo(i))
        save(tmp_path / f"clip/masks/frame_{i:03d}.png", HALF)
    guess = describe_folder(tmp_path / "clip")
    assert "group = 'time' keeps frames together" in guess.advice[0]
    assert "# CHECK: splits are drawn image by image" in guess.to_toml()
    dataset = Folder(tmp_path / "clip", split="all")  # which needs no descriptor, and says it too
    assert (len(dataset), guess.advice[0] in "".join(dataset.notes)) == (10, True)


def test_saliency_of_two_codes_is_read_right(tmp_path: Path) -> None:
    build(tmp_path, "saliency", *MIXED)
    path, doubts = init_folder(tmp_path)
    assert doubts
    assert all(codes(Folder(path)[i].targets["saliency"]) == {0: 96, 1: 96} for i in range(4))


def test_a_margin_of_saliency_masks_is_no_object(tmp_path: Path) -> None:
    """0 and 1 with 255 around the object, in some of the files."""
    build(tmp_path, "saliency", HALF, HALF, *[np.where(VOID_TOP, IGNORE, HALF).astype(np.uint8)] * 2)
    path, doubts = init_folder(tmp_path)
    assert any("255 is taken as no label" in doubt for doubt in doubts)
    found = [codes(Folder(path)[i].targets["saliency"]) for i in range(4)]
    assert found == [{0: 96, 1: 96}] * 2 + [{0: 72, 1: 72, IGNORE: 48}] * 2


VOID = HALF.astype(np.float32) * 255
VOID[:3] = np.nan
RAMP = (np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 4).astype(np.uint8)
ONE_HOT = np.eye(4, dtype=np.float32)[RAMP]
PALETTE = np.array([[0, 0, 0], [128, 64, 128], [70, 70, 70], [0, 0, 142]])
EQUAL = {0: 48, 1: 48, 2: 48, 3: 48}

LABELS: dict[str, tuple[np.ndarray, dict[int, int], bool]] = {
    "NaN beside 0 and 255": (VOID, {0: 72, 1: 72, 255: 48}, True),
    "-1 beside 0 and 255": (np.nan_to_num(VOID, nan=-1).astype(np.int16), {0: 72, 1: 72, 255: 48}, True),
    "int8 with -1": (HALF.astype(np.int8) - 1, {0: 96, 255: 96}, True),
    "int64 with -100": (np.where(HALF, 1, -100), {1: 96, 255: 96}, True),
    "uint16 with 65535": (np.where(HALF, 65535, RAMP.astype(np.uint16)), {0: 24, 1: 24, 2: 24, 3: 24, 255: 96}, True),
    "bool": (HALF.astype(bool), {0: 96, 1: 96}, False),
    "int32": (RAMP.astype(np.int32), EQUAL, False),
    "whole floats": (RAMP.astype(np.float64), EQUAL, False),
    "spread out": (RAMP * 85, EQUAL, True),
    "one-hot, last": (ONE_HOT, EQUAL, True),
    "one-hot, first, bool": (ONE_HOT.transpose(2, 0, 1).astype(bool), EQUAL, True),
    "one-hot, uint8": (ONE_HOT.astype(np.uint8), EQUAL, True),
    "scores of a network": ((ONE_HOT * 0.8 + 0.05).astype(np.float32), EQUAL, True),
    "grey as color": (np.stack([RAMP] * 3, -1), EQUAL, True),
    "colors": (PALETTE[RAMP].astype(np.uint8), EQUAL, True),
    "colors of int64": (PALETTE[RAMP], EQUAL, True),
    "colors, channels first": (PALETTE[RAMP].transpose(2, 0, 1).astype(np.float32), EQUAL, True),
    "probabilities": (HALF * 0.5 + 0.3, {0: 96, 1: 96}, True),
}


@pytest.mark.parametrize("kind", LABELS)
def test_label_maps_of_any_type_are_read_right(tmp_path: Path, kind: str) -> None:
    stored, expected, check = LABELS[kind]
    build(tmp_path, "semseg", stored, stored, suffix=".npy")
    doubts = init_folder(tmp_path)[1]
    assert codes(Folder(tmp_path)[0].targets["semseg"]) == expected
    assert bool(doubts) >= check, doubts
    assert examine(tmp_path).num_errors == 0


def test_interpolated_masks_get_a_threshold(tmp_path: Path) -> None:
    v, u = np.mgrid[:40, :60]
    disk = Image.fromarray((np.hypot(v - 20, u - 30) < 12).astype(np.uint8) * 255)
    blurred = np.asarray(disk.resize((90, 60), Image.Resampling.BICUBIC))
    for i in range(2):
        save(tmp_path / f"images/{i}.png", np.zeros((60, 90, 3), np.uint8))
        save(tmp_path / f"semseg/{i}.png", blurred)
    path, doubts = init_folder(tmp_path)
    assert any("interpolat" in doubt for doubt in doubts)
    found = Folder(path, split="all")[0].targets["semseg"].numpy()
    nearest = np.asarray(disk.resize((90, 60), Image.Resampling.NEAREST)) > 0
    assert (found == nearest).mean() > 0.98


def test_reports_interpolated_ids(tmp_path: Path) -> None:
    blocks = np.kron(np.array([[0, 40, 90], [160, 20, 60]], np.uint8), np.ones((24, 24), np.uint8))
    blurred = np.asarray(Image.fromarray(blocks).resize((60, 40), Image.Resampling.BILINEAR))
    for i in range(2):
        save(tmp_path / f"images/{i}.png", np.zeros((40, 60, 3), np.uint8))
        save(tmp_path / f"semseg/{i}.png", blurred)
    guess = describe_folder(tmp_path)
    assert "interpolat" in said(guess)


def test_rare_classes_are_not_taken_for_interpolation(tmp_path: Path) -> None:
    labels = np.zeros((40, 60), np.uint8)
    for i in range(1, 30):
        labels[i : i + 3, 2 * i : 2 * i + 3] = i
    for i in range(2):
        save(tmp_path / f"images/{i}.png", np.zeros((40, 60, 3), np.uint8))
        save(tmp_path / f"semseg/{i}.png", labels)
    assert describe_folder(tmp_path).tasks["semseg"][1].values["classes"] == 30


@pytest.mark.parametrize("far", [1e10, 65504.0, 1000.0])
def test_a_far_plane_is_no_depth(tmp_path: Path, far: float) -> None:
    depth = np.linspace(1, 6, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE)
    depth[:4] = far
    build(tmp_path, "depth", depth, depth, suffix=".npy")
    path, doubts = init_folder(tmp_path)
    assert any("33%" in doubt for doubt in doubts)
    known = Folder(path)[0].targets["depth"]
    assert int(known.isnan().sum()) == 64
    assert float(known[known.isfinite()].max()) <= 6
    path.write_text('[images]\nfiles = "images/{split}/{key}.*"\n[tasks.depth]\nfiles = "depth/{split}/{key}.npy"\n')
    found = [finding for finding in examine(tmp_path).findings if finding.check == "far plane"]
    assert found
    assert "33% of its values" in found[0].text


def looking_down() -> np.ndarray:
    normals = np.zeros((*SIZE, 3), np.float32)
    normals[:8, :, 2] = -1
    normals[8:, :, 1] = -1
    normals[:, :4] = (0.8, 0, -0.6)
    normals[:, 12:] = (-0.8, 0, -0.6)
    return normals


@pytest.mark.parametrize(
    "store",
    [
        lambda n: n,
        lambda n: (n + 1) / 2,
        lambda n: (n + 1) * 127.5,
        lambda n: np.rint(n * 127).astype(np.int8),
        lambda n: np.rint((n + 1) * 127.5).astype(np.int32),
        lambda n: np.rint((n + 1) * 127.5).astype(np.uint8),
    ],
)
def test_normals_of_any_range_come_back(tmp_path: Path, store: Callable[[np.ndarray], np.ndarray]) -> None:
    build(tmp_path, "normals", store(looking_down()), store(looking_down()), suffix=".npy")
    target = targets(tmp_path, "normals")
    np.testing.assert_allclose(target.permute(1, 2, 0).numpy(), looking_down(), atol=0.02)


def test_reports_labels_of_a_format_that_is_not_read(tmp_path: Path) -> None:
    build(tmp_path, "semseg", HALF, HALF)
    for i in range(2):
        (tmp_path / "depth/train").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"depth/train/{i}.flo").write_bytes(b"PIEH")
    assert "depth/{split}/*.flo: 2 files" in said(describe_folder(tmp_path))


def test_disparity_is_named_with_what_it_needs(tmp_path: Path) -> None:
    build(tmp_path, "semseg", HALF, HALF)
    build(tmp_path, "disparity", HALF.astype(np.uint16) * 900 + 100, HALF.astype(np.uint16) * 900 + 100)
    path, doubts = init_folder(tmp_path)
    assert any("disparity/" in doubt and "numerator" in doubt for doubt in doubts)
    assert list(Folder(path).tasks) == ["semseg"]
    path.write_text(path.read_text().replace("# [tasks.depth]", "[tasks.depth]").replace("# files", "files"))


def test_inverse_depth_is_turned(tmp_path: Path) -> None:
    build(tmp_path, "inverse_depth", *[np.full(SIZE, 0.25, np.float32)] * 2, suffix=".npy")
    assert targets(tmp_path, "depth").unique().tolist() == [4.0]


def corner() -> np.ndarray:
    """Depth of two walls and a floor that meet."""
    v, u = np.mgrid[:30, :40] + 0.5
    return (9 / np.maximum(3 + np.abs(u - 15) / 5, v / 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("store", "says"),
    [
        (np.log, "a logarithm of depth"),
        (lambda z: np.log2(z / 2), "below 0.*a logarithm"),
        (lambda z: 1 / z, "inverse depth"),
        (lambda z: z, ""),
    ],
)
def test_depth_under_another_reading_is_named_by_init_and_doctor(
    tmp_path: Path, store: Callable[[np.ndarray], np.ndarray], says: str
) -> None:
    for i in range(3):
        save(tmp_path / f"images/{i}.png", np.full((30, 40, 3), 40 * i, np.uint8))
        save(tmp_path / f"depth/{i}.npy", store(corner() + np.float32(i / 9)).astype(np.float32))
    path, doubts = init_folder(tmp_path)
    found = [str(finding) for finding in examine(path.parent).findings if finding.check == "depth reading"]
    assert bool(re.search(says, "\n".join(doubts))) == bool(re.search(says, "\n".join(found)))
    assert bool(doubts) == bool(found) == bool(says)
    assert ("# CHECK" in path.read_text().partition("[tasks.depth]")[2].partition("[camera]")[0]) == bool(says)


@pytest.mark.parametrize("task", ["depth", "normals", "semseg", "saliency"])
@pytest.mark.parametrize("kind", [[("z", "f4")], "c8", "U3"])
def test_values_that_are_no_numbers_are_named(tmp_path: Path, task: str, kind: Any) -> None:
    build(tmp_path, task, *[np.zeros(SIZE, kind)] * 2, suffix=".npy")
    assert re.search(r"type|holds|three channels", said(describe_folder(tmp_path)))


def test_a_name_says_that_depth_is_a_logarithm(tmp_path: Path) -> None:
    build(tmp_path, "log_depth", *[np.full(SIZE, 1.5, np.float32)] * 2, suffix=".npy")
    assert "is called a logarithm" in said(describe_folder(tmp_path))


def test_an_entry_that_marks_valid_pixels_is_applied_or_named(tmp_path: Path) -> None:
    for name, fill in (("depth", np.full(SIZE, 2.5, np.float32)), ("semseg", HALF.astype(np.uint8))):
        for entry in ("valid", "mask"):
            root = tmp_path / name / entry
            save(root / "images/0.png", photo(0))
            (root / name).mkdir()
            np.savez(root / name / "0.npz", **{entry: HALF, name: fill})
            _, doubts = init_folder(root)
            target = Folder(root, split="all")[0].targets[name].squeeze().numpy()
            known = np.isfinite(target) if name == "depth" else target != 255
            assert (known == (HALF != 0)).all() if entry == "valid" else known.all()
            told = [finding.task for finding in examine(root).findings if finding.check in ("marks", "not finite")]
            assert told == ([] if entry == "valid" else [name])
            assert any(f"'{entry}'" in doubt for doubt in doubts)


def test_masks_in_few_colors_are_read_as_they_look(tmp_path: Path) -> None:
    """Of a quantized mask the first index is white."""
    for i in range(2):
        save(tmp_path / f"images/{i}.png", photo(i))
        (tmp_path / "saliency").mkdir(exist_ok=True)
        Image.fromarray(np.where(VOID_TOP & (HALF > 0), 255, 0).astype(np.uint8)).quantize(2).save(
            tmp_path / f"saliency/{i}.png"
        )
    assert not [doubt for doubt in init_folder(tmp_path)[1] if "saliency" in doubt]
    np.testing.assert_array_equal(Folder(tmp_path, split="all")[0].targets["saliency"], VOID_TOP & (HALF > 0))
    assert not [finding for finding in examine(tmp_path).findings if finding.task == "saliency"]


def test_a_clear_index_of_a_palette_is_asked_about(tmp_path: Path) -> None:
    build(tmp_path, "semseg", HALF)
    Image.fromarray(HALF).convert("P").save(tmp_path / "semseg/train/0.png", transparency=0)
    _, doubts = init_folder(tmp_path)
    assert any("pixels of 0.png are transparent, which is taken as no label" in doubt for doubt in doubts)
    assert codes(Folder(tmp_path, split="all")[0].targets["semseg"]) == {1: 96, IGNORE: 96}
    assert not [finding for finding in examine(tmp_path).findings if finding.severity == "error"]


@pytest.mark.parametrize(
    ("task", "stored", "says"),
    [
        ("depth", np.uint8(3), "type: depth has 8 bits"),
        ("depth", np.uint16(65535), "depth unit: 25.0% of its values are 65535"),
        ("depth", np.float32(np.inf), "not finite: 50.0% of its values are infinite"),
        ("depth", np.float32(np.nan), "not finite: 50.0% of its values are NaN"),
        ("depth", np.float32(3), ""),
        ("semseg", np.float32(1), "type: class ids are stored as float32"),
        ("semseg", np.uint8(1), ""),
    ],
)
def test_number_types_are_looked_at_beside_an_entry_of_valid_pixels(
    tmp_path: Path, task: str, stored: Any, says: str
) -> None:
    """Half of the pixels have a label, half of these the number `stored`."""
    save(tmp_path / "images/0.png", photo(0))
    (tmp_path / task).mkdir()
    numbers = np.full(SIZE, 2, stored.dtype)
    numbers[:6], numbers[:, :8] = stored, np.nan if stored.dtype.kind == "f" else 0
    np.savez(tmp_path / task / "0.npz", numbers=numbers, valid=HALF)
    options = {"depth": "", "semseg": 'classes = ["a", "b", "c"]\n'}[task]
    (tmp_path / "dataset.toml").write_text(
        f'[images]\nfiles = "images/{{key}}.png"\n[tasks.{task}]\nfiles = "{task}/{{key}}.npz"\nkey = "numbers"\n'
        f'valid = "valid"\n{options}'
    )
    found = [f"{finding.check}: {finding.text}" for finding in examine(tmp_path).findings if finding.task == task]
    found = [line for line in found if not line.startswith("coverage")]
    assert any(line.startswith(says) for line in found) if says else not found, found


@pytest.mark.parametrize(("stored", "warns"), [(2100.0, False), (2.1, True)], ids=["one unit", "two units"])
def test_number_types_of_one_unit_may_differ(tmp_path: Path, stored: float, warns: bool) -> None:
    """As where a pseudo-label, which floats hold, was moved beside the labels that it stands among."""
    for i in range(3):
        save(tmp_path / f"images/{i}.png", photo(i))
    for i in range(2):
        save(tmp_path / f"depth/{i}.png", np.full(SIZE, 2000, np.uint16))
    save(tmp_path / "depth/2.npy", np.full(SIZE, stored, np.float32))
    (tmp_path / "dataset.toml").write_text(
        '[images]\nfiles = "images/{key}.png"\n[tasks.depth]\nfiles = "depth/{key}.*"\nunit = "mm"\n'
    )
    found = [finding.text for finding in examine(tmp_path).findings if finding.check == "types"]
    expected = "its files store different types, whose depths differ: 2 uint16 of 2 m, 1 float32 of 0.0021 m"
    assert found == ([expected] if warns else [])


@pytest.mark.parametrize("name", ["train.txt", "classes.txt", "images/train/9.png", "dataset.toml"])
def test_a_pipe_in_place_of_a_file_is_named(tmp_path: Path, name: str) -> None:
    build(tmp_path, "semseg", HALF, HALF)
    os.mkfifo(tmp_path / name)
    if name == "dataset.toml":
        for use in (init_folder, Folder):
            with pytest.raises(ValueError, match=r"dataset\.toml is .*pipe"):
                use(tmp_path)
        return
    assert f"{name} is a pipe" in said(describe_folder(tmp_path))
    init_folder(tmp_path)
    assert any(finding.file.endswith(name) for finding in examine(tmp_path).findings)


def test_a_list_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    build(tmp_path, "semseg", HALF, HALF)
    os.mkfifo(tmp_path / "train.txt")
    path, _ = init_folder(tmp_path)
    path.write_text(path.read_text().replace('train = "train"', 'train = "train.txt"').replace("{split}", "*"))
    with pytest.raises(ValueError, match=r"train\.txt is a pipe"):
        Folder(path)


@pytest.mark.parametrize(
    ("camera", "says"),
    [
        ("intrinsics = [20, 20, 8, 6]", ""),
        ("intrinsics = [20, 20, 8.5, 6.5]", ""),
        ("intrinsics = [20, 20, 4, 3]", "centre at 4, 3, far from the middle of 16 x 12 pixels"),  # of half the size
        ("intrinsics = [20, 20, 8, 3]", "far from the middle"),
        ("intrinsics = [10, 10, 4, 3]\nsize = [6, 8]", ""),
        ("intrinsics = [40, 40, 16, 12]", "centre at 16, 12, far from the middle"),
        ("fov = 60.0", ""),
    ],
)
@pytest.mark.parametrize("others", [False, True])
def test_intrinsics_of_another_size_than_the_image_are_told(
    tmp_path: Path, camera: str, says: str, others: bool
) -> None:
    build(tmp_path, "depth", *[np.full(SIZE, 2000, np.uint16)] * 2)
    if others:
        save(tmp_path / "images/train/1.png", np.tile(photo(1), (2, 2, 1)))
        save(tmp_path / "depth/train/1.png", np.full((24, 32), 2000, np.uint16))
    path, _ = init_folder(tmp_path)
    path.write_text(f"{path.read_text()}\n[camera]\n{camera}\n")
    found = [finding.text for finding in examine(tmp_path).findings if finding.check == "camera"]
    first = [text for text in found if "16 x 12" in text]
    assert bool(first) == bool(says)
    assert all(says in text for text in first)
    told = [text for text in found if "intrinsics are of one size, and its images have 2: 12x16, 24x32" in text]
    assert len(told) == (others and camera.startswith("intrinsics") and "size" not in camera)


def test_every_reader_turns_a_photograph_upright(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[274] = 6
    stored = photo(0)[:, :12]  # as high as wide: no size tells
    save(tmp_path / "semseg/0.png", HALF[:, :12])
    (tmp_path / "images").mkdir()
    Image.fromarray(stored).save(tmp_path / "images/0.png", exif=turned)
    path, doubts = init_folder(tmp_path)
    upright = np.rot90(stored, -1)
    for read in (Folder(path, split="all")[0].image, to_image_tensor(tmp_path / "images/0.png")):
        np.testing.assert_array_equal((read.permute(1, 2, 0) * 255).round().numpy(), upright)
    assert any("EXIF" in doubt for doubt in doubts)
    assert "orientation" in {finding.check for finding in examine(tmp_path).findings}


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_float_photographs_keep_their_brightness_or_are_refused(tmp_path: Path, scale: float) -> None:
    grey = np.random.default_rng(0).random(SIZE).astype(np.float32)
    save(tmp_path / "images/0.tif", grey * np.float32(scale))
    save(tmp_path / "semseg/0.png", HALF)
    path, _ = init_folder(tmp_path)
    if scale == 1:
        np.testing.assert_array_equal(Folder(path, split="all")[0].image.numpy(), np.stack([grey] * 3))
        return
    with pytest.raises(ValueError, match=r"0\.tif .* run from .* to .*\[0, 1\]"):
        Folder(path, split="all")[0]
    assert any("[0, 1]" in finding.cure for finding in examine(tmp_path).findings)


def test_a_mask_of_wide_numbers_needs_a_threshold(tmp_path: Path) -> None:
    build(tmp_path, "saliency", HALF.astype(np.int32) * 255, HALF.astype(np.int32) * 255, suffix=".npy")
    toml = '[images]\nfiles = "images/{split}/{key}.*"\n[tasks.saliency]\nfiles = "saliency/{split}/{key}.npy"\n'
    (tmp_path / "dataset.toml").write_text(toml)
    with pytest.raises(ValueError, match="set threshold"):
        Folder(tmp_path)[0]


@pytest.mark.parametrize("inside", [1, 255, 256, 32767, 32768, 65535])
def test_a_mask_of_16_bits_that_never_reaches_half_of_its_range_needs_a_threshold(inside: int) -> None:
    """8-bit values in a file of 16 bits would all be background; 0 alone is a mask without an object."""
    for encoding in (SaliencyMask(), BoundaryMask()):
        stored = HALF.astype(np.uint16)
        assert encoding.decode(stored * 0).max() == 0
        assert replace(encoding, threshold=inside).decode(stored * inside).sum() == HALF.sum()
        if inside < 32768:
            with pytest.raises(ValueError, match=f"uint16 from 0 to {inside}; .*threshold"):
                encoding.decode(stored * inside)
        else:
            assert encoding.decode(stored * inside).sum() == HALF.sum()
        assert not replace(encoding, invalid=(inside,)).decode(stored * inside)[..., :8].any()


def test_unlabelled_values_do_not_pass_through_a_class(tmp_path: Path) -> None:
    """-1 in int8 is the last value of a table of 65536, NaN as 255 is the object of a mask."""
    from triptych.labels.classes import Labels

    for stored in (np.array([[-1, 0]], np.int8), np.array([[-1, 0]]), np.array([[np.nan, 0]])):
        for extra in ({}, {"offset": 1}, {"map": {"0": 1, "255": 0}}):
            decoded = Labels(files="x", classes=2, invalid=(-1,), **extra).decode(stored)
            assert decoded.tolist() == [[IGNORE, 1 if extra else 0]]


def test_hidden_pipes_do_not_hang(tmp_path: Path) -> None:
    build(tmp_path, "semseg", HALF, HALF)
    os.mkfifo(tmp_path / "images/train/5.png")
    init_folder(tmp_path)
    assert len(Folder(tmp_path)) == 2


def test_weights_of_classes_follow_the_median_frequency(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path, "semseg", HALF, np.zeros_like(HALF), np.ones_like(HALF), splits=2)
    init_folder(tmp_path)
    descriptor = tmp_path / "dataset.toml"
    text = descriptor.read_text()
    descriptor.write_text(text.replace('train = "train"\nval = "val"', 'val = "val"\ntrain = "train"'))
    assert descriptor.read_text() != text  # val stands before train, whose labels count
    # Class 0 has 3/4 of the pixels of both images, class 1 half of those of the one that has it.
    median = (3 / 4 + 1 / 2) / 2
    assert examine(tmp_path).class_weights["semseg"] == pytest.approx({"0": median / 0.75, "1": median / 0.5})
    assert main(["data", "doctor", str(tmp_path), "--class-weights"]) == 0
    assert "semseg: [0.8333, 1.25]" in capsys.readouterr().out


CODES = st.lists(st.integers(0, 200), min_size=2, max_size=5, unique=True)
STORES: dict[str, Callable[[np.ndarray, list[int]], np.ndarray]] = {
    "ids": lambda labels, codes: labels.astype(np.uint8),
    "int64": lambda labels, codes: labels.astype(np.int64),
    "floats": lambda labels, codes: labels.astype(np.float32),
    "one-hot": lambda labels, codes: np.eye(len(codes), dtype=bool)[labels],
    "colors": lambda labels, codes: np.stack([np.array(codes)[labels], labels, 7 + 0 * labels], -1).astype(np.uint8),
    "with -1": lambda labels, codes: np.where(np.arange(SIZE[1]) < 2, -1, labels).astype(np.int16),
    "with NaN": lambda labels, codes: np.where(np.arange(SIZE[1]) < 2, np.nan, labels),
}


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(
    store=st.sampled_from(sorted(STORES)),
    codes=CODES,
    word=st.sampled_from(["semseg", "labels", "Annotations", "gt"]),
    prefix=st.sampled_from(["", "room_", "left_image_", "é-"]),
    ending=st.sampled_from(["", "_mask", "_seg40"]),
    seed=st.integers(0, 999),
)
def test_folders_of_any_names_and_codes_give_the_labels_that_were_drawn(
    tmp_path_factory: pytest.TempPathFactory,
    store: str,
    codes: list[int],
    word: str,
    prefix: str,
    ending: str,
    seed: int,
) -> None:
    root, codes = tmp_path_factory.mktemp("drawn"), sorted(codes)
    generator, truth = np.random.default_rng(seed), []
    for i in range(3):
        labels = generator.permuted(np.arange(SIZE[0] * SIZE[1]) % len(codes)).reshape(SIZE)
        save(root / f"rgb/train/{prefix}{i:03d}.png", photo(i))
        save(root / f"{word}/train/{prefix}{i:03d}{ending}.npy", STORES[store](labels, codes))
        truth.append(np.where((np.arange(SIZE[1]) < 2) & store.startswith("with"), IGNORE, labels))
    init_folder(root)
    dataset = Folder(root)
    assert len(dataset) == 3
    for i, expected in enumerate(truth):
        np.testing.assert_array_equal(dataset[i].targets["semseg"].numpy(), expected)
