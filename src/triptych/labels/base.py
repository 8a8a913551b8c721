"""Base class of the encodings of label files, and the texts and hashes that tell encodings apart.

An encoding says where the files of a task are, and how their numbers become its target.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from triptych.data.arrays import channel_axis, read_array
from triptych.data.containers import CONTAINERS
from triptych.data.errors import DataError
from triptych.data.label_files import read_label
from triptych.labels.summaries import opaque_pixels
from triptych.tasks import Task
from triptych.types import Camera

LATER = {"later": True}
"""Mark of options added after runs had recorded descriptions: omitted from descriptions while at their default."""
DRAWN = {"drawn": True}
"""Mark of options that affect pictures of labels only, not their decoding."""


def describe_encoding(encoding: "Encoding") -> str:
    """The options of an encoding as text, the same for the same options in every version.

    >>> from triptych.labels.classes import Labels
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

    >>> from triptych.labels.depth import Depth
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
