"""Label maps whose stored values are looked up in a table, as published datasets number their classes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from triptych import tasks
from triptych.data.errors import DataError
from triptych.labels.encodings import Encoding
from triptych.tasks import Task
from triptych.types import IGNORE, Camera


@dataclass(frozen=True)
class TableLabels(Encoding):
    """Class ids `lookup[stored]`; `invalid` values are unlabelled, any other value is a mistake.

    >>> TableLabels(classes=("wall", "floor"), lookup=(255, 0, 1)).decode(np.array([[0, 1, 2]])).tolist()
    [[255, 0, 1]]
    """

    classes: tuple[str, ...] = ()
    lookup: tuple[int, ...] = ()
    """Class id of each stored value from 0; `IGNORE` where it is no class."""
    source: str = "the dataset"
    """Whose numbers these are, for errors."""
    colors: tuple[tuple[int, int, int], ...] = ()
    """RGB colours of the class ids, in order, where the map is a colour picture."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def make_task(self, name: str) -> Task:
        return tasks.semseg(self.classes, name=name)

    @cached_property
    def _table(self) -> np.ndarray:
        return np.array([*self.lookup, -1], np.int64)

    def decode(self, stored: np.ndarray, camera: Camera | None = None) -> Tensor:
        if stored.ndim == 3 and stored.shape[-1] in (3, 4) and self.colors:
            return self._decode_colors(stored[..., :3])
        stored = self.pick(stored)
        unlabelled = np.isin(stored, self.invalid)
        with np.errstate(invalid="ignore"):  # NaN becomes some number, which the comparison finds
            values = np.where(unlabelled, 0, stored).astype(np.int64)
        wrong = (values < 0) | (values >= len(self.lookup)) | ((values != stored) & ~unlabelled)
        labels = self._table[np.where(wrong, len(self.lookup), values)]
        labels[unlabelled] = IGNORE
        if labels.min(initial=0) < 0:
            self._complain(np.unique(stored[labels < 0]).tolist())
        return torch.from_numpy(labels)

    def _decode_colors(self, stored: np.ndarray) -> Tensor:
        code = stored.astype(np.int64) @ np.array([65536, 256, 1])
        colors = np.array(self.colors, np.int64) @ np.array([65536, 256, 1])
        order = np.argsort(colors)
        place = order[np.searchsorted(colors[order], code).clip(0, len(colors) - 1)]
        wrong = colors[place] != code
        if wrong.any():
            self._complain([tuple(color) for color in np.unique(stored[wrong], axis=0).tolist()])
        return torch.from_numpy(place)

    def _complain(self, values: list) -> None:
        shown = ", ".join(str(value) for value in values[:8]) + (", ..." if len(values) > 8 else "")
        raise DataError(
            f"it has values that are none of the {len(self.lookup)} of {self.source}: {shown}",
            "this file is damaged, of another variant, or has been converted",
        )


def voc_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """The colour map of PASCAL VOC: bits of the index are dealt to red, green and blue in turn, high bits first.

    >>> voc_colors(3)
    ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    """
    bits = [
        [sum((i >> 3 * place + channel & 1) << 7 - place for place in range(3)) for channel in range(3)]
        for i in range(count)
    ]
    return tuple((red, green, blue) for red, green, blue in bits)
