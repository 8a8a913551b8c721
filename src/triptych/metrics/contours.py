"""From maps to contours: outlines of label maps, and SEISM's suppression of what is no local maximum across a line."""

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Float32, Shaped


def label_outlines(labels: Shaped[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Pixels whose label differs from their right, lower or lower-right neighbour (`seg2bmap` of the BSDS benchmark).

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


@numba.njit(cache=True, nogil=True)
@no_type_check
def _reflect(i, size):
    """The index that symmetric padding (edge pixel repeated) shows at `i`."""
    i %= 2 * size
    return i if i < size else 2 * size - 1 - i


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
@no_type_check
def _suppress(map, cosine, sine, multiplier):
    """Zero where a neighbour at distance 1 across the line, bilinearly sampled, exceeds `multiplier` times the
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

    A pixel stays, with its value, unless a neighbour across the line exceeds 1.01 times it. Maps lower or narrower
    than two pixels have no direction and come back as they are, faded at the border. Source: SEISM's contour reader as
    described in docs/protocols.md.

    >>> ridge = np.tile(np.float32([0, 0, 0, 0.2, 0.5, 0.9, 0.5, 0.2, 0, 0, 0, 0]), (12, 1))
    >>> oriented_suppression(ridge)[6].nonzero()[0].tolist()
    [5]
    """
    if min(prediction.shape) < 2:
        return _fade_border(prediction, 5)
    return _fade_border(_suppress(prediction, *_direction(prediction), np.float32(1.01)), 5)
