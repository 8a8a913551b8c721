"""Label files of surface normals."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from triptych import tasks
from triptych.data.errors import DataError
from triptych.labels.base import Encoding, is_listed, own_name
from triptych.lookup import named_choice
from triptych.tasks import Task
from triptych.types import Camera

DIRECTIONS: dict[str, tuple[int, float]] = {
    "right": (0, 1.0),
    "left": (0, -1.0),
    "down": (1, 1.0),
    "up": (1, -1.0),
    "forward": (2, 1.0),
    "backward": (2, -1.0),
}
"""Component and sign in the camera frame: x right, y down, z forward."""


def stored_range(dtype: np.dtype) -> tuple[float, float]:
    """(scale, offset) by which normals of a number type usually become components from -1 to 1.

    >>> stored_range(np.dtype(np.float32)), stored_range(np.dtype(np.int8))[1]
    ((1.0, 0.0), 0.0)
    """
    if dtype.kind == "u":
        return 2 / np.iinfo(dtype).max, -1.0
    return (1 / np.iinfo(dtype).max, 0.0) if dtype.kind == "i" else (1.0, 0.0)


@dataclass(frozen=True)
class Normals(Encoding):
    """Surface normals: components `stored * scale + offset`, each pointing where `axes` says, made unit length.

    Vectors whose length is not between 0.5 and 1.5 are invalid: grey, black and white pixels of 8-bit files are.
    """

    scale: float | None = None
    """2/255 for 8-bit files, 2/65535 for 16-bit files, 1/127 and 1/32767 for signed ones and 1 for floats where it is
    not given."""
    offset: float | int | None = None
    """-1 for files of unsigned numbers, 0 for signed ones and floats where it is not given."""
    axes: tuple[str, str, str] = ("right", "down", "forward")
    """Where the first, second and third stored component point."""

    def __post_init__(self) -> None:
        directions = [named_choice("axis of normals", axis, DIRECTIONS)[0] for axis in self.axes]
        if sorted(directions) != [0, 1, 2]:
            raise DataError(
                f"axes is {list(self.axes)}", "name one of right/left, one of up/down, one of forward/backward"
            )

    def make_task(self, name: str) -> Task:
        return own_name(tasks.normals(), name)

    @property
    def is_single(self) -> bool:
        return False

    def stored_vectors(self, stored: np.ndarray) -> np.ndarray:
        """`(H, W, 3)` float32 as the file has them: scaled, not turned and of any length; NaN where there is none."""
        stored, known = self.numbers(stored, 3)
        usual_scale, usual_offset = stored_range(stored.dtype)
        scale = usual_scale if self.scale is None else self.scale
        offset = usual_offset if self.offset is None else self.offset
        vectors = stored.astype(np.float32) * np.float32(scale) + np.float32(offset)
        if self.invalid:
            vectors[is_listed(stored, self.invalid).all(-1)] = np.nan
        if not known.all():
            vectors[~known.all(-1)] = np.nan
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

    def encode(self, target: Tensor, camera: Camera | None = None) -> np.ndarray:
        turned = [sign * target[place].numpy() for place, sign in (DIRECTIONS[axis] for axis in self.axes)]
        vectors = np.stack(turned, axis=-1)
        scale, offset = 1.0 if self.scale is None else self.scale, self.offset or 0.0
        return ((vectors - offset) / scale).astype(np.float32)
