"""The dataset: samples in the library's layout, splits, looks, neighbors, arguments."""

import numpy as np
import pytest
import torch

from triptych.datasets import DATASETS
from triptych.datasets.rooms import SCENES, Rooms, rooms_tasks
from triptych.rooms.figures import LOWER_LEG
from triptych.rooms.scene import CLASSES
from triptych.tasks import HUMAN_PARTS
from triptych.types import IGNORE, collate, valid_pixels

SIZE = (24, 32)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("rooms")


def rooms(root, **options):
    return Rooms(root, **{"size": SIZE, "scenes": 3, "views": 2, "progress": False, **options})


def test_is_registered():
    assert DATASETS["rooms"] is Rooms


def test_samples_have_the_layout_of_the_library(root):
    dataset = rooms(root, path_length=2)
    assert len(dataset) == 3 * 2 * 2
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample.image.shape == (3, *SIZE)
        assert sample.image.dtype == torch.float32
        assert 0 <= sample.image.min() < sample.image.max() <= 1
        assert list(sample.targets) == list(rooms_tasks())
        for name, task in dataset.tasks.items():
            target, empty = sample.targets[name], task.invalid_target(SIZE)
            assert (target.shape, target.dtype) == (empty.shape, empty.dtype)
        assert sample.targets["semseg"].max() < len(CLASSES)
        assert set(sample.targets["saliency"].unique().tolist()) <= {0, 1}
        assert set(sample.targets["boundary"].unique().tolist()) == {0.0, 1.0}
        assert sample.targets["depth"].min() > 0.1
        assert torch.allclose(sample.targets["normals"].norm(dim=0), torch.ones(SIZE), atol=1e-5)
        assert sample.extras["instances"].shape == SIZE
    assert len({dataset.key(i) for i in range(len(dataset))}) == len(dataset)
    assert collate([dataset[0], dataset[1]]).camera.pose.shape == (2, 4, 4)


def test_normals_face_the_camera(root):
    for sample in rooms(root):
        rays = torch.linalg.inv(sample.camera.intrinsics) @ _pixel_centres(SIZE).reshape(3, -1)
        assert ((sample.targets["normals"].reshape(3, -1) * rays).sum(0) < 1e-3).all()


def _pixel_centres(size):
    rows, columns = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    return torch.stack([columns, rows, torch.ones(size)])


def test_human_parts_are_on_persons_alone_and_invalid_without_any(root):
    person, with_figures, without = CLASSES.index("person"), 0, 0
    for sample in rooms(root, scenes=8):
        figures, parts = sample.targets["semseg"] == person, sample.targets["human_parts"]
        if figures.any():
            with_figures += 1
            assert ((parts > 0) == figures).all()
            assert parts.max() < len(HUMAN_PARTS)
        else:
            without += 1
            assert (parts == IGNORE).all()
            assert not valid_pixels(parts).any()
    assert with_figures > 0
    assert without > 0
    assert len(HUMAN_PARTS) == LOWER_LEG + 1 == 7


def test_instances_have_one_class_each_and_boundaries_between_them(root):
    for sample in rooms(root):
        instances, classes = sample.extras["instances"], sample.targets["semseg"]
        for instance in instances.unique():
            assert len(classes[instances == instance].unique()) == 1
        changes = instances[:, 1:] != instances[:, :-1]
        assert (sample.targets["boundary"][0, :, :-1][changes] == 1).all()


@pytest.mark.slow
def test_every_class_appears_in_the_default_training_split(root):
    # Already in one view of the first scenes, and nothing is too rare to learn.
    dataset = Rooms(root, size=(18, 24), views=1, scenes=60, progress=False)
    assert dataset.num_scenes < SCENES["train"]
    share = np.zeros(len(CLASSES))
    parts = np.zeros(len(HUMAN_PARTS))
    for sample in dataset:
        share += np.bincount(sample.targets["semseg"].ravel(), minlength=len(CLASSES)) > 0
        valid = sample.targets["human_parts"][sample.targets["human_parts"] != IGNORE]
        parts += np.bincount(valid, minlength=len(HUMAN_PARTS)) > 0
    assert dict(zip(CLASSES, share >= 0.03 * len(dataset), strict=True)) == dict.fromkeys(CLASSES, True)
    assert (parts >= 0.15 * len(dataset)).all()


def test_something_is_salient_in_almost_every_image(root):
    shares = [float(sample.targets["saliency"].float().mean()) for sample in rooms(root, scenes=20)]
    assert np.mean(np.array(shares) > 0) > 0.9
    assert 0.03 < np.mean(shares) < 0.4


def test_splits_seeds_and_looks_are_different_rooms(root):
    options = [{"split": "train"}, {"split": "val"}, {"split": "test"}, {"seed": 1}, {"look": "b"}]
    seen = set()
    for option in options:
        dataset = rooms(root, **option)
        depths = {sample.targets["depth"].numpy().tobytes() for sample in dataset}
        assert len(depths) == len(dataset)
        assert not seen & depths
        seen |= depths


