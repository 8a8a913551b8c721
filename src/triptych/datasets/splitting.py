"""Choose the samples of a split of a published dataset: by lists of its archive, by held-out keys, or by a shuffle."""

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from triptych.data.errors import DataError
from triptych.data.lists import read_lines
from triptych.data.splits import ALL

SHOWN = 3
PAPER_CODE = "paper-code"
SEED = 42


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
    """Keep the samples of a split that have an image.

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
    """Keys of `split` ("train", "val" or "all") as in DenseMTL's loaders, with a warning.

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
