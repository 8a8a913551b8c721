"""Encodings of labels that choose between classes: segmentation, parts, masks and boundaries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from triptych import tasks
from triptych.labels.encoding import Encoding
from triptych.tasks import Task
from triptych.types import IGNORE, Camera


@dataclass(frozen=True)
class Labels(Encoding):
    """Class ids of semantic segmentation or human parts: `stored + offset`, or looked up in `map` or `colors`."""

    classes: int | tuple[str, ...] = 0
    """Names of the classes, or their number."""
    offset: int = 0
    """Added to stored values: -1 where 0 means unlabelled and classes start at 1."""
    map: Mapping[str, int] = field(default_factory=dict)
    """Stored value to class id; values that are not named have no label."""
    colors: tuple[tuple[int, int, int], ...] = ()
    """RGB colours of the classes, in order, for colour-coded maps; other colours have no label."""
    invalid: tuple[float | int, ...] = (IGNORE,)
    kind: ClassVar[str] = "semseg"

    def __post_init__(self) -> None:
        if not 0 < self.num_classes <= IGNORE:
            raise ValueError(
                f"classes is {self.classes!r}; give the names or the number of the classes, 1 to {IGNORE}."
            )

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return self.classes if isinstance(self.classes, int) else len(self.classes)

    def make_task(self, name: str) -> Task:
        return _LABEL_TASKS[self.kind](self.classes, name)

    @cached_property
    def _table(self) -> np.ndarray:
        """Stored 16-bit value to class id; -1 is a mistake."""
        if self.map:
            table = np.full(65536, IGNORE, np.int64)
            for value, label in self.map.items():
                table[int(value)] = label
        else:
            table = np.arange(65536) + self.offset
        invalid = [int(value) for value in self.invalid if 0 <= value < 65536 and str(int(value)) not in self.map]
        table[invalid] = IGNORE
        if self.offset == -1 and not self.map:
            table[0] = IGNORE
        table[(table < 0) | ((table >= self.num_classes) & (table != IGNORE))] = -1
        return table

    def decode(self, stored: np.ndarray, camera: Camera | None = None) -> Tensor:
        if self.colors:
            return self._decode_colors(self.pick(stored, 3))
        stored = self.pick(stored)
        values = stored
        if stored.dtype.kind == "f":
            values = np.where(np.isfinite(stored), stored, IGNORE).astype(np.int64)
            if not np.array_equal(values, np.where(np.isfinite(stored), stored, IGNORE)):
                raise ValueError("its values are not whole numbers; class ids are")
        if values.dtype.itemsize > 2:
            if values.min() < 0 or values.max() > 65535:
                invalid = np.isin(values, self.invalid)
                values = np.where(invalid, IGNORE, values)
            if values.min() < 0 or values.max() > 65535:
                raise ValueError(f"its values range from {values.min()} to {values.max()}; class ids are 0 to 65535")
        labels = self._table[values]
        if labels.min() < 0:
            wrong = np.unique(stored[labels < 0])
            shown = ", ".join(str(value) for value in wrong[:8]) + (", ..." if len(wrong) > 8 else "")
            raise ValueError(
                f"it has values outside the {self.num_classes} classes: {shown}; "
                "list them in invalid, give a map or an offset, or more classes"
            )
        return torch.from_numpy(labels)

    def _decode_colors(self, stored: np.ndarray) -> Tensor:
        code = stored.astype(np.int64) @ np.array([65536, 256, 1])
        colors = np.array(self.colors, np.int64) @ np.array([65536, 256, 1])
        order = np.argsort(colors)
        place = np.searchsorted(colors[order], code).clip(0, len(colors) - 1)
        return torch.from_numpy(np.where(colors[order][place] == code, order[place], IGNORE))


@dataclass(frozen=True)
class PartLabels(Labels):
    """Human parts."""

    classes: int | tuple[str, ...] = tasks.HUMAN_PARTS
    kind: ClassVar[str] = "human_parts"


_LABEL_TASKS: dict[str, Callable[[int | tuple[str, ...], str], Task]] = {
    "semseg": lambda classes, name: tasks.semseg(classes, name=name),
    "human_parts": lambda classes, name: tasks.human_parts(classes),
}


@dataclass(frozen=True)
class Mask(Encoding):
    """Two classes: 1 where the stored value is at least `threshold`."""

    threshold: float | int | None = None
    """Half of the largest value of the file's type where it is not given: 128 for 8 bits, 0.5 for floats."""

    def decode_mask(self, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which pixels are set, and which have a label."""
        stored = self.pick(stored)
        known = ~np.isin(stored, self.invalid) if self.invalid else np.ones(stored.shape, bool)
        if stored.dtype.kind == "f":
            known &= np.isfinite(stored)
        return stored >= self._limit(stored.dtype), known

    def _limit(self, dtype: np.dtype) -> float:
        if self.threshold is not None:
            return float(self.threshold)
        return {"b": 1.0, "f": 0.5}.get(dtype.kind) or (np.iinfo(dtype).max + 1) / 2


@dataclass(frozen=True)
class SaliencyMask(Mask):
    """Salient where the stored value is at least `threshold`."""

    def make_task(self, name: str) -> Task:
        return tasks.saliency()

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

    def make_task(self, name: str) -> Task:
        return tasks.boundary()

    def decode(self, stored: np.ndarray, camera: Camera | None = None) -> Tensor:
        inside, known = self.decode_mask(stored)
        return torch.from_numpy(np.where(known, inside, np.nan).astype(np.float32)[None])
