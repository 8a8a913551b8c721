"""Depth and intrinsics to coloured points, and PLY files of them.

Axes are the camera's: x right, y down, z forward. Pixel centres lie at integer + 0.5, so an image `W` pixels wide
spans [0, W].
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8


def intrinsics_from_field_of_view(size: tuple[int, int], degrees: int | float) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of an image `(height, width)` whose width spans `degrees`, with square pixels and a centred axis.

    >>> intrinsics_from_field_of_view((480, 640), 90.0)[0].tolist()
    [320.0, 0.0, 320.0]
    """
    if not 0 < degrees < 180:
        raise ValueError(f"field of view is {degrees} degrees; a pinhole camera has more than 0 and less than 180.")
    height, width = size
    focal = round(width / 2 / math.tan(math.radians(degrees) / 2), 9)
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


def backproject(
    depth: Float[np.ndarray, "height width"], intrinsics: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "height width 3"]:
    """Points `z K^-1 (u + 0.5, v + 0.5, 1)` in metres of every pixel, in the camera frame; NaN where depth is not
    finite and above 0.

    >>> backproject(np.full((2, 2), 3.0), intrinsics_matrix((1.0, 1.0, 1.0, 1.0)))[0, 0].tolist()
    [-1.5, -1.5, 3.0]
    """
    height, width = depth.shape
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(intrinsics).T
    z = np.where(np.isfinite(depth) & (depth > 0), depth, np.nan)
    return rays * z[..., None]


def thin_intrinsics(intrinsics: Float[np.ndarray, "3 3"], step: int) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of an image of which every `step`-th pixel of both axes is kept, from the first on.

    >>> thin_intrinsics(intrinsics_matrix((8.0, 8.0, 4.5, 4.5)), 2)[0].tolist()
    [4.0, 0.0, 2.5]
    """
    # Pixel i was pixel step i, whose centre lies at step i + 0.5.
    return np.array([[1 / step, 0, 0.5 - 0.5 / step], [0, 1 / step, 0.5 - 0.5 / step], [0, 0, 1]]) @ intrinsics


def write_ply(
    path: Path,
    points: Float[np.ndarray, "*grid 3"],
    colors: UInt8[np.ndarray, "*grid 3"],
    normals: Float[np.ndarray, "*grid 3"] | None = None,
    *,
    comment: str = "",
) -> int:
    """Write points, and normals where given, as binary little-endian PLY; points with a NaN are left out. Returns how
    many were written. `comment` (ASCII, one line) goes into the header.
    """
    return write_points(path, [(points, colors, normals)], comment=comment)


def write_points(
    path: Path, parts: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray | None]], *, comment: str = ""
) -> int:
    """The same of points, colors and normals that come in parts."""
    tables = [_table(*part) for part in parts]
    layout = tables[0].dtype
    properties = [f"property {'uchar' if layout[name] == np.uint8 else 'float'} {name}" for name in layout.names or ()]
    count = sum(map(len, tables))
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment x right, y down, z forward; metres",
        *([f"comment {comment}"] if comment else []),
        f"element vertex {count}",
        *properties,
        "end_header",
    ]
    with path.open("wb") as file:
        file.write("\n".join([*header, ""]).encode("ascii"))
        for table in tables:
            file.write(table.tobytes())
    return count


def _table(points: np.ndarray, colors: np.ndarray, normals: np.ndarray | None) -> np.ndarray:
    """The records of a PLY file; points with a NaN are left out."""
    columns: dict[str, np.ndarray] = {name: points[..., i] for i, name in enumerate("xyz")}
    if normals is not None:
        columns |= {name: normals[..., i] for i, name in enumerate(("nx", "ny", "nz"))}
    finite = np.logical_and.reduce([np.isfinite(values) for values in columns.values()])
    shades = {name: colors[..., i] for i, name in enumerate(("red", "green", "blue"))}
    layout = [(name, "<f4") for name in columns] + [(name, "u1") for name in shades]
    table = np.empty(int(finite.sum()), dtype=layout)
    for name, values in (columns | shades).items():
        table[name] = values[finite]
    return table
