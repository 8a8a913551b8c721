"""Reading pictures, and resizing pictures and maps, with pillow alone."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
"""Accepted formats, by pillow's names. By a file's content it would open many others, some with programs that it starts
(Ghostscript for PostScript)."""


def read_picture(picture: str | os.PathLike | Image.Image | np.ndarray) -> np.ndarray:
    """`(H, W, 3)` uint8 or float32 in [0, 1] from a path, a PIL image, both upright as EXIF says, or an array.

    >>> read_picture(np.zeros((2, 5), np.uint8)).shape
    (2, 5, 3)
    """
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    if isinstance(picture, Image.Image):
        return _from_pillow(picture)
    path = Path(picture)
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.format == "TIFF":
                image.filename = ""  # named files are mapped into memory, in wrong rows where a tag lays them on a side
            return _from_pillow(image)
    except FileNotFoundError:
        raise FileNotFoundError(f"no image {path}; check the path.") from None
    except Exception as error:  # pillow's classes depend on the format and the place of the damage
        raise ValueError(f"{path} cannot be read as an image ({error}); replace it or leave it out.") from error


def resize_picture(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear with antialiasing, channel by channel in float: `(H, W, 3)` to `size`, float32 in [0, 1]."""
    values = image.astype(np.float32) / 255 if image.dtype == np.uint8 else image.astype(np.float32)
    return np.stack([_resize_plane(values[..., i], size, Image.Resampling.BILINEAR) for i in range(3)], axis=-1)


def resize_map(values: np.ndarray, size: tuple[int, int], *, unit: bool, nearest: bool = False) -> np.ndarray:
    """A map `(H, W)` of class ids by the nearest pixel, `(C, H, W)` of numbers so if `nearest`, else bilinearly, `unit`
    vectors kept unit.

    >>> resize_map(np.array([[[0.0, 10.0]]]), (1, 4), unit=False, nearest=True).tolist()
    [[[0.0, 0.0, 10.0, 10.0]]]
    """
    if nearest or np.issubdtype(values.dtype, np.integer):
        rows, columns = (
            np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
            for new, old in zip(size, values.shape[-2:], strict=True)
        )
        return values[..., rows[:, None], columns]
    resized = np.stack([_resize_plane(plane, size, Image.Resampling.BILINEAR) for plane in values])
    if unit:
        resized /= np.maximum(np.linalg.norm(resized, axis=0, keepdims=True), 1e-12)
    return resized


def check_range(values: np.ndarray) -> None:
    """Raise `ValueError` for floats that are no image's, by more than resampled ones leave [0, 1]."""
    low, high = values.min(), values.max()
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # NaN is not in it either
        raise ValueError(
            f"image values run from {low:g} to {high:g}; float images lie in [0, 1]: divide by 255, or pass uint8."
        )


def _resize_plane(plane: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize((size[1], size[0]), method))


def _from_pillow(image: Image.Image) -> np.ndarray:
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO and image.mode not in ("1", "L"):  # which pillow inverts as they look
        raise ValueError("it is a TIFF whose 0 is white (MinIsWhite); save it as MinIsBlack, or as PNG")
    # Grey of 16 bits in pillow's 32, known by a format that what is turned no longer tells.
    narrow = image.mode == "I" and image.format in ("PPM", "PNG")
    few = tags.get(_BITS) == (12,)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # grey of more than 8 bits, which `convert` would clip
        gray = np.asarray(image)
        gray = gray / np.float32(4095) if few else gray
        return _from_array(gray.astype(np.uint16) if narrow else gray)
    return np.asarray(image.convert("RGB"))


_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
"""The tags of TIFF that say how many bits a value has and which value is black, and what it says where white is 0."""


def _from_array(values: np.ndarray) -> np.ndarray:
    values = values[..., None].repeat(3, axis=-1) if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[2] != 3 or 0 in values.shape:
        raise ValueError(f"image is an array of shape {values.shape}; expected (H, W, 3) with three colors.")
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "u" and values.itemsize == 2:
        return (values / 65535).astype(np.float32)
    if values.dtype.kind in "iu":  # what is white would be a guess
        raise ValueError(
            f"image is an array of {values.dtype}; give uint8 (0 to 255), uint16 (0 to 65535) or floats in [0, 1]."
        )
    check_range(values)
    return values.astype(np.float32)
