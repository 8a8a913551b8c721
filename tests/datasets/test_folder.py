"""Own data in any layout and encoding becomes samples in the one convention, and mistakes name file and cure."""

import hashlib
import json
import math
import os
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from clinic import init_folder
from PIL import Image
from saved_maps import save
from shared import shared_path

from triptych.__main__ import main
from triptych.assemble import build_dataset
from triptych.data.arrays import read_array
from triptych.data.files import match_files
from triptych.data.shares import draw_splits, fit_shares
from triptych.data.subset import find_shared
from triptych.datasets.folder import Folder
from triptych.datasets.mixed import Mixed
from triptych.doctor.examine import examine
from triptych.doctor.inspection import inspect_sample
from triptych.folders.camera_files import CameraFiles
from triptych.folders.descriptor import parse_descriptor
from triptych.folders.guessing import describe_folder
from triptych.folders.writing import write_descriptor
from triptych.labels.base import Encoding, describe_encoding, hash_encoding, is_stored_in
from triptych.labels.classes import Labels
from triptych.labels.depth import Depth
from triptych.labels.derived import boundaries_from_labels, normals_from_depth
from triptych.labels.masks import BoundaryMask, SaliencyMask
from triptych.labels.normals import DIRECTIONS, Normals
from triptych.labels.values import Values
from triptych.prepared.reader import Prepared
from triptych.prepared.write import prepare
from triptych.recipes.config import AdaptationConfig, DataConfig, Recipe, split_domain, with_root
from triptych.types import IGNORE, Camera, valid_pixels

REPOSITORY = Path(__file__).resolve().parents[2]
SIZE = (12, 16)


