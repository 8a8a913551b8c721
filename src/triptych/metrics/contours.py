"""From maps to contours: outlines of label maps, SEISM's non-maximum suppression across a line, and thinning to lines
one pixel wide, equal to MATLAB's `bwmorph(x, 'thin', Inf)` bit for bit.

Guo and Hall, "Parallel thinning with two-subiteration algorithms", Communications of the ACM 32 (1989). Each
subiteration deletes at once all pixels that its table allows; the two alternate until a full pair changes nothing.
Only pixels whose neighborhood changed are looked at again.
"""

from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Float32, Int, Shaped, UInt8

from triptych.kernels import compiled


def label_outlines(labels: Shaped[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Pixels whose label differs from their right, lower or lower-right neighbor (`seg2bmap` of the BSDS benchmark).

    The last row looks to the right only, the last column down only. Contours so lie half a pixel up and left, one or
    two pixels thick. An edge map passed as a label map comes back as its outline: a line two pixels wide becomes two
    lines (how SEISM reads NYUv2's ground truth).

    >>> label_outlines(np.array([[1, 1, 2], [1, 1, 2]])).astype(int).tolist()
    [[0, 1, 0], [0, 1, 0]]
    """
    outlines = np.zeros(labels.shape, bool)
    here = labels[:-1, :-1]
    outlines[:-1, :-1] = (here != labels[:-1, 1:]) | (here != labels[1:, :-1]) | (here != labels[1:, 1:])
    outlines[-1, :-1] = labels[-1, :-1] != labels[-1, 1:]
    outlines[:-1, -1] = labels[:-1, -1] != labels[1:, -1]
    return outlines


@compiled
@no_type_check
def _reflect(i, size):
    """The index that symmetric padding (edge pixel repeated) shows at `i`."""
    i %= 2 * size
    return i if i < size else 2 * size - 1 - i


@compiled
@no_type_check
def _triangle_filter(map, radius, scale):
    """Triangle filter along the rows' direction (axis 0) by second-order running sums.

    In single precision, with the rounding of this very order of additions: SEISM's kept pixels depend on it in flat
    areas.
    """
    size, width = map.shape
    out = np.empty_like(map)
    for x in range(width):
        slope = value = map[0, x]
        for j in range(1, radius + 1):
            slope += map[_reflect(j, size), x]
            value += slope
        value = (np.float32(2) * value - slope) * scale
        slope = np.float32(0)
        out[0, x] = value
        for y in range(1, size):
            outer = map[_reflect(y - radius - 2, size), x] + map[_reflect(y + radius, size), x]
            slope += outer - np.float32(2) * map[y - 1, x]
            value += slope * scale
            out[y, x] = value
    return out


def _direction(
    prediction: Float32[np.ndarray, "height width"],
) -> tuple[Float32[np.ndarray, "height width"], Float32[np.ndarray, "height width"]]:
    """Cosine and sine of the direction across the line, in [0, pi), from second derivatives of the map smoothed by a
    triangle of radius 4.

    Angles are computed in double precision and rounded: single precision functions differ between processors.
    """
    scale = np.float32(1) / np.float32(5**4)
    smooth = _triangle_filter(np.ascontiguousarray(prediction.T), 4, scale).T
    smooth = _triangle_filter(np.ascontiguousarray(smooth), 4, np.float32(1))
    along_y, along_x = np.gradient(smooth)
    xx = np.gradient(along_x, axis=1)
    yy, yx = np.gradient(along_y)
    slope = yy * np.sign(-yx) / (xx + np.float32(1e-5))
    angle = np.arctan(slope.astype(np.float64)).astype(np.float32)
    angle = np.where(angle < 0, angle + np.float32(np.pi), angle).astype(np.float64)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


@compiled
@no_type_check
def _suppress(map, cosine, sine, multiplier):
    """Zero where a neighbor at distance 1 across the line, bilinearly sampled, exceeds `multiplier` times the
    value."""
    height, width = map.shape
    out = map.copy()
    one = np.float32(1)
    last_x, last_y = np.float32(width - 1.001), np.float32(height - 1.001)
    for y in range(height):
        for x in range(width):
            limit = map[y, x] * multiplier
            for side in (-one, one):
                u = min(max(np.float32(x) + side * cosine[y, x], np.float32(0)), last_x)
                v = min(max(np.float32(y) + side * sine[y, x], np.float32(0)), last_y)
                i, j = int(v), int(u)
                dv, du = v - np.float32(i), u - np.float32(j)
                upper = (one - du) * (one - dv) * map[i, j] + du * (one - dv) * map[i, j + 1]
                sample = upper + (one - du) * dv * map[i + 1, j] + du * dv * map[i + 1, j + 1]
                if limit < sample:
                    out[y, x] = 0
    return out


def _fade_border(map: Float32[np.ndarray, "height width"], border: int) -> Float32[np.ndarray, "height width"]:
    """The line i from an edge times i / border: first columns, then rows."""
    for axis in (1, 0):
        size = map.shape[axis]
        width = min(border, size // 2)
        factor = np.ones(size, np.float32)
        factor[:width] = np.arange(width, dtype=np.float32) / np.float32(border)
        factor[size - width :] = factor[:width][::-1]
        map = map * (factor if axis else factor[:, None])
    return map


def oriented_suppression(prediction: Float32[np.ndarray, "height width"]) -> Float32[np.ndarray, "height width"]:
    """SEISM's non-maximum suppression of a boundary map in [0, 1]: radius 1, border 5, multiplier 1.01, in single
    precision.

    A pixel stays, with its value, unless a neighbor across the line exceeds 1.01 times it. Maps lower or narrower
    than two pixels have no direction and come back as they are, faded at the border. Source: SEISM's contour reader as
    described in docs/protocols.md.

    >>> ridge = np.tile(np.float32([0, 0, 0, 0.2, 0.5, 0.9, 0.5, 0.2, 0, 0, 0, 0]), (12, 1))
    >>> oriented_suppression(ridge)[6].nonzero()[0].tolist()
    [5]
    """
    if min(prediction.shape) < 2:
        return _fade_border(prediction, 5)
    return _fade_border(_suppress(prediction, *_direction(prediction), np.float32(1.01)), 5)


def _deletion_table() -> UInt8[np.ndarray, " 256"]:
    """Table of the subiterations (bit 0: first, bit 1: second) that delete a pixel with neighborhood code c. Bit i of c
    is the neighbor x(i+1), counter-clockwise from east.
    """
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


@compiled
@no_type_check
def _neighbors(stride):
    """Offsets of the neighbors in the order of the code's bits; the opposite of neighbor j is (j + 4) % 8."""
    return np.array([1, 1 - stride, -stride, -stride - 1, -1, stride - 1, stride, stride + 1])


@compiled
@no_type_check
def _enlist(p, code, table, waiting, queues, lengths):
    """List a pixel for the subiterations that would delete it now, unless it waits there already."""
    turns = table[code[p]] & ~waiting[p]
    waiting[p] |= turns
    for turn in range(2):
        if turns >> turn & 1:
            queues[turn, lengths[turn]] = p
            lengths[turn] += 1


@compiled
@no_type_check
def _thin(pixels, alive, code, stride, table, queues, deleted, waiting):
    """Thin the set `pixels`, given by `alive` and the neighborhood `code`, in place."""
    neighbors = _neighbors(stride)
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
                q = p + neighbors[j]
                code[q] &= ~np.uint8(1 << ((j + 4) & 7))
                if alive[q]:
                    _enlist(q, code, table, waiting, queues, lengths)
        turn = 1 - turn


@compiled
@no_type_check
def _thin_nested(order, ends, size, stride, table):
    """Thin the nested sets `order[:ends[k]]`, smallest (last k) first. Their codes grow by appending; every set is
    thinned on a copy."""
    neighbors = _neighbors(stride)
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
                set_code[p + neighbors[j]] |= np.uint8(1 << ((j + 4) & 7))
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
