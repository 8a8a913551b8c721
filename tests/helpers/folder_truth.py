"""Folders of which it is known what every image and label should become, and whether they are read so.

A layout writes a folder and remembers the truth; `judge` runs what a user runs (init, reading, doctor) and says whether
everything was read right, asked to be checked or refused with words that name it, or was wrong in silence.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from deep_png import save_deep_png
from PIL import Image

from triptych.datasets.folder import Folder
from triptych.doctor.examine import examine
from triptych.folders.descriptor import split_names
from triptych.folders.folder_guess import FolderGuess
from triptych.folders.writing import write_descriptor

SIZE, HALF = (36, 48), (18, 24)


@dataclass
class Expected:
    """What one image should give; a task that is not named has no label."""

    split: str
    """Its split; "" where any will do."""
    photo: np.ndarray
    targets: dict[str, np.ndarray]


@dataclass
class Truth:
    """A folder in writing, and what is known of it."""

    root: Path
    images: dict[str, Expected] = field(default_factory=dict)
    """By their names in the folder."""

    def image(self, name: str, split: str = "", *, seed: int | None = None, **targets: np.ndarray) -> None:
        """Write a photograph that has these targets."""
        photo = draw_photo(len(self.images) if seed is None else seed)
        save(self.root / name, photo)
        self.expect(name, split, photo, **targets)

    def expect(self, name: str, split: str, photo: np.ndarray, **targets: np.ndarray) -> None:
        """Say what an image that is written otherwise should give."""
        self.images[name] = Expected(split, photo, targets)

    def file(self, name: str, array: Any, **options: Any) -> None:
        """Write another file."""
        save(self.root / name, array, **options)


Build = Callable[[Truth], None]


@dataclass(frozen=True)
class Layout:
    """A kind of folder; `says` is what has to be said of it where it cannot be read right without a person, who then
    checks what is read, unless it is `refused`.
    """

    title: str
    build: Build
    says: str
    refused: bool = False


@dataclass(frozen=True)
class Verdict:
    """`right`, `CHECK`, `refused` or `wrong`, with what was said."""

    outcome: str
    detail: str


def draw_photo(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A photograph without two equal corners, smooth enough for JPEG."""
    v, u = np.mgrid[: size[0], : size[1]] / np.array(size).reshape(2, 1, 1)
    red, green = 60 + 120 * v, 40 + 150 * u
    return np.stack([red, green, 255 * (0.3 + 0.5 * np.abs(v - u)) - 5 * (seed % 12)], -1).astype(np.uint8)


