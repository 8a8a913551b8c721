"""Reading pictures and arrays as they are stored, with errors that name the file."""

import importlib.util
import math
import os
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from triptych.data.archives import open_source, read_bytes
from triptych.data.errors import DataError, UnreadableFileError
from triptych.data.files import ARRAYS, FORMATS
from triptych.data.integrity import NETPBM, find_damage
from triptych.extras import install_command
from triptych.threads import shared

Values = Callable[[Image.Image, Path], np.ndarray]
"""A function from a picture that Pillow has opened, and its path, to the array of its values."""


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
            stored = READERS.get(suffix, _read_picture)(path, values or pixel_values)
    # Number types are compared by what follows, and uint16 of the other order equals none.
    return stored if stored.dtype.isnative else stored.astype(stored.dtype.newbyteorder("="))


@contextmanager
def naming(path: Path, what: str = "cannot be read", cure: str = "") -> Iterator[None]:
    """Turn any error inside into an `UnreadableFileError` that names the file; `cure` is for one that has none."""
    try:
        yield
    except (FileNotFoundError, MemoryError, UnreadableFileError):
        raise
    except DataError as error:
        raise UnreadableFileError.about(f"{path} {what}", error) from error
    # Damaged files raise OSError, SyntaxError, ValueError, EOFError or zlib errors, depending on format and place.
    except Exception as error:
        raise UnreadableFileError(f"{path} {what}: {str(error).replace(f' {str(path)!r}', '')}", cure) from error


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


TRANSPOSED = "arrays are (height, width): save it transposed, array.T"
"""The cure for a label whose height and width are those of its image, swapped, where nothing turns the image."""
OTHER_SHAPE = "it has another shape: was it cut? Cut the image alike, or replace the label: resizing would stretch it"
"""The cure for a label that shows another part of the scene than its image."""
SAME_SHAPE = 0.03
"""Largest relative difference of the aspect ratios of a label and its image that show the same part of the scene."""


def have_one_shape(label: tuple[int, int], image: tuple[int, int]) -> bool:
    """Compare the aspect ratios of two sizes (height, width): true where they are equal, within `SAME_SHAPE` or a pixel
    of rounding.

    >>> have_one_shape((213, 320), (427, 640)), have_one_shape((12, 10), (12, 16))
    (True, False)
    """
    difference = abs(label[0] * image[1] - label[1] * image[0])
    return difference <= max(SAME_SHAPE * label[1] * image[0], *image)


def have_swapped_sides(label: tuple[int, int], image: tuple[int, int]) -> bool:
    """Compare the aspect ratio of a label with that of its image on its side: true where they are equal."""
    return label == image[::-1] or (not have_one_shape(label, image) and have_one_shape(label[::-1], image))


MOST_PIXELS = 178_000_000
"""Default limit of pixels of a picture, as a tiny file can claim gigabytes; the environment variable
`TRIPTYCH_MAX_PIXELS`, which `--max-pixels` sets, overrides it.
"""
MAX_PIXELS = "TRIPTYCH_MAX_PIXELS"


def most_pixels(unless_told: int = MOST_PIXELS) -> int:
    """Limit of pixels for this process and those that it starts."""
    return check_pixels(os.environ.get(MAX_PIXELS) or str(unless_told), MAX_PIXELS)


def check_pixels(text: str, option: str) -> int:
    """Parse a number of pixels; `ValueError` that names the option for any other text."""
    if not text.isdecimal() or len(text) > 18 or int(text) < 1:
        raise ValueError(f"{option} is {text[:40]!r}; give a number of pixels, such as {MOST_PIXELS}.")
    return int(text)


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


def _read_picture(path: Path, values: Values) -> np.ndarray:
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


NUMPY = Lock()
"""Held while NumPy parses the header of an array: it uses `ast`, which occasionally fails on intact files where several
threads of CPython 3.11 use it.
"""


def _read_npy(path: Path, values: Values) -> np.ndarray:
    # Mapped first: a header may claim more than the file holds, and memory would be allocated before the error.
    with NUMPY:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    _check_bytes(mapped.nbytes)
    end, size = mapped.offset + mapped.nbytes, path.stat().st_size
    if size != end:
        raise DataError(f"it has {size} bytes, its header speaks of {end}", "it was damaged: save it again")
    return np.array(mapped)


BYTES_OF_PIXEL = 12
"""Bytes of a pixel of a color image of 32-bit floats. An array of more bytes than the limit of pixels times this is a
mistake or an attack, and is refused before memory is allocated.
"""


def _check_bytes(count: int) -> None:
    most = BYTES_OF_PIXEL * most_pixels()
    if count > most:
        raise DataError(
            f"it would take {count / 1e9:.3g} GB of memory, more than {most / 1e9:.3g}",
            f"a label map is far smaller; cut it into tiles, or raise the limit with --max-pixels (or {MAX_PIXELS}), "
            f"{BYTES_OF_PIXEL} bytes each",
        )


Entries = tuple[Collection[str], Callable[[str], np.ndarray]]
"""Names of the arrays in an open file, and a function that reads one of them."""


