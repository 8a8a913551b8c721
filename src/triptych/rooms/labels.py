"""Labels of a view that follow from its exact hits: boundaries and what is salient."""

import math

import numpy as np

from triptych.kernels import compiled

DEPTH_STEP, DEPTH_SLOPE = 0.05, 0.03
"""A jump in depth: more than 5 cm plus 3 % of the depth off both surfaces' tangent planes."""

BACKGROUND = frozenset(("wall", "floor", "ceiling", "window", "door", "curtain", "picture", "rug"))
"""Classes that are never salient."""
SMALLEST_FIGURE, SMALLEST_OBJECT = 0.01, 0.005
"""Shares of the image below which a figure or an object is not salient."""


@compiled
def camera_normals(normal, rotation):
    """World normals (H, W, 3) in the axes of a camera (columns of `rotation`), in 1/32767: (3, H, W) int16."""
    height, width = normal.shape[0], normal.shape[1]
    out = np.empty((3, height, width), np.int16)
    for k in range(3):
        x, y, z = 32767.0 * rotation[0, k], 32767.0 * rotation[1, k], 32767.0 * rotation[2, k]
        for row in range(height):
            for column in range(width):
                value = x * normal[row, column, 0] + y * normal[row, column, 1] + z * normal[row, column, 2]
                out[k, row, column] = np.int16(math.floor(value + 0.5))
    return out


@compiled
def _slope(normal, rotation, row, column, x, y):
    """Normal of a pixel times the ray (x, y, 1) of the camera."""
    dx = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2]
    dy = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2]
    dz = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2]
    return normal[row, column, 0] * dx + normal[row, column, 1] * dy + normal[row, column, 2] * dz


@compiled
def _jumps(depth, normal, rotation, intrinsics, row, column, s, d):
    """Whether each of two pixels lies off the tangent plane of the other by more than the limit."""
    x, y = (column + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0], (row + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    x2, y2 = (d + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0], (s + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    one, two = depth[row, column], depth[s, d]
    limit = DEPTH_STEP + DEPTH_SLOPE * min(one, two)
    # On the plane through point 1 depth * slope is constant; a slope that is not negative never meets that plane.
    here, there = _slope(normal, rotation, row, column, x, y), _slope(normal, rotation, row, column, x2, y2)
    if there < 0.0 and abs(two - one * here / there) <= limit:
        return False
    here, there = _slope(normal, rotation, s, d, x2, y2), _slope(normal, rotation, s, d, x, y)
    return not (there < 0.0 and abs(one - two * here / there) <= limit)


@compiled
def find_boundaries(depth, normal, instances, intrinsics, rotation):
    """Boundary map (H, W) uint8 from depth (H, W), world normals (H, W, 3), instance ids (H, W) and the camera.

    A pixel is boundary where its right or its lower neighbor belongs to another instance, or to the same one beyond a
    jump in depth: each of the two points lies off the tangent plane at the other, along its own ray, by more than
    `DEPTH_STEP + DEPTH_SLOPE * depth` of the nearer. So contours are one pixel wide and lie half a pixel to the upper
    left; the last column looks down only, the last row to the right only.
    """
    height, width = depth.shape
    out = np.zeros((height, width), np.uint8)
    for row in range(height):
        for column in range(width):
            for down in range(2):
                s, d = row + down, column + 1 - down
                if (
                    s < height
                    and d < width
                    and (
                        instances[s, d] != instances[row, column]
                        # Almost all neighbors differ by less than any limit.
                        or (
                            abs(depth[s, d] - depth[row, column]) > DEPTH_STEP
                            and _jumps(depth, normal, rotation, intrinsics, row, column, s, d)
                        )
                    )
                ):
                    out[row, column] = 1
    return out


def find_salient(instances: np.ndarray, names: list[str]) -> np.ndarray:
    """Salient pixels (H, W) bool: every figure that covers at least 1 % of the image, else the most prominent object.

    Most prominent is the instance, of any class but the room's own and flat decoration (`BACKGROUND`), with the largest
    sum over its pixels of (1 - r^2)^2, where r is the distance from the image's center in half diagonals; it must cover
    0.5 %. `names[i - 1]` is the class of instance i.
    """
    height, width = instances.shape
    count = np.bincount(instances.ravel(), minlength=len(names) + 1)
    figures = [
        i + 1 for i, name in enumerate(names) if name == "person" and count[i + 1] >= SMALLEST_FIGURE * height * width
    ]
    if figures:
        return np.isin(instances, figures)
    x, y = 2 * np.arange(width) + 1 - width, 2 * np.arange(height)[:, None] + 1 - height
    weight = (width * width + height * height - x * x - y * y) ** 2
    score = np.bincount(instances.ravel(), weights=weight.ravel(), minlength=len(names) + 1)
    allowed = np.array([False] + [name not in BACKGROUND for name in names]) & (
        count >= SMALLEST_OBJECT * height * width
    )
    if not allowed.any():
        return np.zeros((height, width), bool)
    return instances == int(np.where(allowed, score, -1).argmax())
