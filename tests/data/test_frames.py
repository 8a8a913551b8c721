"""Frames of videos: which follow which, what a folder gives for the missing ones, and what transforms do to them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from triptych.augmentation.color import ColorJitter, PhotometricDistortion
from triptych.augmentation.presets import TRANSFORMS, build_transform
from triptych.data.base import missing_view
from triptych.data.frames import Videos
from triptych.datasets.folder import Folder
from triptych.tasks import depth, semseg
from triptych.types import Camera, Sample, collate


@given(st.sets(st.integers(0, 40), min_size=2), st.integers(1, 7), st.integers(-3, 3))
def test_a_shift_there_and_back_is_none_at_all(numbers: set[int], step: int, offset: int) -> None:
    keys = {number: f"drive/f_{number * step:05d}_left" for number in numbers}
    videos = Videos([*keys.values(), "drive/f_00001_right", "other/f_00000_left"])
    smallest = min(b - a for a, b in zip(sorted(numbers), sorted(numbers)[1:], strict=False))
    for number, key in keys.items():
        found = videos.shift(key, offset)
        assert found == keys.get(number + offset * smallest)
        assert found is None or videos.shift(found, -offset) == key


def test_names_without_a_number_are_no_frames() -> None:
    videos = Videos(["cat", "dog", "frame1", "frame2"])
    assert videos.shift("cat", 1) is None
    assert videos.shift("frame1", 1) == "frame2"


def write(folder: Path, name: str, color: int, size: tuple[int, int] = (16, 20)) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), color, np.uint8)).save(path)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Two videos, one with a gap and a frame of another size; labels of one frame; a list split of that one."""
    for number in (1, 2, 3, 5):
        write(tmp_path, f"images/a/{number:03d}.png", 10 * number)
    write(tmp_path, "images/a/006.png", 60, size=(10, 20))
    for number in (2, 3):
        write(tmp_path, f"images/b/{number:03d}.png", 100 + number)
    Image.fromarray(np.zeros((16, 20), np.uint8)).save(tmp_path / "label.png")
    (tmp_path / "semseg/a").mkdir(parents=True)
    (tmp_path / "label.png").rename(tmp_path / "semseg/a/002.png")
    (tmp_path / "train.txt").write_text("a/002\n")
    (tmp_path / "val.txt").write_text("a/003\nb/002\n")
    (tmp_path / "dataset.toml").write_text(
        '[images]\nfiles = "images/{key}.png"\n[splits]\ntrain = "train.txt"\nval = "val.txt"\n'
        "[camera]\nintrinsics = [20, 20, 10, 8]\n"
        '[tasks.semseg]\nfiles = "semseg/{key}.png"\nclasses = 2\n'
    )
    return tmp_path


def colors(sample: Sample) -> list[float]:
    return [round(view.image.mean().item() * 255) for view in sample.neighbors]


def test_a_sample_follows_from_the_cameras_of_its_frames(videos: Path) -> None:
    for path in (videos / "images").rglob("*.png"):
        place = videos / "cam" / path.relative_to(videos / "images").with_suffix(".txt")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("20 20 10 8")
    described = videos / "dataset.toml"
    described.write_text(described.read_text().replace("intrinsics = [20, 20, 10, 8]", 'files = "cam/{key}.txt"'))
    before = Folder(videos, neighbor_frames=(1,)).inputs()
    assert len(Folder(videos).source_files(0)) == 3
    (videos / "cam/a/001.txt").write_text("30 30 10 8 ")
    assert Folder(videos, neighbor_frames=(1,)).inputs() != before