def test_fewer_scenes_and_shorter_paths_are_a_part_of_more(root):
    more, fewer = rooms(root, scenes=3), rooms(root, scenes=2)
    assert more.folder == fewer.folder
    assert all(torch.equal(more[i].image, fewer[i].image) for i in range(len(fewer)))
    longer = rooms(root, path_length=2)
    for index in range(len(fewer)):
        assert torch.equal(fewer[index].targets["depth"], longer[2 * index].targets["depth"])
        assert torch.equal(fewer[index].camera.pose, longer[2 * index].camera.pose)


def test_paired_looks_share_all_labels_and_no_picture(root):
    for one, other in zip(rooms(root), rooms(root, look="b", paired=True), strict=True):
        assert all(torch.equal(one.targets[name], other.targets[name]) for name in one.targets)
        assert torch.equal(one.extras["instances"], other.extras["instances"])
        assert torch.equal(one.camera.pose, other.camera.pose)
        assert (one.image - other.image).abs().mean() > 0.03


def test_the_second_look_holds_its_camera_lower(root):
    heights = {look: [s.camera.pose[2, 3].item() for s in rooms(root, look=look)] for look in ("a", "b")}
    assert max(heights["b"]) < min(heights["a"])


def test_places_and_keys(root):
    dataset = rooms(root, path_length=3)
    assert dataset.place(0) == (0, 0, 0)
    assert dataset.place(10) == (1, 1, 1)
    assert dataset.place(-1) == (2, 1, 2)
    assert dataset.key(10) == "train/00001/01/001"
    assert dataset[10].key == dataset.key(10)
    assert [dataset.group(index) for index in range(18)] == [
        f"train/{room:05d}" for room in (0, 1, 2) for _ in range(6)
    ]
    with pytest.raises(IndexError, match="18 samples"):
        dataset[18]


def test_paths_are_short_steps(root):
    for sample, after in _steps(rooms(root, path_length=12, views=1)):
        relative = torch.linalg.inv(sample.camera.pose.double()) @ after.camera.pose.double()
        turned = torch.rad2deg(torch.acos(((relative[:3, :3].trace() - 1) / 2).clamp(max=1)))
        assert 0.03 < relative[:3, 3].norm() < 0.1
        assert turned < 6
        assert torch.equal(sample.camera.intrinsics, after.camera.intrinsics)


def test_neighbor_frames_come_along_and_turn_around_at_the_ends(root):
    dataset = rooms(root, path_length=4, neighbor_frames=(-1, 2))
    plain = rooms(root, path_length=4)
    for index, expected in ((8, (9, 10)), (9, (8, 11)), (10, (9, 8)), (11, (10, 9)), (-1, (22, 21))):
        sample = dataset[index]
        assert torch.equal(sample.image, plain[index].image)
        assert tuple(view.key for view in sample.neighbors) == tuple(plain.key(other) for other in expected)
        assert all(view.camera.pose.shape == (4, 4) and not view.neighbors for view in sample.neighbors)
    assert plain[0].neighbors == ()
    batch = collate([dataset[0], dataset[5]])
    assert [view.image.shape for view in batch.neighbors] == [(2, 3, *SIZE)] * 2
    assert batch.neighbors[1].key == (plain.key(2), plain.key(7))
    assert batch.neighbors[0].targets["depth"].shape == (2, 1, *SIZE)
    with pytest.raises(ValueError, match=r"sample '.*' has 0 neighbors, the first of the batch 2"):
        collate([dataset[0], plain[5]])


def _steps(dataset):
    for index in range(len(dataset) - 1):
        if dataset.place(index)[0] == dataset.place(index + 1)[0]:
            yield dataset[index], dataset[index + 1]


def test_a_task_can_be_left_out(root):
    dataset = rooms(root, tasks=("depth", "semseg"))
    assert list(dataset.tasks) == list(dataset[0].targets) == ["depth", "semseg"]
    assert dataset.folder == rooms(root).folder


def test_fingerprints_name_the_data(root):
    first, again, other = (rooms(root, seed=seed).fingerprint() for seed in (0, 0, 1))
    assert first == again
    assert first["hash"] != other["hash"]
    assert (first["name"], first["split"], first["samples"]) == ("rooms", "train", 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tain"}, "unknown split of rooms 'tain'; did you mean 'train'"),
        ({"look": "c"}, "unknown look of rooms 'c'"),
        ({"tasks": ("dept",)}, "unknown task of rooms 'dept'; did you mean 'depth'"),
        ({"scenes": -1}, "scenes is -1; give at least 0"),
        ({"views": 0}, "views is 0; give at least 1"),
        ({"neighbor_frames": (0,), "path_length": 4}, "neighbor_frames has 0"),
        ({"neighbor_frames": (-3,), "path_length": 5}, "has -3.*path_length of at least 6"),
        ({"size": (8, 64)}, "smallest side of size is 8; give at least 16"),
    ],
)
def test_wrong_arguments_get_one_line(root, options, message):
    with pytest.raises(ValueError, match=message):
        rooms(root, **options)
