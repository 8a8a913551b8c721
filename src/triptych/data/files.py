"""Finding and reading files: names matched against a pattern, arrays and images with errors that name the file."""

import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from triptych.data.archives import open_source

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
ARRAYS = (".npy", ".npz", ".mat")
SUFFIXES = (*PICTURES, *ARRAYS)
KEY = "{key}"


def walk_files(folder: Path) -> Iterator[Path]:
    """All visible files below `folder`, sorted; links are followed once, so that loops end."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place) / name for name in sorted(names) if not name.startswith("."))


def match_files(root: Path, pattern: str, split: str = "") -> dict[str, Path]:
    """Files of `root` by key: the part of their path that `{key}` of the pattern stands for, folders included.

    `{split}` stands for `split`, `*` for anything inside a name, `.*` at the end for any readable suffix, whatever its
    case. Raises `ValueError` for a pattern without `{key}` and for two files of one key.
    """
    if pattern.count(KEY) != 1:
        raise ValueError(f"files = '{pattern}' has no {KEY} or several; write it like 'depth/{{split}}/{{key}}.png'.")
    text = pattern.replace("{split}", split)
    ending = "(?i:" + "|".join(re.escape(suffix) for suffix in SUFFIXES) + ")" if text.endswith(".*") else ""
    stem = text[:-2] if ending else text
    before, after = (re.escape(part).replace(r"\*", "[^/]*") for part in stem.split(KEY))
    expression = re.compile(f"{before}(?P<key>.+){after}{ending}")
    folder = root / text[: text.index(KEY)].split("*")[0].rpartition("/")[0]
    found: dict[str, Path] = {}
    for path in walk_files(folder):
        match = expression.fullmatch(path.relative_to(root).as_posix())
        if match is None:
            continue
        key = match["key"]
        if key in found:
            raise ValueError(f"{found[key]} and {path} are both '{key}' of files = '{pattern}'; name the suffix there.")
        found[key] = path
    return found


def read_array(path: Path, *, key: str = "") -> np.ndarray:
    """What a file stores: the values of a picture (palette index, 8 or 16 bit, 0/255 for one bit), or an array.

    `key` names the entry of an .npz or .mat file that has several. Raises `OSError` naming the file if it is damaged.
    """
    read = READERS.get(path.suffix.lower(), _read_picture)
    try:
        return read(path, key)
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, EOFError, ValueError, zlib.error, struct.error) as error:
        raise OSError(f"{path} cannot be read: {error}") from error


def read_image(path: Path) -> Float[Tensor, "3 height width"]:
    """A photograph as RGB in [0, 1]; grey and 16-bit pictures become RGB, transparency is dropped."""
    pixels = read_array(path) if path.suffix.lower() in ARRAYS else _open(path, _to_rgb)
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)
    if pixels.ndim != 3 or pixels.shape[-1] != 3:
        raise OSError(f"{path} has shape {pixels.shape}; an image is (height, width, 3).")
    values = torch.from_numpy(pixels.astype(np.float32) if pixels.dtype == np.uint16 else pixels)
    image = values.permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)
    return image if pixels.dtype.kind == "f" else image / np.iinfo(pixels.dtype).max


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture or array; of a picture without decoding its pixels."""
    if path.suffix.lower() in ARRAYS:
        shape = read_array(path).shape
        height, width = shape[-2:] if len(shape) == 3 and shape[0] in (1, 3) else shape[:2]
        return height, width
    return _open(path, lambda image: (image.height, image.width))


def _open(path: Path, convert: Callable[[Image.Image], Any]) -> Any:
    try:
        with Image.open(open_source(path)) as image:
            return convert(image)
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, EOFError, ValueError, zlib.error, struct.error) as error:
        reason = str(error).replace(f" {str(path)!r}", "")
        raise OSError(f"{path} cannot be read: {reason}") from error


def _to_rgb(image: Image.Image) -> np.ndarray:
    return np.array(image if image.mode.startswith("I") else image.convert("RGB"))


def _read_picture(path: Path, key: str) -> np.ndarray:
    def values(image: Image.Image) -> np.ndarray:
        tiles = getattr(image, "tile", ())
        layout = str(tiles[0][3]) if tiles else ""
        if not layout.endswith(";16B") or image.mode.startswith("I"):
            return np.array(image.convert("L") if image.mode == "1" else image)
        if image.mode != layout.removesuffix(";16B"):
            raise ValueError("PNG of 16 bits with transparency; save it as .npy, or without transparency")
        return _read_deep(image, path)

    return _open(path, values)


def _read_deep(image: Image.Image, path: Path) -> np.ndarray:
    """A colour PNG of 16 bits per channel, `(height, width, channels)` uint16.

    Pillow keeps the upper byte only; told that the lower byte comes first, it keeps the lower one.
    """
    with Image.open(open_source(path)) as again:
        again.tile = [tile._replace(args=f"{image.mode};16L") for tile in again.tile]
        lower = np.array(again)
    return np.array(image).astype(np.uint16) << 8 | lower


def _read_npy(path: Path, key: str) -> np.ndarray:
    return np.load(path, allow_pickle=False)


def _read_npz(path: Path, key: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
        return _entry(dict.fromkeys(archive.files), key, archive.__getitem__)


def _read_mat(path: Path, key: str) -> np.ndarray:
    import h5py
    import scipy.io

    if h5py.is_hdf5(path):  # MATLAB 7.3; arrays lie there with reversed axes
        with h5py.File(path, "r") as file:
            return _entry(dict(file), key, lambda name: np.asarray(file[name]).T)
    try:
        names = [name for name, _, _ in scipy.io.whosmat(path)]
        return _entry(dict.fromkeys(names), key, lambda name: scipy.io.loadmat(path, variable_names=[name])[name])
    except (scipy.io.matlab.MatReadError, TypeError, IndexError, KeyError) as error:  # damaged headers give any of them
        raise ValueError(str(error)) from error


def _entry(names: dict[str, object], key: str, get: Callable[[str], np.ndarray]) -> np.ndarray:
    if key in names:
        return get(key)
    if not key and len(names) == 1:
        return get(next(iter(names)))
    wanted = f"has no entry '{key}'" if key else "has several entries"
    raise ValueError(f"it {wanted}; set key to one of {', '.join(sorted(names))}")


READERS: dict[str, Callable[[Path, str], np.ndarray]] = {".npy": _read_npy, ".npz": _read_npz, ".mat": _read_mat}