def photo(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def write(root: Path, text: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.toml").write_text(text)
    return root


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    """Two splits; the second training image has no depth, validation has no labels of semseg at all."""
    labels = np.arange(SIZE[0] * SIZE[1], dtype=np.uint8).reshape(SIZE) % 4
    for split, keys in (("train", "abc"), ("val", "d")):
        for i, key in enumerate(keys):
            save(tmp_path / "images" / split / f"{key}.jpg", photo(i))
            if split == "train":
                save(tmp_path / "semseg" / split / f"{key}.png", labels)
            if key != "b":
                save(tmp_path / "depth" / split / f"{key}.png", np.full(SIZE, 1500 + i, np.uint16))
    return write(
        tmp_path,
        """
        [images]
        files = "images/{split}/{key}.*"
        [tasks.semseg]
        files = "semseg/{split}/{key}.png"
        classes = ["floor", "wall", "door", "lamp"]
        [tasks.depth]
        files = "depth/{split}/{key}.png"
        unit = "mm"
        """,
    )


def test_images_of_a_split_are_found_among_all(rooms: Path) -> None:
    """Whose keys hold the split; in mixtures, and in prepared copies."""
    save(rooms / "images/val/a.jpg", photo(7))  # another than that of the training set
    for split in ("all", "train", "val"):
        prepare(Folder(rooms, split=split), rooms / "out", split=split)
    described = {"root": str(rooms), "dataset": "folder"}
    for prefix, kind in (
        ("", lambda split: Folder(rooms, split=split)),
        ("own/", lambda split: Mixed(sources={"own": described}, split=split)),
        ("", lambda split: Prepared(rooms / "out", split=split)),
    ):
        opened = {split: kind(split) for split in ("all", "train", "val")}
        assert find_shared(opened["all"], opened["val"]) == ([f"{prefix}{key}" for key in "ad"], 2)
        assert find_shared(opened["val"], opened["all"])[0] == [f"{prefix}val/{key}" for key in "ad"]
        assert find_shared(opened["train"], opened["val"]) == ([], 1)


def test_samples_follow_the_one_convention(rooms: Path) -> None:
    dataset = Folder(rooms)
    assert len(dataset) == 3
    assert [dataset.key(i) for i in range(3)] == ["a", "b", "c"]
    assert list(dataset.tasks) == ["semseg", "depth"]
    assert dataset.tasks["semseg"].classes == ("floor", "wall", "door", "lamp")
    sample = dataset[2]
    assert sample.key == "c"
    assert sample.image.shape == (3, *SIZE)
    expected = np.asarray(Image.open(rooms / "images/train/c.jpg")).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(sample.image.numpy(), expected, atol=1e-6)
    assert sample.targets["semseg"].dtype == torch.int64
    assert sample.targets["depth"].unique().tolist() == pytest.approx([1.502])


def test_missing_labels_are_all_invalid_maps(rooms: Path) -> None:
    sample = Folder(rooms)[1]
    assert not valid_pixels(sample.targets["depth"]).any()
    assert sample.targets["depth"].shape == (1, *SIZE)
    assert valid_pixels(sample.targets["semseg"]).all()
    sample = Folder(rooms, split="val")[0]
    assert sample.targets["semseg"].unique().tolist() == [IGNORE]
    assert valid_pixels(sample.targets["depth"]).all()


def test_all_splits_together_keep_names_apart(rooms: Path) -> None:
    save(rooms / "images/val/a.jpg", photo(9))  # the name of a training image
    dataset = Folder(rooms, split="all")
    assert dataset.keys == ["train/a", "train/b", "train/c", "val/a", "val/d"]
    assert not valid_pixels(dataset[3].targets["depth"]).any()


def test_tasks_can_be_chosen_and_ordered(rooms: Path) -> None:
    assert list(Folder(rooms, tasks=("depth",))[0].targets) == ["depth"]
    assert list(Folder(rooms, tasks=("depth", "semseg"))[0].targets) == ["depth", "semseg"]
    with pytest.raises(ValueError, match="did you mean 'depth'"):
        Folder(rooms, tasks=("dept",))


def test_recipes_name_folders(rooms: Path) -> None:
    dataset = build_dataset(Recipe(data=DataConfig(dataset="folder", root=str(rooms))), "val")
    assert dataset.key(0) == "d"


def test_a_descriptor_may_lie_elsewhere(rooms: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "my.toml"
    elsewhere.parent.mkdir()
    elsewhere.write_text('root = ".."\n' + (rooms / "dataset.toml").read_text())
    assert len(Folder(elsewhere)) == 3
    moved = rooms.rename(tmp_path.parent / f"{tmp_path.name}-moved")
    assert len(Folder(moved / "elsewhere/my.toml", root=moved)) == 3


def test_a_received_run_reads_the_files_that_are_named_and_no_others(rooms: Path, tmp_path_factory) -> None:
    """Those of where it was trained may lie there still."""
    there = tmp_path_factory.mktemp("there")
    for name in ("my.toml", "files/dataset.toml"):
        (there / name).parent.mkdir(exist_ok=True)
        shutil.copy(rooms / "dataset.toml", there / name)
    shutil.copytree(rooms, there / "files", dirs_exist_ok=True)
    options = {"root": str(there / "files")}
    recipe = Recipe(data=DataConfig(dataset="folder", root=str(there / "my.toml"), options=options))
    adapted = Recipe(
        adaptation=AdaptationConfig("dacs", dataset="folder", root=recipe.data.root, dataset_options=options)
    )
    for place in (rooms, rooms / "dataset.toml"):
        for moved in (
            with_root(recipe, str(place)),
            split_domain(with_root(adapted, str(place), "target-train"), "target-train")[0],
        ):
            dataset = build_dataset(moved, "train")
            assert dataset.root.samefile(rooms)
            assert all(path.is_relative_to(rooms) for path in dataset.source_files(0))
    assert build_dataset(with_root(recipe, ""), "train").root == there / "files"
    (rooms / "dataset.toml").unlink()
    with pytest.raises(ValueError, match=r"root is elsewhere, but .* has no dataset.toml .*; leave root out"):
        Folder(rooms, root="elsewhere")


def test_splits_from_lists_and_shares(tmp_path: Path) -> None:
    for i in range(40):
        save(tmp_path / f"rgb/s{i // 4}/{i}.png", photo(i))
        save(tmp_path / f"gt/s{i // 4}/{i}.png", np.zeros(SIZE, np.uint8))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/few.txt").write_text("# chosen\ns0/1\ns0/2.png\n\n")
    rest = '[images]\nfiles = "rgb/{key}.png"\n[tasks.semseg]\nfiles = "gt/{key}.png"\nclasses = 1\n'
    write(tmp_path, '[splits]\ntrain = "lists/few.txt"\n' + rest)
    assert Folder(tmp_path).keys == ["s0/1", "s0/2"]
    (tmp_path / "lists/few.txt").write_text("s0/1\ns9/77\n")
    with pytest.raises(ValueError, match=r"few\.txt names 's9/77'"):
        Folder(tmp_path)
    write(tmp_path, "[splits]\nval = 0.1\ntest = 0.2\n" + rest)
    parts = {split: set(Folder(tmp_path, split=split).keys) for split in ("train", "val", "test")}
    assert {split: len(keys) for split, keys in parts.items()} == {"train": 28, "val": 4, "test": 8}
    assert set.union(*parts.values()) == set(Folder(tmp_path, split="all").keys)
    write(tmp_path, 'group = "folder"\n[splits]\nval = 0.1\ntest = 0.2\n' + rest)
    scenes = {split: {key.split("/")[0] for key in Folder(tmp_path, split=split).keys} for split in parts}
    assert [len(scenes[split]) for split in ("train", "val", "test")] == [7, 1, 2]
    assert not scenes["train"] & (scenes["val"] | scenes["test"])


def test_images_are_grouped_as_the_descriptor_says(tmp_path: Path) -> None:
    """Blocks of time are those of the whole video, also in a split that is made of some of them."""
    for i in range(80):
        save(tmp_path / f"rgb/s{i // 40}/{i}.png", photo(i))
        save(tmp_path / f"gt/s{i // 40}/{i}.png", np.zeros(SIZE, np.uint8))
    rest = '[images]\nfiles = "rgb/{key}.png"\n[tasks.semseg]\nfiles = "gt/{key}.png"\nclasses = 1\n'
    (tmp_path / "few.txt").write_text("s0/1\ns0/2\ns1/40\n")

    def groups(top: str, val: str | float = 0.2, **options: Any) -> tuple[list[str], list[str], str]:
        write(tmp_path, f"{top}\n[splits]\nval = {val!r}\n{rest}")
        dataset = Folder(tmp_path, split="val", **options)
        return dataset.keys, [dataset.group(index) for index in range(len(dataset))], dataset.sampling_unit

    keys, found, _ = groups("")
    assert found == keys
    keys, found, unit = groups("", neighbor_frames=(1,))
    assert (found, unit) == ([f"{key.split('/')[0]}/*" for key in keys], "videos")
    keys, found, unit = groups('group = "time"')
    assert (len(keys), len(set(found)), unit) == (16, 8, "blocks of time")  # of 2 videos of 20 blocks
    assert groups('group = "folder"', "few.txt")[1:] == (["s0", "s0", "s1"], "folders")


@pytest.mark.parametrize("shares", [{"val": 0.1, "test": 0.1}, {"val": 1 / 3, "none": 0.0, "test": 0.5}, {"val": 1.0}])
@pytest.mark.parametrize("group", ["file", "folder"])
def test_a_stable_draw_is_the_exact_one_of_the_images_that_it_was_fitted_to(shares: dict, group: str) -> None:
    """And moves none of them when others are added."""
    for count in (1, 2, 3, 4, 7, 20, 333):
        keys = [f"s{i}/{count}-{i}" for i in range(count)]
        exact = draw_splits(keys, shares, group) if count > len(shares) else {}
        fitted = fit_shares(keys, shares, group)
        stable = draw_splits(keys, fitted, group, "stable")
        assert not exact or stable == exact
        assert list(fitted) == list(shares)
        assert 0 <= sum(fitted.values()) <= 1
        more = draw_splits([*keys, *(f"t{i}/{i}" for i in range(50))], fitted, group, "stable")
        assert stable.items() <= more.items()


def test_splits_that_init_draws_stay_when_images_are_added(tmp_path: Path) -> None:
    """Those that were there lie as they did without a descriptor; `--force` draws nothing anew."""

    def add(first: int, last: int) -> None:
        for i in range(first, last):
            save(tmp_path / f"images/{i}.png", photo(0))
            save(tmp_path / f"depth/{i}.npy", np.linspace(1, 9, 192, dtype=np.float32).reshape(SIZE))

    def splits(*names: str) -> dict[str, set[str]]:
        return {name: set(Folder(tmp_path, split=name).keys) for name in names or ("train", "val", "test")}

    add(0, 12)
    first = splits()
    init_folder(tmp_path)
    assert splits() == first
    assert [len(keys) for keys in first.values()] == [8, 2, 2]
    add(12, 60)
    assert all(first[name] <= keys for name, keys in splits().items())
    assert all(first[name] < keys for name, keys in splits("train", "val").items())
    text = (tmp_path / "dataset.toml").read_text()
    init_folder(tmp_path, force=True)
    assert (tmp_path / "dataset.toml").read_text() == text
    second = splits()
    exact = re.sub(r"draw = .*", "", text)
    (tmp_path / "dataset.toml").write_text(f'group = "folder"\n{exact}')
    with pytest.raises(ValueError, match="gives 1 groups for 3 splits"):
        Folder(tmp_path)
    (tmp_path / "dataset.toml").write_text(exact)  # as written by hand, or by an older version
    assert splits() != second
    second = splits()
    init_folder(tmp_path, force=True)
    assert splits() == second


def test_a_stable_share_that_is_empty_says_which_is_not(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path / f"rgb/{i}.png", photo(i))
        save(tmp_path / f"gt/{i}.png", np.zeros(SIZE, np.uint8))
    rest = '[images]\nfiles = "rgb/{key}.png"\n[tasks.semseg]\nfiles = "gt/{key}.png"\nclasses = 1\n'
    write(tmp_path, '[splits]\nval = 0.01\ntest = 0.01\ndraw = "stable"\n' + rest)
    with pytest.raises(ValueError, match=r"split 'val' .* is empty.*; write val = 0\.\d+, test = 0\.\d+ in") as error:
        Folder(tmp_path, split="val")
    found = re.search(r"write (.*), (.*) in", str(error.value))
    assert found
    write(tmp_path, "[splits]\n" + "\n".join(found.groups()) + '\ndraw = "stable"\n' + rest)
    assert [len(Folder(tmp_path, split=name)) for name in ("train", "val", "test")] == [3, 1, 1]
    write(tmp_path, '[splits]\nval = 0.1\ndraw = "stabel"\n' + rest)
    with pytest.raises(ValueError, match="did you mean 'stable'"):
        Folder(tmp_path)
    write(tmp_path, "[splits]\nval = 0.2\ndraw = 0.2\n" + rest)  # a split of this name
    assert len(Folder(tmp_path, split="draw")) == 1


@pytest.mark.parametrize("splits", [{"val": 0.2}, {"train": "lists/train.txt"}, {}])
def test_a_split_that_is_no_folder_fills_no_pattern(splits: dict, tmp_path: Path) -> None:
    """`{split}` stood for "0.2" or the name of the list, and labels were missing without a word."""

    def describe(where: str) -> dict:
        files = {
            name: f"{name}/{'{split}' if name == where else '*'}/{{key}}.*"
            for name in ("images", "tasks.depth", "tasks.depth.pseudo", "camera")
        }
        depth = {"files": files["tasks.depth"], "pseudo": {"files": files["tasks.depth.pseudo"]}}
        sections = {"images": {"files": files["images"]}, "tasks": {"depth": depth}}
        return {**sections, "camera": {"files": files["camera"]}, "splits": splits}

    assert parse_descriptor(describe(""), tmp_path).splits == splits
    for where in ("images", "tasks.depth", "tasks.depth.pseudo", "camera")[not splits :]:
        cure = r"drop \[splits\], .* \('images/{key}\.\*'" if where == "images" else r"write \* in its place"
        with pytest.raises(ValueError, match=rf"\[{where}\] files = .* has {{split}}, but .*; {cure}"):
            parse_descriptor(describe(where), tmp_path)


def test_the_cure_of_a_split_that_is_no_folder_cures(tmp_path: Path) -> None:
    """Folders of splits that hold one name each, and a list."""
    for split in ("train", "val"):
        save(tmp_path / f"images/{split}/0.png", photo())
        save(tmp_path / f"semseg/{split}/0.png", np.full(SIZE, split == "val", np.uint8))
    (tmp_path / "list.txt").write_text("val/0\n")
    text = '[splits]\nval = "list.txt"\n[images]\nfiles = "images/KEY.png"\n'
    text += '[tasks.semseg]\nclasses = 2\nfiles = "semseg/KEY.png"\n'
    with pytest.raises(ValueError, match=r"are both '0' of .*; let {key} stand for the folder too"):
        Folder(write(tmp_path, text.replace("KEY", "*/{key}")), split="val")
    dataset = Folder(write(tmp_path, text.replace("KEY", "{key}")), split="val")
    assert (dataset.keys, dataset[0].targets["semseg"].unique().tolist()) == (["val/0"], [1])


def test_a_split_may_have_no_label_where_those_of_all_lie_together(rooms: Path) -> None:
    for path in sorted((rooms / "depth").glob("*/*.png")):
        path.rename(rooms / "depth" / path.name)
    (rooms / "depth/d.png").unlink()
    write(rooms, (rooms / "dataset.toml").read_text().replace("depth/{split}", "depth"))
    assert Folder(rooms, split="val")[0].targets["depth"].isnan().all()
    assert len(Folder(rooms).labels["depth"]) == len(Folder(rooms, split="all").labels["depth"]) == 2
    for path in (rooms / "depth").iterdir():
        path.rename(path.with_stem(f"{path.stem}_x"))
    with pytest.raises(ValueError, match=r"none of the 2 files of \[tasks.depth\] belongs to an image"):
        Folder(rooms, split="val")


@pytest.mark.parametrize("splits", ["", '[splits]\nval = "val"\ndev = "dev"\n'])
def test_a_split_without_labels_gets_none_of_another_one(splits: str, tmp_path: Path) -> None:
    for split in ("val", "dev"):
        save(tmp_path / f"images/{split}/0.png", photo())
    save(tmp_path / "semseg/val/0.png", np.zeros(SIZE, np.uint8))
    save(tmp_path / "depth/dev/0.png", np.ones(SIZE, np.uint8))
    text = '[images]\nfiles = "images/{split}/{key}.png"\n[tasks.depth]\nfiles = "depth/{split}/{key}.png"\n'
    text += '[tasks.semseg]\nfiles = "semseg/{split}/{key}.png"\nclasses = 1\n'
    write(tmp_path, splits + text)
    read = {split: Folder(tmp_path, split=split).labels for split in ("val", "dev")}
    found = {split: {name for name, paths in labels.items() if paths} for split, labels in read.items()}
    assert found == {"val": {"semseg"}, "dev": {"depth"}}


def test_a_folder_without_a_descriptor_says_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in "abcdefghijklmnopqrst":
        save(tmp_path / f"images/{key}.png", photo(ord(key)))
        save(tmp_path / f"depth/{key}.npy", np.full(SIZE, 2.0, np.float32))
    assert not Folder(tmp_path, split="all").notes
    save(tmp_path / "heat/a\n\x1b]0;b\x07.npy", np.zeros(SIZE))
    (note,) = Folder(tmp_path, split="all").notes
    assert "left out heat/*.npy: 1 file match no pattern, such as a\n\x1b]0;b\x07.npy" in note
    for verb, told in (("doctor", "left out heat/*.npy"), ("init", "left out: heat/*.npy")):
        assert main(["data", verb, str(tmp_path)]) == 0
        shown = capsys.readouterr().out
        assert told in shown
        assert "such as a\\n\\x1b]0;b\\x07.npy" in shown  # spelled out, for it would set a terminal's title
        assert "\x1b" not in shown
    assert not Folder(tmp_path, split="all").notes  # a descriptor says what is meant


def test_the_twin_layout_needs_no_descriptor(tmp_path: Path) -> None:
    """Same stem, .npy float32 metres, not positive is invalid."""
    depth = np.linspace(0.5, 4, 12 * 16, dtype=np.float32).reshape(SIZE)
    depth[0, :3] = 0, -1, np.nan
    for i in range(20):
        save(tmp_path / f"images/{i}.jpg", photo(i))
        save(tmp_path / f"depth/{i}.npy", depth)
    sample = Folder(tmp_path, split="all")[0]
    expected = torch.from_numpy(depth)[None].clone()
    expected[0, 0, :3] = torch.nan
    torch.testing.assert_close(sample.targets["depth"], expected, equal_nan=True)


def test_what_must_be_guessed_needs_a_descriptor(rooms: Path) -> None:
    (rooms / "dataset.toml").unlink()
    with pytest.raises(ValueError, match=r"triptych data init .*unit"):
        Folder(rooms)


@pytest.mark.parametrize(
    ("options", "stored", "expected"),
    [
        ({"unit": "mm"}, np.array([[0, 1500]], np.uint16), [np.nan, 1.5]),
        ({"unit": "cm", "invalid": (65535,)}, np.array([[250, 65535]], np.uint16), [2.5, np.nan]),
        ({"scale": 1 / 256}, np.array([[256, 512]], np.uint16), [1, 2]),
        ({"scale": 0.5, "offset": 1}, np.array([[2, -4]], np.int16), [2, np.nan]),
        ({}, np.array([[np.inf, 2.0]]), [np.nan, 2]),
        ({"maximum": 3.0}, np.array([[2.0, 4.0]]), [2, np.nan]),
        ({"kind": "disparity", "numerator": 100.0, "scale": 1 / 4}, np.array([[0, 40]], np.uint16), [np.nan, 10]),
    ],
)
def test_depth_encodings(options: dict, stored: np.ndarray, expected: list[float]) -> None:
    np.testing.assert_allclose(Depth(files="x", **options).decode(stored)[0, 0].numpy(), expected, rtol=1e-6)


def test_distance_along_the_ray_becomes_depth() -> None:
    camera = Camera(torch.tensor([[50.0, 0.0, 8.0], [0.0, 50.0, 6.0], [0.0, 0.0, 1.0]]))
    v, u = np.mgrid[:12, :16] + 0.5
    points = np.stack([(u - 8) / 50, (v - 6) / 50, np.ones_like(u)]) * 3.0  # a wall at 3 m
    depth = Depth(files="x", kind="distance").decode(np.linalg.norm(points, axis=0), camera)
    torch.testing.assert_close(depth, torch.full((1, *SIZE), 3.0))
    with pytest.raises(ValueError, match="camera"):
        Depth(files="x", kind="distance").decode(np.ones(SIZE), None)


@pytest.mark.parametrize(
    ("options", "stored", "expected"),
    [
        ({"classes": 3}, np.array([[0, 2, 255]], np.uint8), [0, 2, 255]),
        ({"classes": 3, "offset": -1}, np.array([[0, 1, 3]], np.uint8), [255, 0, 2]),
        ({"classes": 2, "map": {"7": 0, "11": 1}}, np.array([[7, 11, 9]], np.uint8), [0, 1, 255]),
        ({"classes": 2, "map": {"0": 0, "255": 1}}, np.array([[0, 255, 0]], np.uint8), [0, 1, 0]),
        ({"classes": 3, "invalid": (2,)}, np.array([[0, 1, 2]], np.uint16), [0, 1, 255]),
        ({"classes": 3}, np.array([[0.0, 2.0, np.nan]]), [0, 2, 255]),
        ({"classes": 3, "invalid": (-1,)}, np.array([[0, -1, 2]], np.int32), [0, 255, 2]),
        ({"classes": 2, "colors": ((1, 2, 3), (9, 9, 9))}, np.array([[[9, 9, 9], [1, 2, 3], [0, 0, 0]]]), [1, 0, 255]),
    ],
)
def test_label_encodings(options: dict, stored: np.ndarray, expected: list[int]) -> None:
    if "colors" in options:
        stored = stored.astype(np.uint8)
    assert Labels(files="x", **options).decode(stored)[0].tolist() == expected


@pytest.mark.parametrize("stored", [np.array([[0, 3]], np.uint8), np.array([[0, 70000]], np.int32), np.array([[0.5]])])
def test_labels_out_of_range_are_refused(stored: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"outside the 3 classes: (3|70000);|class ids"):
        Labels(files="x", classes=3).decode(stored)


@pytest.mark.parametrize(
    ("options", "stored"),
    [
        ({"classes": 255, "offset": -1}, np.array([[1, 256]], np.uint16)),
        ({"classes": 3, "offset": 5}, np.array([[250]], np.uint8)),
        ({"classes": 3, "offset": 55}, np.array([[200.0]])),
    ],
)
def test_a_value_that_lands_on_the_mark_of_no_label_is_refused(options: dict, stored: np.ndarray) -> None:
    with pytest.raises(ValueError, match=f"outside the .* classes: {stored.max()}"):
        Labels(files="x", **options).decode(stored)


def test_a_mark_that_is_listed_counts_beside_a_threshold() -> None:
    stored, usual = np.array([[0, 200, 255]], np.uint8), Labels(classes=2, threshold=128)
    assert usual.decode(stored).tolist() == [[0, 1, 1]]
    assert pickle.loads(pickle.dumps(usual)).decode(stored).tolist() == [[0, 1, 1]]
    assert replace(usual, invalid=(255,)).decode(stored).tolist() == [[0, 1, 255]]
    assert describe_encoding(replace(usual, invalid=(255,))) != describe_encoding(usual)
    for other in (Labels(classes=2), Labels(classes=2, one_hot=True)):  # where it changes nothing
        assert describe_encoding(replace(other, invalid=(255,))) == describe_encoding(other)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_a_number_that_is_listed_as_it_was_written_has_no_label(dtype: str) -> None:
    for value in (655.35, 0.1, 0.6, 1e6):
        with np.errstate(over="ignore"):
            stored = np.array([[value, 0.75]]).astype(dtype)
        for encoding in (Depth(), SaliencyMask(threshold=0.05), Values(), Labels(classes=2, threshold=0.05), Normals()):
            marked = replace(encoding, invalid=(value,))
            target = marked.decode(np.stack([stored] * 3, -1) if isinstance(encoding, Normals) else stored, None)
            assert valid_pixels(target).reshape(-1).tolist() == [False, True], encoding


COLORS = [[0, 0, 0], [9, 9, 9]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"one_hot": True, "invalid": [0]}, "invalid has no effect beside one_hot"),
        ({"one_hot": True, "channel": 1}, "channel has no effect beside one_hot"),
        ({"one_hot": True, "colors": COLORS}, "one_hot has no effect beside colors"),
        ({"colors": COLORS, "invalid": [0]}, "invalid has no effect beside colors"),
        ({"colors": COLORS, "map": {"0": 1}}, "map has no effect beside colors"),
        ({"map": {"0": 1}, "threshold": 0}, "threshold has no effect beside map"),
        ({"map": {"0": 1}, "offset": -1}, "offset has no effect beside map"),
        ({"threshold": 9, "offset": -1}, "offset has no effect beside threshold"),
        ({"threshold": 9, "classes": 3}, "threshold tells 2 classes apart, and there are 3"),
        ({"type": "boundary", "from": "other", "files": "a/{key}.png"}, "files has no effect beside from"),
        ({"type": "boundary", "from": "other", "files": "", "threshold": 2}, "threshold has no effect beside from"),
        ({"type": "boundary", "radius": 2}, "radius is 2 without from"),
        ({"type": "boundary", "from": "other", "files": "", "radius": -2}, "radius is -2; lines are made thicker"),
        ({"type": "boundary", "from": "other", "files": "", "resize": True}, "resize has no effect beside from"),
        ({"type": "boundary", "from": "other", "files": "", "valid": "v"}, "valid has no effect beside from"),
        ({"map": {"0": 0, "255": 1}, "invalid": [255]}, "invalid lists 255, and map has 255 = 1; keep it in one of"),
        ({"map": {"0": 0, "255": 1}}, ""),
        ({"map": {"0": 0, "255": 255}, "invalid": [255]}, ""),
        ({"one_hot": True, "invalid": [255]}, ""),
        ({"colors": COLORS, "invalid": [math.nan]}, ""),
        ({"map": {"0": 1}, "invalid": [7]}, ""),
        ({"threshold": 9, "invalid": [255]}, ""),
    ],
)
def test_options_that_exclude_each_other_are_refused(options: dict, says: str, tmp_path: Path) -> None:
    usual = {"files": "own/{key}.png", **({"type": "semseg", "classes": 2} if "type" not in options else {})}
    tasks = {"own": {**usual, **options}, "other": {"type": "semseg", "files": "other/{key}.png", "classes": 2}}
    data = {"images": {"files": "images/{key}.png"}, "tasks": tasks}
    if not says:
        parse_descriptor(data, tmp_path)
        return
    with pytest.raises(ValueError, match=rf"\[tasks.own\]: {says}"):
        parse_descriptor(data, tmp_path)


