"""Read the stored values of pictures: most by Pillow, TIFF of wide numbers by tifffile, netpbm and PFM here."""

import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from triptych.data.archives import open_source, read_bytes
from triptych.data.errors import DataError
from triptych.data.files import FORMATS
from triptych.data.integrity import NETPBM, find_damage
from triptych.data.limits import MAX_PIXELS, check_bytes, most_pixels
from triptych.extras import install_command
from triptych.threads import shared

Values = Callable[[Image.Image, Path], np.ndarray]
"""A function from a picture that Pillow has opened, and its path, to the array of its values."""


@shared
@contextmanager
def without_pillows_limit() -> Iterator[None]:
    """Disable Pillow's own limit of pixels, a global of the process: its error names no cure, and is raised before the
    size is known.
    """
    kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = kept


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a picture with Pillow without decoding its pixels; `DataError` above the limit of pixels."""
    limit = most_pixels()
    with without_pillows_limit(), Image.open(open_source(path), formats=FORMATS) as image:
        if image.width * image.height > limit:
            raise DataError(
                f"it has {image.height}x{image.width} pixels, more than {limit / 10**6:g} million",
                f"cut it into tiles, or raise the limit with --max-pixels (or {MAX_PIXELS})",
            )
        if image.format == "TIFF":
            image.filename = ""  # named files are mapped into memory, in wrong rows where a tag lays them on their side
        yield image


def read_by_pillow(path: Path, values: Values) -> np.ndarray:
    """Read a file of any format that Pillow opens."""
    with open_picture(path) as image:
        return values(image, path)


def pixel_values(image: Image.Image, path: Path) -> np.ndarray:
    """Stored values of the picture `path`, opened as `image`: `(H, W)` or `(H, W, channels)` of 1, 8, 16 or 32 bits."""
    check_black_is_zero(image)
    if image.format == "GIF":  # palettes differ in order between files: read colors, or their grey
        colors = np.array(image.convert("RGB"))
        return colors[..., 0] if (colors == colors[..., :1]).all() else colors
    tiles = getattr(image, "tile", ())
    layout = str(tiles[0][3]) if tiles else ""
    if not layout.endswith(";16B") or image.mode.startswith("I"):
        return np.array(image.convert("L")) if image.mode == "1" else np.array(signed_values(image))
    if image.mode != layout.removesuffix(";16B"):
        raise DataError("PNG of 16 bits with transparency", "save it as .npy, or without transparency")
    return _read_deep(image, path)


SAMPLE_FORMAT = 339
"""TIFF's tag for the kind of number: 1 (unsigned, where there is none), 2 (signed) or 3 (float)."""
MISREAD: dict[tuple[str, int], np.dtype] = {("L", 2): np.dtype(np.int8), ("I", 1): np.dtype(np.uint32)}
"""Number types by Pillow's mode and the kind of number, of TIFFs whose sign Pillow does not keep."""


def signed_values(image: Image.Image) -> np.ndarray:
    """Values of a picture with the sign that a TIFF declares: Pillow reads 8 bits without one, 32 bits with one."""
    stored, tags = np.asarray(image), getattr(image, "tag_v2", {})
    kind = MISREAD.get((image.mode, tags.get(SAMPLE_FORMAT, (1,))[0]))
    return stored if kind is None else stored.view(kind)


def _read_deep(image: Image.Image, path: Path) -> np.ndarray:
    """A color PNG of 16 bits per channel, `(height, width, channels)` uint16.

    Pillow keeps only the upper byte; reading it again as little-endian gives the lower one.
    """
    with open_picture(path) as again:
        told: Any = again  # `tile` is declared for image files only
        told.tile = [tile._replace(args=f"{image.mode};16L") for tile in told.tile]
        lower = np.array(again)
    return np.array(image).astype(np.uint16) << 8 | lower


def read_netpbm(path: Path, values: Values) -> np.ndarray:
    """PGM and PPM with their numbers as stored: Pillow stretches those whose largest value is not that of the type."""
    content = read_bytes(path)
    head = NETPBM.match(content)
    if head is None:
        return read_by_pillow(path, values)
    kind, width, height, largest = (int(word) for word in head.groups())
    shape = (height, width) if kind in (2, 5) else (height, width, 3)
    check_bytes(2 * math.prod(shape))
    if kind < 4:
        words = content[head.end() :].split(None, math.prod(shape))[: math.prod(shape) + 1]
        if len(words) > math.prod(shape):
            raise DataError(
                f"it holds more than {math.prod(shape)} numbers for {shape}", "it was damaged: save it again"
            )
        stored = np.array(words, np.int64)
    else:
        stored = np.frombuffer(content, ">u2" if largest > 255 else np.uint8, offset=head.end())
    if stored.size != math.prod(shape):
        raise DataError(f"it holds {stored.size} numbers for {shape}", "it was cut: copy it again")
    return stored.reshape(shape).astype(np.uint16 if largest > 255 else np.uint8)


