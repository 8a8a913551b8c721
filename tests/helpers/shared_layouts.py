"""The layouts that people reported, written by the shared `cases/layouts.py`, and what is right for each of them."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from folder_truth import Layout, Truth
from PIL import Image

from triptych.types import IGNORE

Target = Callable[[np.ndarray, int], np.ndarray]
"""The target of an image, from a map whose right half is 1 and the image's number in its folder."""


def _void(half: np.ndarray, number: int) -> np.ndarray:
    return np.where(np.arange(len(half))[:, None] < 10, IGNORE, half)


def _slope(half: np.ndarray, number: int) -> np.ndarray:
    depth = np.linspace(1, 6, half.size).reshape(half.shape)
    return np.where(np.arange(len(half))[:, None] < 14, np.nan, depth)


RIGHT: dict[str, tuple[str, str, dict[str, Target]]] = {
    "r1": ("a number after a word in names", "", {"semseg": lambda half, i: half}),
    "r2": ("masks of two codes", "", {"semseg": lambda half, i: half}),
    "r3": ("NaN beside a map of 0 and 255", "", {"semseg": _void}),
    "r4": ("photographs turned by EXIF", "", {"semseg": lambda half, i: half[:, :48]}),
    "r6": ("photographs as float TIFF", "", {"semseg": lambda half, i: half}),
    "r7": ("depth with a far plane of 1e10", "", {"depth": _slope}),
    "r9": ("one-hot floats", "", {"semseg": lambda half, i: np.arange(half.size).reshape(half.shape) % 4}),
    "r10": ("masks as bool", "", {"semseg": lambda half, i: half}),
    "r11": ("-1 in int8, listed as invalid", "", {"semseg": lambda half, i: np.where(half == 1, 0, IGNORE)}),
    "r12": ("damaged OpenEXR beside class maps", r"depth/.*\.exr", {"semseg": lambda half, i: half, "depth": _slope}),
    "r13": ("an image of 400 million pixels", r"b\.png.*million", {"semseg": lambda half, i: half}),
}
"""What each layout is, what has to be said of it, and its targets."""


def read_shared_layouts(path: Path) -> Iterator[Layout]:
    """The layouts of a `layouts.py`."""
    spec = importlib.util.spec_from_file_location("shared_layouts_script", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for name, (title, says, targets) in RIGHT.items():
        yield Layout(
            f"{name}: {title}", lambda truth, name=name, targets=targets: _build(truth, script, name, targets), says
        )


def _build(truth: Truth, script: ModuleType, name: str, targets: dict[str, Target]) -> None:
    getattr(script, name)(truth.root)
    for i, path in enumerate(sorted((truth.root / "images").rglob("*.*"))):
        place = path.relative_to(truth.root)
        split = place.parts[1] if place.parts[1] in ("train", "val") else ""
        photo = np.zeros((20000, 1, 3)) if path.stem == "b" else _upright(path)
        truth.expect(
            place.as_posix(), split, photo, **{task: target(script.half, i) for task, target in targets.items()}
        )


def _upright(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        stored: Any = np.asarray(image)
        turned = image.getexif().get(274, 1) == 6
    photo = np.stack([stored * 255] * 3, -1) if stored.dtype == np.float32 else stored
    return np.rot90(photo, -1) if turned else photo