@pytest.mark.parametrize("option", [{"size": (4, 5)}, {"pixel_centers": "integer"}])
def test_a_field_of_view_says_all_of_a_camera(option: dict) -> None:
    CameraFiles(intrinsics=(20, 20, 8, 6), **option)
    with pytest.raises(ValueError, match=f"{next(iter(option))} has no effect beside fov"):
        CameraFiles(fov=60.0, **option)


def test_names_of_folders_that_no_descriptor_can_hold_are_left_out(rooms: Path) -> None:
    """The folder is described without them, or the error names the one that has to be renamed."""
    (rooms / "dataset.toml").unlink()
    strange = Path(os.fsdecode(b"gr\xfcn"))
    (rooms / "semseg").rename(rooms / f"masks_{strange}")
    (rooms / f"labels_{strange}.txt").write_text("a\n")
    target, guess = write_descriptor(rooms)
    assert set(guess.tasks) == {"depth"}
    assert any("rename it: its name is no UTF-8" in line for line in [*guess.checks, *guess.left_out])
    assert r"gr\udcfcn" in target.read_text()
    assert set(Folder(rooms).tasks) == {"depth"}
    (rooms / "images").rename(rooms / f"images_{strange}")
    with pytest.raises(ValueError, match="rename it: its name is no UTF-8"):
        write_descriptor(rooms, force=True)


