"""Test whether stored numbers can be depth: across a flat surface, inverse depth is linear in pixel coordinates.

Floors, walls and tables are flat. In a file of the logarithm of depth some exponential of the number is linear instead,
in a file of inverse depth the number itself.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

LOGARITHM, INVERSE = "a logarithm of depth or another curve of it", "inverse depth"
CURES_OF_READINGS = {
    LOGARITHM: "save metres, exp(stored) for natural logarithms: no option turns them",
    INVERSE: "kind disparity turns it, with a numerator of 1 for inverse metres, or of baseline x focal length",
}
"""Cure for each reading, where it is the right one."""
CLEARER = 0.25
"""A reading is chosen where its unevenness is below this share of that of the others."""
LEAST, MOST_SIDE = 500, 160
"""Least number of triples of pixels for a decision; about the number of pixels per side that are used."""


def find_misreading(stored: np.ndarray) -> str:
    """Return `LOGARITHM` or `INVERSE` where these make surfaces far flatter than depth does, else "".

    A curve whose second difference is k times the square of the first is the logarithm to base exp(k) of a linear
    function, or of its inverse. A single slope across the whole picture is no evidence.

    >>> corner = 10 / (5 + np.abs(np.arange(60) - 20) + np.zeros((40, 1)))
    >>> [find_misreading(stored) for stored in (corner, np.log(corner), 1 / corner)]
    ['', 'a logarithm of depth or another curve of it', 'inverse depth']
    """
    if stored.ndim != 2 or min(stored.shape) < 12:
        return ""
    step = max(1, max(stored.shape) // MOST_SIDE)
    values = stored[::step, ::step].astype(np.float64)
    reach = max(1, min(values.shape) // 24)
    triples = [_triples(values, reach), _triples(values.T, reach)]
    before, here, after = np.concatenate(triples, axis=1)
    first, second = (after - before) / 2, after - 2 * here + before
    if len(here) < LEAST:
        return ""
    rate = float(np.median(second / first**2))
    with np.errstate(all="ignore"):
        depth = _unevenness(here / before, here / after)
        inverse = _unevenness(before, after, here)
        logarithm = _unevenness(np.exp(-rate * (before - here)), np.exp(-rate * (after - here)))
    if inverse < CLEARER * depth:
        return INVERSE if any(_spread(after - before) > 0.5 for before, _, after in triples) else ""
    return LOGARITHM if rate and logarithm < CLEARER * min(depth, inverse) else ""


def count_misreadings(arrays: Sequence[np.ndarray]) -> dict[str, int]:
    """Count the files that support each reading; readings of at most a third of the files are left out."""
    found = Counter(reading for reading in map(find_misreading, arrays) if reading)
    return {reading: count for reading, count in found.items() if 3 * count > len(arrays)}


def _triples(values: np.ndarray, reach: int) -> np.ndarray:
    """Triples `(3, N)` of pixels at equal distances in a row, where all are valid and the outer ones clearly differ."""
    found = np.stack([values[:, : -2 * reach], values[:, reach:-reach], values[:, 2 * reach :]]).reshape(3, -1)
    found = found[:, np.isfinite(found).all(0) & (found != 0).all(0)]
    if not found.size:
        return found
    low, high = np.percentile(found, (5, 95))
    return found[:, np.abs(found[2] - found[0]) > 2e-3 * (high - low)]


def _unevenness(before: np.ndarray, after: np.ndarray, here: np.ndarray | float = 1.0) -> float:
    """Lower quartile over pixels of the second difference relative to the first."""
    return float(np.nanpercentile(np.abs(before + after - 2 * here) / np.maximum(np.abs(after - before), 1e-12), 25))


def _spread(slopes: np.ndarray) -> float:
    """Interquartile range of slopes relative to their median: 0 for a single slope."""
    low, usual, high = np.percentile(slopes, (25, 50, 75)) if slopes.size else (0.0, 1.0, 0.0)
    return float((high - low) / max(abs(usual), 1e-12))
