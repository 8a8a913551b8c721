"""Label files of two classes: salient pixels and boundaries."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from triptych import tasks
from triptych.data.errors import DataError
from triptych.labels.base import Encoding, is_listed, own_name
from triptych.tasks import Task
from triptych.types import IGNORE, Camera, valid_pixels


@dataclass(frozen=True)
class Mask(Encoding):
    """Two classes: 1 where the stored value is at least `threshold`."""

    threshold: float | int | None = None
    """By default half of the largest value of the file's type: 128 for 8 bits, 0.5 for floats. Required for files of
    16 bits whose values never reach that, and for wider whole numbers."""

    @property
    def is_pointwise(self) -> bool:
        return True

    def encode(self, target: Tensor, camera: Camera | None = None) -> np.ndarray:
        known, limit = valid_pixels(target).numpy(), self._limit(np.dtype(np.float32))
        stored = np.where(known, np.where(target.numpy() > 0, limit + 0.5, limit - 0.5), np.nan)
        return stored.reshape(target.shape[-2:]).astype(np.float32)

    def decode_mask(self, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which pixels are set, and which have a label."""
        stored, known = self.numbers(stored)
        if self.invalid:
            known &= ~is_listed(stored, self.invalid)
        self._check_range(stored, known)
        return stored >= self._limit(stored.dtype), known

    def _limit(self, dtype: np.dtype) -> float:
        if self.threshold is not None:
            return float(self.threshold)
        return {"b": 1.0, "f": 0.5}.get(dtype.kind) or (np.iinfo(dtype).max + 1) / 2

    def _check_range(self, stored: np.ndarray, known: np.ndarray) -> None:
        """Raise `DataError` where half of the range of the type is no threshold, as values cover a part of it only."""
        if self.threshold is not None or stored.dtype in (bool, np.uint8):
            return
        values = stored[known]
        low, high = values.min(initial=0), values.max(initial=0)
        is_shade = stored.dtype == np.uint16 and high >= self._limit(stored.dtype)
        if low < 0 or (high > 1 if stored.dtype.kind == "f" else high > 0 and not is_shade):
            raise DataError(
                f"its values are {stored.dtype} from {low:g} to {high:g}",
                "set threshold (at least this is inside), or save it as 8 bit, 0 and 255",
            )


@dataclass(frozen=True)
class SaliencyMask(Mask):
    """Salient where the stored value is at least `threshold`."""

    def make_task(self, name: str) -> Task:
        return own_name(tasks.saliency(), name)

    def decode(self, stored: np.ndarray, camera: Camera | None = None) -> Tensor:
        inside, known = self.decode_mask(stored)
        return torch.from_numpy(np.where(known, inside, IGNORE).astype(np.int64))


@dataclass(frozen=True)
class BoundaryMask(Mask):
    """A boundary where the stored value, such as a number of votes, is at least `threshold`."""

    source: str = ""
    """Name of a label task whose class changes are the boundaries (`from` in the descriptor); no files then."""
    radius: int = 0
    """Derived boundaries are thicker by this many pixels on all sides."""

    def __post_init__(self) -> None:
        own = ("source", "radius")
        beside = [
            each.name for each in fields(self) if each.name not in own and getattr(self, each.name) != each.default
        ]
        if self.radius < 0:
            raise DataError(f"radius is {self.radius}", "lines are made thicker by 0 pixels or more")
        if self.source and beside:
            text = f"{beside[0]} has no effect beside from, which takes boundaries of {self.source}"
            raise DataError(text, "keep one")
        if self.radius and not self.source:
            raise DataError(f"radius is {self.radius} without from", "lines that files hold are as thick as they are")

    def make_task(self, name: str) -> Task:
        return own_name(tasks.boundary(), name)

    def decode(self, stored: np.ndarray, camera: Camera | None = None) -> Tensor:
        inside, known = self.decode_mask(stored)
        return torch.from_numpy(np.where(known, inside, np.nan).astype(np.float32)[None])
