"""A made-up street of exact geometry, on which readers of street datasets are tested."""

import numpy as np

WALLS = (((0.0, -1.0, 0.0), 1.5), ((-0.8, 0.0, -0.6), 6.0), ((0.6, 0.0, -0.8), 9.0))
"""The road 1.5 m below the camera and two walls: unit normal n that faces the camera, distance d, n . p = -d."""
TOP = -0.5
"""The walls end half a metre above the camera; above them is the sky."""


def see_street(matrix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Depth z `(H, W)`, normals `(3, H, W)` and number of the nearest plane, all as seen through intrinsics `matrix`.

    Pixel centres lie at integer + 0.5. In the sky depth is infinite, normals are NaN and the number is -1.
    """
    v, u = np.mgrid[: size[0], : size[1]] + 0.5
    directions = np.einsum("ij,jhw->ihw", np.linalg.inv(matrix), np.stack([u, v, np.ones_like(u)]))
    approach = np.stack([-np.einsum("i,ihw->hw", np.array(normal), directions) for normal, _ in WALLS])
    distances = np.array([distance for _, distance in WALLS])[:, None, None]
    depths = np.where(approach > 1e-6, distances / np.maximum(approach, 1e-6), np.inf)
    depths = np.where(directions[1] * np.minimum(depths, 1e9) < TOP, np.inf, depths)
    number, depth = depths.argmin(0), depths.min(0)
    sky = np.isinf(depth)
    normals = np.array([normal for normal, _ in WALLS])[number].transpose(2, 0, 1).astype(np.float32)
    return np.where(sky, np.inf, depth), np.where(sky, np.nan, normals), np.where(sky, -1, number)


def inside_of(number: np.ndarray, reach: int) -> np.ndarray:
    """Pixels whose neighborhood of `reach` to each side shows one plane."""
    found = np.zeros(number.shape, bool)
    rows, columns = number.shape
    for row in range(reach, rows - reach):
        for column in range(reach, columns - reach):
            part = number[row - reach : row + reach + 1, column - reach : column + reach + 1]
            found[row, column] = part.min() == part.max() >= 0
    return found


def angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Degrees between unit vectors `(3, ...)`."""
    return np.degrees(np.arccos(np.clip((first * second).sum(0), -1, 1)))


def photo(seed: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
