"""Label files of depth: metres along the axis or the ray of a camera, or disparity."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from triptych import tasks
from triptych.data.errors import DataError
from triptych.labels.base import Encoding, is_listed, own_name
from triptych.lookup import named_choice
from triptych.tasks import Task
from triptych.types import Camera

UNITS = {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001, "km": 1000.0, "ft": 0.3048, "in": 0.0254}
"""Metres in a unit of length."""
COLORED_DEPTH = (
    "set channel where all are alike; depth packed into colors has to be unpacked and saved as floats (CARLA: "
    "metres are 1000 (R + 256 G + 65536 B) / 16777215), depth drawn in a color map is lost"
)
"""The cure for depth files of colors."""


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

    @property
    def is_pointwise(self) -> bool:
        return self.kind != "distance"

    def make_task(self, name: str) -> Task:
        return own_name(tasks.depth(), name)

    def decode(self, stored: np.ndarray, camera: Camera | None = None) -> Tensor:
        if self.channel < 0 and stored.ndim == 3 and min(stored.shape) in (3, 4):
            raise DataError(f"it has shape {stored.shape}", COLORED_DEPTH)
        stored, known = self.numbers(stored)
        if self.invalid:
            known &= ~is_listed(stored, self.invalid)
        values = np.where(known, stored, 0).astype(np.float64) * self.scale + self.offset
        known &= values > 0
        values = np.where(known, values, 1.0)
        depth = self.numerator / values if self.kind == "disparity" else values * UNITS[self.unit]
        if self.kind == "distance":
            depth = depth / _ray_lengths(camera, depth.shape)
        known &= (depth > self.minimum) & (depth <= self.maximum)
        return torch.from_numpy(np.where(known, depth, np.nan).astype(np.float32)[None])

    def encode(self, target: Tensor, camera: Camera | None = None) -> np.ndarray:
        metres = target[0].double().numpy()
        if self.kind == "distance":
            metres = metres * _ray_lengths(camera, metres.shape)
        values = self.numerator / metres if self.kind == "disparity" else metres / UNITS[self.unit]
        return ((values - self.offset) / self.scale).astype(np.float32)


def _ray_lengths(camera: Camera | None, shape: tuple[int, ...]) -> np.ndarray:
    if camera is None:
        text = 'kind = "distance" needs the camera of its image, and that has none'
        raise DataError(text, "describe it in [camera]; where cameras lie in files, add that of this image")
    v, u = np.mgrid[: shape[0], : shape[1]] + 0.5
    rays = np.linalg.inv(camera.intrinsics.double().numpy()) @ np.stack([u, v, np.ones_like(u)]).reshape(3, -1)
    return np.linalg.norm(rays / rays[2], axis=0).reshape(shape)
