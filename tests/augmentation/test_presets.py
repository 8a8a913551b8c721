"""The presets of published pipelines on a real frame, against plain NumPy with the published parameters written out."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from shared import shared_path

from triptych.augmentation.color import PhotometricDistortion
from triptych.augmentation.presets import TRANSFORMS, build_transform
from triptych.augmentation.steps import Chain, Transform
from triptych.tasks import nyuv2_tasks
from triptych.types import IGNORE, Camera, Sample

Maps = dict[str, np.ndarray]
TASKS = nyuv2_tasks()
SEEDS = range(3)
MEAN = np.float32([0.485, 0.456, 0.406])


@pytest.fixture(scope="module")
def frame() -> Maps:
    """Frame 433 of NYUv2: image (H, W, 3), classes, metres, unit normals in the camera frame, boundaries."""
    stored = {
        name: np.asarray(Image.open(shared_path(f"samples/nyuv2/labelled/000433_{name}.png")))
        for name in ("rgb", "seg40", "depth_5000", "normals")
    }
    depth = stored["depth_5000"].astype(np.float32) / 5000
    vectors = (stored["normals"].astype(np.float32) / 255 * 2 - 1)[..., [0, 2, 1]] * np.float32([1, -1, 1])
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors[(stored["normals"] == 127).all(-1)] = np.nan
    classes = stored["seg40"].astype(np.int64)
    edges = np.zeros(classes.shape, np.float32)
    edges[:, :-1] = classes[:, 1:] != classes[:, :-1]
    return {
        "image": stored["rgb"].astype(np.float32) / 255,
        "semseg": classes,
        "depth": np.where(depth > 0, depth, np.nan).astype(np.float32),
        "normals": vectors,
        "boundary": edges,
    }


def to_sample(maps: Maps) -> Sample:
    def planes(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, 0)))

    targets = {
        "semseg": torch.from_numpy(maps["semseg"].copy()),
        "depth": planes(maps["depth"][..., None]),
        "normals": planes(maps["normals"]),
        "boundary": planes(maps["boundary"][..., None]),
    }
    return Sample(planes(maps["image"]), targets, "433")


def blend(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear at continuous coordinates whose pixel centres are at integer + 0.5; the border is repeated."""
    for axis, place in ((0, rows), (1, columns)):
        place = np.clip(place - 0.5, 0, image.shape[axis] - 1)
        low = np.floor(place).astype(int)
        part = (place - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        high = np.minimum(low + 1, image.shape[axis] - 1)
        image = image.take(low, axis) * (1 - part) + image.take(high, axis) * part
    return image


NUDGE = [0.0, 0.0]
"""Magnified by 1.5, the centre of every third pixel falls between two source pixels: either of them is right."""


def see(maps: Maps, rows: np.ndarray, columns: np.ndarray) -> Maps:
    """What lies at these rows and columns, all inside: the image linearly, everything else at the nearest pixel."""
    nearest = np.floor(rows + NUDGE[0]).astype(int)[:, None], np.floor(columns + NUDGE[1]).astype(int)
    labels = {name: values[nearest] for name, values in maps.items() if name != "image"}
    return {"image": blend(maps["image"], rows, columns), **labels}


def flip(maps: Maps) -> Maps:
    maps = {name: values[:, ::-1] for name, values in maps.items()}
    return {**maps, "normals": maps["normals"] * np.float32([-1, 1, 1])}


def centres(count: int) -> np.ndarray:
    return np.arange(count) + 0.5


def stretch(maps: Maps, size: tuple[int, int]) -> Maps:
    height, width = maps["semseg"].shape
    return see(maps, centres(size[0]) * height / size[0], centres(size[1]) * width / size[1])


def pad(maps: Maps, size: tuple[int, int]) -> Maps:
    height, width = maps["semseg"].shape
    top, left = max(size[0] - height, 0) // 2, max(size[1] - width, 0) // 2
    beyond = {"image": MEAN, "semseg": IGNORE, "depth": np.nan, "normals": np.nan, "boundary": np.nan}
    padded = {}
    for name, values in maps.items():
        padded[name] = np.empty((max(size[0], height), max(size[1], width), *values.shape[2:]), values.dtype)
        padded[name][:] = beyond[name]
        padded[name][top : top + height, left : left + width] = values
    return padded


def survey(maps: Maps, size: tuple[int, int], draw: np.random.Generator) -> Maps:
    """Mirror half of the frames; magnify by 1, 1.2 or 1.5 about the centre; divide depth by it; stretch."""
    maps = flip(maps) if draw.random() < 0.5 else maps
    scale = (1.0, 1.2, 1.5)[draw.integers(3)]
    height, width = maps["semseg"].shape
    rows, columns = ((centres(side) - side / 2) / scale + side / 2 for side in (height, width))
    maps = see(maps, rows, columns)
    return stretch({**maps, "depth": maps["depth"] / scale}, size)


def atrc(maps: Maps, size: tuple[int, int], draw: np.random.Generator) -> Maps:
    """Magnify by 0.5 to 2 (sides cut to whole pixels), crop, draw the place again up to 10 times while one class has
    75 % of the labelled pixels, divide depth by the factor, mirror half, pad on all sides with the mean colour.
    """
    scale = draw.uniform(0.5, 2.0)
    height, width = (int(side * scale) for side in maps["semseg"].shape)
    crop = min(height, size[0]), min(width, size[1])
    for _ in range(11):
        top, left = (int(draw.integers(side - part + 1)) for side, part in zip((height, width), crop, strict=True))
        cut = see(maps, (centres(crop[0]) + top) / scale, (centres(crop[1]) + left) / scale)
        counts = np.bincount(cut["semseg"][cut["semseg"] != IGNORE])
        if np.count_nonzero(counts) > 1 and counts.max() < 0.75 * counts.sum():
            break
    cut["depth"] = cut["depth"] / np.float32(scale)
    return pad(flip(cut) if draw.random() < 0.5 else cut, size)


def densemtl(maps: Maps, size: tuple[int, int], draw: np.random.Generator) -> Maps:
    """Stretch, mirror half."""
    maps = stretch(maps, size)
    return flip(maps) if draw.random() < 0.5 else maps


TWINS: dict[str, tuple[Callable[[Maps, tuple[int, int], np.random.Generator], Maps], tuple[int, int]]] = {
    "survey": (survey, (480, 640)),
    "atrc": (atrc, (425, 560)),
    "invpt": (atrc, (448, 576)),
    "densemtl": (densemtl, (240, 320)),
}
"""Presets with the sizes of their papers on NYUv2, but for DenseMTL's, which has none there."""


def without_colours(transform: Transform) -> Transform:
    assert isinstance(transform, Chain)
    return Chain(tuple(step for step in transform.steps if not isinstance(step, PhotometricDistortion)))


@pytest.mark.parametrize("name", TWINS)
def test_training_samples_are_those_of_the_published_pipeline(frame: Maps, name: str) -> None:
    twin, size = TWINS[name]
    transform = build_transform(name, size=size, tasks=TASKS, train=True)
    for seed in SEEDS:
        found = transform(to_sample(frame), np.random.default_rng(seed))
        assert found.image.shape == (3, *size)
        same = {name: torch.zeros(target.shape, dtype=torch.bool) for name, target in found.targets.items()}
        for nudge in product((-1e-9, 1e-9), repeat=2):
            NUDGE[:] = nudge
            expected = to_sample(twin(frame, size, np.random.default_rng(seed)))
            for task, target in found.targets.items():
                same[task] |= torch.isclose(target, expected.targets[task], rtol=1e-6, atol=1e-6, equal_nan=True)
            if all(agreement.all() for agreement in same.values()):
                break
        assert {task: bool(agreement.all()) for task, agreement in same.items()} == dict.fromkeys(same, True)
        plain = without_colours(transform)(to_sample(frame), np.random.default_rng(seed))
        # DenseMTL filters the image when it shrinks it, the twin does not.
        tolerance = 2e-3 if name != "densemtl" else 0.6
        torch.testing.assert_close(plain.image, expected.image.float(), rtol=0, atol=tolerance)
        assert (plain.image - expected.image).abs().mean() < 0.02


@pytest.mark.parametrize("name", TWINS)
def test_evaluation_leaves_the_frame_or_pads_it(frame: Maps, name: str) -> None:
    """ATRC and InvPT pad to at least their size, the others stretch; nothing is drawn."""
    size = TWINS[name][1]
    transform = build_transform(name, size=size, tasks=TASKS, train=False)
    found = transform(to_sample(frame), np.random.default_rng(0))
    expected = to_sample(pad(frame, size) if name in ("atrc", "invpt") else stretch(frame, size))
    for task, target in expected.targets.items():
        torch.testing.assert_close(found.targets[task], target, rtol=0, atol=0, equal_nan=True)


RANGES = {"default": (0.75, 1.33), "survey-pascal": (0.75, 1.25), "atrc": (0.5, 2.0), "invpt": (0.5, 2.0)}
CHOICES = {"survey": {1.0, 1.2, 1.5}, "mtan": {1.0, 1.2, 1.5}}
CROPPED = ("default", "atrc", "invpt", "mtan", "densemtl-crop", "densemtl-video")
"""What presets magnify by, drawn evenly or one of few (1 where none is named), and which of them cut at random."""


@pytest.mark.parametrize("name", TRANSFORMS)
def test_presets_mirror_magnify_and_cut_as_they_say(name: str) -> None:
    """Read from the camera, which moves along, and from a normal. The size that is asked for is half as wide."""
    height, width = 24, 32
    camera = Camera(torch.tensor([[20.0, 0, width / 2], [0, 20.0, height / 2], [0, 0, 1]]))
    right = torch.tensor([1.0, 0, 0])[:, None, None].expand(3, height, width)
    before = Sample(torch.rand(3, height, width), {"normals": right}, camera=camera)
    transform = build_transform(name, size=(height, width // 2), tasks={"normals": TASKS["normals"]}, train=True)
    zooms, mirrored, middles = [], [], []
    for seed in range(60):
        after = transform(before, np.random.default_rng(seed))
        zooms.append(float(after.camera.intrinsics[1, 1]) / 20)
        middles.append(float(after.camera.intrinsics[0, 2]))
        mirrored.append(float(after.targets["normals"][0].nanmean()) < 0)
    if name in RANGES:
        low, high = RANGES[name]
        assert low <= min(zooms) < low + (high - low) / 10
        assert high - (high - low) / 10 < max(zooms) <= high
    else:
        assert {round(zoom, 5) for zoom in zooms} == CHOICES.get(name, {1.0})
    assert (np.ptp(middles) > 1) == (name in CROPPED)
    assert 0.35 < np.mean(mirrored) < 0.65 if name != "none" else not any(mirrored)


def test_what_the_survey_turns_agrees_with_its_normals() -> None:
    """PASCAL: by up to 20 degrees and 0.75 to 1.25; a vertical edge and the normal across it turn alike."""
    size = (128, 128)
    right = torch.zeros(3, *size)
    right[0] = 1
    halves = (torch.arange(128) >= 64).long().expand(128, 128)
    tasks = {name: TASKS[name] for name in ("semseg", "normals")}
    transform = build_transform("survey-pascal", size=size, tasks=tasks, train=True)
    angles = []
    for seed in range(40):
        sample = Sample(torch.zeros(3, *size), {"semseg": halves, "normals": right})
        after = transform(sample, np.random.default_rng(seed)).targets
        normal = after["normals"][:, 64, 64]
        mirrored = float(normal[0]) < 0
        x, y = (normal[:2] * (-1 if mirrored else 1)).tolist()
        labels = after["semseg"]
        # The line between the halves, row by row: x of the first pixel of the second half.
        second = labels == (0 if mirrored else 1)
        rows = [row for row in (44, 84) if (labels[row] != IGNORE).all()]
        if len(rows) == 2:
            top, bottom = (float(second[row].float().argmax()) for row in rows)
            assert np.arctan2(top - bottom, 40) == pytest.approx(np.arctan2(y, x), abs=0.06)
        angles.append(np.degrees(np.arctan2(y, x)))
    assert 15 < max(map(abs, angles)) <= 20
    assert min(angles) < 0 < max(angles)
