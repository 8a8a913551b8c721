"""Read label files as they are stored: palettes as indices or colors, and transparent pixels masked.

Transparency may be a separate channel, belong to a palette, or be one color or shade (PNG's tRNS): the first stays in
the array, the others mask it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from triptych.data.arrays import read_array
from triptych.data.errors import DataError, naming
from triptych.data.pictures import ORIENTATION, is_wide_tiff, open_picture, pixel_values, read_tag

STRETCHED = {"L;2": 85, "L;4": 17}
"""Factors by which Pillow scales grey values of 2 and 4 bits, but not the shade marked as transparent."""


def read_label(path: Path, *, key: str = "", by_index: bool = True, single: bool = False) -> np.ndarray:
    """Read the array of a label file; pixels that are transparent by a palette, a shade or a color are masked.

    Without `by_index` palettes are looked up: `(H, W)` where the colors in use are grey, else `(H, W, 3)`. With
    `single` (one number per pixel is expected) a palette that has any color gives its indices, which are ids then.
    """
    stored = read_array(path, key=key, values=indexed_values if by_index else partial(seen_values, single=single))
    with naming(path):
        if is_wide_tiff(path) and (turned := read_tag(path, ORIENTATION)) not in (None, 1):
            text = f"it is a TIFF of wide numbers whose orientation is {turned}: its pixels, or vectors, are not turned"
            raise DataError(text, "save it upright, as its image is seen, without that tag")
    return stored


def indexed_values(image: Image.Image, path: Path) -> np.ndarray:
    """`pixel_values`, masked where the picture is transparent."""
    tiles = getattr(image, "tile", ())
    stretched = STRETCHED.get(str(tiles[0][3]), 1) if tiles else 1
    stored = pixel_values(image, path)
    return _mask(stored, _find_clear(image, stored, stretched))


def seen_values(image: Image.Image, path: Path, *, single: bool = False) -> np.ndarray:
    """As `indexed_values`, but with the colors of a palette, or their grey values, in place of its indices.

    With `single` grey values, or indices where the palette has a color, whether or not this file uses it: files of one
    task have to be read alike.
    """
    stored = indexed_values(image, path)
    if image.mode not in ("P", "PA") or image.format == "GIF":  # palettes of GIFs are always looked up
        return stored
    indices, clear = np.ma.getdata(stored), np.ma.getmaskarray(stored)
    if indices.ndim == 3:
        indices, clear = indices[..., 0], clear[..., 0]
    colors = np.zeros((256, 3), np.uint8)
    palette = np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)
    colors[: len(palette)] = palette
    if single and (palette != palette[:, :1]).any():
        return _mask(indices, clear)
    used = colors[np.bincount(indices.ravel(), minlength=256) > 0]
    if (used == used[:, :1]).all():
        return _mask(colors[:, 0][indices], clear)
    return _mask(colors[indices], clear)


def _find_clear(image: Image.Image, stored: np.ndarray, stretched: int) -> np.ndarray | None:
    """Mask of the transparent pixels of a picture with values `stored`; `None` for RGB with an alpha channel.

    Grey or indices with alpha have two channels, of which the mask covers the first.
    """
    mark = image.info.get("transparency")
    if image.mode in ("LA", "PA"):
        return np.stack([stored[..., 1] == 0, np.zeros(stored.shape[:2], bool)], -1)
    if mark is None:
        return None
    if isinstance(mark, bytes):
        alpha = np.full(256, 255, np.uint8)
        alpha[: len(mark)] = np.frombuffer(mark, np.uint8)
        return alpha[np.asarray(image)] == 0
    if image.format == "GIF":
        return np.asarray(image) == mark
    if image.mode == "1":
        return (stored > 0) == (mark > 0)
    return (stored == mark).all(-1) if stored.ndim == 3 else stored == mark * stretched


def _mask(stored: np.ndarray, clear: np.ndarray | None) -> np.ndarray:
    if clear is None or not clear.any():
        return stored
    return np.ma.MaskedArray(stored, clear if clear.shape == stored.shape else np.stack([clear] * 3, -1))


@dataclass(frozen=True)
class StoredCounts:
    """A histogram of a picture: sorted `values` `(N,)` with the `counts` `(N,)` of their pixels; (height, width)."""

    values: np.ndarray
    counts: np.ndarray
    size: tuple[int, int]


def read_counts(path: Path, *, by_index: bool = True, single: bool = False) -> StoredCounts | np.ndarray:
    """Count the values of a PNG of one channel of 8 bits without an array of its pixels; read other files as arrays.

    Raises the same errors as `read_label`.
    """
    if path.suffix.lower() != ".png":
        return read_label(path, by_index=by_index, single=single)
    with naming(path), open_picture(path) as image:
        modes = ("L", "P") if by_index else ("L",)
        if image.format != "PNG" or image.mode not in modes or "transparency" in image.info:
            return indexed_values(image, path) if by_index else seen_values(image, path, single=single)
        found = np.array(image.histogram())
        values = found.nonzero()[0]
        return StoredCounts(values.astype(np.uint8), found[values], (image.height, image.width))


def read_palette(path: Path) -> np.ndarray | None:
    """Colors `(count, 3)` of the palette of a PNG; `None` where it has none, or cannot be read."""
    try:
        with open_picture(path) as image:
            palette = image.getpalette() if image.mode == "P" and image.format == "PNG" else None
    except Exception:  # damaged files raise any error of their library; the doctor reports them
        return None
    return None if palette is None else np.array(palette, np.uint8).reshape(-1, 3)


def find_other_palette(files: Iterable[tuple[Path, Iterable[float | int]]]) -> tuple[Path, str] | None:
    """The first file, of several with the ids that each holds, in whose palette one of these has another color than in
    that of an earlier one: adaptive palettes give one class another index in each. The file, and the reason in words.
    """
    meant: dict[int, tuple[tuple[int, ...], Path]] = {}
    for path, ids in files:
        palette = read_palette(path)
        if palette is None:
            continue
        for index in sorted(int(each) for each in ids if each == each):  # NaN: clear
            color = tuple(palette[index].tolist()) if index < len(palette) else ()
            usual, first = meant.setdefault(index, (color, path))
            if color != usual:
                return path, f"index {index} is {usual} in the palette of {first.name}, {color} in that of {path.name}"
    return None