def test_marks_that_the_doctor_adds_are_none_that_are_refused() -> None:
    mapped = Labels(classes=2, map={"0": 0, "255": 1})
    assert mapped.decode(np.array([[0, 255]], np.uint8)).tolist() == [[0, 1]]
    for encoding in (mapped, Labels(classes=2, one_hot=True), Labels(classes=2, colors=((0, 0, 0), (9, 9, 9)))):
        assert len(replace(encoding, invalid=(*encoding.marks, math.nan)).invalid) == 1


@pytest.mark.parametrize(
    "encoding",
    [
        Labels(classes=2),
        Labels(classes=2, threshold=0.5),
        Labels(classes=2, threshold=0.5, invalid=(255,)),
        Labels(classes=2, one_hot=True),
        Labels(classes=2, colors=((0, 0, 0), (9, 9, 9))),
        Labels(classes=2, map={"0": 0, "255": 1}),
        Depth(invalid=(7,)),
        Normals(),
        SaliencyMask(),
        Values(),
    ],
)
def test_nan_that_the_doctor_lists_keeps_pseudo_labels(encoding: Encoding) -> None:
    """Those that are noted now, and those that were noted with marks that do not count."""
    listed = replace(encoding, invalid=(*encoding.marks, math.nan))
    usual = f"invalid={tuple(encoding.invalid)!r}"
    text = re.sub(r"invalid=\(.*?\)", usual, describe_encoding(encoding)).replace(", listed", "")
    for noted in (hash_encoding(encoding), hashlib.sha256(text.encode()).hexdigest()[:16]):
        assert is_stored_in(noted, encoding)
        assert is_stored_in(noted, listed)
    if encoding.marks:
        assert not is_stored_in(hash_encoding(encoding), replace(listed, invalid=(*listed.invalid, 8)))


