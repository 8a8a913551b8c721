"""Thinning of boolean maps to lines one pixel wide, equal to MATLAB's `bwmorph(x, 'thin', Inf)` bit for bit.

Guo and Hall, "Parallel thinning with two-subiteration algorithms", Communications of the ACM 32 (1989). Each
subiteration deletes at once all pixels that its table allows; the two alternate until a full pair changes nothing.
Only pixels whose neighbourhood changed are looked at again.
"""

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Int, UInt8


def _deletion_table() -> UInt8[np.ndarray, " 256"]:
    """In which subiterations (bit 0: first, bit 1: second) a pixel with neighbourhood code c goes. Bit i of c is the
    neighbour x(i+1), counter-clockwise from east."""
    table = np.zeros(256, np.uint8)
    for code in range(256):
        x = [bool(code >> i & 1) for i in range(8)]
        x.append(x[0])
        crossings = sum(not x[2 * i] and (x[2 * i + 1] or x[2 * i + 2]) for i in range(4))
        pairs = [sum(x[2 * i + j] or x[2 * i + j + 1] for i in range(4)) for j in range(2)]
        if crossings == 1 and 2 <= min(pairs) <= 3:
            first = not ((x[1] or x[2] or not x[7]) and x[0])
            second = not ((x[5] or x[6] or not x[3]) and x[4])
            table[code] = first + 2 * second
    return table


_TABLE = _deletion_table()


@numba.njit(cache=True, nogil=True)
@no_type_check
def _neighbours(stride):
    """Offsets of the neighbours in the order of the code's bits; the opposite of neighbour j is (j + 4) % 8."""
    return np.array([1, 1 - stride, -stride, -stride - 1, -1, stride - 1, stride, stride + 1])


@numba.njit(cache=True, nogil=True)
@no_type_check
def _enlist(p, code, table, waiting, queues, lengths):
    """List a pixel for the subiterations that would delete it now, unless it waits there already."""
    turns = table[code[p]] & ~waiting[p]
    waiting[p] |= turns
    for turn in range(2):
        if turns >> turn & 1:
            queues[turn, lengths[turn]] = p
            lengths[turn] += 1


@numba.njit(cache=True, nogil=True)
@no_type_check
def _thin(pixels, alive, code, stride, table, queues, deleted, waiting):
    """Thin the set `pixels`, given by `alive` and the neighbourhood `code`, in place."""
    neighbours = _neighbours(stride)
    lengths = np.zeros(2, np.int64)
    for p in pixels:
        _enlist(p, code, table, waiting, queues, lengths)
    turn = 0
    while lengths[0] + lengths[1] > 0:
        mine = np.uint8(1 << turn)
        num_deleted = 0
        for p in queues[turn, : lengths[turn]]:
            waiting[p] &= ~mine
            if alive[p] and table[code[p]] & mine:
                deleted[num_deleted] = p
                num_deleted += 1
        lengths[turn] = 0
        for p in deleted[:num_deleted]:
            alive[p] = 0
        for p in deleted[:num_deleted]:
            for j in range(8):
                q = p + neighbours[j]
                code[q] &= ~np.uint8(1 << ((j + 4) & 7))
                if alive[q]:
                    _enlist(q, code, table, waiting, queues, lengths)
        turn = 1 - turn


@numba.njit(cache=True, nogil=True)
@no_type_check
def _thin_nested(order, ends, size, stride, table):
    """Thin the nested sets `order[:ends[k]]`, smallest (last k) first. Their codes grow by appending; every set is
    thinned on a copy."""
    neighbours = _neighbours(stride)
    set_alive, set_code = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    alive, code, waiting = np.zeros(size, np.uint8), np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    queues, deleted = np.empty((2, size), np.int32), np.empty(size, np.int32)
    num_thresholds = len(ends)
    counts = np.zeros(num_thresholds, np.int64)
    kept = np.empty(max(4 * len(order), 1024), np.int32)
    num_kept = begin = 0
    for k in range(num_thresholds - 1, -1, -1):
        for p in order[begin : ends[k]]:
            set_alive[p] = 1
            for j in range(8):
                set_code[p + neighbours[j]] |= np.uint8(1 << ((j + 4) & 7))
        begin = ends[k]
        for p in range(size):  # a loop compiles to a far quicker copy than a slice does
            alive[p] = set_alive[p]
            code[p] = set_code[p]
        _thin(order[:begin], alive, code, stride, table, queues, deleted, waiting)
        if num_kept + begin > len(kept):
            larger = np.empty(2 * len(kept) + begin, np.int32)
            larger[:num_kept] = kept[:num_kept]
            kept = larger
        first = num_kept
        for p in order[:begin]:
            if alive[p]:
                kept[num_kept] = p
                num_kept += 1
        counts[k] = num_kept - first
    return kept[:num_kept], counts


def thin_nested(
    rank: UInt8[np.ndarray, "height width"], num_thresholds: int
) -> tuple[Int[np.ndarray, " kept"], Int[np.ndarray, " thresholds"]]:
    """Thin the sets `rank > k` for every threshold k in 0..num_thresholds-1.

    `rank` needs a border of zeros. Returns the flat indices of the thinned pixels, concatenated from the last
    threshold down to the first, and their number per threshold (in the order of the thresholds).
    """
    flat = rank.ravel()
    order = np.flatnonzero(flat).astype(np.int32)
    order = order[np.argsort(-flat[order].astype(np.int16), kind="stable")]
    ends = len(order) - np.searchsorted(flat[order][::-1], np.arange(num_thresholds), side="right")
    return _thin_nested(order, ends, flat.size, rank.shape[1], _TABLE)


def thin(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Thin to convergence: lines one pixel wide, 8-connected parts stay connected. Outside the image nothing is set.

    >>> thin(np.ones((3, 5), bool)).astype(int).tolist()
    [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    """
    padded = np.pad(mask, 1)
    kept, _ = thin_nested(padded.astype(np.uint8), 1)
    thinned = np.zeros(padded.size, bool)
    thinned[kept] = True
    return thinned.reshape(padded.shape)[1:-1, 1:-1]
