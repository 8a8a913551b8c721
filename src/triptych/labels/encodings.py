"""Encodings of label files: where the files of a task are, and how their numbers become its target.

Labels choose between classes (segmentation, parts, masks, boundaries) or measure (depth, normals). All of them are in
this file, because a new one is written beside those that it resembles.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from triptych import tasks
from triptych.data.arrays import CONTAINERS, channel_axis, read_array
from triptych.data.errors import DataError
from triptych.data.label_files import read_label
from triptych.labels.summaries import class_axis, color_codes, opaque_pixels
from triptych.lookup import named_choice
from triptych.losses.pixel import VALUES
from triptych.metrics.values import VALUES_METRICS
from triptych.tasks import Task
from triptych.tasks.constructors import check_colors_shown
from triptych.types import IGNORE, Camera, valid_pixels

LATER = {"later": True}
"""Mark of options added after runs had recorded descriptions: omitted from descriptions while at their default."""
DRAWN = {"drawn": True}
"""Mark of options that affect pictures of labels only, not their decoding."""


def describe_encoding(encoding: "Encoding") -> str:
    """The options of an encoding as text, the same for the same options in every version.

    >>> ["one_hot" in describe_encoding(Labels(classes=2, one_hot=given)) for given in (False, True)]
    [False, True]
    """
    shown = [
        f"{option.name}={getattr(encoding, option.name)!r}"
        for option in fields(encoding)
        if not option.metadata.get("drawn")
        and (not option.metadata.get("later") or getattr(encoding, option.name) != option.default)
    ]
    unlisted = replace(encoding, invalid=type(encoding).invalid)
    if encoding.invalid == unlisted.invalid and encoding.marks != unlisted.marks:
        shown.append("listed")  # the usual marks, where they take effect only if they are listed explicitly
    return f"{type(encoding).__qualname__}({', '.join(shown)})"


def hash_encoding(encoding: "Encoding") -> str:
    """Hash of the options that say what a stored number means (`Encoding.bare`): 16 hexadecimal digits.

    >>> hash_encoding(Depth(files="a.png", invalid=(float("nan"),))) == hash_encoding(Depth())
    True
    """
    return _hash_options(encoding.bare())


def is_stored_in(noted: str, encoding: "Encoding") -> bool:
    """Whether a hash recorded with labels is that of an encoding; older versions recorded none, or hashed more options,
    such as the usual marks where they have no effect."""
    bare = encoding.bare()
    unlisted = replace(bare, invalid=type(encoding).invalid)
    known = [bare, replace(encoding, files="", resize=False)]
    if not unlisted.marks and bare.invalid in ((), unlisted.invalid):
        known.append(unlisted)
    return not noted or noted in map(_hash_options, known)


def _hash_options(encoding: "Encoding") -> str:
    return hashlib.sha256(describe_encoding(encoding).encode()).hexdigest()[:16]


def own_name(task: Task, name: str) -> Task:
    """Rename a task; its constructor keeps the original name in files."""
    return task if name == task.name else replace(task, name=name, constructor=task.name)


def lies_on(map_of_pixels: np.ndarray, stored: np.ndarray) -> bool:
    """Whether one array is a map `(height, width)` of the size of another, whose channels come first or last."""
    shape = map_of_pixels.shape
    return len(shape) == 2 and shape in (stored.shape, stored.shape[:2], stored.shape[-2:])


def without_label(stored: np.ma.MaskedArray) -> np.ndarray:
    """Stored numbers as floats, NaN where masked."""
    return np.where(np.ma.getmaskarray(stored), np.nan, stored.data.astype(np.float64))


def is_listed(stored: np.ndarray, listed: Sequence[float | int]) -> np.ndarray:
    """Whether each number is one of those listed, as the type of the file holds them.

    >>> is_listed(np.array([655.35, 1], np.float32), (655.35,)).tolist()
    [True, False]
    """
    if stored.dtype.kind != "f":
        return np.isin(stored, listed)
    with np.errstate(over="ignore"):  # infinity, which is no label either
        return np.isin(stored, np.array(listed, np.float64).astype(stored.dtype))


class UsualMarks(tuple[float | int, ...]):
    """Default marks of missing labels, as opposed to ones that a user listed."""


@dataclass(frozen=True)
class Encoding:
    """Encoding of a label file: the files of a task, and how their numbers become its target."""

    files: str = ""
    """Pattern of the files, with `{key}` and perhaps `{split}`, relative to the root."""
    key: str = ""
    """Entry of an .npz or .mat file."""
    channel: int = -1
    """Which channel of a color picture or array; -1: all of them."""
    invalid: tuple[float | int, ...] = ()
    """Stored values that mean "no label"."""
    resize: bool = False
    """Take the nearest pixel where a label map is not of the image's size; otherwise that is an error."""
    valid: str = field(default="", metadata=LATER)
    """Entry of the same file that is 0 where there is no label, beside the one that `key` names."""

    @property
    def marks(self) -> tuple[float | int, ...]:
        """Values of `invalid` that take effect."""
        return self.invalid

    def bare(self) -> "Encoding":
        """The encoding without options that do not change the meaning of a stored number: paths, resizing, marks
        without effect, and NaN or infinity as marks, which never have a label."""
        return replace(self, files="", resize=False, invalid=tuple(filter(math.isfinite, self.marks)))

    @property
    def by_index(self) -> bool:
        """Whether pictures with a palette are read as indices (class ids) rather than as colors (quantities)."""
        return False

    @property
    def is_single(self) -> bool:
        """Whether one number at a pixel is expected, in a picture without a chosen channel."""
        return self.channel < 0

    def read(self, path: Path) -> np.ndarray:
        """Read the stored array of a label file, masked where `valid` or transparency marks pixels without a label."""
        stored = read_label(path, key=self.key, by_index=self.by_index, single=self.is_single)
        if not self.valid:
            return stored
        if path.suffix.lower() not in CONTAINERS:
            text = f"{path} has no entries, and valid names one ('{self.valid}')"
            raise DataError(text, "store arrays with names (.npz), or leave valid out")
        holds = read_array(path, key=self.valid).squeeze() != 0
        if not lies_on(holds, stored):
            text = f"{path}: its entry '{self.valid}' has shape {holds.shape}, '{self.key}' has {stored.shape}"
            raise DataError(text, "valid names a map (height, width) of the same size")
        if holds.shape == stored.shape[:2]:
            holds = holds.reshape(*holds.shape, *[1] * (stored.ndim - 2))
        return np.ma.MaskedArray(stored, ~np.broadcast_to(holds, stored.shape))

    @property
    def is_pointwise(self) -> bool:
        """Whether the target at a pixel follows from the number stored there alone."""
        return False

    def make_task(self, name: str) -> Task:
        """The task that is trained on this label."""
        raise NotImplementedError

    def decode(self, stored: np.ndarray, camera: Camera | None) -> Tensor:
        """The target at the stored size; raises `ValueError` with the cure where the numbers cannot be right."""
        raise NotImplementedError

    def encode(self, target: Tensor, camera: Camera | None) -> np.ndarray:
        """An array that `decode` turns into this target: whole numbers for a PNG, or float32 where NaN has no label."""
        raise NotImplementedError

    def opaque(self, stored: np.ndarray) -> np.ndarray | None:
        """Mask of pixels that are not transparent; `None` where all are opaque, or transparency is the label."""
        return opaque_pixels(stored) if self.channel < 3 else None

    def pick(self, stored: np.ndarray, channels: int = 1) -> np.ndarray:
        """Select the channels of a stored array and order its axes: `(H, W)`, or `(H, W, channels)`."""
        if stored.dtype.kind not in "biuf":
            raise DataError(f"its values are {stored.dtype}", "labels are whole numbers or floats")
        if stored.size == 0:
            raise DataError(f"it has shape {stored.shape}", "it is empty")
        if self.channel >= 0 and stored.ndim == 3:
            stored = np.moveaxis(stored, channel_axis(stored.shape), -1)
            if self.channel >= stored.shape[-1]:
                raise DataError(f"channel is {self.channel}", f"its channels are 0 to {stored.shape[-1] - 1}")
            stored = stored[..., self.channel]
        if channels > 1:
            if stored.ndim == 3 and stored.shape[0] == channels != stored.shape[-1]:
                stored = np.moveaxis(stored, 0, -1)
            if stored.ndim == 3 and stored.shape[-1] == 4 and channels == 3:
                stored = stored[..., :channels]  # transparency
            expected, cure = f"(height, width, {channels})", "save these channels alone, NaN where there is no label"
            matches = stored.ndim == 3 and stored.shape[-1] == channels
        else:
            stored = stored.reshape([side for side in stored.shape if side > 1]) if stored.ndim > 2 else stored
            expected, cure, matches = "(height, width)", "set channel for one of several", stored.ndim == 2
        if not matches:
            raise DataError(f"it has shape {stored.shape}, expected {expected}", cure)
        return stored

    def numbers(self, stored: np.ndarray, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The result of `pick`, and a mask of numbers that may be labels: finite, not transparent, set in `valid`.

        The numbers keep the type of the file, which determines their meaning where no option does.
        """
        picked = self.pick(stored, channels)
        values, known = np.ma.getdata(picked), ~np.ma.getmaskarray(picked)
        if values.dtype.kind == "f":
            known &= np.isfinite(values)
        seen = self.opaque(np.ma.getdata(stored)) if channels < 4 else None
        if seen is not None:
            known &= seen.reshape(*seen.shape, *[1] * (known.ndim - 2))
        return values, known


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


ENCODINGS: dict[str, type[Encoding]] = {
    "semseg": Labels,
    "human_parts": PartLabels,
    "saliency": SaliencyMask,
    "normals": Normals,
    "depth": Depth,
    "boundary": BoundaryMask,
    "regression": Values,
}
"""How the labels of each kind of task are stored."""
