"""Thinning of boolean maps to lines one pixel wide, equal to MATLAB's `bwmorph(x, 'thin', Inf)` bit for bit.

Guo and Hall, "Parallel thinning with two-subiteration algorithms", Communications of the ACM 32 (1989). Each
subiteration deletes at once all pixels that its table allows; the two alternate until a full pair changes nothing.
Only pixels whose neighbourhood changed are looked at again.
"""

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Int, UInt8


def _deletion_table() -> Bool[np.ndarray, "2 256"]:
    """Whether a pixel with neighbourhood code `c` goes in either subiteration. Bit i of `c`: neighbour x(i+1),
    counter-clockwise from east."""
    table = np.zeros((2, 256), np.bool_)
    for code in range(256):
        x = [bool(code >> i & 1) for i in range(8)]
        x.append(x[0])
        crossings = sum(not x[2 * i] and (x[2 * i + 1] or x[2 * i + 2]) for i in range(4))
        fewest = min(
            sum(x[2 * i] or x[2 * i + 1] for i in range(4)), sum(x[2 * i + 1] or x[2 * i + 2] for i in range(4))
        )
        if crossings == 1 and 2 <= fewest <= 3:
            table[0, code] = not ((x[1] or x[2] or not x[7]) and x[0])
            table[1, code] = not ((x[5] or x[6] or not x[3]) and x[4])
    return table


_TABLE = _deletion_table()


@numba.njit(cache=True, nogil=True)
@no_type_check
def _neighbours(stride):
    """Offsets of the neighbours in the order of the code's bits; the opposite of neighbour j is (j + 4) % 8."""
    return np.array([1, 1 - stride, -stride, -stride - 1, -1, stride - 1, stride, stride + 1])


@numba.njit(cache=True, nogil=True)
@no_type_check
def _thin(pixels, alive, code, stride, table, queue, other, deleted, waiting):
    """Thin the set `pixels`, given by `alive` and the neighbourhood `code`, in place.

    `queue` lists what this subiteration looks at, `other` what the next one does; a bit per subiteration in `waiting`
    says who is listed.
    """
    neighbours = _neighbours(stride)
    num_queue = num_other = 0
    for p in pixels:
        if table[0, code[p]]:
            queue[num_queue] = p
            num_queue += 1
            waiting[p] |= 1
        if table[1, code[p]]:
            other[num_other] = p
            num_other += 1
            waiting[p] |= 2
    turn = 0
    while num_queue + num_other > 0:
        num_deleted = 0
        mine, next_one = np.uint8(1 << turn), np.uint8(2 >> turn)
        for i in range(num_queue):
            p = queue[i]
            waiting[p] &= ~mine
            if alive[p] and table[turn, code[p]]:
                deleted[num_deleted] = p
                num_deleted += 1
        num_queue = 0
        for i in range(num_deleted):
            alive[deleted[i]] = 0
        for i in range(num_deleted):
            for j in range(8):
                q = deleted[i] + neighbours[j]
                code[q] &= ~np.uint8(1 << ((j + 4) & 7))
                if alive[q]:
                    if not waiting[q] & mine:
                        waiting[q] |= mine
                        queue[num_queue] = q
                        num_queue += 1
                    if not waiting[q] & next_one:
                        waiting[q] |= next_one
                        other[num_other] = q
                        num_other += 1
        queue, other = other, queue
        num_queue, num_other = num_other, num_queue
        turn = 1 - turn


@numba.njit(cache=True, nogil=True)
@no_type_check
def _thin_nested(order, ends, size, stride, table):
    """Thin the nested sets `order[:ends[k]]`, smallest (last k) first: their codes grow by appending, the thinned sets
    are found anew."""
    neighbours = _neighbours(stride)
    set_alive, set_code = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    alive, code, waiting = np.zeros(size, np.uint8), np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    queue, other, deleted = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.int32)
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
        alive[:] = set_alive
        code[:] = set_code
        _thin(order[:begin], alive, code, stride, table, queue, other, deleted, waiting)
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
