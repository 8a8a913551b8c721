"""Encodings of labels that measure: depth and normals."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from triptych import tasks
from triptych.labels.encoding import Encoding
from triptych.lookup import named_choice
from triptych.tasks import Task
from triptych.types import Camera

UNITS = {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001, "km": 1000.0, "ft": 0.3048, "in": 0.0254}
"""Metres in a unit of length."""

DIRECTIONS: dict[str, tuple[int, float]] = {
    "right": (0, 1.0),
    "left": (0, -1.0),
    "down": (1, 1.0),
    "up": (1, -1.0),
    "forward": (2, 1.0),
    "backward": (2, -1.0),
}
"""Component and sign in the camera frame: x right, y down, z forward."""


@dataclass(frozen=True)
class Depth(Encoding):
    """Depth: metres = (stored * scale + offset) * unit. Values that are not positive are invalid."""

    unit: str = "m"
    """Unit of `stored * scale + offset`: m, cm, mm, ..."""
    scale: float | int = 1.0
    offset: float | int = 0.0
    kind: Literal["z", "distance", "disparity"] = "z"
    """`distance` is measured along the ray and needs a camera; `disparity` is in pixels and needs `numerator`."""
    numerator: float | int = 0.0
    """Baseline in metres times focal length in pixels: metres = numerator / disparity."""
    minimum: float | int = 0.0
    """Metres; nearer is invalid."""
    maximum: float | int = float("inf")
    """Metres; farther is invalid: the sky, or a sensor's range."""

    def __post_init__(self) -> None:
        named_choice("unit of depth", self.unit, UNITS)
        named_choice("kind of depth", self.kind, dict.fromkeys(("z", "distance", "disparity")))
        if self.kind == "disparity" and self.numerator <= 0:
            raise ValueError("numerator is missing: disparity needs baseline (m) x focal length (pixels).")

    def make_task(self, name: str) -> Task:
        return tasks.depth()

    def decode(self, stored: np.ndarray, camera: Camera | None = None) -> Tensor:
        stored = self.pick(stored)
        known = np.isfinite(stored) if stored.dtype.kind == "f" else np.ones(stored.shape, bool)
        if self.invalid:
            known &= ~np.isin(stored, self.invalid)
        values = np.where(known, stored, 0).astype(np.float64) * self.scale + self.offset
        known &= values > 0
        values = np.where(known, values, 1.0)
        depth = self.numerator / values if self.kind == "disparity" else values * UNITS[self.unit]
        if self.kind == "distance":
            depth = depth / _ray_lengths(camera, depth.shape)
        known &= (depth > self.minimum) & (depth <= self.maximum)
        return torch.from_numpy(np.where(known, depth, np.nan).astype(np.float32)[None])


def _ray_lengths(camera: Camera | None, shape: tuple[int, ...]) -> np.ndarray:
    if camera is None:
        raise ValueError('kind = "distance" needs a [camera] section: intrinsics or fov')
    v, u = np.mgrid[: shape[0], : shape[1]] + 0.5
    rays = np.linalg.inv(camera.intrinsics.double().numpy()) @ np.stack([u, v, np.ones_like(u)]).reshape(3, -1)
    return np.linalg.norm(rays / rays[2], axis=0).reshape(shape)


@dataclass(frozen=True)
class Normals(Encoding):
    """Surface normals: components `stored * scale + offset`, each pointing where `axes` says, made unit length.

    Vectors whose length is not between 0.5 and 1.5 are invalid: grey, black and white pixels of 8-bit files are.
    """

    scale: float | None = None
    """2/255 for 8-bit files, 2/65535 for 16-bit files and 1 for floats where it is not given."""
    offset: float | int | None = None
    """-1 for files of whole numbers and 0 for floats where it is not given."""
    axes: tuple[str, str, str] = ("right", "down", "forward")
    """Where the first, second and third stored component point."""

    def __post_init__(self) -> None:
        directions = [named_choice("axis of normals", axis, DIRECTIONS)[0] for axis in self.axes]
        if sorted(directions) != [0, 1, 2]:
            raise ValueError(
                f"axes is {list(self.axes)}; name one of right/left, one of up/down, one of forward/backward."
            )

    def make_task(self, name: str) -> Task:
        return tasks.normals()

    def stored_vectors(self, stored: np.ndarray) -> np.ndarray:
        """`(H, W, 3)` float32 as the file has them: scaled, neither turned nor made unit length."""
        stored = self.pick(stored, 3)
        whole = stored.dtype.kind in "iu"
        scale = self.scale if self.scale is not None else (2 / np.iinfo(stored.dtype).max if whole else 1.0)
        offset = self.offset if self.offset is not None else (-1.0 if whole else 0.0)
        vectors = stored.astype(np.float32) * np.float32(scale) + np.float32(offset)
        if self.invalid:
            vectors[np.isin(stored, self.invalid).all(-1)] = np.nan
        return vectors

    def decode(self, stored: np.ndarray, camera: Camera | None = None) -> Tensor:
        vectors = self.stored_vectors(stored)
        length = np.linalg.norm(vectors, axis=-1)
        known = (length > 0.5) & (length < 1.5)
        target = np.empty((3, *length.shape), np.float32)
        for component, axis in enumerate(self.axes):
            place, sign = DIRECTIONS[axis]
            target[place] = sign * vectors[..., component] / np.where(known, length, 1)
        return torch.from_numpy(np.where(known, target, np.float32(np.nan)))
