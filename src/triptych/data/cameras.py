"""Intrinsics of pinhole cameras: from a field of view or four numbers, and turned upright with their picture."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float

StoredCamera = Callable[[tuple[int, int]], np.ndarray]
"""Intrinsics `(3, 3)` of a picture as it is stored, by its (height, width)."""


def focal_length(width: int, angle: float) -> float:
    """Focal length in pixels of an image whose `width` spans `angle` (radians)."""
    return width / 2 / math.tan(angle / 2)


def intrinsics_from_field_of_view(size: tuple[int, int], degrees: int | float) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of an image `(height, width)` whose width spans `degrees`, with square pixels and a centered axis.

    >>> intrinsics_from_field_of_view((480, 640), 90.0)[0].tolist()
    [320.0, 0.0, 320.0]
    """
    if not 0 < degrees < 180:
        raise ValueError(f"field of view is {degrees} degrees; a pinhole camera has more than 0 and less than 180.")
    height, width = size
    focal = round(focal_length(width, math.radians(degrees)), 9)
    return intrinsics_matrix((focal, focal, width / 2, height / 2))


def intrinsics_matrix(intrinsics: Sequence[int | float] | np.ndarray) -> Float[np.ndarray, "3 3"]:
    """`(fx, fy, cx, cy)` in pixels, or a matrix, as a 3 x 3 matrix; `ValueError` for anything else.

    >>> intrinsics_matrix((500, 510, 320, 240)).tolist()
    [[500.0, 0.0, 320.0], [0.0, 510.0, 240.0], [0.0, 0.0, 1.0]]
    """
    values = np.asarray(intrinsics, np.float64)
    if values.shape == (4,):
        fx, fy, cx, cy = values
        values = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if values.shape != (3, 3) or not np.isfinite(values).all() or values[0, 0] <= 0 or values[1, 1] <= 0:
        raise ValueError(
            f"intrinsics are {np.asarray(intrinsics).tolist()}; give fx, fy, cx, cy in pixels, the first two above "
            "0, or a 3 x 3 matrix."
        )
    return values


def stored_camera(
    fov: int | float | None, intrinsics: Sequence[int | float] | np.ndarray | None
) -> StoredCamera | None:
    """The camera of a field of view in degrees or of intrinsics (fx, fy, cx, cy), `None` where neither is given; both
    are a `ValueError`, and so are impossible ones.
    """
    if fov is None and intrinsics is None:
        return None
    if fov is not None and intrinsics is not None:
        raise ValueError("both a field of view and intrinsics are given; give one of them.")
    if intrinsics is not None:
        matrix = intrinsics_matrix(intrinsics)
        return lambda size: matrix
    camera = partial(intrinsics_from_field_of_view, degrees=fov or 0)
    camera((1, 1))  # an impossible angle fails here, not after the first image
    return camera


UPRIGHT_MATRICES: dict[int, Callable[[int, int], list[list[int]]]] = {
    2: lambda height, width: [[-1, 0, width], [0, 1, 0]],
    3: lambda height, width: [[-1, 0, width], [0, -1, height]],
    4: lambda height, width: [[1, 0, 0], [0, -1, height]],
    5: lambda height, width: [[0, 1, 0], [1, 0, 0]],
    6: lambda height, width: [[0, -1, height], [1, 0, 0]],
    7: lambda height, width: [[0, -1, height], [-1, 0, width]],
    8: lambda height, width: [[0, 1, 0], [-1, 0, width]],
}
"""Map from a stored pixel (x, y) to the upright image by EXIF orientation: the first two rows of a matrix A."""


def stored_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(height, width) at which an image of upright `size` is stored; also the inverse of this."""
    return size if orientation < 5 else (size[1], size[0])


def turn_intrinsics(matrix: np.ndarray, orientation: int, size: tuple[int, int]) -> np.ndarray:
    """Intrinsics `(3, 3)` of a stored picture as those of the upright image, which has `size` (height, width).

    The camera frame turns with the pixels, so that x stays right and y down: K' = A K R^-1, with R the turn in A.

    >>> turn_intrinsics(np.array([[8.0, 0, 5], [0, 9, 2], [0, 0, 1]]), 6, (10, 6)).tolist()
    [[9.0, 0.0, 4.0], [0.0, 8.0, 5.0], [0.0, 0.0, 1.0]]
    """
    if orientation not in UPRIGHT_MATRICES:
        return matrix
    upright = np.array([*UPRIGHT_MATRICES[orientation](*stored_size(size, orientation)), [0, 0, 1]], matrix.dtype)
    turn = upright.copy()
    turn[:2, 2] = 0
    return upright @ matrix @ turn.T


def upright_intrinsics(camera: StoredCamera, size: tuple[int, int], orientation: int) -> np.ndarray:
    """Intrinsics `(3, 3)` of an image that EXIF's `orientation` turned upright to `size` (height, width)."""
    return turn_intrinsics(camera(stored_size(size, orientation)), orientation, size)