STORED = np.random.default_rng(0).integers(0, 4, SIZE)
VALID_CASES: list[tuple[Encoding, np.ndarray]] = [
    (Normals(), np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)),
    (Normals(), np.random.default_rng(0).integers(0, 65536, (*SIZE, 3), np.uint16)),
    (Normals(), np.random.default_rng(0).random((*SIZE, 3), np.float32)),
    (SaliencyMask(), (STORED * 85).astype(np.uint8)),
    (BoundaryMask(), STORED > 1),
    (Depth(unit="mm"), (STORED * 1000).astype(np.uint16)),
    (Labels(classes=4), STORED.astype(np.uint8)),
    (Labels(classes=4), STORED.astype(np.int32)),
    (Labels(classes=2, threshold=128), (STORED * 85).astype(np.uint8)),
    (Labels(classes=4, one_hot=True), np.eye(4, dtype=np.uint8)[STORED]),
    (Labels(classes=2, colors=((0, 0, 0), (3, 3, 3))), np.stack([STORED] * 3, -1).astype(np.uint8)),
    (Values(channels=3), np.random.default_rng(0).integers(0, 256, (*SIZE, 4), np.uint8)),
]


@pytest.mark.parametrize(("encoding", "stored"), VALID_CASES)
def test_an_entry_of_valid_pixels_changes_no_target_but_where_it_is_0(
    tmp_path: Path, encoding: Encoding, stored: np.ndarray
) -> None:
    marked = replace(encoding, key="numbers", valid="valid")
    for valid in (np.ones(SIZE), STORED > 0):
        np.savez(tmp_path / "a.npz", numbers=stored, valid=valid)
        target, expected = marked.decode(marked.read(tmp_path / "a.npz"), None), encoding.decode(stored, None)
        expected.movedim((-2, -1), (0, 1))[valid == 0] = torch.nan if expected.is_floating_point() else IGNORE
        torch.testing.assert_close(target, expected, rtol=0, atol=0, equal_nan=True)


def test_transparency_of_a_quantity_is_no_channel_of_it() -> None:
    stored = np.arange(60, dtype=np.uint8).reshape(5, 3, 4)
    stored[0, :, 3] = 0
    target = Values(channels=3).decode(stored)
    assert (target.shape, target.isnan().all(0).any(1).tolist()) == ((3, 5, 3), [True] + [False] * 4)
    assert not Values(channels=4).decode(stored).isnan().any()
    for channels, numbers in (
        (2, stored[..., :3]),
        (3, stored.astype(np.float32)),
        (4, np.dstack([stored, stored])[..., :5]),
    ):
        with pytest.raises(ValueError, match=rf"it has shape \(5, 3, {numbers.shape[-1]}\).*, expected .*; .*save"):
            Values(channels=channels).decode(numbers)


@pytest.mark.parametrize("axes", [("right", "down", "forward"), ("right", "forward", "up"), ("backward", "left", "up")])
@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_normals_of_any_axes_come_back(axes: tuple[str, str, str], kind: str) -> None:
    """Vectors of the camera frame, written in other axes, are read back."""
    normals = torch.nn.functional.normalize(torch.randn(3, *SIZE), dim=0).numpy()
    stored = np.stack([DIRECTIONS[axis][1] * normals[DIRECTIONS[axis][0]] for axis in axes], axis=-1)
    if kind == "uint8":
        stored = np.round((stored + 1) * 127.5).astype(np.uint8)
        stored[0, 0], stored[0, 1] = 0, 128  # black and grey: no normal
    else:
        stored[0, :2] = 0
    target = Normals(files="x", axes=axes).decode(stored)
    assert target[:, 0, :2].isnan().all()
    known = ~target.isnan().any(0)
    assert int((~known).sum()) == 2
    np.testing.assert_allclose(
        target[:, known].numpy(), normals[:, known.numpy()], atol=0.015 if kind == "uint8" else 1e-5
    )
    torch.testing.assert_close(target[:, known].norm(dim=0), torch.ones(int(known.sum())))


def test_votes_become_boundaries_with_doubtful_pixels(tmp_path: Path) -> None:
    save(tmp_path / "images/train/a.png", photo(size=(1, 4)))
    save(tmp_path / "votes/train/a.png", np.array([[0, 1, 2, 5]], np.uint8))
    save(tmp_path / "sal/train/a.png", np.array([[0, 127, 128, 255]], np.uint8))
    write(
        tmp_path,
        """
        [images]
        files = "images/{split}/{key}.*"
        [tasks.boundary]
        files = "votes/{split}/{key}.png"
        threshold = 2
        invalid = [1]
        [tasks.saliency]
        files = "sal/{split}/{key}.png"
        """,
    )
    targets = Folder(tmp_path)[0].targets
    torch.testing.assert_close(targets["boundary"], torch.tensor([[[0.0, torch.nan, 1.0, 1.0]]]), equal_nan=True)
    assert targets["saliency"].tolist() == [[0, 0, 1, 1]]


def test_one_bit_masks_are_masks(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(path)
    assert read_array(path).tolist() == [[0, 255]]


def test_derived_boundaries_equal_a_loop() -> None:
    labels = torch.randint(0, 3, (9, 11))
    labels[torch.rand(9, 11) < 0.1] = IGNORE
    derived = boundaries_from_labels(labels)[0]
    for i in range(9):
        for j in range(11):
            around = [labels[i + a, j + b] for a, b in ((0, 1), (1, 0), (1, 1)) if i + a < 9 and j + b < 11]
            if IGNORE in [labels[i, j], *around]:
                assert derived[i, j].isnan()
            else:
                assert derived[i, j] == float(any(label != labels[i, j] for label in around))
    thick = boundaries_from_labels(torch.tensor([[0] * 5 + [1] * 5]), radius=1)
    assert thick[0, 0].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0]


def test_boundaries_can_come_from_semseg_that_is_not_trained(tmp_path: Path) -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 8:] = 1
    save(tmp_path / "images/train/a.png", photo())
    save(tmp_path / "images/train/b.png", photo(1))
    save(tmp_path / "labels/train/a.png", labels)
    write(
        tmp_path,
        """
        [images]
        files = "images/{split}/{key}.png"
        [tasks.semseg]
        files = "labels/{split}/{key}.png"
        classes = 2
        [tasks.boundary]
        from = "semseg"
        """,
    )
    dataset = Folder(tmp_path, tasks=("boundary",))
    assert list(dataset[0].targets) == ["boundary"]
    assert dataset[0].targets["boundary"][0, 5].nonzero().tolist() == [[7]]
    assert dataset[1].targets["boundary"].isnan().all()
    assert dataset.may_be_labelled("boundary") == [0]
    assert list(dataset.may_be_labelled("semseg")) == []  # no task of this one


