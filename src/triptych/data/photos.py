"""Read photographs from files, arrays and tensors, for all verbs.

An image becomes `(3, height, width)` float32 RGB in [0, 1], upright as its EXIF orientation says. Its number type tells
its range:

- whole numbers of 8 or 16 bits are divided by the largest of their type; a PGM of 16 bits is one of them;
- a grey TIFF of 12 bits is divided by 4095;
- wider ones too, but an image of such a type whose values end at 65535 was most likely converted from a narrower type:
  it is refused, as negative values are;
- floats lie in [0, 1] already; anything else is refused with its range.

Grey is repeated, palettes are looked up, transparency is dropped, CMYK and the like are converted by Pillow.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from triptych.data.arrays import read_array
from triptych.data.cameras import stored_size
from triptych.data.errors import DataError, naming
from triptych.data.files import ARRAYS
from triptych.data.pictures import (
    BITS_PER_SAMPLE,
    BLACK_IS_ZERO,
    ORIENTATION,
    PHOTOMETRIC,
    check_black_is_zero,
    is_wide_tiff,
    open_picture,
    pixel_values,
    read_tag,
    signed_values,
)

Photo = Float[Tensor, "3 height width"]
TOLERANCE = 1e-3
"""Tolerance for floats outside [0, 1], as after resampling."""
STRIP = 2**22
"""Pixels that are converted at a time."""
EXTRA_SAMPLES, TRANSPARENCY = 338, (1, 2)
"""TIFF's tag for the kinds of channels without a color, and those that are transparency."""
EXIF = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
"""Keys of Pillow's `info` for data that may contain an orientation."""

UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a),
}
"""How pixels are turned upright, by EXIF orientation; those from 5 on swap height and width."""


