"""Summaries of the values that label files store, one per file: the evidence for guesses and checks."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch

from triptych.data.errors import DataError
from triptych.data.label_files import read_label
from triptych.data.subset import spread_evenly

Form = Literal["ids", "grey", "alpha", "colors", "one-hot", "scores", "other"]
"""Layout of a map: `(H, W)` numbers, the same in all color channels, in the transparency of one color, colors, a plane
per class (one is set, or the highest counts), anything else."""
MOST_VALUES = 65536
"""Distinct values kept of one file; more are no class ids."""
COLOR_BASE = 1 << 16

Made = TypeVar("Made")


@dataclass(frozen=True)
class FileSummary:
    """Type, layout and values of one label file."""

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    form: Form
    values: np.ndarray
    """Distinct finite values, sorted, at most `MOST_VALUES`; colors as one number (`color_codes`)."""
    counts: np.ndarray
    """Pixels of each value."""
    missing: float
    """Share of NaN and infinite values."""
    planes: int
    """Planes of classes; 0 for other layouts."""
    between: float
    """Share of the pixels with rare values that lie between the values of their neighbors, as after interpolation."""
    clear: bool = False
    """Whether some pixels are transparent and thus have no label."""

    @property
    def codes(self) -> frozenset[float | int]:
        """The values as a set."""
        return frozenset(self.values.tolist())


def summarize(path: Path, array: np.ndarray) -> FileSummary:
    """The summary of what a file stores."""
    form, values = layout(array)
    finite = values if values.dtype.kind != "f" else values[np.isfinite(values)]
    distinct, counts = count_values(finite)
    missing = 1 - finite.size / max(values.size, 1)
    between = share_between(values, distinct, counts) if form in ("ids", "grey") and values.ndim == 2 else 0.0
    chosen = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    chosen.sort()
    planes = array.size // max(values.size, 1) if form in ("one-hot", "scores") else 0
    clear = form != "alpha" and (np.ma.is_masked(array) or opaque_pixels(array) is not None)
    numbers = distinct[chosen], counts[chosen]
    return FileSummary(path, array.dtype, array.shape, form, *numbers, missing, planes, between, clear)


def layout(array: np.ndarray) -> tuple[Form, np.ndarray]:
    """Layout of a map, and its values: `(H, W)` numbers, color codes, or classes.

    >>> layout(np.eye(3)[np.arange(8).reshape(2, 4) % 3])[0], layout(np.zeros((4, 5, 3), np.uint8))[0]
    ('one-hot', 'grey')
    """
    seen = ~np.ma.getmaskarray(array) if np.ma.is_masked(array) else None
    array = np.ma.getdata(array)
    if seen is not None and (array.ndim == 2 or array.shape[-1] == 3):  # pixels without a label
        array = array[seen if array.ndim == 2 else seen.all(-1)][None]
    if array.ndim > 2:
        array = array.reshape([side for side in array.shape if side > 1] or [1, 1])
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    if array.dtype.kind not in "iuf" or array.ndim not in (2, 3) or array.size == 0:
        return "other", np.zeros(0)
    if array.ndim == 2:
        return "ids", array
    axis = class_axis(array)
    if axis is not None:
        exact = bool(((array == 0) | (array == array.max())).all())
        return ("one-hot" if exact else "scores"), array.argmax(axis)
    if array.shape[-1] in (2, 4) and array.dtype.kind in "iu" and array.max() > 1:
        alpha, colors = array[..., -1], array[..., :-1]
        if (colors == colors[:1, :1]).all() and alpha.min() < alpha.max():
            return "alpha", alpha
        if array.shape[-1] == 2 and alpha.min() == alpha.max():
            return "grey", array[..., 0]
    if array.shape[-1] not in (3, 4) and array.shape[0] == 3:
        array = np.moveaxis(array, 0, -1)
    if array.shape[-1] not in (3, 4) or (array.shape[-1] == 4 and array.max() <= 1):
        return "other", np.zeros(0)
    seen = opaque_pixels(array)
    array = array[..., :3]
    if seen is not None:  # pixels without a label
        array = array[seen][None]
    if array.size == 0:
        return "other", np.zeros(0)
    if (array == array[..., :1]).all():
        return "grey", array[..., 0]
    whole = array.dtype.kind in "iu" or bool((array == np.rint(array)).all())
    if not whole or array.min() < 0 or array.max() >= COLOR_BASE:
        return "other", np.zeros(0)
    return "colors", color_codes(array)


def class_axis(array: np.ndarray) -> int | None:
    """The axis of a three-dimensional array along which every pixel's values are shares of the classes: they are not
    negative and sum to one.

    Three planes may be colors; of other numbers of planes one may be set by any number, and none at a pixel without a
    label.

    >>> class_axis(np.eye(3)[None]), class_axis(np.zeros((4, 5, 3)))
    (-1, None)
    """
    if array.ndim != 3 or array.dtype.kind not in "biuf":
        return None
    low, high = array.min(), array.max()
    if not (low >= 0 and high > 0):
        return None
    for axis in (-1, 0):
        planes = array.shape[axis]
        sums = array.sum(axis, dtype=np.float64)
        if planes > 1 and high <= 1 and (np.abs(sums - 1) < 1e-3).mean() > 0.95 and sums.max() < 1.001:
            return axis
        if planes == min(array.shape) and planes not in (1, 3) and sums.max() == high:
            used = array.any(axis=(0, 1) if axis == -1 else (1, 2))
            if used.sum() > 1 and ((array == 0) | (array == high)).all():
                return axis
    return None


def opaque_pixels(stored: np.ndarray) -> np.ndarray | None:
    """Mask of opaque pixels of a color picture `(height, width, 4)` of whole numbers; `None` where all are opaque, or
    for other arrays.

    >>> opaque_pixels(np.array([[[9, 9, 9, 0], [9, 9, 9, 255]]], np.uint8)).tolist()
    [[False, True]]
    """
    if stored.ndim != 3 or stored.shape[-1] != 4 or stored.dtype.kind != "u":
        return None
    return None if stored[..., 3].all() else stored[..., 3] > 0


def color_codes(array: np.ndarray) -> np.ndarray:
    """Colors `(..., 3)` of whole numbers below 65536 as one int64 each."""
    red, green, blue = (array[..., i].astype(np.int64) for i in range(3))
    return (red * COLOR_BASE + green) * COLOR_BASE + blue


def color_of(code: int) -> list[int]:
    """The color of a code.

    >>> color_of(int(color_codes(np.array([[1, 2, 300]]))[0]))
    [1, 2, 300]
    """
    return [code // COLOR_BASE**2, code // COLOR_BASE % COLOR_BASE, code % COLOR_BASE]


def count_values(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values, sorted, and how often each occurs."""
    if array.dtype in (np.uint8, np.uint16):
        flat = array.ravel()
        if array.dtype == np.uint16 or not flat.flags.writeable:
            flat = flat.astype(np.int32)
        # Torch counts in a third of the time, and other threads can run meanwhile.
        counts = torch.from_numpy(flat).bincount().numpy()
        values = counts.nonzero()[0]
        return values, counts[values]
    return np.unique(array, return_counts=True)


