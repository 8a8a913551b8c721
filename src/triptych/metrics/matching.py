"""Maximum matching of two sets of pixels within a radius: exact, deterministic, and quick to update.

Every pixel of the prediction may be paired with one pixel of the target at most `radius` away. The benchmark's
`correspondPixels` solves this assignment with randomly drawn outlier nodes; the largest number of pairs is its ideal,
and has one value.

The matching is carried from one thresholded prediction to the next. Removing or adding one predicted pixel changes the
maximum by at most one, so one search for an augmenting path (Berge, 1957) per change keeps it maximum. Searches that
fail leave a *closed* set of target pixels: all are matched, and their partners see only target pixels of the set. No
later search can find a free pixel through it, until one of its pixels loses its partner.
"""

import zlib
from math import sqrt
from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Bool, Int, UInt8

from triptych.kernels import compiled
from triptych.metrics.assignment import assign


class Graph(NamedTuple):
    """Target pixels in reach of every pixel p: `neighbors[start[p]:start[p + 1]]`, nearest first, with their costs.
    `positions` are the target pixels, `disc` the offsets of all pixels in reach, flat indices of one grid.
    """

    start: np.ndarray
    neighbors: np.ndarray
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


@compiled
@no_type_check
def _tie_break(pixel, target, salt):
    """16 pseudo-random bits of a pair (a finalizer of SplitMix64): ties of rounded distances are frequent, and one
    scan order for all annotators would make them agree too often on the predicted pixel."""
    bits = np.uint64(pixel) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(target) * np.uint64(0xC2B2AE3D27D4EB4F)
    bits += np.uint64(salt) * np.uint64(0x165667B19E3779F9)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((bits ^ (bits >> np.uint64(31))) & np.uint64(0xFFFF))


@compiled
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
    neighbors = np.empty(start[size], np.int32)
    costs = np.empty(start[size], np.int64)
    for i in range(len(disc)):
        for target in range(len(positions)):
            p = positions[target] - disc[i]
            neighbors[fill[p]] = target
            # 15 bits between the two: the tie breaks of 32768 pairs do not add up to a hundredth of a pixel.
            costs[fill[p]] = (distances[i] << 31) + _tie_break(p, positions[target], salt)
            fill[p] += 1
    return Graph(start, neighbors, costs, positions, disc)


class Matching(NamedTuple):
    """A maximum matching and the room to change it. Of pixels: `present`, `partner` (a target, or -1), `pixels`. Of
    targets: `mate` (a pixel, or -1), `closed`, `seen` (the last search that did), `parent`, `targets`."""

    present: np.ndarray
    partner: np.ndarray
    pixels: np.ndarray
    mate: np.ndarray
    closed: np.ndarray
    seen: np.ndarray
    parent: np.ndarray
    targets: np.ndarray


@compiled
@no_type_check
def _empty_matching(size, num_targets):
    return Matching(
        np.zeros(size, np.uint8),
        np.full(size, -1, np.int32),
        np.empty(num_targets + 1, np.int32),
        np.full(num_targets, -1, np.int32),
        np.zeros(num_targets, np.uint8),
        np.zeros(num_targets, np.int32),
        np.empty(num_targets, np.int32),
        np.empty(num_targets + 1, np.int32),
    )


@compiled
@no_type_check
def _add(pixel, graph, matching, stamp):
    """Find a target for a new pixel, shortest augmenting path first; a failed search closes what it saw. 1 if there is
    one more pair, else 0."""
    start, neighbors = graph.start, graph.neighbors
    _, partner, pixels, mate, closed, seen, parent, targets = matching
    pixels[0] = pixel
    head, num_pixels, num_targets = 0, 1, 0
    while head < num_pixels:
        p = pixels[head]
        head += 1
        for i in range(start[p], start[p + 1]):  # a slice would count references
            target = neighbors[i]
            if closed[target] or seen[target] == stamp:
                continue
            seen[target] = stamp
            parent[target] = p
            if mate[target] < 0:
                while target >= 0:
                    p = parent[target]
                    mate[target] = p
                    partner[p], target = target, partner[p]
                return 1
            targets[num_targets] = target
            num_targets += 1
            pixels[num_pixels] = mate[target]
            num_pixels += 1
    for target in targets[:num_targets]:
        closed[target] = 1
    return 0


@compiled
@no_type_check
def _remove(pixel, graph, matching, stamp):
    """Take a pixel away. If its target was closed, find it another pixel; a failed search opens what it saw. 1 if there
    is one pair fewer, else 0."""
    positions, disc = graph.positions, graph.disc
    present, partner, _, mate, closed, seen, parent, targets = matching
    present[pixel] = 0
    freed = partner[pixel]
    if freed < 0:
        return 0
    partner[pixel] = mate[freed] = -1
    if not closed[freed]:
        return 1
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
                        return 0
                    target = parent[target]
            if closed[other] and seen[other] != stamp:
                seen[other] = stamp
                parent[other] = target
                targets[num_targets] = other
                num_targets += 1
    for target in targets[:num_targets]:
        closed[target] = 0
    return 1