def draw_labels(seed: int, classes: int = 4, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Class ids in blocks; every class occurs."""
    generator = np.random.default_rng(seed)
    rows, columns = -(-size[0] // 4), -(-size[1] // 4)
    cells = generator.permutation(np.arange(rows * columns) % classes).reshape(rows, columns)
    return np.kron(cells, np.ones((4, 4), np.int64))[: size[0], : size[1]].astype(np.uint8)


def save(path: Path, array: Any, **options: Any) -> None:
    """Write an array, or entries by name, in the format that the suffix tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    WRITERS.get(path.suffix.lower(), _save_picture)(path, array, **options)


def _save_picture(path: Path, array: np.ndarray | Image.Image, **options: Any) -> None:
    if isinstance(array, np.ndarray) and array.dtype == np.uint16 and array.ndim == 3:
        save_deep_png(path, array)
        return
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    if path.suffix.lower() in (".jpg", ".jpeg", ".jfif", ".jpe"):
        options = {"quality": 95, "format": "JPEG", **options}
    picture.save(path, **options)


def _save_npz(path: Path, entries: Any) -> None:
    np.savez(path, **entries) if isinstance(entries, dict) else np.savez(path, entries)


def _save_mat(path: Path, entries: Any) -> None:
    import scipy.io

    scipy.io.savemat(path, entries if isinstance(entries, dict) else {"data": entries})


def _save_h5(path: Path, entries: Any) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, array in (entries if isinstance(entries, dict) else {"data": entries}).items():
            file[name] = array


def _save_pfm(path: Path, array: np.ndarray) -> None:
    head = b"%s\n%d %d\n-1.0\n" % (b"PF" if array.ndim == 3 else b"Pf", array.shape[1], array.shape[0])
    path.write_bytes(head + array[::-1].astype("<f4").tobytes())


def _save_pgm(path: Path, array: np.ndarray) -> None:
    head = b"P5\n%d %d\n%d\n" % (array.shape[1], array.shape[0], np.iinfo(array.dtype).max)
    path.write_bytes(head + array.astype(array.dtype.newbyteorder(">")).tobytes())


def _save_exr(path: Path, channels: Any) -> None:
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    named = channels if isinstance(channels, dict) else {"Z" if channels.ndim == 2 else "RGB": channels}
    with OpenEXR.File(header, named) as file:
        file.write(str(path))


def _save_tiff(path: Path, array: np.ndarray) -> None:
    import tifffile

    tifffile.imwrite(path, array, photometric="rgb" if array.ndim == 3 else "minisblack")


WRITERS: dict[str, Callable[..., None]] = {
    ".npy": np.save,
    ".npz": _save_npz,
    ".mat": _save_mat,
    ".h5": _save_h5,
    ".hdf5": _save_h5,
    ".pfm": _save_pfm,
    ".pgm": _save_pgm,
    ".exr": _save_exr,
    ".tif": _save_tiff,
    ".tiff": _save_tiff,
    ".txt": lambda path, text: path.write_text(text, encoding="utf-8"),
    ".csv": lambda path, text: path.write_text(text, encoding="utf-8"),
    ".json": lambda path, text: path.write_text(text, encoding="utf-8"),
    ".toml": lambda path, text: path.write_text(text, encoding="utf-8"),
}


def judge(layout: Layout, root: Path) -> Verdict:
    """Write a layout and read it as a user would."""
    truth = Truth(root)
    layout.build(truth)
    said: list[str] = []
    try:
        wrong = _read(truth, said)
    except ValueError as error:
        text = " ".join("\n".join([*said, str(error)]).replace(str(root), "").split())
        is_named = bool(layout.says) and re.search(layout.says, text) is not None
        return Verdict("refused" if is_named else "wrong", f"refused: {text}")
    if not wrong:
        return Verdict("right", "")
    text = "\n".join(said).replace(str(root), "")
    found = layout.says and re.search(layout.says, text)
    return Verdict("CHECK" if found else "wrong", f"{wrong}; said: {text}")


def _read(truth: Truth, said: list[str]) -> str:
    """What is read wrong, "" if nothing is; `said` takes what is told on the way."""
    guess = FolderGuess(truth.root)
    if not (truth.root / "dataset.toml").exists():
        guess = write_descriptor(truth.root)[1]
        said += [*guess.checks, *guess.left_out]
    report = examine(truth.root)
    said += [str(finding) for finding in report.findings]
    wrong = _compare(truth)
    return wrong or (f"{report.num_errors} errors of the doctor" if report.num_errors else "")


def _compare(truth: Truth) -> str:
    first = Folder(truth.root, split="all")
    splits = {expected.split for expected in truth.images.values()} - {""}
    wanted = {name for expected in truth.images.values() for name in expected.targets}
    if set(first.tasks) - {"boundary"} != wanted - {"boundary"} or not wanted <= set(first.tasks):
        return f"tasks are {sorted(first.tasks)}, not {sorted(wanted)}"
    known = set(split_names(first.descriptor))
    if not splits <= known:
        return f"splits are {sorted(known)}, not {sorted(splits)}"
    for split in sorted(splits) or ["all"]:
        dataset = Folder(truth.root, split=split)
        names = {name for name, expected in truth.images.items() if expected.split == split or split == "all"}
        found = {path.relative_to(truth.root).as_posix(): key for key, path in dataset.images.items()}
        if set(found) != names:
            return f"split {split} has {sorted(set(found) ^ names)[:4]} too many or too few of {len(names)}"
        for name, key in found.items():
            problem = _compare_sample(truth.images[name], dataset.read(key))
            if problem:
                return f"{name}: {problem}"
    return ""


def _compare_sample(expected: Expected, sample: Any) -> str:
    photo = sample.image.permute(1, 2, 0).numpy() * 255
    if photo.shape != expected.photo.shape or np.abs(photo - expected.photo).mean() > 6:
        return f"the photograph has size {photo.shape} and mean {photo.mean():.0f}, not {expected.photo.mean():.0f}"
    for name, found in sample.targets.items():
        target = found.numpy()
        truth = expected.targets.get(name)
        if truth is None:
            if not (np.isnan(target) if target.dtype.kind == "f" else target == 255).all():
                return f"{name} has labels where there are none"
            continue
        if target.dtype.kind == "f":
            truth = np.atleast_3d(truth).transpose(2, 0, 1)
            same = truth.shape == target.shape and np.allclose(target, truth, rtol=4e-3, atol=0.02, equal_nan=True)
        else:
            same = truth.shape == target.shape and bool((target == truth).all())
        if not same:
            return f"{name} holds {_summary(target)}, not {_summary(truth)}"
    return ""


def _summary(array: np.ndarray) -> str:
    values, counts = np.unique(array, return_counts=True)
    if len(values) > 12:
        return f"{array.shape} from {np.nanmin(array):.4g} to {np.nanmax(array):.4g}"
    return str(dict(zip(values.tolist(), counts.tolist(), strict=True)))
