"""Label files of any other quantity."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from triptych import tasks
from triptych.data.errors import DataError
from triptych.labels.base import LATER, Encoding, is_listed
from triptych.lookup import named_choice
from triptych.losses.pixel import VALUES
from triptych.metrics.values import VALUES_METRICS
from triptych.tasks import Task
from triptych.types import Camera


@dataclass(frozen=True)
class Values(Encoding):
    """Any quantity: values = stored * scale + offset, in `unit`; NaN, infinity and `invalid` have no label."""

    channels: int = 1
    """Numbers per pixel."""
    unit: str = ""
    """Shown in tables."""
    scale: float | int = 1.0
    offset: float | int = 0.0
    loss: str = "l1"
    """`l1`, `l2`, `huber` or `cosine`."""
    metric: str = field(default="mae", metadata=LATER)
    """The number that selects the best checkpoint and is compared: `mae`, `rmse`, `r2` or `angle`."""
    limits: tuple[float | int, ...] = ()
    """(lowest, highest) that are drawn, and stored as PNG."""

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise DataError(f"channels is {self.channels}", "a quantity has at least 1")
        if self.limits and not (len(self.limits) == 2 and self.limits[0] < self.limits[1]):
            raise DataError(f"limits is {list(self.limits)}", "give the lowest and the highest value")
        named_choice("regression loss", self.loss, VALUES)
        if self.loss == "cosine" and self.channels == 1:
            raise DataError("loss is 'cosine' for 1 channel", "directions have several; choose l1, l2 or huber")
        named_choice("regression metric", self.metric, VALUES_METRICS)
        if self.metric == "angle" and self.channels == 1:
            raise DataError("metric is 'angle' for 1 channel", "vectors have several; choose mae, rmse or r2")

    def bare(self) -> "Encoding":
        return Encoding.bare(replace(self, loss="l1", metric="mae", limits=()))

    def make_task(self, name: str) -> Task:
        limits = (float(self.limits[0]), float(self.limits[1])) if self.limits else None
        return tasks.regression(name, self.channels, unit=self.unit, loss=self.loss, metric=self.metric, limits=limits)

    @property
    def is_single(self) -> bool:
        return self.channels == 1 and super().is_single

    def pick(self, stored: np.ndarray, channels: int = 1) -> np.ndarray:
        """As of others, but a fourth channel is a quantity too where it is no transparency."""
        has_fourth = channels == 3 and stored.ndim == 3 and stored.shape[-1] == 4 and stored.shape[0] != 3
        if has_fourth and stored.dtype.kind != "u":
            text = f"it has shape {stored.shape} of {stored.dtype}, expected (height, width, 3)"
            raise DataError(text, "set channels = 4, or save three alone, NaN where there is no label")
        return super().pick(stored, channels)

    def decode(self, stored: np.ndarray, camera: Camera | None = None) -> Tensor:
        stored, known = self.numbers(stored, self.channels)
        if self.invalid:
            known &= ~is_listed(stored, self.invalid)
        values = np.where(known, stored, 0).astype(np.float64) * self.scale + self.offset
        values, known = values.reshape(*stored.shape[:2], -1), known.reshape(*stored.shape[:2], -1)
        values = np.where(known.all(-1, keepdims=True), values, np.nan)
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1), np.float32))

    def encode(self, target: Tensor, camera: Camera | None = None) -> np.ndarray:
        stored = ((target.double().numpy() - self.offset) / self.scale).astype(np.float32)
        return stored[0] if self.channels == 1 else np.ascontiguousarray(stored.transpose(1, 2, 0))
