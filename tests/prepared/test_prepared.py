"""A prepared dataset is its source, bit for bit; it survives a kill, and damage is named."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from triptych.__main__ import main
from triptych.augmentation.presets import build_transform
from triptych.data.base import DenseDataset
from triptych.data.fingerprints import LATER_FACTS
from triptych.data.loading import BadSampleError, make_loader
from triptych.data.subset import find_shared, spread
from triptych.datasets.folder import Folder
from triptych.datasets.mixed import Mixed
from triptych.datasets.rooms import Rooms
from triptych.prepared import write as preparing
from triptych.prepared.reader import Prepared
from triptych.prepared.records import decode_array, encode_array
from triptych.prepared.write import prepare
from triptych.tasks import boundary, depth, human_parts, normals, saliency, semseg
from triptych.types import IGNORE, Camera, Sample

TASKS = {task.name: task for task in (semseg(40), human_parts(), saliency(), normals(), depth(), boundary())}


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()


def assert_same(a: Sample, b: Sample) -> None:
    assert a.key == b.key
    assert list(a.targets) == list(b.targets)
    assert list(a.extras) == list(b.extras)
    for one, other in ((a.targets, b.targets), (a.extras, b.extras), ({"image": a.image}, {"image": b.image})):
        for name, values in one.items():
            assert same_bits(values, other[name]), name
    assert (a.camera is None) == (b.camera is None)
    if a.camera is not None and b.camera is not None:
        assert same_bits(a.camera.intrinsics, b.camera.intrinsics)
        assert (a.camera.pose is None) == (b.camera.pose is None)
        if a.camera.pose is not None and b.camera.pose is not None:
            assert same_bits(a.camera.pose, b.camera.pose)
    assert len(a.neighbors) == len(b.neighbors)
    for view, other_view in zip(a.neighbors, b.neighbors, strict=True):
        assert_same(view, other_view)


class Gallery(DenseDataset):
    """Samples of many sizes, with and without labels, cameras and extras, as awkward as samples can be."""

    name, tasks = "gallery", TASKS

    def __init__(self, length: int = 9, damaged: int = -1) -> None:
        self.length, self.damaged = length, damaged
        self.reads: list[int] = []

    def __len__(self) -> int:
        return self.length

    def key(self, index: int) -> str:
        return f"hall é/{index}"

    def fingerprint(self) -> dict[str, object]:
        return {"name": self.name, "images": self.length, "sizes": (1, 2)}

    def __getitem__(self, index: int) -> Sample:
        self.reads.append(index)
        if index == self.damaged:
            raise OSError(f"picture {index} cannot be read")
        draw = np.random.default_rng(index)
        size = (20 + index, 31)
        image = draw.integers(0, 256, (3, *size)).astype(np.float32) / 255 if index % 3 else draw.random((3, *size))
        metres = draw.integers(0, 5000, (1, *size)).astype(np.float32) / (1000 if index % 2 else 256)
        vectors = torch.from_numpy(draw.integers(0, 4, (3, *size)).astype(np.float32) - 1.5)
        labels = draw.integers(0, 40, size)
        targets = {
            "semseg": torch.from_numpy(np.where(draw.random(size) < 0.1, IGNORE, labels)),
            "human_parts": TASKS["human_parts"].invalid_target(size),
            "saliency": torch.from_numpy(labels % 2),
            "normals": torch.nn.functional.normalize(vectors, dim=0),
            "depth": torch.from_numpy(np.where(metres == 0, np.nan, metres).astype(np.float32)),
            "boundary": torch.from_numpy(np.where(labels == 3, np.nan, labels == 2).astype(np.float32)[None]),
        }
        targets["normals"][:, 3] = torch.nan
        pose = torch.from_numpy(draw.random((4, 4)))
        camera = Camera(torch.eye(3) * 40, pose) if index % 2 else None
        extras = {"instances": torch.from_numpy(draw.integers(0, 70_000, size)), "scale": torch.tensor(index)}
        sample = Sample(torch.from_numpy(image.astype(np.float32)), targets, self.key(index), camera, extras)
        before = replace(sample, key="before", camera=None, extras={})
        return replace(sample, neighbors=(before, replace(before, targets={}))[: index % 3])


@settings(max_examples=60)
@given(
    arrays.arrays(
        st.sampled_from(["<f4", "<f8", "<i8", "<i4", "u1", "?", "<f2"]),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=40),
        elements=None,
        fill=st.nothing(),
    )
)
def test_arrays_come_back_bit_for_bit(array: Any) -> None:
    """NaN of any payload, minus zero and infinities included."""
    field, content = encode_array(array, 0)
    found = decode_array(field, content)
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert len(content) <= array.nbytes + 16
    assert found.flags.writeable


@pytest.mark.parametrize(
    ("array", "code", "bytes_per_pixel"),
    [
        (np.random.default_rng(0).integers(0, 256, (3, 60, 80)).astype(np.float32) / 255, "bytes", 3),
        (np.arange(4800).reshape(60, 80) // 500, "whole", 0.25),
        (np.random.default_rng(0).choice(np.float32([0, 1, np.nan]), (1, 60, 80)), "table", 1.1),
        (np.random.default_rng(0).integers(0, 900, (1, 60, 80)).astype(np.float32) / 1000, "table", 3),
        (np.random.default_rng(0).random((1, 60, 80), np.float32), "plain", 4),
    ],
)
def test_maps_take_little_room(array: np.ndarray, code: str, bytes_per_pixel: float) -> None:
    field, content = encode_array(array, 0)
    assert field.code == code
    assert len(content) <= bytes_per_pixel * 4800


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "SHARD", 4)


@pytest.mark.usefixtures("small_shards")
def test_every_sample_equals_its_source(tmp_path: Path) -> None:
    source = Gallery()
    done = prepare(source, tmp_path, split="train")
    prepared = Prepared(tmp_path)
    assert (len(prepared), prepared.name) == (9, "gallery")
    assert list(prepared.tasks) == list(TASKS)
    assert [task.classes for task in prepared.tasks.values()] == [task.classes for task in TASKS.values()]
    assert [prepared.key(i) for i in range(9)] == [source.key(i) for i in range(9)]
    for i in range(9):
        assert_same(source[i], prepared[i])
    prepare(Gallery(length=2), tmp_path, split="val")
    assert find_shared(prepared, Prepared(tmp_path, split="val")) == ([source.key(0), source.key(1)], 2)
    files = sorted(path.name for path in (tmp_path / "train").iterdir())
    assert files == ["00000.records", "00001.records", "00002.records", "manifest.json"]
    assert done.size == sum(path.stat().st_size for path in (tmp_path / "train").glob("*.records"))


def test_rooms_with_cameras_poses_and_instances(tmp_path: Path, rooms: Rooms) -> None:
    prepare(rooms, tmp_path, split="val")
    prepared = Prepared(tmp_path, split="val")
    for i in range(len(rooms)):
        assert_same(rooms[i], prepared[i])
    assert [spread(prepared, 4).group(i) for i in range(4)] == [rooms.group(i) for i in range(4)]
    assert prepared.sampling_unit == "rooms"
    assert prepared.fingerprint()["generator"] == rooms.fingerprint()["generator"]
    digest = prepared.fingerprint()["prepared_sha256"]
    prepare(rooms, tmp_path / "again", split="val", num_threads=1)
    assert Prepared(tmp_path / "again", split="val").fingerprint()["prepared_sha256"] == digest


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Rooms:
    cache = tmp_path_factory.mktemp("rooms")
    return Rooms(cache, split="val", scenes=2, views=2, size=(24, 32), progress=False)


def test_training_sees_the_same_batches(tmp_path: Path, rooms: Rooms) -> None:
    prepare(rooms, tmp_path, split="val")
    transform = build_transform("atrc", size=(16, 24), tasks=rooms.tasks, train=True)
    batches = [
        list(make_loader(dataset, transform=transform, batch_size=3, seed=1, steps=3))
        for dataset in (rooms, Prepared(tmp_path, split="val"))
    ]
    for before, after in zip(*batches, strict=True):
        assert_same(before, after)


def test_only_the_tasks_that_are_asked_for(tmp_path: Path) -> None:
    whole = prepare(Gallery(), tmp_path / "all", split="train")
    few = prepare(Gallery(), tmp_path / "few", split="train", tasks=("boundary", "semseg"))
    assert few.size < whole.size
    prepared = Prepared(tmp_path / "few")
    assert list(prepared.tasks) == ["boundary", "semseg"] == list(prepared[0].targets)
    assert list(Prepared(tmp_path / "all", tasks=("depth",))[0].targets) == ["depth"]
    with pytest.raises(ValueError, match="unknown task of this prepared dataset 'depth'"):
        Prepared(tmp_path / "few", tasks=("depth",))
    with pytest.raises(ValueError, match="unknown task of this dataset 'dept'; did you mean 'depth'"):
        prepare(Gallery(), tmp_path / "none", split="train", tasks=("dept",))
    assert not (tmp_path / "none").exists()


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
import test_prepared
from triptych.prepared import write as preparing
preparing.SHARD = 4

class Doomed(test_prepared.Gallery):
    def __getitem__(self, index):
        if index == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)

preparing.prepare(Doomed(), sys.argv[1], split="train", num_threads=1)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_a_killed_preparation_resumes_where_it_stopped(tmp_path: Path) -> None:
    tests = Path(__file__).parent
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out"), str(tests)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out/train").exists()
    with pytest.raises(ValueError, match="not finished"):
        Prepared(tmp_path / "out")
    source = Gallery()
    done = prepare(source, tmp_path / "out", split="train")
    assert (done.kept, sorted(source.reads)) == (4, [4, 5, 6, 7, 8])
    prepare(Gallery(), tmp_path / "whole", split="train")
    resumed, whole = ({p.name: p.read_bytes() for p in (tmp_path / n / "train").iterdir()} for n in ("out", "whole"))
    assert resumed == whole


@pytest.mark.usefixtures("small_shards")
def test_a_sample_that_cannot_be_read_is_named_and_what_is_done_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sample 'hall é/5' of gallery cannot be prepared: picture 5 cannot be read"):
        prepare(Gallery(damaged=5), tmp_path, split="train", num_threads=1)
    assert not (tmp_path / "train").exists()
    assert prepare(Gallery(), tmp_path, split="train").kept >= 4


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("mixed", [False, True])
def test_a_file_that_is_mended_costs_its_own_file_of_records(tmp_path: Path, mixed: bool) -> None:
    for key in range(11):
        draw(tmp_path / f"mine/images/{key}.png", key)
        draw(tmp_path / f"mine/depth/{key}.png", key)
    describe(tmp_path / "mine", INTRINSICS)
    sources = {"mine": {"dataset": "folder", "root": str(tmp_path / "mine")}}

    def source() -> DenseDataset:
        return Mixed(sources=sources, split="all") if mixed else Folder(tmp_path / "mine", split="all")

    whole = (tmp_path / "mine/images/9.png").read_bytes()
    (tmp_path / "mine/images/9.png").write_bytes(whole[:-30])
    with pytest.raises(ValueError, match=r"9' of \w+ cannot be prepared: .*mend or replace"):
        prepare(source(), tmp_path / "out", split="all", num_threads=1)
    draw(tmp_path / "mine/depth/0.png", 8)  # of a file of records that was done
    (tmp_path / "mine/images/9.png").write_bytes(whole)
    assert prepare(source(), tmp_path / "out", split="all").kept == 4
    prepared = Prepared(tmp_path / "out", split="all")
    for index in range(11):
        assert_same(prepared[index], source()[index])


def flip_bit(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(bytes(content))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of the content": (lambda path: flip_bit(path, path.stat().st_size - 9), "its checksum is wrong"),
    "a bit of a header": (lambda path: flip_bit(path, 30), "its checksum is wrong"),
    "the mark": (lambda path: flip_bit(path, 2), "it does not start as a record"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-3]), "its checksum is wrong"),
    "empty": (lambda path: path.write_bytes(b""), "it is cut short"),
    "missing": (lambda path: path.unlink(), "the file is missing"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_records_are_named_and_mended(tmp_path: Path, damage: str) -> None:
    prepare(Gallery(2), tmp_path, split="train")
    harm, reason = DAMAGE[damage]
    prepared, path = Prepared(tmp_path), tmp_path / "train/00000.records"
    before = path.read_bytes()
    harm(path)
    wrong = 0 if damage in ("a bit of a header", "the mark") else 1
    with pytest.raises(
        ValueError, match=rf"record {wrong} \('hall é/{wrong}'\) of .*00000.records is damaged: {reason}"
    ):
        prepared[wrong]
    if damage.startswith("a bit"):
        prepared[1 - wrong]
    with pytest.raises(BadSampleError, match=r"00000\.records is damaged"):
        list(make_loader(prepared, transform=None, batch_size=2, seed=0, steps=1))
    assert prepare(Gallery(2), tmp_path, split="train").kept == 0
    assert path.read_bytes() == before
    assert prepare(Gallery(2), tmp_path, split="train").kept == 2


def test_nothing_else_is_overwritten_unasked(tmp_path: Path) -> None:
    prepare(Gallery(2), tmp_path, split="train")
    with pytest.raises(ValueError, match=r"holds something else \(its tasks differ\); give another --out, or pass"):
        prepare(Gallery(2), tmp_path, split="train", tasks=("depth",))
    assert len(Prepared(tmp_path).tasks) == 6
    with pytest.raises(ValueError, match="cannot be prepared"):
        prepare(Gallery(2, damaged=1), tmp_path, split="train", tasks=("depth",), overwrite=True)
    assert len(Prepared(tmp_path).tasks) == 6  # the old one stays until the new one is whole
    (tmp_path / "train/.DS_Store").touch()  # as soon as a Mac has looked at the folder
    prepare(Gallery(2), tmp_path, split="train", tasks=("depth",), overwrite=True)
    assert list(Prepared(tmp_path).tasks) == ["depth"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(
            ValueError, match=r"mine holds thesis.txt, which is not of a prepared set; .* another --out"
        ):
            prepare(Gallery(2), tmp_path, split="mine", overwrite=overwrite)
    assert (tmp_path / "mine/thesis.txt").read_text() == "precious"
    with pytest.raises(ValueError, match=r"thesis.txt is a file; give a folder"):
        prepare(Gallery(2), tmp_path / "mine/thesis.txt", split="train")


@pytest.mark.parametrize("stranger", ["images/a.jpg", "00000.json", "notes.txt"])
def test_folders_that_hold_other_files_are_never_replaced(tmp_path: Path, stranger: str) -> None:
    for place, prepared in (("train", False), ("train.part", False), ("val", True)):
        if prepared:
            prepare(Gallery(2), tmp_path, split=place)
            (tmp_path / place / "00000.records").rename(tmp_path / place / "00007.records")
        (tmp_path / place / stranger).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place / stranger).write_text("precious")
        split = place.removesuffix(".part")
        with pytest.raises(ValueError, match="which is not of a prepared set"):
            prepare(Gallery(2), tmp_path, split=split, tasks=("depth",), overwrite=True)
        assert (tmp_path / place / stranger).read_text() == "precious"
        (tmp_path / place).rename(tmp_path / f"before-{place}")


INTRINSICS = "intrinsics = [20, 20, 8, 6]"
CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a label": (lambda root: draw(root / "depth/0.png", 7), "files"),
    "an image": (lambda root: draw(root / "images/1.png", 7), "files"),
    "a file that was written again": (lambda root: os.utime(root / "images/1.png", ns=(0, 0)), "files"),
    "intrinsics": (lambda root: describe(root, INTRINSICS.replace("8", "9")), "source, camera"),
    "a field of view": (lambda root: describe(root, "fov = 60.0"), "source, camera"),
    "a camera file": (lambda root: (root / "0.txt").write_text("20 20 9 6 "), "files"),
}


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(1, 200, (12, 16), np.uint8)).save(path)


def describe(root: Path, camera: str) -> None:
    (root / "dataset.toml").write_text(
        f'[images]\nfiles = "images/{{key}}.png"\n[tasks.depth]\nfiles = "depth/{{key}}.png"\n[camera]\n{camera}\n'
    )


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Two images of equal depth in a folder."""
    for name in ("images/0", "images/1", "depth/0", "depth/1"):
        draw(tmp_path / f"mine/{name}.png", int(name[-1]))
    describe(tmp_path / "mine", INTRINSICS)
    return tmp_path / "mine"


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_prepared_of_other_files_or_options_is_refused(mine: Path, tmp_path: Path, change: str) -> None:
    alter, says = CHANGES[change]
    if change == "a camera file":
        describe(mine, 'files = "{key}.txt"')
        for key in "01":
            (mine / f"{key}.txt").write_text("20 20 8 6")
    before = Folder(mine, split="all").fingerprint()
    prepare(Folder(mine, split="all"), tmp_path / "out", split="all")
    (tmp_path / "elsewhere").mkdir()
    mine = mine.rename(tmp_path / "elsewhere/mine")
    assert prepare(Folder(mine, split="all"), tmp_path / "out", split="all").kept == 2
    alter(mine)
    assert (Folder(mine, split="all").fingerprint() == before) == (says == "files")  # a run stays with its camera
    with pytest.raises(ValueError, match=rf"holds something else \(its {says} differ\).*--overwrite"):
        prepare(Folder(mine, split="all"), tmp_path / "out", split="all")
    prepare(Folder(mine, split="all"), tmp_path / "out", split="all", overwrite=True)
    for index in range(2):
        assert_same(Prepared(tmp_path / "out", split="all")[index], Folder(mine, split="all")[index])