@contextmanager
def _open_npz(path: Path) -> Iterator[Entries]:
    with zipfile.ZipFile(path) as packed:
        _check_bytes(max((member.file_size for member in packed.infolist()), default=0))
    with np.load(path, allow_pickle=False) as archive:

        def read(name: str) -> np.ndarray:
            with NUMPY:
                return archive[name]

        yield archive.files, read


@contextmanager
def _open_hdf5(path: Path) -> Iterator[Entries]:
    import h5py

    with h5py.File(path, "r") as file:
        yield file, partial(_read_hdf5, file)


def _read_hdf5(file: Any, name: str) -> np.ndarray:
    data = file[name]
    if not hasattr(data, "shape"):
        raise DataError(f"its entry '{name}' is a group, no array", "set key to the path of an array in it")
    _check_bytes(data.size * data.dtype.itemsize)
    return np.asarray(data)


@contextmanager
def _open_mat(path: Path) -> Iterator[Entries]:
    import h5py
    import scipy.io

    if h5py.is_hdf5(path):  # MATLAB 7.3; arrays lie there with reversed axes
        with _open_hdf5(path) as (names, read):
            yield names, lambda name: read(name).T
    else:
        shapes = {name: shape for name, shape, _ in scipy.io.whosmat(path)}
        _check_bytes(max((8 * math.prod(shape) for shape in shapes.values()), default=0))
        yield shapes, lambda name: scipy.io.loadmat(path, variable_names=[name])[name]


@contextmanager
def _open_exr(path: Path) -> Iterator[Entries]:
    """OpenEXR: the one channel of a file, the one that `key` names, or the colors as `(H, W, channels)`."""
    try:
        import OpenEXR
    except ImportError as error:
        raise DataError(
            "it is an OpenEXR file", f"the extra 'formats' reads it: {install_command('formats')}"
        ) from error
    with OpenEXR.File(str(path), header_only=True) as file:
        for part in file.parts:
            (left, top), (right, bottom) = (map(int, corner) for corner in part.header["dataWindow"])
            _check_bytes(4 * (right - left + 1) * (bottom - top + 1) * len(part.header["channels"]))
    with OpenEXR.File(str(path)) as file:
        yield file.channels(), lambda name: np.asarray(file.channels()[name].pixels)


CONTAINERS: dict[str, Callable[[Path], AbstractContextManager[Entries]]] = {
    ".npz": _open_npz,
    ".mat": _open_mat,
    **dict.fromkeys((".h5", ".hdf5"), _open_hdf5),
    ".exr": _open_exr,
}
"""Suffix to a function that opens a file of several named arrays."""


def _entry(names: Collection[str], key: str, get: Callable[[str], np.ndarray]) -> np.ndarray:
    if key and key in names:
        return get(key)
    if not key and len(names) == 1:
        return get(next(iter(names)))
    wanted = f"has no entry '{key}'" if key else "has several entries"
    raise DataError(f"it {wanted}", f"set key to one of {', '.join(sorted(names))}")


def _read_netpbm(path: Path, values: Values) -> np.ndarray:
    """PGM and PPM with their numbers as stored: Pillow stretches those whose largest value is not that of the type."""
    content = read_bytes(path)
    head = NETPBM.match(content)
    if head is None:
        return _read_picture(path, values)
    kind, width, height, largest = (int(word) for word in head.groups())
    shape = (height, width) if kind in (2, 5) else (height, width, 3)
    _check_bytes(2 * math.prod(shape))
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


def _read_pfm(path: Path, values: Values) -> np.ndarray:
    """Portable float map: `Pf` (grey) or `PF` (color), width and height, a scale whose sign is the byte order, and rows
    from the bottom up."""
    with path.open("rb") as file:
        kind = file.readline().strip()
        width, height = (int(word) for word in file.readline().split())
        order = "<f4" if float(file.readline()) < 0 else ">f4"
        channels = {b"Pf": 1, b"PF": 3}.get(kind)
        if channels is None or width < 1 or height < 1:
            raise DataError(f"it starts with {kind[:8]!r}", "a .pfm file starts with Pf or PF, its width and height")
        _check_bytes(4 * width * height * channels)
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


def _read_tiff(path: Path, values: Values) -> np.ndarray:
    """Read a TIFF with Pillow, or with tifffile where Pillow has no mode for its number type."""
    with path.open("rb") as file:
        start = file.read(4)
    if start not in TIFF_STARTS:
        raise DataError(f"it is no TIFF: it starts with {start!r}", "copy it again, or correct its suffix")
    try:
        return _read_wide_tiff(path) if is_wide_tiff(path) else _read_picture(path, values)
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
        _check_bytes(int(file.series[0].size) * file.series[0].dtype.itemsize)
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


READERS: dict[str, Callable[[Path, Values], np.ndarray]] = {
    **dict.fromkeys((".tif", ".tiff"), _read_tiff),
    ".npy": _read_npy,
    **dict.fromkeys((".pgm", ".ppm"), _read_netpbm),
    ".pfm": _read_pfm,
}
"""Suffix to the reader of a file of one array that is no usual picture."""