def test_normals_of_a_plane() -> None:
    """A tilted plane n . p = d has the normal n everywhere."""
    camera = Camera(torch.tensor([[40.0, 0.0, 16.0], [0.0, 40.0, 12.0], [0.0, 0.0, 1.0]]))
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, -0.8]), dim=0)
    v, u = torch.meshgrid(torch.arange(24) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    rays = torch.stack([(u - 16) / 40, (v - 12) / 40, torch.ones_like(u)])
    depth = (-2.0 / (rays * normal[:, None, None]).sum(0))[None]
    for reach in (1, 3):
        derived = normals_from_depth(depth, camera, reach=reach)[:, reach:-reach, reach:-reach]
        torch.testing.assert_close(derived, normal[:, None, None].expand_as(derived), atol=1e-4, rtol=0)


def test_arrays_with_entries(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(tmp_path / "a.npz", depth=values, other=values + 1)
    scipy.io.savemat(tmp_path / "a.mat", {"LabelMap": values})
    assert read_array(tmp_path / "a.npz", key="depth").tolist() == values.tolist()
    assert read_array(tmp_path / "a.mat").tolist() == values.tolist()
    with pytest.raises(OSError, match="several entries; set key to one of depth, other"):
        read_array(tmp_path / "a.npz")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(OSError, match=r"a\.npy cannot be read"):
        read_array(tmp_path / "a.npy")


def test_cameras_are_scaled_and_shifted(rooms: Path) -> None:
    text = (rooms / "dataset.toml").read_text()
    write(rooms, text + '[camera]\nintrinsics = [20, 20, 7.5, 5.5]\npixel_centers = "integer"\nsize = [6, 8]\n')
    intrinsics = Folder(rooms)[0].camera.intrinsics
    assert intrinsics.tolist() == [[40, 0, 16], [0, 40, 12], [0, 0, 1]]
    write(rooms, text + "[camera]\nfov = 90.0\n")
    assert Folder(rooms)[0].camera.intrinsics.tolist() == [
        [pytest.approx(8), 0, 8],
        [0, pytest.approx(8), 6],
        [0, 0, 1],
    ]
    for key, content in (("a", "40 0 8\n0 41 6\n0 0 1\n"), ("b", "40 41 8 6")):
        (rooms / f"{key}.txt").write_text(content)
    write(rooms, text + '[camera]\nfiles = "{key}.txt"\n')
    assert Folder(rooms)[0].camera.intrinsics.tolist() == Folder(rooms)[1].camera.intrinsics.tolist()
    assert Folder(rooms)[1].camera.intrinsics.tolist() == [[40, 0, 8], [0, 41, 6], [0, 0, 1]]
    assert Folder(rooms)[2].camera is None


def test_labels_of_another_size_are_an_error_with_a_way_out(rooms: Path) -> None:
    save(rooms / "semseg/train/a.png", np.tile(np.array([[0, 1], [2, 3]], np.uint8), (1, 1)))
    with pytest.raises(ValueError, match=r"a\.png is 2x2, its image 12x16; resize = true"):
        Folder(rooms)[0]
    text = (rooms / "dataset.toml").read_text()
    write(rooms, text.replace('classes = ["floor"', 'resize = true\n        classes = ["floor"'))
    labels = Folder(rooms)[0].targets["semseg"]
    assert labels[:6, :8].unique().tolist() == [0]
    assert labels[6:, 8:].unique().tolist() == [3]


def test_a_channel_that_a_file_does_not_have_is_named(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", photo())
    save(tmp_path / "depth/a.png", photo())
    write(tmp_path, '[images]\nfiles = "images/{key}.png"\n[tasks.depth]\nfiles = "depth/{key}.png"\nchannel = 5\n')
    with pytest.raises(ValueError, match=r"a\.png of \[tasks.depth\]: channel is 5; its channels are 0 to 2"):
        Folder(tmp_path, split="all")[0]


@pytest.mark.parametrize("shape", [(1, 30, 3), (2, 30, 4), (30, 1, 3), (3, 3, 3), (3, 20, 30), (20, 30, 2)])
def test_a_channel_of_a_picture_however_narrow_is_one_of_its_channels(shape: tuple[int, int, int]) -> None:
    stored = np.arange(math.prod(shape), dtype=np.float32).reshape(shape) + 1
    expected = stored[1] if shape == (3, 20, 30) else stored[..., 1]
    np.testing.assert_array_equal(Values(channel=1).decode(stored)[0].numpy(), expected)


RESIZED = """
[images]
files = "images/{key}.png"
[tasks.depth]
files = "depth/{key}.npy"
resize = true
"""


@pytest.mark.parametrize("camera", ["intrinsics = [20, 25, 7, 6.5]", "fov = 80.0"])
@pytest.mark.parametrize("step", [2, 4])
def test_distances_of_a_smaller_map_become_depth_by_the_rays_of_its_pixels(
    tmp_path: Path, step: int, camera: str
) -> None:
    save(tmp_path / "images/a.png", photo())
    height, width = SIZE[0] // step, SIZE[1] // step
    save(tmp_path / "depth/a.npy", np.full((height, width), 3.0, np.float32))
    dataset = Folder(write(tmp_path, f'{RESIZED}kind = "distance"\n[camera]\n{camera}\n'), split="all")
    sample = dataset[0]
    assert sample.camera is not None
    v, u = (np.mgrid[:height, :width] + 0.5) * step  # pixels of the image
    rays = np.linalg.inv(sample.camera.intrinsics.double().numpy()) @ np.stack([u, v, np.ones_like(u)]).reshape(3, -1)
    expected = (3 / np.linalg.norm(rays, axis=0)).reshape(height, width)
    for row in range(step):
        found = sample.targets["depth"][0, row::step, step - 1 - row :: step]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    low, high = np.sort(expected.ravel())[expected.size // 2 - 1 :][:2]
    assert low - 1e-5 <= inspect_sample(dataset, 0).depths["depth"] <= high + 1e-5


@pytest.mark.parametrize(
    ("shape", "cure"),
    [
        ((6, 8), ""),
        ((3, 4), ""),
        ((24, 32), ""),
        ((5, 7), ""),  # rounded
        ((16, 12), "save it transposed"),
        ((8, 6), "save it transposed"),
        ((12, 14), "it has another shape"),
        ((7, 16), "it has another shape"),
        ((12, 12), "it has another shape"),
    ],
)
def test_labels_are_resized_where_they_have_the_shape_of_their_image(
    tmp_path: Path, shape: tuple[int, int], cure: str
) -> None:
    save(tmp_path / "images/a.png", photo())
    save(tmp_path / "depth/a.npy", np.random.default_rng(0).random(shape, np.float32) + 1)
    found = [one for one in examine(write(tmp_path, f"{RESIZED}[splits]\nval = 0.0\n")).findings if one.check == "size"]
    assert [(one.severity, one.cure.partition(cure)[1]) for one in found] == ([("error", cure)] if cure else [])
    if cure:
        with pytest.raises(ValueError, match=cure):
            Folder(tmp_path)[0]
    else:
        assert Folder(tmp_path)[0].targets["depth"].shape == (1, *SIZE)


def test_raises_for_damaged_files(rooms: Path) -> None:
    path = rooms / "images/train/a.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(OSError, match=r"images/train/a\.jpg cannot be read") as caught:
        Folder(rooms)[0]
    assert "\n" not in str(caught.value)
    save(rooms / "semseg/train/c.png", np.full(SIZE, 4, np.uint8))
    with pytest.raises(ValueError, match=r"semseg/train/c\.png of \[tasks.semseg\]: .* outside the 4 classes: 4"):
        Folder(rooms)[2]


def test_files_are_matched_whatever_the_case_of_the_suffix(tmp_path: Path) -> None:
    for name in ("a.JPG", "B/b.png", "c.txt", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(match_files(tmp_path, "{key}.*")) == ["B/b", "a"] or list(match_files(tmp_path, "{key}.*")) == [
        "a",
        "B/b",
    ]
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match=r"are both 'a' .*; name the suffix there"):
        match_files(tmp_path, "{key}.*")
    with pytest.raises(ValueError, match=r"has no \{key\}"):
        match_files(tmp_path, "images/*.png")


def test_links_that_loop_end(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", photo())
    (tmp_path / "images/again").symlink_to(tmp_path / "images")
    assert list(match_files(tmp_path, "images/{key}.png")) == ["a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[images]", "[imagse]"), "unknown section 'imagse'; did you mean 'images'"),
        (('unit = "mm"', 'units = "mm"'), r"\[tasks.depth\]: unknown option 'units'; did you mean 'unit'"),
        (('unit = "mm"', 'unit = "milli"'), "unknown unit of depth 'milli'; choose from cm, dm"),
        (('unit = "mm"', 'scale = "a/b"'), "scale is 'a/b'; expected"),
        (("[tasks.depth]", "[tasks.dept]"), "did you mean 'depth'"),
        (('classes = ["floor", "wall", "door", "lamp"]', ""), "classes is 0; give the names or the number"),
        (("/{key}.*", "/*.png"), "has no {key}"),
        (("images/", "pictures/"), "unknown split of dataset"),
        (("[images]", "name = "), "not a TOML file"),
        (("[images]", "[images.train]"), r"\[images\]: unknown option 'train'"),
        (
            ('files = "images', 'resize = true\nfiles = "images'),
            r"\[images\]: unknown option 'resize'; choose from files",
        ),
        (('files = "images/{split}/{key}.*"', 'files = ["a"]'), r"\[images\]: files is \['a'\]; expected a text"),
        (("[images]", "root = 5\n[images]"), "root is 5; expected a text"),
        (("[images]", 'group = ["folder"]\n[images]'), r"group is \['folder'\]; expected a text"),
        (('unit = "mm"', "type = 3"), r"\[tasks.depth\]: type is 3; expected a text"),
        (("[images]", "[splits]\nval = true\n[images]"), r"\[splits\] gives folders"),
        (("[images]", 'splits = ["train"]\n[images]'), r"\[splits\] is \['train'\]; write a section"),
        (("[images]", '[sources.a]\nroot = "a"\n[images]'), "a mixture of datasets .*; say so: the dataset is 'mixed'"),
    ],
)
def test_mistakes_in_the_descriptor_get_help(rooms: Path, change: tuple[str, str], message: str) -> None:
    text = (rooms / "dataset.toml").read_text()
    assert change[0] in text
    write(rooms, text.replace(*change))
    with pytest.raises(ValueError, match=message):
        Folder(rooms)


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"images": "images"}, r"\[images\]"),
        ({"images": {"files": "{key}.png"}, "tasks": {"depth": "depth"}}, r"\[tasks.depth\]"),
        ({"images": {"files": "{key}.png"}, "splits": 0.1}, r"\[splits\]"),
    ],
)
def test_raises_for_a_value_in_place_of_a_section(data: dict, where: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{where} is .*; write a section of this name"):
        parse_descriptor(data, tmp_path)


def test_a_folder_of_images_alone_is_not_sent_elsewhere(rooms: Path) -> None:
    """Datasets above it are none of its business, unless it is one of their folders."""
    alone = rooms / "holiday"
    save(alone / "a.png", photo())
    with pytest.raises(ValueError, match=r"no task|label"):
        Folder(alone)
    with pytest.raises(ValueError, match=f"did you mean {rooms}"):
        Folder(rooms / "images" / "train")


def test_labels_that_belong_to_no_image_are_an_error(rooms: Path) -> None:
    for name in "abc":
        (rooms / f"semseg/train/{name}.png").rename(rooms / f"semseg/train/{name}_mask.png")
    with pytest.raises(ValueError, match=r"none of the 3 files of \[tasks.semseg\] .* keys like 'a_mask', .* like 'a'"):
        Folder(rooms)


def test_wrong_folders_get_help(rooms: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown split of dataset .* 'trian'; did you mean 'train'"):
        Folder(rooms, split="trian")
    with pytest.raises(ValueError, match="does not exist"):
        Folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=f"did you mean {rooms}"):
        Folder(rooms / "images")
    with pytest.raises(ValueError, match=f"Did you mean {rooms}"):
        init_folder(rooms / "images")
    empty = tmp_path.parent / f"{tmp_path.name}-empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="no folder of images"):
        init_folder(empty)


def test_fingerprints_change_with_files_and_meaning(rooms: Path) -> None:
    first = Folder(rooms).fingerprint()
    assert first == json.loads(json.dumps(Folder(rooms).fingerprint()))
    assert (first["images"], first["labels"]) == (3, {"semseg": 3, "depth": 2})
    write(rooms, (rooms / "dataset.toml").read_text().replace('"mm"', '"cm"'))
    changed = Folder(rooms).fingerprint()
    assert changed["files_sha256"] == first["files_sha256"]
    assert changed["descriptor_sha256"] != first["descriptor_sha256"]
    text = (rooms / "dataset.toml").read_text()
    (rooms / "images").rename(rooms / "photos")
    write(rooms, text.replace("images/", "photos/"))
    assert Folder(rooms).fingerprint() == {**changed, "image_files": "photos/{split}/{key}.*"}
    (rooms / "photos").rename(rooms / "images")
    write(rooms, text + "[camera]\nfov = 60\n")
    assert Folder(rooms).fingerprint() != changed
    (rooms / "depth/train/a.png").unlink()
    assert Folder(rooms).fingerprint()["files_sha256"] != first["files_sha256"]


def test_init_describes_a_folder_and_overwrites_nothing(rooms: Path) -> None:
    written = (rooms / "dataset.toml").read_text()
    with pytest.raises(ValueError, match="not overwritten"):
        init_folder(rooms)
    assert (rooms / "dataset.toml").read_text() == written
    path, doubts = init_folder(rooms, force=True)
    assert (rooms / "dataset.toml.old").read_text() == written
    assert any("unit" in doubt for doubt in doubts)
    assert "CHECK" in path.read_text()
    dataset = Folder(rooms)
    assert dataset.tasks["semseg"].channels == 4
    assert dataset[2].targets["depth"].unique().tolist() == pytest.approx([1.502])


@pytest.mark.parametrize(
    ("layout", "pattern"),
    [
        ("images/{split}/{key}.png + semseg/{split}/{key}.png", "semseg/{split}/{key}.*"),
        ("{split}/rgb/{key}.png + {split}/labels/{key}.png", "{split}/labels/{key}.*"),
        ("{split}/{key}.png + {split}annot/{key}.png", "{split}annot/{key}.*"),
        ("{key}_rgb.png + {key}_seg40.png", "{key}_seg40.*"),
        ("leftImg8bit/{split}/{key}_leftImg8bit.png + gtFine/{split}/{key}_gtFine_labelIds.png", "labelIds.*"),
        ("Images/{split}/{key}.png + Segmentation/{split}/{key}.png", "Segmentation/{split}/{key}.*"),
        ("{key}.jpg + {key}.png", "{key}.png"),
    ],
)
def test_layouts_that_people_use_are_recognised(tmp_path: Path, layout: str, pattern: str) -> None:
    image, label = layout.split(" + ")
    for split in ("training", "val"):
        for key in ("a1", "city/b2"):
            key = key if "{split}" in layout else f"{split}{key}"
            save(tmp_path / image.format(split=split, key=key), photo())
            save(tmp_path / label.format(split=split, key=key), np.eye(12, 16, dtype=np.uint8) * 6)
    guess = describe_folder(tmp_path)
    found = guess.descriptor()
    assert found.tasks["semseg"].files.endswith(pattern)
    assert found.tasks["semseg"].classes == 7
    init_folder(tmp_path)
    dataset = Folder(tmp_path, split="train" if "{split}" in layout else "all")
    assert len(dataset) == (2 if "{split}" in layout else 4)
    assert valid_pixels(dataset[1].targets["semseg"]).all()


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (np.uint16(2500) + np.arange(192, dtype=np.uint16).reshape(SIZE), ("unit", "mm")),
        (np.float32(2.5) + np.zeros(SIZE, np.float32), ("unit", "m")),
        (np.float32(2500) + np.zeros(SIZE, np.float32), ("unit", "mm")),
        (np.full(SIZE, 15000, np.uint16), ("scale", "1/5000")),
        (np.where(np.arange(12 * 40).reshape(12, 40) % 5 == 0, 5000, 0).astype(np.uint16), ("scale", "1/256")),
    ],
)
def test_depth_units_are_guessed_from_their_values(tmp_path: Path, stored: np.ndarray, expected: tuple) -> None:
    save(tmp_path / "images/a.png", photo(size=stored.shape))
    save(tmp_path / ("depth/a.npy" if stored.dtype.kind == "f" else "depth/a.png"), stored)
    guess = describe_folder(tmp_path).tasks["depth"][1]
    assert guess.values[expected[0]] == expected[1]
    assert bool(guess.doubts) == (expected != ("unit", "m"))