def test_what_an_older_version_prepared_is_read_and_not_taken_for_up_to_date(mine: Path, tmp_path: Path) -> None:
    source, manifest = Folder(mine, split="all"), tmp_path / "out/all/manifest.json"
    prepare(source, tmp_path / "out", split="all")
    older = json.loads(manifest.read_text())
    for fact in LATER_FACTS:
        older["source"].pop(fact, None)
    for shard in older["shards"]:
        del shard["groups"], shard["sampling_unit"]
    manifest.write_text(json.dumps(older))
    assert Prepared(tmp_path / "out", split="all").group(1) == source.key(1)
    assert prepare(source, tmp_path / "out", split="all").kept == 2
    prepared = Prepared(tmp_path / "out", split="all")
    fingerprint = prepared.fingerprint()
    assert not prepared.notes
    older = json.loads(manifest.read_text())
    del older["inputs"]
    manifest.write_text(json.dumps(older))
    prepared = Prepared(tmp_path / "out", split="all")
    assert prepared.fingerprint() == fingerprint
    assert_same(prepared[1], source[1])
    assert "out/all was prepared by an older version and holds labels as that read them" in prepared.notes[0]
    with pytest.raises(ValueError, match=r"out/all is of an older version, .*; pass --overwrite to prepare it again;"):
        prepare(source, tmp_path / "out", split="all")
    assert prepare(source, tmp_path / "out", split="all", overwrite=True).kept == 0
    assert prepare(source, tmp_path / "out", split="all").kept == 2


