"""Text files written by hand, and lists of sample names: those that come with this package, those of a dataset's
archive, and shuffled ones.
"""

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from triptych.data.errors import DataError, UnreadableFileError


def read_text(path: Path) -> str:
    """The text of a file in UTF-8; a byte order mark at its start is left out.

    Raises `UnreadableFileError`, an `OSError` and `ValueError`, that names the line where another encoding shows, and
    what is no file: reading a pipe would wait for ever.
    """
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise UnreadableFileError(f"{path} is {kind}, no file", "replace it by a text file")
    stored = path.read_bytes()
    try:
        return stored.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = stored[: error.start].count(b"\n") + 1
        text = f"{path} is not UTF-8: line {line} holds the byte 0x{stored[error.start]:02x}"
        raise UnreadableFileError(text, "save it as UTF-8 (it may be Latin-1)") from error


PACKAGED = Path(__file__).parents[1] / "datasets/lists"
SHOWN = 3
ALL = "all"
"""The split that holds every image."""
SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "tst"),
}
"""What folders and lists of each split are called."""
SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words}
PAPER_CODE = "paper-code"
SEED = 42


def packaged_lines(name: str) -> list[str]:
    """The lines of `lists/<name>.txt`, without comments.

    >>> len(packaged_lines("nyuv2_train")), packaged_lines("nyuv2_train")[0]
    (795, '0003')
    """
    return read_lines(PACKAGED / f"{name}.txt")


def read_lines(path: Path) -> list[str]:
    """Lines of a text file without blank ones and comments (#); raises `OSError` naming a file that is no text."""
    lines = (line.strip() for line in read_text(path).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def read_keys(path: Path) -> list[str]:
    """Sample names of an archive's list, one per line; raises `ValueError` for an empty list and a name twice."""
    keys = read_lines(path)
    twice = [key for key, again in zip(sorted(keys), sorted(keys)[1:], strict=False) if key == again]
    if twice:
        raise DataError(f"list {path} names '{twice[0]}' twice", "take the list of the original archive")
    if not keys:
        raise DataError(f"list {path} is empty", "take the list of the original archive")
    return keys


def keep_present(
    dataset: str, keys: Sequence[str], listing: Mapping[str, Mapping[str, Path]], kinds: Sequence[str], *, missing: bool
) -> list[str]:
    """The samples of a split that have an image.

    Unless files may be `missing`, raises `ValueError` with the number and some names of those without an image, or
    without a file of one of the other `kinds`.
    """
    for kind in () if missing else dict.fromkeys(("image", *kinds)):
        lacking = [key for key in keys if key not in listing[kind]]
        if lacking:
            shown = ", ".join(lacking[:SHOWN]) + (", ..." if len(lacking) > SHOWN else "")
            raise DataError(
                f"{dataset}: {len(lacking)} of {len(keys)} samples have no {kind} file ({shown})",
                "unpack the archive again, or pass allow_missing=True to do without them",
            )
    return [key for key in keys if key in listing["image"]]


def take_held_out(keys: Sequence[str], split: str, is_held_out: Callable[[str], bool]) -> list[str]:
    """Keys of `split`: "val" are those that are held out, "train" the others, "all" both.

    >>> take_held_out(["a1", "b1"], "val", lambda key: key.startswith("b"))
    ['b1']
    """
    wanted = {"train": (False,), "val": (True,), ALL: (False, True)}[split]
    return [key for key in keys if is_held_out(key) in wanted]


def take_paper_code(keys: Sequence[str], split: str, *, name: str) -> list[str]:
    """Keys of `split` ("train", "val" or "all") as DenseMTL's loaders take them, with a warning.

    The sorted files are shuffled with seed 42 and the first 80 % taken for training, then shuffled anew from the
    running random state and the last 20 % taken for validation: four of five validation images are training images
    (348 of 426 for Virtual KITTI 2, 1506 of 1880 for SYNTHIA). Their loaders list files in the order of the file
    system, so the images are not exactly theirs, but as many.
    """
    generator = random.Random(SEED)
    shuffled = sorted(keys)
    generator.shuffle(shuffled)
    training = shuffled[: int(0.8 * len(keys))]
    shuffled = sorted(keys)
    generator.shuffle(shuffled)
    validation = shuffled[int(0.8 * len(keys)) :]
    leaked = len(set(training) & set(validation))
    warnings.warn(
        f"split '{PAPER_CODE}' of {name} leaks: {leaked} of its {len(validation)} validation images are training "
        "images; use it only to compare with numbers that were published with it.",
        stacklevel=3,
    )
    return sorted({"train": training, "val": validation, ALL: list(keys)}[split])
