"""Maximum matching of two sets of pixels within a radius: exact, deterministic, and quick to update.

Every pixel of the prediction may be paired with one pixel of the target at most `radius` away. The benchmark's
`correspondPixels` solves this assignment with randomly drawn outlier nodes; the largest number of pairs is its ideal,
and has one value.

The matching is carried from one thresholded prediction to the next. Removing or adding one predicted pixel changes the
maximum by at most one, so one search for an augmenting path (Berge, 1957) per change keeps it maximum. Searches that
fail leave a *closed* set of target pixels: all are matched, and their partners see only target pixels of the set. No
later search can find a free pixel through it, until one of its pixels loses its partner.
"""

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Int


def disc_offsets(radius: float, stride: int) -> Int[np.ndarray, " offsets"]:
    """Flat offsets of all pixels within `radius` (compared in double precision), nearest first."""
    reach = int(radius)
    y, x = (grid.ravel() for grid in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    squared = y * y + x * x
    inside = np.flatnonzero(squared <= radius * radius)
    inside = inside[np.argsort(squared[inside], kind="stable")]
    return (y[inside] * stride + x[inside]).astype(np.int32)


@numba.njit(cache=True, nogil=True)
@no_type_check
def list_neighbours(targets, disc, size):
    """For every pixel p the target pixels in reach, `neighbours[start[p]:start[p + 1]]`, nearest first."""
    start = np.zeros(size + 1, np.int32)
    for offset in disc:
        for pixel in targets:
            start[pixel - offset + 1] += 1
    for p in range(size):
        start[p + 1] += start[p]
    fill = start[:-1].copy()
    neighbours = np.empty(start[size], np.int32)
    for offset in disc:
        for target in range(len(targets)):
            p = targets[target] - offset
            neighbours[fill[p]] = target
            fill[p] += 1
    return start, neighbours


@numba.njit(cache=True, nogil=True)
@no_type_check
def _add(pixel, start, neighbours, partner, mate, closed, seen, stamp, parent, pixels, targets):
    """Find a target for a new pixel, shortest augmenting path first; a failed search closes what it saw. True if one
    more pair."""
    pixels[0] = pixel
    head, num_pixels, num_targets = 0, 1, 0
    while head < num_pixels:
        p = pixels[head]
        head += 1
        for target in neighbours[start[p] : start[p + 1]]:
            if closed[target] or seen[target] == stamp:
                continue
            seen[target] = stamp
            parent[target] = p
            if mate[target] < 0:
                while target >= 0:
                    p = parent[target]
                    mate[target] = p
                    partner[p], target = target, partner[p]
                return True
            targets[num_targets] = target
            num_targets += 1
            pixels[num_pixels] = mate[target]
            num_pixels += 1
    for target in targets[:num_targets]:
        closed[target] = 1
    return False


@numba.njit(cache=True, nogil=True)
@no_type_check
def _refill(freed, positions, disc, present, partner, mate, closed, seen, stamp, parent, targets):
    """Find a pixel for a closed target that lost its partner; a failed search opens what it saw. True if it is paired
    again."""
    targets[0] = freed
    seen[freed] = stamp
    head, num_targets = 0, 1
    while head < num_targets:
        target = targets[head]
        head += 1
        for offset in disc:
            p = positions[target] + offset
            if not present[p]:
                continue
            other = partner[p]
            if other < 0:
                while True:
                    partner[p] = target
                    mate[target], p = p, mate[target]
                    if target == freed:
                        return True
                    target = parent[target]
            if closed[other] and seen[other] != stamp:
                seen[other] = stamp
                parent[other] = target
                targets[num_targets] = other
                num_targets += 1
    for target in targets[:num_targets]:
        closed[target] = 0
    return False


@numba.njit(cache=True, nogil=True)
@no_type_check
def match_nested(kept, counts, positions, disc, size):
    """Size of the maximum matching of every thresholded prediction with the target pixels at `positions`.

    `kept` and `counts` as `thin_nested` returns them: flat pixels from the last threshold down. `disc` must not lead
    out of `size`.
    """
    start, neighbours = list_neighbours(positions, disc, size)
    num_targets = len(positions)
    partner = np.full(size, -1, np.int32)
    mate, seen = np.full(num_targets, -1, np.int32), np.zeros(num_targets, np.int32)
    closed, parent = np.zeros(num_targets, np.uint8), np.empty(num_targets, np.int32)
    pixels, targets = np.empty(num_targets + 1, np.int32), np.empty(num_targets + 1, np.int32)
    present, current = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    matched = np.zeros(len(counts), np.int64)
    before, begin = kept[:0], 0
    size_of_matching = stamp = 0
    for k in range(len(counts) - 1, -1, -1):
        now = kept[begin : begin + counts[k]]
        begin += counts[k]
        for p in now:
            current[p] = 1
        for p in before:
            if not current[p]:
                present[p] = 0
                freed = partner[p]
                if freed >= 0:
                    partner[p] = mate[freed] = -1
                    size_of_matching -= 1
                    stamp += 1
                    if closed[freed] and _refill(
                        freed, positions, disc, present, partner, mate, closed, seen, stamp, parent, targets
                    ):
                        size_of_matching += 1
        for p in now:
            current[p] = 0
            if not present[p]:
                present[p] = 1
                stamp += 1
                if start[p] < start[p + 1] and _add(
                    p, start, neighbours, partner, mate, closed, seen, stamp, parent, pixels, targets
                ):
                    size_of_matching += 1
        matched[k] = size_of_matching
        before = now
    return matched