def test_mistakes_get_help(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no prepared dataset; `triptych data prepare DATASET --out"):
        Prepared(tmp_path)
    prepare(Gallery(2), tmp_path / "out", split="val")
    with pytest.raises(ValueError, match="has no prepared split 'train'; it has val"):
        Prepared(tmp_path / "out")
    with pytest.raises(ValueError, match=r"is one split of a prepared dataset; give its parent .*out as root"):
        Prepared(tmp_path / "out/val")
    (tmp_path / "out/val/manifest.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="another version"):
        Prepared(tmp_path / "out", split="val")


def test_the_command_prepares_a_folder_for_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """16-bit depth, labels of names of their own, derived boundaries, 8-bit normals, a missing label."""
    root = tmp_path / "mine"
    draw = np.random.default_rng(0)
    for split, i in (("train", 0), ("train", 1), ("val", 2)):
        maps = {
            "rgb": draw.integers(0, 256, (12, 16, 3), np.uint8),
            "depth": draw.integers(0, 9000, (12, 16), np.uint16),
            "areas": draw.integers(0, 3, (12, 16), np.uint8),
            "normals": draw.integers(1, 250, (12, 16, 3), np.uint8),
        }
        for name, array in maps.items():
            path = root / name / split / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    (root / "depth/train/1.png").unlink()
    (root / "dataset.toml").write_text("""
[images]
files = "rgb/{split}/{key}.png"
[tasks.areas]
type = "semseg"
files = "areas/{split}/{key}.png"
classes = 3
[tasks.depth]
files = "depth/{split}/{key}.png"
unit = "mm"
[tasks.normals]
files = "normals/{split}/{key}.png"
[tasks.boundary]
from = "areas"
[camera]
fov = 60
""")
    out = tmp_path / "fast"
    command = ["data", "prepare", str(root), "--out", str(out), "--split", "train", "val"]
    assert main([*command, "--tasks", "depth", "areas", "normals", "boundary"]) == 0
    assert "2 records" in capsys.readouterr().out
    for split in ("train", "val"):
        source, prepared = (
            Folder(root, split=split, tasks=("depth", "areas", "normals", "boundary")),
            Prepared(out, split=split),
        )
        assert list(prepared.tasks) == ["depth", "areas", "normals", "boundary"]
        for i in range(len(source)):
            assert_same(source[i], prepared[i])
    assert main([*command, "--tasks", "depth", "areas", "normals", "boundary"]) == 0
    assert "2 records, 2 of them were there" in capsys.readouterr().out
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    shutil.rmtree(root)
    assert Prepared(out)[0].targets["depth"].isfinite().any()
