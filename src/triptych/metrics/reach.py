"""Which pixels of two boundary maps may be paired: those within a radius of each other, with the cost of each pair."""

from typing import NamedTuple, no_type_check

import numba
import numpy as np
from jaxtyping import Int


class Graph(NamedTuple):
    """Which target pixels every pixel p can reach: `neighbours[start[p]:start[p + 1]]`, nearest first, with their
    costs. `positions` are the target pixels, `disc` the offsets of all pixels in reach, flat indices of one grid."""

    start: np.ndarray
    neighbours: np.ndarray
    costs: np.ndarray
    positions: np.ndarray
    disc: np.ndarray


def disc_offsets(radius: float, stride: int) -> tuple[Int[np.ndarray, " offsets"], Int[np.ndarray, " offsets"]]:
    """All pixels within `radius` (compared in double precision), nearest first: flat offsets, and hundredths of the
    distance, rounded."""
    reach = int(radius)
    y, x = (grid.ravel() for grid in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    squared = y * y + x * x
    inside = np.flatnonzero(squared <= radius * radius)
    inside = inside[np.argsort(squared[inside], kind="stable")]
    return (y[inside] * stride + x[inside]).astype(np.int32), np.rint(100 * np.sqrt(squared[inside])).astype(np.int64)


@numba.njit(cache=True, nogil=True)
@no_type_check
def _tie_break(pixel, target, salt):
    """16 pseudo-random bits of a pair (a finalizer of SplitMix64): ties of rounded distances are frequent, and one
    scan order for all annotators would make them agree too often on the predicted pixel."""
    bits = np.uint64(pixel) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(target) * np.uint64(0xC2B2AE3D27D4EB4F)
    bits += np.uint64(salt) * np.uint64(0x165667B19E3779F9)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((bits ^ (bits >> np.uint64(31))) & np.uint64(0xFFFF))


@numba.njit(cache=True, nogil=True)
@no_type_check
def build_graph(positions, disc, distances, size, salt):
    """The graph of a grid of `size` pixels with target pixels at `positions`; `disc` and `distances` are those of
    `disc_offsets`, and `salt` tells annotators apart."""
    start = np.zeros(size + 1, np.int32)
    for offset in disc:
        for pixel in positions:
            start[pixel - offset + 1] += 1
    for p in range(size):
        start[p + 1] += start[p]
    fill = start[:-1].copy()
    neighbours = np.empty(start[size], np.int32)
    costs = np.empty(start[size], np.int64)
    for i in range(len(disc)):
        for target in range(len(positions)):
            p = positions[target] - disc[i]
            neighbours[fill[p]] = target
            # 15 bits between the two: the tie breaks of 32768 pairs do not add up to a hundredth of a pixel.
            costs[fill[p]] = (distances[i] << 31) + _tie_break(p, positions[target], salt)
            fill[p] += 1
    return Graph(start, neighbours, costs, positions, disc)
