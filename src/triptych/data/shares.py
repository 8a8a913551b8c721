"""Splits by shares of the images: drawn by a hash of the names, so the same on every machine."""

import hashlib
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from triptych.data.errors import DataError
from triptych.lookup import grouped

BLOCKS = 20
"""Blocks of time of one video, with `group = "time"`."""


def _blocks_of_time(keys: list[str]) -> list[str]:
    """Divide the frames of each folder, in the order of their names, into `BLOCKS` blocks of equal length."""
    folders = grouped((key.rpartition("/")[0], key) for key in sorted(keys, key=_counted))
    block = {
        key: f"{folder}/{place * min(BLOCKS, len(frames)) // len(frames)}"
        for folder, frames in folders.items()
        for place, key in enumerate(frames)
    }
    return [block[key] for key in keys]


def _counted(key: str) -> list[tuple[int, str]]:
    """Sort key that orders numbers in names by value: frame 9 before frame 10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", key)]


GROUPS: dict[str, Callable[[list[str]], list[str]]] = {
    "file": lambda keys: keys,
    "folder": lambda keys: [key.rpartition("/")[0] for key in keys],
    "time": _blocks_of_time,
}
"""Functions from keys to the groups that a split by shares keeps together."""


def draw_splits(
    keys: Sequence[str], shares: Mapping[str, float], group: str = "file", draw: str = "exact"
) -> dict[str, str]:
    """The split of each image: those of `shares`, `train` for the rest. Groups are drawn by `draw` (`DRAWS`).

    >>> draw_splits(["1", "2", "3", "4"], {"val": 0.25})
    {'1': 'train', '2': 'train', '3': 'train', '4': 'val'}
    """
    groups = dict(zip(keys, GROUPS[group](list(keys)), strict=True))
    names = set(groups.values())
    if len(names) <= len(shares) and len(keys) > len(names):
        text = f"group = '{group}' gives {len(names)} groups for {len(shares) + 1} splits"
        raise DataError(text, "group = 'time' takes blocks of time of each video, group = 'file' single images")
    splits = DRAWS[draw]({name: _place(name) for name in names}, shares)
    return {key: splits.get(groups[key], "train") for key in keys}


def _place(name: str) -> float:
    """Position of a name between 0 and 1: the first 52 bits of its hash."""
    return int(hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:13], 16) / 16**13


def _draw_exact(places: Mapping[str, float], shares: Mapping[str, float]) -> dict[str, str]:
    ordered, first = sorted(places, key=places.__getitem__), 0
    splits: dict[str, str] = {}
    for name, share in shares.items():
        last = first + math.ceil(share * len(ordered))
        splits.update(dict.fromkeys(ordered[first:last], name))
        first = last
    return splits


def _draw_stable(places: Mapping[str, float], shares: Mapping[str, float]) -> dict[str, str]:
    names, ends = [*shares, "train"], list(accumulate(shares.values()))
    return {group: names[bisect_right(ends, place)] for group, place in places.items()}


DRAWS: dict[str, Callable[[Mapping[str, float], Mapping[str, float]], dict[str, str]]] = {
    "exact": _draw_exact,
    "stable": _draw_stable,
}
"""Ways to draw groups by their positions between 0 and 1: `exact` gives each split its exact share of the groups,
rounded up, so that an added group moves others; `stable` gives it an interval of positions, so that none ever moves.
"""


def fit_shares(keys: Sequence[str], shares: Mapping[str, float], group: str = "file") -> dict[str, float]:
    """Adjust shares such that a stable draw of these images equals the exact draw, in which no split is empty.

    >>> fit_shares(["1", "2", "3", "4"], {"val": 0.25})
    {'val': 0.3}
    """
    places = [*sorted(map(_place, {*GROUPS[group](list(keys))})), 1.0]
    if len(places) <= len(shares) + 1:  # too few for all splits
        return dict(shares)
    fitted: dict[str, float] = {}
    start = wanted = 0.0
    last = 0
    for name, share in shares.items():
        last = min(last + math.ceil(share * (len(places) - 1)), len(places) - 1)
        wanted += share
        fitted[name] = _find_share(start, wanted, places[last - 1], places[last]) if share else 0.0
        start += fitted[name]
    return fitted


def _find_share(start: float, wanted: float, low: float, high: float) -> float:
    """The share of fewest digits that ends above `low` and not above `high`, near `wanted`."""
    margin = (high - low) / 10
    end = min(max(wanted, low + margin), high - margin)
    found = (round(end - start, digits) for digits in range(1, 18))
    return next(share for share in found if low < start + share <= high)