def to_image_tensor(image: np.ndarray | Tensor | Image.Image | str | os.PathLike) -> Photo:
    """RGB float32 in [0, 1] from a path, a PIL image, an array `(H, W, 3)` or `(H, W)`, or a tensor `(3, H, W)`.

    Raises `ValueError` for shapes and values that are no image's, `TypeError` for anything else.

    >>> image = to_image_tensor(np.full((2, 5), 255, np.uint8))
    >>> image.shape, image.max().item()
    (torch.Size([3, 2, 5]), 1.0)
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return _scale(_turn(_picture_values(image), _orientation(image)))
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3:
            raise DataError(f"image is a tensor of shape {tuple(image.shape)}", "expected (3, H, W) with three colors")
        return _scale(image.detach().cpu().numpy().transpose(1, 2, 0))
    if isinstance(image, np.ndarray):
        return _scale(_color_axes(image, f"image is an array of shape {image.shape}"))
    raise TypeError(
        f"image is a {type(image).__name__}; give a path, a PIL image (of the bytes of a file: "
        "Image.open(io.BytesIO(data))), an array (H, W, 3) or a tensor (3, H, W)."
    )


def to_pixels(image: Photo) -> np.ndarray:
    """An image `(3, H, W)` in [0, 1] as bytes `(H, W, 3)`.

    >>> to_pixels(torch.full((3, 1, 2), 0.5)).tolist()
    [[[128, 128, 128], [128, 128, 128]]]
    """
    return (image.permute(1, 2, 0).clamp(0, 1) * 255).round().byte().cpu().numpy()


def scale_batch(images: Tensor) -> Tensor:
    """Images of any shape, uint8 or floats in [0, 1], as floats in [0, 1]; `DataError` for other values.

    >>> scale_batch(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([0., 1.])
    """
    if images.dtype == torch.uint8:
        return images / 255
    if not images.is_floating_point():
        raise DataError(f"image values are {images.dtype}", "give uint8, or floats in [0, 1]")
    if images.numel():
        _check_range(*(float(end) for end in images.detach().aminmax()))
    return images


@dataclass(frozen=True)
class StoredPhoto:
    """A photograph with its stored numbers, upright: `values` `(H, W, 3)`, converted to floats row by row on demand.

    `largest` is their divisor; `orientation` is that of the file, EXIF's 1 to 8.

    >>> photo = StoredPhoto.checked(np.full((4, 5, 3), 255, np.uint8))
    >>> photo.size, photo.rows(1, 3).shape
    ((4, 5), torch.Size([3, 2, 5]))
    """

    values: np.ndarray
    largest: int
    orientation: int = 1

    @classmethod
    def checked(cls: "type[StoredPhoto]", values: np.ndarray, orientation: int = 1) -> "StoredPhoto":
        """Make one from stored values `(H, W, 3)`, not yet turned upright; `DataError` where they are no image."""
        largest = _check_values(values)
        return cls(_turn(values, orientation), largest, orientation)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.values.shape[0], self.values.shape[1]

    def thinned(self, step: int) -> "tuple[StoredPhoto, tuple[int, int]]":
        """Every `step`-th pixel of both axes, and (height, width) of the whole."""
        return replace(self, values=self.values[::step, ::step]), self.size

    def rows(self, top: int = 0, bottom: int | None = None) -> Photo:
        """Rows from `top` to before `bottom`, or all of them, as floats in [0, 1]."""
        values = self.values[top:bottom]
        if values.dtype != np.uint8:
            values = values.astype(np.float32)
        if any(step < 0 for step in values.strides) or not values.flags.writeable:  # torch accepts neither
            values = values.copy()
        floats = torch.from_numpy(values).permute(2, 0, 1)
        image = floats.to(torch.float32, memory_format=torch.contiguous_format).contiguous()
        return image if self.largest == 1 else image.div_(self.largest)  # in place: it is a copy

    def bytes(self, top: int = 0, bottom: int | None = None, step: int = 1) -> np.ndarray:
        """The same rows in 8 bits, `(rows, W, 3)`; with `step`, every `step`-th of them and of the columns."""
        if self.values.dtype == np.uint8 and self.largest == 255:
            return self.values[top:bottom:step, ::step]
        return to_pixels(replace(self, values=self.values[top:bottom:step, ::step]).rows())


def read_image(path: Path) -> Photo:
    """Read a photograph: a picture in any of Pillow's modes, or an array `(H, W, 3)`, `(3, H, W)` or `(H, W)`.

    Raises `UnreadableFileError`, a `ValueError` and `OSError`, that names a damaged file and numbers that are no
    image's, `FileNotFoundError` where there is none.
    """
    return read_photo(path).rows()


_reading = partial(naming, what="cannot be read as an image", cure="replace it or leave it out")


def read_photo(path: Path) -> StoredPhoto:
    """Read a photograph without converting its numbers; rows are converted to floats on demand."""
    with _reading(path):
        if _is_array(path):
            return StoredPhoto.checked(_read_colors(path), _array_orientation(path))
        with open_picture(path) as image:
            told, left = _told_orientation(image), _orientation(image)
            return replace(StoredPhoto.checked(_picture_values(image, path), left), orientation=told)


def read_sparse(path: Path, step: int, *, shrunk: bool = False) -> tuple[StoredPhoto, tuple[int, int]]:
    """Decode a photograph and return every `step`-th pixel of both axes, and (height, width) of the whole.

    For most pictures Pillow returns these pixels alone: after decoding, most time goes into copies of pixels. With
    `shrunk` a JPEG is decoded at about that size instead, in half the time.
    """
    with _reading(path):
        if not _is_array(path):
            with open_picture(path) as image:
                plain = image.mode == "RGB" and image.format != "TIFF"  # Pillow rotates TIFF while decoding
                plain = plain and "transparency" not in image.info and not _is_deep(image)
                if plain and _orientation(image) == 1:
                    size, first = (image.height, image.width), 0.5 - step / 2
                    if shrunk and image.format == "JPEG":
                        image.draft("RGB", (max(1, size[1] // step), max(1, size[0] // step)))
                        return StoredPhoto(np.asarray(image), 255), size
                    few = image.transform(
                        (-(-size[1] // step), -(-size[0] // step)),
                        Image.Transform.AFFINE,
                        (step, 0, first, 0, step, first),
                        Image.Resampling.NEAREST,
                    )
                    return StoredPhoto(np.asarray(few), 255), size
    return read_photo(path).thinned(step)


def read_image_size(path: Path) -> tuple[int, int]:
    """(height, width) of a photograph as `read_image` gives it, without decoding the pixels of a picture."""
    with _reading(path):
        if _is_array(path):
            shape = _read_colors(path).shape
            return stored_size((shape[0], shape[1]), _array_orientation(path))
        with open_picture(path) as image:
            return upright_size(image)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of a picture whose pixels are not decoded yet, once it is upright."""
    return stored_size((image.height, image.width), _orientation(image))


def read_orientation(path: Path) -> int:
    """EXIF orientation of a photograph, by which it is turned upright: 1 (not at all) to 8, see `UPRIGHT`."""
    with _reading(path):
        if _is_array(path):
            return _array_orientation(path)
        with open_picture(path) as image:
            return _told_orientation(image)


def _is_array(path: Path) -> bool:
    """Whether a file is read as an array rather than by Pillow."""
    return path.suffix.lower() in ARRAYS or is_wide_tiff(path)


def _read_colors(path: Path) -> np.ndarray:
    """`(H, W, 3)` of a file that is read as an array; `DataError` for four bands of a TIFF that says no color of them.

    Three bands are taken as red, green and blue, as GDAL writes them; with a fourth, blue often comes first.
    """
    stored = read_array(path)
    colors = _color_axes(stored, f"it has shape {stored.shape}")
    if stored.size > colors.size and path.suffix.lower() not in ARRAYS and read_tag(path, PHOTOMETRIC) == BLACK_IS_ZERO:
        kinds = read_tag(path, EXTRA_SAMPLES)
        if not isinstance(kinds, tuple) or kinds[-1] not in TRANSPARENCY:
            raise DataError(
                "it has four bands and says no color of them (MinIsBlack)",
                "save red, green and blue alone, in this order, as RGB",
            )
    return colors


def _array_orientation(path: Path) -> int:
    """EXIF orientation of a file that is read as an array: only a TIFF of wide numbers has one, still to be applied."""
    return 1 if path.suffix.lower() in ARRAYS else _known(read_tag(path, ORIENTATION))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation that is still to be applied: 1 for TIFF, which Pillow turns by itself."""
    return 1 if image.format == "TIFF" else _told_orientation(image)


def _told_orientation(image: Image.Image) -> int:
    """Orientation in the metadata of a picture whose pixels are not decoded yet."""
    # For EXIF data, Pillow would decode all pixels of a PNG to look behind them, and parse a JPEG that has none.
    if image.format in ("PNG", "JPEG") and not EXIF & image.info.keys():
        return 1
    return _known(image.getexif().get(ORIENTATION, 1))


def _known(orientation: object) -> int:
    return int(orientation) if isinstance(orientation, int) and orientation in UPRIGHT else 1


def _turn(values: np.ndarray, orientation: int) -> np.ndarray:
    return UPRIGHT[orientation](values) if orientation in UPRIGHT else values


def _picture_values(image: Image.Image, path: Path | None = None) -> np.ndarray:
    """`(H, W, 3)` of a picture: 8 or 16 bits, or what a mode of one channel stores."""
    if image.mode not in ("1", "L"):  # Pillow inverts these itself
        check_black_is_zero(image)
    if getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE) == (12,):
        return _repeat(np.asarray(image) / np.float32(4095))
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG")):
        return _repeat(np.asarray(image).astype(np.uint16))
    if image.mode in ("I", "F") or (image.mode == "L" and image.format == "TIFF"):
        return _repeat(signed_values(image))
    deep = pixel_values(image, path) if path is not None and _is_deep(image) else None
    if deep is not None:
        return deep[..., :3]
    if image.mode == "RGB" and image.height * image.width <= STRIP and "transparency" not in image.info:
        return np.asarray(image)
    # In strips, to save memory: Pillow copies pixels on conversion and again for NumPy.
    values = np.empty((image.height, image.width, 3), np.uint8)
    step = max(1, STRIP // image.width)
    for top in range(0, image.height, step):
        strip = image.crop((0, top, image.width, min(top + step, image.height)))
        if "transparency" in image.info:
            strip = strip.convert("RGBA")  # dropped below: Pillow warns where it would have to drop it itself
        values[top : top + step] = np.asarray(strip if strip.mode == "RGBA" else strip.convert("RGB"))[..., :3]
    return values


def _is_deep(image: Image.Image) -> bool:
    """Whether a color PNG has 16 bits per channel that can be read: not with grey and transparency."""
    tiles: Any = getattr(image, "tile", ())
    return bool(tiles) and str(tiles[0][3]) == f"{image.mode};16B"


def _repeat(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, axis=-1)


def _color_axes(values: np.ndarray, what: str) -> np.ndarray:
    """An array as `(H, W, 3)`."""
    planes = values.shape[0] if values.ndim == 3 and values.shape[-1] not in (1, 3, 4) else 0
    if planes in (1, 3) or planes == 4 < values.shape[-1]:
        values = values.transpose(1, 2, 0)
    if values.ndim == 2 or (values.ndim == 3 and values.shape[-1] == 1):
        values = _repeat(values.reshape(values.shape[:2]))
    if values.ndim != 3 or values.shape[-1] not in (3, 4) or 0 in values.shape:
        raise DataError(what, "an image is (height, width, 3), with three colors")
    return values[..., :3]


def _scale(values: np.ndarray) -> Photo:
    """`(H, W, 3)` of any number type to `(3, H, W)` float32 in [0, 1]."""
    return StoredPhoto.checked(values).rows()


def _check_range(low: float, high: float) -> None:
    """Raise `DataError` where floats from `low` to `high` are not in [0, 1], within `TOLERANCE`."""
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # NaN fails too
        raise DataError(
            f"image values run from {low:g} to {high:g}",
            "float images lie in [0, 1]: divide by 255, or save whole numbers as uint8",
        )


def _check_values(values: np.ndarray) -> int:
    """Divisor of values `(H, W, 3)` to [0, 1]; `DataError` where they are no image."""
    kind = values.dtype.kind
    if 0 in values.shape:
        raise DataError(f"image has shape {values.shape}", "an image is (height, width, 3), with three colors")
    if kind not in "biuf":
        raise DataError(f"image values are {values.dtype}", "save them as whole numbers or floats")
    if kind == "f":
        _check_range(float(values.min()), float(values.max()))
    elif kind in "iu" and (kind == "i" or values.dtype.itemsize > 2):
        low, high = int(values.min()), int(values.max())
        if low < 0 or (values.dtype.itemsize > 2 and 0 < high <= 65535):
            raise DataError(
                f"image values are {values.dtype} from {low} to {high}, which is not the range of that type",
                "save them as uint8 or uint16",
            )
    return int(np.iinfo(values.dtype).max) if kind in "iu" else 1
