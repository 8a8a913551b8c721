"""Labels of a view that follow from its exact hits: boundaries and what is salient."""

import numpy as np

from triptych.datasets.rooms_compiled import compiled
from triptych.datasets.rooms_scene import CLASSES

DEPTH_STEP, DEPTH_SLOPE = 0.05, 0.03
"""A jump in depth: more than 5 cm plus 3 % of the depth off both surfaces' tangent planes."""

BACKGROUND = frozenset(("wall", "floor", "ceiling", "window", "door", "curtain", "picture", "rug"))
"""Classes that are never salient."""
SMALLEST_FIGURE, SMALLEST_OBJECT = 0.01, 0.005
"""Shares of the image below which a figure or an object is not salient."""


@compiled
def _jump(x, y, depth, normal, x2, y2, depth2):
    """How far, along the ray (x2, y2, 1), `depth2` lies off the tangent plane at the point seen along (x, y, 1)."""
    facing = normal[0] * x2 + normal[1] * y2 + normal[2]
    if facing > -1e-9:
        return 1e9
    return abs(depth2 - depth * (normal[0] * x + normal[1] * y + normal[2]) / facing)


@compiled
def find_boundaries(depth, normals, instances, intrinsics):
    """Boundary map (H, W) uint8 from depth (H, W), camera-frame normals (H, W, 3), instance ids (H, W) and intrinsics.

    A pixel is boundary where its right or its lower neighbour belongs to another instance, or lies on the same instance beyond a jump in depth:
    off the tangent plane of the pixel, and the pixel off the neighbour's, by more than `DEPTH_STEP + DEPTH_SLOPE * depth` of the nearer one. So every
    contour is one pixel wide and lies half a pixel to the upper left; the last column looks down only, the last row to the right only.
    """
    height, width = depth.shape
    out = np.zeros((height, width), np.uint8)
    for row in range(height):
        y = (row + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
        for column in range(width):
            x = (column + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
            for down in range(2):
                s, d = row + down, column + 1 - down
                if s >= height or d >= width:
                    continue
                if instances[s, d] != instances[row, column]:
                    out[row, column] = 1
                    continue
                x2, y2 = (
                    (d + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0],
                    (s + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1],
                )
                limit = DEPTH_STEP + DEPTH_SLOPE * min(depth[row, column], depth[s, d])
                there = _jump(x, y, depth[row, column], normals[row, column], x2, y2, depth[s, d])
                back = _jump(x2, y2, depth[s, d], normals[s, d], x, y, depth[row, column])
                if there > limit and back > limit:
                    out[row, column] = 1
    return out


def find_salient(instances: np.ndarray, names: list[str]) -> np.ndarray:
    """Salient pixels (H, W) bool: every figure that covers at least 1 % of the image; without one, the most prominent object.

    Prominent is the instance, of any class but the room's own and flat decoration (`BACKGROUND`), with the largest sum over its pixels of (1 - r^2)^2, r the distance from
    the image's centre in half diagonals; it must cover 0.5 %. `names[i - 1]` is the class of instance i.
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
    # Integers: their sums do not depend on the order of addition.
    score = np.zeros(len(names) + 1, np.int64)
    np.add.at(score, instances.ravel(), weight.ravel() >> 8)
    allowed = np.array([False] + [name not in BACKGROUND for name in names]) & (
        count >= SMALLEST_OBJECT * height * width
    )
    if not allowed.any():
        return np.zeros((height, width), bool)
    return instances == int(np.where(allowed, score, -1).argmax())


CLASS_IDS = {name: i for i, name in enumerate(CLASSES)}
