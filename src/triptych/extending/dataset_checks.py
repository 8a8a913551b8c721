"""Properties of datasets that the library relies on."""

import json
import pickle
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch

from triptych.data.errors import DataError
from triptych.datasets import DATASETS, open_configured
from triptych.extending.cases import require
from triptych.lookup import UnknownNameError, takes_option
from triptych.rendering.poses import check_rigid
from triptych.types import Camera, Sample, valid_pixels


@cache
def open_train(name: str, root: str) -> Any:
    """The training split, opened once for all checks."""
    needs = DATASETS[name].needs_root and not root
    require(not needs, f"dataset '{name}' needs its folder: triptych check MODULE --root FOLDER.")
    return open_configured(name, root, "train", {})


def _some(dataset: Any) -> Iterator[Sample]:
    for index in sorted({0, len(dataset) // 2, len(dataset) - 1}):
        yield dataset[index]


def has_samples(name: str, root: str) -> None:
    """It has samples, each with a key of its own that is known without reading it."""
    dataset = open_train(name, root)
    require(len(dataset) > 0, "it is empty.")
    keys = [dataset.key(index) for index in range(len(dataset))]
    require(len(set(keys)) == len(keys), "two samples have one key.")
    require(dataset[0].key == keys[0], f"sample 0 is called {dataset[0].key!r}, and {keys[0]!r} by key(0).")
    group = dataset.group(0)
    require(isinstance(group, str), f"the group of sample 0 is {group!r}; name it by a text, as its key.")


def has_images(name: str, root: str) -> None:
    """Images are float32 (3, H, W) in [0, 1]."""
    for sample in _some(open_train(name, root)):
        image = sample.image
        require(image.ndim == 3 and len(image) == 3, f"{sample.key}: the image is {tuple(image.shape)}.")
        require(image.dtype == torch.float32, f"{sample.key}: the image is {image.dtype}.")
        low, high = float(image.min()), float(image.max())
        require(low >= 0 and high <= 1, f"{sample.key}: the image lies in [{low:.3g}, {high:.3g}].")


def has_targets(name: str, root: str) -> None:
    """Each sample has a target of each task, in the task's layout, of the image's size."""
    dataset = open_train(name, root)
    for sample in _some(dataset):
        found = list(sample.targets)
        require(found == list(dataset.tasks), f"{sample.key} has {found} instead of {list(dataset.tasks)}.")
        size = (sample.image.shape[-2], sample.image.shape[-1])
        for task_name, task in dataset.tasks.items():
            target, wanted = sample.targets[task_name], task.invalid_target(size)
            what = f"{sample.key}: the target of {task_name}"
            require(target.shape == wanted.shape, f"{what} is {tuple(target.shape)}, not {tuple(wanted.shape)}.")
            require(target.dtype == wanted.dtype, f"{what} is {target.dtype}, not {wanted.dtype}.")
            if task.kind == "labels":
                ids = target[valid_pixels(target)]
                require(
                    ((ids >= 0) & (ids < len(task.classes))).all(),
                    f"{what} has ids outside 0..{len(task.classes) - 1}.",
                )


def has_cameras(name: str, root: str) -> None:
    """Cameras have intrinsics (3, 3) and rigid poses (4, 4); each sample has as many neighbors, of its size, each with
    its offset and what the others have.
    """
    reader = DATASETS[name]
    options = reader.video_options({}) if takes_option(reader, "neighbor_frames") else {}
    dataset = open_configured(name, root, "train", options) if options else open_train(name, root)
    alike: dict[int, tuple[Any, ...]] = {}
    counts = set()
    for sample in _some(dataset):
        counts.add(len(sample.neighbors))
        _check_camera(sample.camera, sample.image_keys[0])
        for place, view in enumerate(sample.neighbors):
            what = f"neighbor {place} of {sample.key}"
            require(view.image.shape == sample.image.shape, f"{what} is {tuple(view.image.shape)}; give its size.")
            _check_camera(view.camera, what)
            facts = (sorted(view.targets), *_known(view.camera))
            known = facts[1:] == _known(sample.camera) and alike.setdefault(place, facts) == facts
            require(
                known,
                f"{what} has other targets or less of a camera than the sample or others at this place; give "
                "triptych.missing_view(sample, offset) for one that is not there, and NaN for what is not known.",
            )
            offset = view.extras.get("offset", torch.empty(0))
            require(
                offset.dtype == torch.int64 and offset.ndim == 0,
                f"{what} does not say how many frames later it was taken; give triptych.as_neighbor(view, offset).",
            )
    require(
        len(counts) == 1,
        f"samples have {' or '.join(map(str, sorted(counts)))} neighbors, which no batch can hold; give "
        "triptych.missing_view(sample, offset) for those that are not there.",
    )


def _known(camera: Camera | None) -> tuple[bool, bool]:
    """Whether a camera is given, and whether it has a pose."""
    return camera is not None, camera is not None and camera.pose is not None


def _check_camera(camera: Camera | None, what: str) -> None:
    """Raise `ValueError` unless a camera is well formed; NaN marks unknown values."""
    if camera is None:
        return
    matrix, pose = camera.intrinsics, camera.pose
    require(matrix.shape == (3, 3), f"{what}: intrinsics are {tuple(matrix.shape)}, not (3, 3).")
    last = matrix[2].tolist()
    require(matrix.isnan().all() or last == [0, 0, 1], f"{what}: the last row of intrinsics is {last}, not 0 0 1.")
    if pose is not None:
        require(pose.shape == (4, 4), f"{what}: the pose is {tuple(pose.shape)}, not (4, 4).")
        if not pose.isnan().all():
            check_rigid(pose[None], [what])


def reads_alike(name: str, root: str) -> None:
    """A sample is the same whenever it is read, and in a worker process."""
    dataset = open_train(name, root)
    again = pickle.loads(pickle.dumps(dataset))[0]
    for first, second in ((dataset[0], dataset[0]), (dataset[0], again)):
        require(torch.equal(first.image, second.image), "the image differs when it is read again.")
        for task_name, target in first.targets.items():
            same = torch.equal(target.nan_to_num(-1), second.targets[task_name].nan_to_num(-1))
            require(same, f"the target of {task_name} differs when it is read again.")


def is_identified(name: str, root: str) -> None:
    """Its fingerprint goes into a file and is the same when it is opened again."""
    first = open_train(name, root).fingerprint()
    again = open_configured(name, root, "train", {}).fingerprint()
    require(json.dumps(first) == json.dumps(again), f"{first} becomes {again}.")


def refuses_unknown_splits(name: str, root: str) -> None:
    """A split that does not exist is refused by its name, so that others can take its place."""
    way = 'triptych.named_choice("split", split, {"train": ..., "val": ...}) refuses it.'
    try:
        open_configured(name, root, "no-such-split", {})
    except UnknownNameError as error:
        require(error.name == "no-such-split", f"'{error.name}' is refused in its place; {way}")
    except DataError as error:
        require(error.missing, f"its error does not say that there is none (missing=True); {way}")
    except ValueError as error:
        raise ValueError(f"its error does not say that there is none ({error}); {way}") from error
    else:
        raise ValueError(f"split 'no-such-split' is opened; {way}")
