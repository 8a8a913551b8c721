"""Depth and intrinsics to coloured points, and PLY files of them.

Axes are the camera's: x right, y down, z forward. Pixel centres lie at integer + 0.5, so an image `W` pixels wide
spans [0, W].
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float


def backproject(
    depth: Float[np.ndarray, "height width"], intrinsics: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "height width 3"]:
    """Points `z K^-1 (u + 0.5, v + 0.5, 1)` in metres of every pixel, in the camera frame; NaN where depth is not
    finite and above 0.

    >>> from triptych.data.cameras import intrinsics_matrix
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

    >>> from triptych.data.cameras import intrinsics_matrix
    >>> thin_intrinsics(intrinsics_matrix((8.0, 8.0, 4.5, 4.5)), 2)[0].tolist()
    [4.0, 0.0, 2.5]
    """
    # Pixel i was pixel step i, whose centre lies at step i + 0.5.
    return np.array([[1 / step, 0, 0.5 - 0.5 / step], [0, 1 / step, 0.5 - 0.5 / step], [0, 0, 1]]) @ intrinsics


def write_points(
    path: Path, parts: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray | None]], *, comment: str = ""
) -> int:
    """Write points, colors (uint8), and normals where they are not `None`, each `(*grid, 3)`, as binary little-endian
    PLY; points with a NaN are left out. They come in parts. Returns how many were written. `comment` (ASCII, one line)
    goes into the header.
    """
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