def test_masks_and_votes_are_guessed(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", photo())
    mask = np.zeros(SIZE, np.uint8)
    mask[3:6] = 255
    save(tmp_path / "sal/a.png", mask)
    save(tmp_path / "mask/a.png", mask)
    save(tmp_path / "edge/a.png", mask // 255 * np.arange(16, dtype=np.uint8) % 6)
    found = describe_folder(tmp_path).descriptor().tasks
    assert found["saliency"].threshold == 128
    assert (found["boundary"].threshold, found["boundary"].invalid) == (2, (1,))
    assert dict(found["semseg"].map) == {"0": 0, "255": 1}
    assert found["semseg"].decode(mask).unique().tolist() == [0, 1]


def test_masks_in_transparency_are_guessed(tmp_path: Path) -> None:
    """A file without an object is transparent as a whole, or not at all."""
    for i in range(5):
        save(tmp_path / f"images/{i}.png", photo(i))
        mask = np.zeros(SIZE, np.uint8)
        mask[3:6] = 255 * (i > 0)
        save(tmp_path / f"saliency/{i}.png", np.dstack([np.full((*SIZE, 3), 255, np.uint8), mask]))
        Image.fromarray(np.dstack([mask * 0, mask])).save(save(tmp_path / f"edge/{i}.png", mask))
        save(tmp_path / f"mask/{i}.png", np.dstack([photo(i), mask]))
    guess = describe_folder(tmp_path)
    assert guess.tasks["saliency"][1].values == {"channel": 3, "threshold": 128}
    assert guess.tasks["boundary"][1].values == {"channel": 1, "threshold": 128}
    shutil.rmtree(tmp_path / "saliency")
    (tmp_path / "mask").rename(tmp_path / "saliency")
    assert any("channel = 3 if that is the mask" in text for text in describe_folder(tmp_path).offers)


@pytest.mark.parametrize("channels", ["alpha", "four floats", "first"])
def test_axes_of_normals_are_guessed_whatever_else_the_file_holds(tmp_path: Path, channels: str) -> None:
    """Renderers save RGBA; right, up and backward is what OpenGL writes."""
    normals = np.zeros((12, 16, 3), np.float32)
    normals[..., 2] = 1
    normals[10:] = (0, 1, 0)
    normals[:10, :5], normals[:10, 11:] = (1, 0, 0), (-1, 0, 0)
    for i in range(3):
        save(tmp_path / f"images/{i}.png", photo(i, (12, 16)))
        if channels == "alpha":
            stored = np.dstack([np.rint((normals + 1) * 127.5), np.full((12, 16), 255)]).astype(np.uint8)
            save(tmp_path / f"normals/{i}.png", stored)
        else:
            stored = np.dstack([normals, np.full((12, 16), 7, np.float32)])
            save(tmp_path / f"normals/{i}.npy", normals.transpose(2, 0, 1) if channels == "first" else stored)
    assert describe_folder(tmp_path).tasks["normals"][1].values == {"axes": ["right", "up", "backward"]}


def test_grey_files_are_colors_beside_colored_ones(tmp_path: Path) -> None:
    labels = np.zeros((12, 16, 3), np.uint8)
    for i in range(6):
        save(tmp_path / f"images/{i}.png", photo(i, (12, 16)))
        labels[:, 8:] = (128, 0, 0) if i < 2 else 0
        save(tmp_path / f"masks/{i}.png", labels if i % 2 else labels[..., 0] * (i > 1))
    save(tmp_path / "masks/0.png", labels[..., 1])
    guess = describe_folder(tmp_path).tasks["semseg"][1]
    assert guess.values == {"colors": [[0, 0, 0], [128, 0, 0]], "classes": 2}
    assert not any("something else" in doubt for doubt in guess.doubts)


def test_the_real_photographs_of_the_examples_are_read() -> None:
    root = shared_path("data/bsds500_sod")
    train = Folder(REPOSITORY / "examples/real-data/bsds500_sod.toml", root=root)
    test = Folder(REPOSITORY / "examples/real-data/bsds500_sod.toml", root=root, split="test")
    assert (len(train), len(test)) == (200, 200)
    sample = train[0]
    assert 0.05 < sample.targets["saliency"].float().mean() < 0.6
    assert 0.003 < sample.targets["boundary"].nanmean() < 0.1
    assert not valid_pixels(test[0].targets["saliency"]).any()
    camvid = Folder(
        REPOSITORY / "examples/real-data/camvid.toml", root=shared_path("data/camvid"), split="val", tasks=("boundary",)
    )
    assert len(camvid) == 101
    assert 0.01 < camvid[0].targets["boundary"].nanmean() < 0.1


def test_nyu_normals_are_read_in_their_own_axes() -> None:
    """The reader's normals agree with the surfaces of the measured depth better than with any other choice of axes."""
    guess = describe_folder(shared_path("samples/nyuv2/labelled"))
    assert guess.tasks["normals"][1].values["axes"] == ["right", "forward", "up"]
    assert guess.tasks["depth"][1].values["scale"] == "1/5000"
    found = guess.descriptor()
    path = shared_path("samples/nyuv2/labelled/000433_depth_5000.png")
    depth = found.tasks["depth"].decode(read_array(path), None)
    assert 1 < float(depth.nanmedian()) < 5


def test_taskonomy_normals_agree_with_depth_within_degrees() -> None:
    guess = describe_folder(shared_path("samples/omnidata/taskonomy"))
    assert guess.tasks["normals"][1].values["axes"] == ["right", "down", "forward"]
    assert "2 degrees" in dict((o, r) for o, _, r in guess.tasks["normals"][1].options)["axes"]


def test_options_that_came_later_count_in_fingerprints_once_they_are_set(tmp_path: Path) -> None:
    """A run records the fingerprint of its data; one of an older version must be able to go on."""
    for name in ("images", "semseg"):
        save(tmp_path / f"{name}/a.png", np.zeros((2, 2), np.uint8))
    text = '[images]\nfiles = "images/{key}.png"\n[tasks.semseg]\nfiles = "semseg/{key}.png"\nclasses = 2\n'
    write(tmp_path, text)
    told = Folder(tmp_path, split="all").fingerprint()["descriptor_sha256"]
    before = (
        "[('semseg', Labels(files='semseg/{key}.png', key='', channel=-1, invalid=(255,), resize=False, classes=2, "
        "offset=0, map={}, colors=()))]"
    )
    assert told == hashlib.sha256(before.encode()).hexdigest()
    write(tmp_path, text + "threshold = 128\n")
    assert Folder(tmp_path, split="all").fingerprint()["descriptor_sha256"] != told
