"""Label files that choose between classes: ids, colors or a plane per class."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from triptych import tasks
from triptych.data.errors import DataError
from triptych.labels.base import DRAWN, LATER, Encoding, UsualMarks, is_listed, own_name
from triptych.labels.summaries import class_axis, color_codes
from triptych.tasks import Task
from triptych.tasks.constructors import check_colors_shown
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
    """RGB colors of the classes, in order, for color-coded maps; other colors have no label."""
    one_hot: bool = field(default=False, metadata=LATER)
    """A plane per class, first or last: the class is the plane of the highest value; where all are 0, none is."""
    threshold: float | int | None = field(default=None, metadata=LATER)
    """Two classes: 1 where the stored value is at least this, for masks in shades."""
    colors_shown: tuple[tuple[int, int, int], ...] = field(default=(), metadata=DRAWN)
    """RGB colors of the classes in pictures, in order, whatever the files hold."""
    invalid: tuple[float | int, ...] = UsualMarks((IGNORE,))
    kind: ClassVar[str] = "semseg"

    def __post_init__(self) -> None:
        if not 0 < self.num_classes <= IGNORE:
            raise DataError(
                f"classes is {self.classes!r}", f"give the names or the number of the classes, 1 to {IGNORE}"
            )

        wrong = {value: label for value, label in self.map.items() if not value.removeprefix("-").isdecimal()}
        wrong |= {v: k for v, k in self.map.items() if k != IGNORE and not 0 <= k < self.num_classes}
        if wrong:
            value, label = next(iter(wrong.items()))
            text = f"map has {value!r} = {label}, and classes are 0 to {self.num_classes - 1}"
            raise DataError(text, 'write a stored value and its class, such as "7" = 0')
        for color in self.colors:
            if len(color) != 3:
                raise DataError(f"colors has {list(color)}", "a colour of a class is red, green, blue")
        if self.colors and len(self.colors) != self.num_classes:
            raise DataError(
                f"colors has {len(self.colors)} colours for {self.num_classes} classes", "give one per class"
            )
        check_colors_shown(self.colors_shown, self.num_classes, "this task")
        self._check_alone()

    def _check_alone(self) -> None:
        """Raise `DataError` for options that exclude each other: one would have no effect beside the other."""
        planes = {"colors": bool(self.colors), "one_hot": self.one_hot}
        single = {"map": bool(self.map), "threshold": self.threshold is not None}
        [way, *others] = [name for name, given in (planes | single).items() if given] or [""]
        listed = () if isinstance(self.invalid, UsualMarks) else self.invalid
        beside = {
            "offset": bool(way and self.offset),
            # 255 (the default) and NaN may be listed without effect: both never have a label.
            "invalid": way in planes and any(math.isfinite(value) and value != IGNORE for value in listed),
            "channel": way in planes and self.channel >= 0,
        }
        others += [name for name, given in beside.items() if given]
        if others:
            raise DataError(f"{others[0]} has no effect beside {way}, which says what stored values mean", "keep one")
        for value in filter(self._is_mapped, listed):
            if (label := self.map[str(int(value))]) != IGNORE:
                text = f"invalid lists {value:g}, and map has {int(value)} = {label}"
                raise DataError(text, "keep it in one of them")
        if self.threshold is not None and self.num_classes != 2:
            raise DataError(f"threshold tells 2 classes apart, and there are {self.num_classes}", "give a map")

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.classes if isinstance(self.classes, int) else len(self.classes)

    @property
    def is_pointwise(self) -> bool:
        return not (self.colors or self.one_hot)

    @property
    def by_index(self) -> bool:
        return not self.colors

    @property
    def is_single(self) -> bool:
        return not self.colors and super().is_single

    @property
    def marks(self) -> tuple[float | int, ...]:
        """Values of `invalid` that take effect: not those that `map` has, none with `colors` or `one_hot`, and with
        `threshold`, where 255 is a shade, only values that a user listed."""
        is_shade = self.threshold is not None and isinstance(self.invalid, UsualMarks)
        return tuple(v for v in self.invalid if not self._is_mapped(v)) if self.is_pointwise and not is_shade else ()

    def _is_mapped(self, value: float | int) -> bool:
        return math.isfinite(value) and value == int(value) and str(int(value)) in self.map

    def make_task(self, name: str) -> Task:
        return _LABEL_TASKS[self.kind](name, classes=self.classes, colors_shown=self.colors_shown)

    @cached_property
    def _table(self) -> np.ndarray:
        """Stored 16-bit value to class id; -1 is a mistake."""
        if self.map:
            table = np.full(65536, IGNORE, np.int64)
            for value, label in self.map.items():
                if 0 <= int(value) < 65536:
                    table[int(value)] = label
        else:
            table = np.arange(65536) + self.offset
            table[(table < 0) | (table >= self.num_classes)] = -1
        table[[int(value) for value in self.marks if 0 <= value < 65536 and value == int(value)]] = IGNORE
        if self.offset == -1 and not self.map:
            table[0] = IGNORE
        return table

    def decode(self, stored: np.ndarray, camera: Camera | None = None) -> Tensor:
        if self.one_hot:
            return self._decode_planes(np.ma.filled(stored, 0))
        if self.colors:
            return self._decode_colors(*self.numbers(self._color_grey(stored), 3))
        if self.channel < 0 and class_axis(np.ma.getdata(stored)) is not None and min(stored.shape) > 1:
            raise DataError(f"it has shape {stored.shape}, a plane per class", "set one_hot = true")
        stored, known = self.numbers(stored)
        if self.threshold is not None:
            known &= ~is_listed(stored, self.marks)
            return torch.from_numpy(np.where(known, stored >= self.threshold, IGNORE).astype(np.int64))
        labels = self._table[stored] if stored.dtype in (np.uint8, np.uint16) else self._look_up(stored, known)
        labels[~known] = IGNORE
        if labels.min() < 0:
            wrong = np.unique(stored[labels < 0])
            shown = ", ".join(str(value) for value in wrong[:8]) + (", ..." if len(wrong) > 8 else "")
            raise DataError(
                f"it has values outside the {self.num_classes} classes: {shown}",
                "list them in invalid, give a map or an offset, or more classes",
            )
        return torch.from_numpy(labels)

    def _look_up(self, stored: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Look up class ids for values of any number type; -1 where a value is none of the classes.

        Pixels without a label are left out of the look-up, so that they share no number with a class.
        """
        known = known & ~is_listed(stored, self.marks)
        values = np.where(known, stored, 0)
        if values.dtype.kind == "f" and (values != np.rint(values)).any():
            raise DataError(
                "its values are not whole numbers", "class ids are: were they interpolated, or are they scores?"
            )
        outside = (values < 0) | (values > 65535)
        labels = self._table[np.where(outside, 0, values).astype(np.int64)]
        far = {int(value): label for value, label in self.map.items() if not 0 <= int(value) <= 65535}
        labels[outside] = IGNORE if self.map else -1
        for value, label in far.items():
            labels[values == value] = label
        return np.where(known, labels, IGNORE)

    @cached_property
    def _codes(self) -> np.ndarray:
        """First stored value of each class, and last of unlabelled pixels; -1 where there is none."""
        values, first = np.unique(self._table, return_index=True)
        found = dict(zip(values.tolist(), first.tolist(), strict=True))
        return np.array([found.get(label, -1) for label in (*range(self.num_classes), IGNORE)])

    def encode(self, target: Tensor, camera: Camera | None = None) -> np.ndarray:
        places = torch.where(target == IGNORE, self.num_classes, target).numpy()
        if self.colors:
            free = next((v, v, v) for v in range(256) if (v, v, v) not in {tuple(color) for color in self.colors})
            return np.array([*self.colors, free], np.uint8)[places]
        if self.one_hot:
            return np.eye(self.num_classes + 1, self.num_classes, dtype=np.float32)[places]
        if self.threshold is not None:
            return np.array([self.threshold - 1, self.threshold, np.nan], np.float32)[places]
        stored = self._codes[places]
        names = (*self.make_task(self.kind).classes, "")
        if lost := [names[place] for place in np.unique(places[stored < 0]) if names[place]]:
            raise DataError(f"no stored value means {', '.join(lost)}", "add one to map")
        if self._codes[-1] < 0:
            return np.where(stored < 0, np.nan, stored).astype(np.float32)
        return stored.astype(np.uint8 if self._codes.max() < 256 else np.uint16)

    def _decode_planes(self, stored: np.ndarray) -> Tensor:
        sides = [axis for axis in (-1, 0) if stored.ndim == 3 and stored.shape[axis] == self.num_classes]
        if not sides:
            raise DataError(f"it has shape {stored.shape}", f"one_hot needs {self.num_classes} planes, first or last")
        found = class_axis(stored) if len(sides) > 1 else sides[0]
        planes = np.moveaxis(stored, sides[0] if found is None else found, -1)
        known = (planes > 0).any(-1)
        if stored.dtype.kind == "f":
            known &= np.isfinite(planes).all(-1)
        elif ((planes > 0).sum(-1) > 1).any():
            raise DataError("several of its planes are set at one pixel", "one_hot has one class each")
        return torch.from_numpy(np.where(known, planes.argmax(-1), IGNORE).astype(np.int64))

    def _color_grey(self, stored: np.ndarray) -> np.ndarray:
        """Repeat a grey picture `(H, W)`, or `(H, W, 2)` with alpha, as colors: maps of black alone are saved so.

        Raises `DataError` where its values are rather class ids.
        """
        if stored.ndim != 2 and not (stored.ndim == 3 and stored.shape[-1] == 2 and stored.dtype.kind == "u"):
            return stored
        grey = stored if stored.ndim == 2 else stored[..., 0]
        shades = {color[0] for color in self.colors if len({*color}) == 1}
        others = set(np.unique(np.ma.getdata(grey)).tolist()) - shades
        if ids := sorted(value for value in others if 0 < value < self.num_classes):
            shown = ", ".join(f"{value:g}" for value in ids[:8])
            raise DataError(f"it is grey, with values {shown} that no class has in colors: ids", "save it in colors")
        return grey[..., None].repeat(3, axis=-1)

    def _decode_colors(self, stored: np.ndarray, known: np.ndarray) -> Tensor:
        known = np.all(known, axis=-1)
        stored = np.where(known[..., None], stored, 0)
        if stored.dtype.kind == "f" and (stored != np.rint(stored)).any():
            raise DataError("its colours are not whole numbers", "save them as 8 bits, 0 to 255")
        code, colors = color_codes(stored), color_codes(np.array(self.colors, np.int64))
        order = np.argsort(colors)
        place = np.searchsorted(colors[order], code).clip(0, len(colors) - 1)
        return torch.from_numpy(np.where(known & (colors[order][place] == code), order[place], IGNORE))


@dataclass(frozen=True)
class PartLabels(Labels):
    """Human parts."""

    classes: int | tuple[str, ...] = tasks.HUMAN_PARTS
    kind: ClassVar[str] = "human_parts"


_LABEL_TASKS: dict[str, Callable[..., Task]] = {
    "semseg": lambda name, **options: tasks.semseg(name=name, **options),
    "human_parts": lambda name, **options: own_name(tasks.human_parts(**options), name),
}