RARE = 0.01
"""Share of the pixels below which a value is rare."""


def share_between(array: np.ndarray, values: np.ndarray, counts: np.ndarray) -> float:
    """Share of the pixels with a rare value that lie strictly between their neighbors in a row, column or diagonal.

    Interpolation makes such pixels along every edge; classes, however rare, form areas. 0 where few values are rare.
    """
    rare = values[counts < RARE * counts.sum()]
    if len(rare) < 4:
        return 0.0
    chosen = np.isin(array, rare)[1:-1, 1:-1]
    array = array.astype(np.float64)
    middle = array[1:-1, 1:-1]
    inside = np.zeros(middle.shape, bool)
    for one, other in (
        (array[1:-1, :-2], array[1:-1, 2:]),
        (array[:-2, 1:-1], array[2:, 1:-1]),
        (array[:-2, :-2], array[2:, 2:]),
        (array[:-2, 2:], array[2:, :-2]),
    ):
        inside |= (middle > np.minimum(one, other)) & (middle < np.maximum(one, other))
    return float(inside[chosen].mean()) if chosen.any() else 0.0


def read_some(paths: Sequence[Path], count: int, *, key: str = "") -> list[tuple[Path, np.ndarray]]:
    """Read up to `count` files of quantities, spread evenly; unreadable ones are left out."""
    return _look_at_some(paths, count, key, lambda path, array: (path, np.ma.filled(array, 0)), by_index=False)


def summarize_files(paths: Sequence[Path], count: int, *, key: str = "", by_index: bool = True) -> list[FileSummary]:
    """Summarize up to `count` readable files, spread evenly; palettes are read by index or, where they show shades, as
    grey."""
    return _look_at_some(paths, count, key, summarize, by_index=by_index, single=True)


def _look_at_some(
    paths: Sequence[Path],
    count: int,
    key: str,
    make: Callable[[Path, np.ndarray], Made],
    *,
    by_index: bool,
    single: bool = False,
) -> list[Made]:
    def look(index: int) -> Made | None:
        try:
            return make(paths[index], _read_numbers(paths[index], key, by_index=by_index, single=single))
        except (OSError, ValueError, MemoryError):
            return None

    with ThreadPoolExecutor(8) as pool:  # decoding releases the interpreter
        return [found for found in pool.map(look, spread_evenly(len(paths), count)) if found is not None]


def _read_numbers(path: Path, key: str, *, by_index: bool = True, single: bool = False) -> np.ndarray:
    stored = read_label(path, key=key, by_index=by_index, single=single)
    if stored.dtype.kind not in "biuf":
        raise DataError(f"{path} holds values of type {stored.dtype}", "labels are whole numbers or floats")
    return stored


def why_unreadable(paths: Sequence[Path], *, key: str = "") -> str:
    """Reason why none of some files can be read, from the error of the first one."""
    try:
        _read_numbers(paths[0], key)
    except (OSError, ValueError, MemoryError) as error:
        return f"none of the files can be read: {str(error).rstrip('.')}"
    return "none of the files can be read"
