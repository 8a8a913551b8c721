"""What data workers need can be sent to them: where they are started by spawn (Windows, macOS) it is pickled."""

import importlib
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from saved_maps import save

from triptych.augmentation.presets import TRANSFORMS, build_transform
from triptych.data.base import DenseDataset
from triptych.data.loading import make_loader
from triptych.data.subset import FewerLabels, spread
from triptych.datasets import DATASETS, open_dataset
from triptych.datasets.published import Published
from triptych.prepared.write import prepare
from triptych.tasks import depth, normals, semseg
from triptych.types import Sample

SIZE = (12, 16)
OWN = """
[images]
files = "images/{split}/{key}.png"
[tasks.semseg]
files = "semseg/{split}/{key}.png"
classes = ["a", "b"]
[tasks.boundary]
from = "semseg"
radius = 1
[tasks.depth]
files = "depth/{split}/{key}.npz"
key = "metres"
valid = "mask"
[tasks.albedo]
type = "regression"
files = "depth/{split}/{key}.npz"
key = "metres"
[tasks.semseg.pseudo]
files = "pseudo/{split}/{key}.png"
source = "pseudo"
teacher = "another run"
date = "2026-11-28"
[camera]
intrinsics = [10.0, 10.0, 8.0, 6.0]
"""
"""What a descriptor can ask for: tasks that are stored, derived or measured, entries, pseudo-labels, a camera."""


def own(tmp_path: Path) -> DenseDataset:
    for number in range(2):
        key = f"train/v_{number}"
        save(tmp_path / f"images/{key}.png", np.full((*SIZE, 3), 99, np.uint8))
        save(tmp_path / f"{'pseudo' if number else 'semseg'}/{key}.png", np.eye(*SIZE, dtype=np.uint8))
        (tmp_path / "depth/train").mkdir(parents=True, exist_ok=True)
        np.savez(tmp_path / f"depth/{key}.npz", metres=np.ones(SIZE, np.float32), mask=np.eye(*SIZE, dtype=bool))
    (tmp_path / "dataset.toml").write_text(OWN)
    return open_dataset("folder", tmp_path, neighbor_frames=(-1, 1))


def images(tmp_path: Path) -> DenseDataset:
    own(tmp_path)
    return open_dataset("images", tmp_path / "images")


def mixed(tmp_path: Path) -> DenseDataset:
    tables = "".join(f'[sources.{name}]\ndataset = "folder"\nroot = "."\n' for name in ("near", "far"))
    own(tmp_path)
    (tmp_path / "mixture.toml").write_text(tables)
    return open_dataset("mixed", tmp_path / "mixture.toml")


def prepared(tmp_path: Path) -> DenseDataset:
    prepare(own(tmp_path / "own"), tmp_path / "out", split="train", tasks=("depth", "albedo"))
    return open_dataset("prepared", tmp_path / "out")


def rooms(tmp_path: Path) -> DenseDataset:
    return open_dataset("rooms", tmp_path, scenes=1, views=1, size=(24, 32), workers=1, progress=False)


def fewer(tmp_path: Path) -> DenseDataset:
    return FewerLabels(spread(own(tmp_path), 1), "one", ["semseg", "depth"])


BUILT: dict[str, Callable[[Path], DenseDataset]] = {
    "folder": own,
    "images": images,
    "mixed": mixed,
    "prepared": prepared,
    "rooms": rooms,
    "fewer": fewer,
}
STREETS = ("semseg", "depth", "normals", "boundary")


def published(name: str, tmp_path: Path) -> DenseDataset:
    """A published dataset as its own tests write it, with all that can be derived."""
    test = importlib.import_module(f"test_{name.replace('-', '_')}")
    if name == "nyuv2":
        return open_dataset(name, test.write_official(tmp_path), allow_missing=True)
    if name == "pascal-context":
        return open_dataset(name, test.write_archive(tmp_path))
    if name == "omnidata":
        return open_dataset(name, test.write(tmp_path, test.LAYOUTS["omnidata"]), split="all")
    split = "train" if name == "cityscapes" else "all"
    return open_dataset(name, test.write(tmp_path), split=split, tasks=STREETS, instances=True)


def require_sent(dataset: DenseDataset) -> None:
    """What a worker is sent gives the batch that this process would have made."""
    transform = build_transform("default", size=(8, 8), tasks=dataset.tasks, train=True)
    batches = make_loader(dataset, transform=transform, batch_size=1, seed=0, steps=1, num_workers=1).batches
    sent = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(batches))[0])).sample  # and back
    assert sent is not None
    require_same(batches[0].sample, sent)


def require_same(one: Sample, other: Sample) -> None:
    for first, second in zip(tensors(one), tensors(other), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)


def tensors(sample: Sample) -> list[torch.Tensor]:
    return [sample.image, *sample.targets.values(), *(each for view in sample.neighbors for each in tensors(view))]


@pytest.mark.parametrize("name", BUILT)
def test_datasets_can_be_sent(name: str, tmp_path: Path) -> None:
    require_sent(BUILT[name](tmp_path))


@pytest.mark.parametrize("name", [name for name, reader in DATASETS.items() if issubclass(reader, Published)])
def test_published_datasets_can_be_sent(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    require_sent(published(name, tmp_path))


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("train", [True, False])
def test_transforms_can_be_sent(name: str, train: bool) -> None:
    tasks = {"semseg": semseg(3), "normals": normals(), "depth": depth()}
    transform = build_transform(name, size=(8, 8), tasks=tasks, train=train)
    image = torch.linspace(0, 1, 3 * SIZE[0] * SIZE[1]).view(3, *SIZE)
    targets = {"semseg": torch.eye(*SIZE).long(), "normals": torch.eye(3, SIZE[1])[:, None].repeat(1, SIZE[0], 1)}
    sample = Sample(image, targets)
    first, second = (
        each(sample, np.random.default_rng(0)) for each in (transform, pickle.loads(pickle.dumps(transform)))
    )
    require_same(first, second)
