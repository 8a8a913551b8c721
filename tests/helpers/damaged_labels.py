"""Label files damaged at random, in every format that is read: each has to be named, or to give its old pixels.

Damage is drawn from a seed: bits flipped, bytes zeroed, cut out or added, files cut short, headers overwritten, other
sizes, number types and formats under the same name. In formats without a checksum, bytes of the pixels are spared: no
reader can know that a grey value was another one; and so is all that is inside of JPEG, GIF and WebP.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from folder_truth import draw_labels, draw_photo, save
from PIL import Image

from triptych.datasets.folder import Folder
from triptych.doctor.examine import examine

Outcome = Literal["named", "same pixels", "wrong", "died"]


@dataclass(frozen=True)
class Format:
    """How a label is stored."""

    suffix: str
    task: str
    write: Callable[[Path, np.ndarray], None]
    spared: Literal["nothing", "pixels", "all"] = "pixels"
    """Bytes that stay as they are: none where the format has a checksum of its pixels."""
    options: str = ""
    """Of its section, beside those of the task."""


def _picture(**options: Any) -> Callable[[Path, np.ndarray], None]:
    return lambda path, array: save(path, array, **options)


def _palette(path: Path, array: np.ndarray) -> None:
    picture = Image.fromarray(array, "P") if array.dtype == np.uint8 and array.ndim == 2 else Image.fromarray(array)
    if picture.mode == "P":
        picture.putpalette(bytes(range(256)) * 3)
    picture.save(path)


def _pillow(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(path)


def _packed_tiff(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(path, compression="tiff_adobe_deflate")


def _packed_mat(path: Path, array: np.ndarray) -> None:
    import scipy.io

    scipy.io.savemat(path, {"data": array}, do_compression=True)


def _packed_h5(path: Path, array: np.ndarray) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=array, compression="gzip", fletcher32=True)


FORMATS: dict[str, Format] = {
    "PNG": Format(".png", "semseg", _picture(), "nothing"),
    "PNG with palette": Format(".png", "semseg", _palette, "nothing"),
    "PNG of 16 bits": Format(".png", "depth", _picture(), "nothing"),
    "PNG of 16-bit colors": Format(".png", "normals", _picture(), "nothing"),
    "BMP": Format(".bmp", "semseg", _picture()),
    "TIFF": Format(".tif", "semseg", _pillow),
    "TIFF, deflated": Format(".tif", "semseg", _packed_tiff, "nothing"),
    "TIFF of floats": Format(".tiff", "depth", _picture()),
    "PGM": Format(".pgm", "semseg", _picture()),
    "PGM of 16 bits": Format(".pgm", "depth", _picture()),
    "GIF": Format(".gif", "semseg", _pillow, "all"),
    "WebP": Format(".webp", "saliency", _picture(lossless=True), "all", options="channel = 0\n"),
    "JPEG": Format(".jpg", "saliency", _picture(), "all"),
    "npy": Format(".npy", "semseg", np.save),
    "npy of floats": Format(".npy", "depth", np.save),
    "npz": Format(".npz", "semseg", _picture(), "nothing"),
    "npz, deflated": Format(".npz", "depth", lambda path, array: np.savez_compressed(path, array), "nothing"),
    "MATLAB": Format(".mat", "semseg", _picture()),
    "MATLAB, deflated": Format(".mat", "depth", _packed_mat, "nothing"),
    "HDF5": Format(".h5", "semseg", _picture()),
    "HDF5, deflated": Format(".h5", "depth", _packed_h5, "nothing"),
    "PFM": Format(".pfm", "depth", _picture()),
    "OpenEXR": Format(".exr", "depth", _picture(), "nothing"),
}
STORED: dict[str, Callable[[Format], np.ndarray]] = {
    "semseg": lambda form: np.where(np.arange(48) < 6, 255, draw_labels(0)).astype(np.uint8),
    "saliency": lambda form: (draw_labels(0, 3) == 1).astype(np.uint8) * 255,
    "normals": lambda form: np.rint((_facing() + 1) * 32767.5).astype(np.uint16),
    "depth": lambda form: _depth() if form.suffix not in (".png", ".pgm") else (_depth() * 1000).astype(np.uint16),
}
OPTIONS = {
    "semseg": "classes = 4\n",
    "saliency": "threshold = 128\n",
    "normals": "",
    "depth": "",
}


def _depth() -> np.ndarray:
    v, u = np.mgrid[:36, :48]
    return (2 + u / 16 + v // 8 / 4).astype(np.float32)


def _facing() -> np.ndarray:
    v, u = np.mgrid[:36, :48]
    normals = np.stack([(u - 24) / 60, (v - 18) / 60, -np.ones((36, 48))], -1)
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True)


class Subject:
    """One image with one label in a format, to be damaged again and again."""

    def __init__(self, root: Path, name: str) -> None:
        self.form, self.path = FORMATS[name], root / f"labels/a{FORMATS[name].suffix}"
        self.array = STORED[self.form.task](self.form)
        self.root = root
        self.path.parent.mkdir()
        for place, name in enumerate("abcdef"):  # the others are the company that tells what is usual
            save(root / f"images/{name}.png", draw_photo(place))
            self.form.write(self.path.with_stem(name), self.array)
        self.whole = self.path.read_bytes()
        unit = 'unit = "mm"\n' if self.form.task == "depth" and self.array.dtype == np.uint16 else ""
        options = OPTIONS[self.form.task] + self.form.options + unit
        section = f'[tasks.{self.form.task}]\nfiles = "labels/{{key}}{self.form.suffix}"\n{options}'
        (root / "dataset.toml").write_text(f'[images]\nfiles = "images/{{key}}.png"\n{section}')
        self.dataset = Folder(root, split="all")
        self.truth = self.dataset[0].targets[self.form.task].numpy()
        self.usual = self._findings()
        forms = (self.array, self.array.byteswap(), self.array[::-1], self.array.T)
        starts = [self.whole.find(form.tobytes()) for form in forms]
        start = next((start for start in starts if start >= 0), 0)
        pixels = range(start, start + self.array.nbytes)
        every = range(len(self.whole))
        self.free = {"nothing": every, "pixels": [i for i in every if i not in pixels], "all": ()}[self.form.spared]
        """Bytes that may be changed."""

    def _findings(self) -> set[str]:
        return {str(finding) for finding in examine(self.root).findings}

    def read(self, content: bytes) -> tuple[Outcome, str]:
        """What the doctor and the reader make of a label file of this content."""
        self.path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                findings = self._findings() - self.usual
            except Exception as error:  # the doctor never dies
                return "died", f"doctor: {type(error).__name__}: {error}"
            try:
                found = self.dataset[0].targets[self.form.task].numpy()
            except (OSError, ValueError) as error:
                is_named = self.path.name in str(error) and findings
                return ("named" if is_named else "died"), f"{error}; {findings}"
            except Exception as error:
                return "died", f"reader: {type(error).__name__}: {error}"
        if found.shape == self.truth.shape and np.array_equal(found, self.truth, equal_nan=found.dtype.kind == "f"):
            return "same pixels", ""
        is_named = any(self.path.name in finding for finding in findings)
        return ("named" if is_named else "wrong"), f"{_differences(found, self.truth)}; {findings}"


def _differences(found: np.ndarray, truth: np.ndarray) -> str:
    if found.shape != truth.shape:
        return f"{found.shape}"
    differs = ~((found == truth) | (np.isnan(found) & np.isnan(truth) if found.dtype.kind == "f" else False))
    return f"{differs.sum()} pixels, such as {found[differs][0]} for {truth[differs][0]}"


Damage = Callable[[Subject, np.random.Generator], bytes]


def _places(subject: Subject, generator: np.random.Generator, count: int) -> list[int]:
    """Bytes that may be changed: of the pixels only where a checksum would tell."""
    free = subject.free
    return [int(free[i]) for i in generator.integers(0, len(free), count)] if free else []


def _flip(count: int) -> Damage:
    def damage(subject: Subject, generator: np.random.Generator) -> bytes:
        content = bytearray(subject.whole)
        for place in _places(subject, generator, count):
            content[place] ^= 1 << int(generator.integers(8))
        return bytes(content)

    return damage


def _overwrite_header(subject: Subject, generator: np.random.Generator) -> bytes:
    content = bytearray(subject.whole)
    start = int(generator.integers(48))
    for place in range(start, start + 8):
        if place in subject.free:
            content[place] = int(generator.integers(256))
    return bytes(content)


def _zero(subject: Subject, generator: np.random.Generator) -> bytes:
    content = bytearray(subject.whole)
    for start in _places(subject, generator, 1):
        for place in range(start, start + 40):
            if place in subject.free:
                content[place] = 0
    return bytes(content)


def _cut_short(subject: Subject, generator: np.random.Generator) -> bytes:
    return subject.whole[: int(generator.integers(len(subject.whole)))]


def _cut_tail(subject: Subject, generator: np.random.Generator) -> bytes:
    return subject.whole[: -int(generator.integers(1, 17))]


def _cut_out(subject: Subject, generator: np.random.Generator) -> bytes:
    if not subject.free:
        return subject.whole
    start = int(generator.integers(len(subject.whole) - 8))
    return subject.whole[:start] + subject.whole[start + int(generator.integers(1, 60)) :]


def _add(subject: Subject, generator: np.random.Generator) -> bytes:
    return subject.whole + generator.bytes(int(generator.integers(1, 200)))


def _put_in(subject: Subject, generator: np.random.Generator) -> bytes:
    if not subject.free:
        return subject.whole
    start = int(generator.integers(len(subject.whole)))
    return subject.whole[:start] + generator.bytes(int(generator.integers(1, 30))) + subject.whole[start:]


def _rewritten(subject: Subject, array: np.ndarray) -> bytes:
    try:
        subject.form.write(subject.path, array)
    except (OSError, ValueError, TypeError, KeyError):  # the format has no such thing
        return b""
    return subject.path.read_bytes()


def _other_size(subject: Subject, generator: np.random.Generator) -> bytes:
    height, width = (int(side) for side in generator.integers(1, 60, 2))
    return _rewritten(subject, np.resize(subject.array, (height, width, *subject.array.shape[2:])))


def _turned(subject: Subject, generator: np.random.Generator) -> bytes:
    return _rewritten(subject, np.ascontiguousarray(subject.array.swapaxes(0, 1)))


def _other_type(subject: Subject, generator: np.random.Generator) -> bytes:
    if subject.form.suffix == ".pfm":  # its numbers are floats, whatever they were
        return subject.whole
    whole = (np.int32, np.int16) if subject.array.dtype.kind == "u" else (np.float16,)
    kinds = (np.float64, np.complex64, "U4", *whole)
    return _rewritten(subject, subject.array.astype(kinds[int(generator.integers(len(kinds)))]))


def _other_channels(subject: Subject, generator: np.random.Generator) -> bytes:
    count = int(generator.integers(2, 5))
    grey = subject.array if subject.array.ndim == 2 else subject.array[..., 0]
    return _rewritten(subject, np.stack([grey + i for i in range(count)], -1).astype(subject.array.dtype))


def _other_format(subject: Subject, generator: np.random.Generator) -> bytes:
    made = io.BytesIO()
    kinds = ("JPEG", "PNG", "GIF")
    Image.fromarray(draw_photo(1)).save(made, format=kinds[int(generator.integers(len(kinds)))])
    return (made.getvalue(), b"<html>404</html>", b"", b"\0" * 500)[int(generator.integers(4))]


DAMAGES: dict[str, Damage] = {
    "a bit flipped": _flip(1),
    "nine bits flipped": _flip(9),
    "header overwritten": _overwrite_header,
    "bytes zeroed": _zero,
    "cut short": _cut_short,
    "last bytes cut": _cut_tail,
    "bytes cut out": _cut_out,
    "bytes added": _add,
    "bytes put in": _put_in,
    "another size": _other_size,
    "height and width exchanged": _turned,
    "another number type": _other_type,
    "other channels": _other_channels,
    "another format under its name": _other_format,
}


def damage_label(subject: Subject, kind: str, seed: int) -> tuple[Outcome, str]:
    """Damage a label file, and say what becomes of it."""
    return subject.read(DAMAGES[kind](subject, np.random.default_rng(seed)))


def truncate(path: Path) -> None:
    """Keep the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
