"""Splits by shares of the images: drawn by a hash of the names, so the same on every machine."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence

from triptych.data.errors import DataError
from triptych.lookup import grouped

BLOCKS = 20
"""Blocks of time of one video, with `group = "time"`."""


def _blocks_of_time(keys: list[str]) -> list[str]:
    """The block of each frame: a folder's frames, in the order of their names, in `BLOCKS` blocks of equal length."""
    folders = grouped((key.rpartition("/")[0], key) for key in sorted(keys, key=_counted))
    block = {
        key: f"{folder}/{place * min(BLOCKS, len(frames)) // len(frames)}"
        for folder, frames in folders.items()
        for place, key in enumerate(frames)
    }
    return [block[key] for key in keys]


def _counted(key: str) -> list[tuple[int, str]]:
    """Sorts names by their numbers: frame 9 before frame 10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", key)]


GROUPS: dict[str, Callable[[list[str]], list[str]]] = {
    "file": lambda keys: keys,
    "folder": lambda keys: [key.rpartition("/")[0] for key in keys],
    "time": _blocks_of_time,
}
"""What a split by shares keeps together: the group of each key."""


def draw_splits(keys: Sequence[str], shares: Mapping[str, float], group: str = "file") -> dict[str, str]:
    """The split of each image: those of `shares`, `train` for the rest. Groups are taken in the order of a hash.

    >>> draw_splits(["1", "2", "3", "4"], {"val": 0.25})
    {'1': 'train', '2': 'train', '3': 'train', '4': 'val'}
    """
    groups = dict(zip(keys, GROUPS[group](list(keys)), strict=True))
    ordered = sorted(
        set(groups.values()), key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()
    )
    if len(ordered) <= len(shares) and len(keys) > len(ordered):
        text = f"group = '{group}' gives {len(ordered)} groups for {len(shares) + 1} splits"
        raise DataError(text, "group = 'time' takes blocks of time of each video, group = 'file' single images")
    splits: dict[str, str] = {}
    first = 0
    for name, share in shares.items():
        last = first + math.ceil(share * len(ordered))
        splits.update(dict.fromkeys(ordered[first:last], name))
        first = last
    return {key: splits.get(groups[key], "train") for key in keys}
