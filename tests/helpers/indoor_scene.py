"""An empty room seen from inside, exactly: depth, normals and which of its five planes each pixel shows."""

import numpy as np

# Normals that face the camera, and distances: floor, ceiling, left wall, right wall, back wall.
PLANES = (((0, -1, 0), 1.3), ((0, 1, 0), 1.2), ((1, 0, 0), 1.7), ((-1, 0, 0), 2.1), ((0.1, 0, -1), 4.0))


def see_room(matrix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth (H, W) in metres, unit normals (H, W, 3) in the camera frame, plane ids (H, W) from 0.

    The ray of pixel (u, v) is K^-1 (u + 0.5, v + 0.5, 1); the plane n . p = -d is met at z = -d / (n . ray).
    """
    v, u = np.mgrid[: size[0], : size[1]] + 0.5
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(matrix).T
    normals = np.array([normal for normal, _ in PLANES], np.float64)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    towards = rays @ normals.T
    depths = np.where(towards < 0, -np.array([distance for _, distance in PLANES]) / np.minimum(towards, -1e-9), np.inf)
    plane = depths.argmin(-1)
    return depths.min(-1), normals[plane], plane


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Degrees between vectors (3, H, W), where both are known."""
    cosine = (a * b).sum(0)
    return np.degrees(np.arccos(np.clip(cosine[np.isfinite(cosine)], -1, 1)))