@compiled
@no_type_check
def _mark_nearest(pixels, graph, matching, explained):
    """Mark the pixels that the maximum matching of least total distance uses.

    Only among the partners of closed targets and the unmatched pixels is there a choice (Dulmage and Mendelsohn, 1958):
    every maximum matching pairs all closed targets with these pixels, and all other pixels in reach of a target.
    """
    start, neighbors, costs, _, _ = graph
    partner, closed = matching.partner, matching.closed
    local = matching.targets
    num_local = 0
    for target in range(len(closed)):
        if closed[target]:
            local[target] = num_local
            num_local += 1
    first = np.zeros(num_local + 1, np.int32)
    chosen = np.empty(len(pixels), np.int32)
    num_chosen = 0
    for i in range(len(pixels)):
        p = pixels[i]
        if partner[p] >= 0 and not closed[partner[p]]:
            explained[i] = 1
        elif start[p] < start[p + 1]:
            chosen[num_chosen] = i
            num_chosen += 1
            for j in range(start[p], start[p + 1]):
                first[local[neighbors[j]] + 1] += 1
    for target in range(num_local):
        first[target + 1] += first[target]
    fill = first[:-1].copy()
    columns = np.empty(first[num_local], np.int32)
    block = np.empty(first[num_local], np.int64)
    for column in range(num_chosen):
        p = pixels[chosen[column]]
        for i in range(start[p], start[p + 1]):
            target = local[neighbors[i]]
            columns[fill[target]] = column
            block[fill[target]] = costs[i]
            fill[target] += 1
    row = assign(first, columns, block, num_chosen)
    for column in range(num_chosen):
        if row[column] >= 0:
            explained[chosen[column]] = 1


@compiled
@no_type_check
def _match_nested(kept, counts, positions, disc, distances, size, salt, explained):
    graph = build_graph(positions, disc, distances, size, salt)
    matching = _empty_matching(size, len(positions))
    present = matching.present
    wanted = np.zeros(size, np.uint8)
    matched = np.zeros(len(counts), np.int64)
    before, begin = kept[:0], 0
    num_pairs = stamp = 0
    for k in range(len(counts) - 1, -1, -1):
        now = kept[begin : begin + counts[k]]
        for p in now:
            wanted[p] = 1
        for p in before:
            if not wanted[p]:
                stamp += 1
                num_pairs -= _remove(p, graph, matching, stamp)
        for p in now:
            wanted[p] = 0
            if not present[p]:
                present[p] = 1
                stamp += 1
                num_pairs += _add(p, graph, matching, stamp)
        matched[k] = num_pairs
        if len(explained):
            _mark_nearest(now, graph, matching, explained[begin : begin + counts[k]])
        begin += counts[k]
        before = now
    return matched


_NOTHING = np.empty(0, np.uint8)


def match_nested(
    kept: Int[np.ndarray, " kept"],
    counts: Int[np.ndarray, " thresholds"],
    target: Bool[np.ndarray, "height width"],
    radius: float,
    explained: UInt8[np.ndarray, " explained"] = _NOTHING,
) -> Int[np.ndarray, " thresholds"]:
    """Size of the maximum matching of every thresholded prediction with one annotator's boundaries.

    `kept` and `counts` as `thin_nested` returns them: flat pixels of `target`'s grid, from the last threshold down. The
    grid has a border as wide as `radius`. Where `explained` (as long as `kept`) is given, the pixels that the maximum
    matching of least total distance uses are set in it.
    """
    positions = np.flatnonzero(target).astype(np.int32)
    salt = zlib.crc32(np.packbits(target).tobytes())
    return _match_nested(kept, counts, positions, *disc_offsets(radius, target.shape[1]), target.size, salt, explained)


def match_boundaries(
    prediction: Bool[np.ndarray, "height width"], target: Bool[np.ndarray, "_ _"], max_dist: float = 0.0075
) -> tuple[Bool[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """Match two boundary maps one to one within `max_dist` times the image diagonal; returns the matched pixels of
    both.

    The matching has the largest possible number of pairs and, among those, the least total distance (hundredths of a
    pixel, rounded). Maps are taken as they are: thin them first to reproduce a boundary benchmark. Raises `ValueError`
    when sizes differ or `max_dist` is negative.

    >>> prediction, target = np.zeros((2, 9, 9), bool)
    >>> prediction[4, 2:8], target[5, 2:5] = True, True
    >>> matched = match_boundaries(prediction, target, max_dist=0.1)
    >>> [int(part.sum()) for part in matched]
    [3, 3]
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction is {prediction.shape} and target {target.shape}; give maps of one size.")
    if not 0 <= max_dist <= 1:
        raise ValueError(f"max_dist {max_dist} is not in [0, 1]: a fraction of the image diagonal, such as 0.0075.")
    radius = max_dist * sqrt(prediction.shape[0] ** 2 + prediction.shape[1] ** 2)
    border = max(int(radius), 1)
    maps = np.pad(prediction, border), np.pad(target, border)
    return _matched_part(*maps, radius, border), _matched_part(*maps[::-1], radius, border)


def _matched_part(mine: np.ndarray, other: np.ndarray, radius: float, border: int) -> np.ndarray:
    """The pixels of `mine` that the matching uses. Both sides have their own choice: the blocks of unmatched pixels of
    either side are disjoint, so the two parts belong to one matching."""
    kept = np.flatnonzero(mine).astype(np.int32)
    explained = np.zeros(max(len(kept), 1), np.uint8)
    match_nested(kept, np.array([len(kept)]), other, radius, explained)
    matched = np.zeros(mine.size, bool)
    matched[kept] = explained[: len(kept)]
    return matched.reshape(mine.shape)[border:-border, border:-border]