def read_pfm(path: Path, values: Values) -> np.ndarray:
    """Portable float map: `Pf` (grey) or `PF` (color), width and height, a scale whose sign is the byte order, and rows
    from the bottom up."""
    with path.open("rb") as file:
        kind = file.readline().strip()
        width, height = (int(word) for word in file.readline().split())
        order = "<f4" if float(file.readline()) < 0 else ">f4"
        channels = {b"Pf": 1, b"PF": 3}.get(kind)
        if channels is None or width < 1 or height < 1:
            raise DataError(f"it starts with {kind[:8]!r}", "a .pfm file starts with Pf or PF, its width and height")
        check_bytes(4 * width * height * channels)
        stored = np.frombuffer(file.read(), order)
    if stored.size != width * height * channels:
        raise DataError(f"it holds {stored.size} numbers for {height}x{width}x{channels}", "it was cut: copy it again")
    rows = stored.reshape(height, width, channels)[::-1].astype(np.float32)
    return rows if channels == 3 else rows[..., 0]


BITS_PER_SAMPLE = 258
"""TIFF's tag for the bits of each channel."""
ORIENTATION = 0x0112
"""EXIF's and TIFF's tag for orientation."""


def is_wide_tiff(path: Path) -> bool:
    """Whether a file is a TIFF of colors of more than 8 bits, of which Pillow reads the upper byte or nothing.

    Those for printing (CMYK) are not: Pillow converts them, to 8 bits.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        return False
    try:
        with open_picture(path) as image:
            tags = getattr(image, "tag_v2", {})
            bits = tags.get(BITS_PER_SAMPLE, (8,))
            return len(bits) > 1 and max(bits) > 8 and tags.get(PHOTOMETRIC) != SEPARATED
    except UnidentifiedImageError:
        return True


def read_tag(path: Path, tag: int) -> object:
    """The value of a tag of a TIFF of wide numbers; `None` where it has none."""
    tifffile = _find_tifffile()
    with tifffile.TiffFile(path) as file:
        found = file.pages[0].tags.get(tag)
        return None if found is None else found.value


PLAIN = (1, 8, 32946)
"""Values of TIFF's compression that tifffile decodes by itself: none and Deflate."""
PHOTOMETRIC, WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, SEPARATED = 262, 0, 1, 2, 5
"""TIFF's tag for the meaning of its numbers, and some of its values. Pillow inverts files of 1 and 8 bits where 0 is
white; where black is, several channels have no color."""


def check_black_is_zero(image: Image.Image) -> None:
    """Raise `DataError` for a TIFF whose 0 is white: either its numbers or its brightness may be meant."""
    if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:
        raise DataError("it is a TIFF whose 0 is white (MinIsWhite)", "save it as MinIsBlack, or as PNG")


TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_tiff(path: Path, values: Values) -> np.ndarray:
    """Read a TIFF with Pillow, or with tifffile where Pillow has no mode for its number type."""
    with path.open("rb") as file:
        start = file.read(4)
    if start not in TIFF_STARTS:
        raise DataError(f"it is no TIFF: it starts with {start!r}", "copy it again, or correct its suffix")
    try:
        return _read_wide_tiff(path) if is_wide_tiff(path) else read_by_pillow(path, values)
    except Exception as error:  # damaged files raise whatever their library does: the header says what is missing
        damage = find_damage(path)
        if not damage or (isinstance(error, DataError) and error.cure):
            raise
        raise DataError(damage, "copy or download it again") from error


def _find_tifffile() -> Any:
    try:
        import tifffile
    except ImportError as error:
        text = "it is a TIFF of floats with colors, of wide numbers, or damaged"
        raise DataError(text, f"the extra 'formats' reads these: {install_command('formats')}") from error
    return tifffile


def _read_wide_tiff(path: Path) -> np.ndarray:
    tifffile = _find_tifffile()
    with tifffile.TiffFile(path) as file:
        check_bytes(int(file.series[0].size) * file.series[0].dtype.itemsize)
        if getattr(file.pages[0], "photometric", None) == WHITE_IS_ZERO:
            raise DataError("it is a TIFF whose 0 is white (MinIsWhite)", "save it as MinIsBlack, or as PNG")
        told = file.pages[0].photometric
        if file.pages[0].samplesperpixel > 1 and told not in (BLACK_IS_ZERO, RGB):
            raise DataError(
                f"it is a TIFF of wide numbers whose colors are {getattr(told, 'name', told)}", "save it as RGB"
            )
        if (bits := file.pages[0].bitspersample) % 8:
            raise DataError(
                f"it is a TIFF of {bits} bits per channel", "save it with 16, the values times 65535 / the largest"
            )
        try:
            return file.asarray(series=0)
        except (ImportError, KeyError, ValueError) as error:
            if file.pages[0].compression in PLAIN or importlib.util.find_spec("imagecodecs"):
                raise
            way = getattr(file.pages[0].compression, "name", file.pages[0].compression)
            raise DataError(
                f"it is a TIFF of wide numbers compressed by {way}, which tifffile leaves to the package imagecodecs",
                "python -m pip install -c constraints.txt imagecodecs; or save it without compression, or with Deflate",
            ) from error