def test_neighbors_in_a_folder(videos: Path) -> None:
    dataset = Folder(videos, split="all", neighbor_frames=(-1, 2))
    samples = {dataset.key(i): dataset[i] for i in range(len(dataset))}
    assert colors(samples["a/003"]) == [20, 50]
    assert colors(samples["a/001"]) == [20, 30]  # the one before does not exist: the one after it instead
    assert [view.extras["offset"].item() for view in samples["a/001"].neighbors] == [1, 2]
    late = samples["a/005"]  # 4 is missing and 6 has another size; 2 later is missing, 2 earlier is there
    assert late.neighbors[0].image.isnan().all()
    assert late.neighbors[0].camera.intrinsics.isnan().all()
    assert round(late.neighbors[1].image.mean().item() * 255) == 30
    assert colors(replace(samples["b/003"], neighbors=samples["b/003"].neighbors[:1])) == [102]
    assert samples["a/003"].neighbors[0].camera.intrinsics[0, 0] == 20
    assert collate([samples["a/003"], late]).neighbors[0].image.shape == (2, 3, 16, 20)


def test_a_list_of_labelled_frames_takes_neighbors_that_no_split_holds(videos: Path) -> None:
    sample = Folder(videos, split="train", neighbor_frames=(-1,))[0]
    assert (sample.key, colors(sample)) == ("a/002", [10])
    with pytest.raises(ValueError, match=r"neighbor_frames has 9, but no image of split 'train'.*last number"):
        Folder(videos, split="train", neighbor_frames=(9,))
    # a/003 is of the validation split: as a neighbor of a training frame it would leak.
    assert Folder(videos, split="train", neighbor_frames=(1,))[0].neighbors[0].extras["offset"] == -1


def test_a_frame_of_unknown_intrinsics_keeps_the_batch_whole(videos: Path) -> None:
    toml = (videos / "dataset.toml").read_text()
    (videos / "dataset.toml").write_text(toml.replace("intrinsics = [20, 20, 10, 8]", 'files = "cameras/{key}.txt"'))
    (videos / "cameras/a").mkdir(parents=True)
    for number in (1, 2):
        (videos / f"cameras/a/{number:03d}.txt").write_text("20 20 10 8")
    dataset = Folder(videos, split="all", neighbor_frames=(-1,))
    batch = collate([dataset[1], dataset[2]])
    assert batch.key == ("a/002", "a/003")
    assert batch.camera.intrinsics.isfinite().all(dim=(1, 2)).tolist() == [True, False]


def test_tasks_can_be_left_out(videos: Path) -> None:
    assert list(Folder(videos, split="all").tasks) == ["semseg"]
    assert Folder(videos, split="all", tasks=())[0].targets == {}


# Transforms


def sample_of(seed: int) -> Sample:
    random = torch.Generator().manual_seed(seed)
    camera = Camera(torch.tensor([[30.0, 0.0, 20.0], [0.0, 30.0, 15.0], [0.0, 0.0, 1.0]]))
    targets = {"semseg": torch.randint(0, 3, (30, 40), generator=random), "depth": torch.ones(1, 30, 40)}
    return Sample(torch.rand(3, 30, 40, generator=random), targets, "a", camera)


TASKS = {"semseg": semseg(3), "depth": depth()}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_missing_view_is_missing_after_every_transform(name: str, seed: int) -> None:
    sample = sample_of(seed)
    sample = replace(sample, neighbors=(missing_view(sample, -1), replace(sample, key="b")))
    moved = build_transform(name, size=(24, 32), tasks=TASKS, train=True)(sample, np.random.default_rng(seed))
    gone, there = moved.neighbors
    assert gone.image.isnan().any()
    assert gone.camera.intrinsics.isnan().any()
    assert gone.extras["offset"].item() == -1
    assert gone.image.shape == there.image.shape == moved.image.shape
    assert there.image.isfinite().all()


@pytest.mark.parametrize("step", [PhotometricDistortion(), ColorJitter(probability=1.0)])
@pytest.mark.parametrize("seed", range(6))
def test_views_change_their_colours_alike(step, seed: int) -> None:
    """The same picture stays the same, and the image itself changes as it does alone."""
    sample = sample_of(seed)
    alone = step(sample, np.random.default_rng(seed))
    moved = step(replace(sample, neighbors=(sample_of(seed), sample_of(9))), np.random.default_rng(seed))
    torch.testing.assert_close(moved.image, alone.image)
    torch.testing.assert_close(moved.neighbors[0].image, moved.image)
    assert not torch.equal(moved.neighbors[1].image, moved.image)
