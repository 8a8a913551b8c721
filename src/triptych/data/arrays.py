"""Read files of pictures and arrays as they are stored, by their suffix, with errors that name the file."""

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from triptych.data.containers import CONTAINERS, read_npy
from triptych.data.errors import DataError, naming
from triptych.data.files import ARRAYS
from triptych.data.pictures import Values, open_picture, pixel_values, read_by_pillow, read_netpbm, read_pfm, read_tiff


def read_array(path: Path, *, key: str = "", values: Values | None = None) -> np.ndarray:
    """Stored values of a file: of a picture (palette index, 8 or 16 bit, 0/255 for one bit), or an array; in the byte
    order of this machine.

    `key` names the entry of an .npz or .mat file that has several; `values` takes those of pictures in place of
    `pixel_values`. Raises `UnreadableFileError`, an `OSError` and `ValueError`, naming the file if it is damaged.
    """
    suffix = path.suffix.lower()
    with naming(path):
        if suffix in CONTAINERS:
            with CONTAINERS[suffix](path) as (names, get):
                stored = _entry(names, key, get)
        else:
            stored = READERS.get(suffix, read_by_pillow)(path, values or pixel_values)
    # Number types are compared by what follows, and uint16 of the other order equals none.
    return stored if stored.dtype.isnative else stored.astype(stored.dtype.newbyteorder("="))


def list_entries(path: Path) -> list[str]:
    """Names of the entries of an array file that has names; empty for one that has none, or cannot be read."""
    if path.suffix.lower() not in CONTAINERS:
        return []
    try:
        with CONTAINERS[path.suffix.lower()](path) as (names, _):
            return list(names)
    except Exception:  # damaged files raise any error of their library; the doctor reports them
        return []


def channel_axis(shape: tuple[int, ...]) -> int:
    """The axis of the channels, or planes of classes, of an array of three dimensions: the last one where it has 2 to
    4, as those of pictures however narrow, else the smallest.

    >>> channel_axis((1, 30, 3)), channel_axis((5, 48, 64)), channel_axis((48, 64, 1))
    (2, 0, 2)
    """
    return 2 if 2 <= shape[2] <= 4 else shape.index(min(shape))


def read_size(path: Path, *, key: str = "") -> tuple[int, int]:
    """(height, width) of a picture or array as stored; of a picture without decoding its pixels. `key` as in
    `read_array`."""
    if path.suffix.lower() in ARRAYS:
        shape = read_array(path, key=key).shape
        first = channel_axis(shape) == 0 if len(shape) == 3 else False
        height, width = shape[1:] if first else shape[:2]
        return height, width
    with naming(path), open_picture(path) as image:
        return image.height, image.width


def _entry(names: Collection[str], key: str, get: Callable[[str], np.ndarray]) -> np.ndarray:
    if key and key in names:
        return get(key)
    if not key and len(names) == 1:
        return get(next(iter(names)))
    wanted = f"has no entry '{key}'" if key else "has several entries"
    raise DataError(f"it {wanted}", f"set key to one of {', '.join(sorted(names))}")


READERS: dict[str, Callable[[Path, Values], np.ndarray]] = {
    **dict.fromkeys((".tif", ".tiff"), read_tiff),
    ".npy": read_npy,
    **dict.fromkeys((".pgm", ".ppm"), read_netpbm),
    ".pfm": read_pfm,
}
"""Suffix to the reader of a file of one array that is no usual picture."""
