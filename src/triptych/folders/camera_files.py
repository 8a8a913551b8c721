"""The camera of a folder of the user's own data: one for all images, or a file per image."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from triptych.data.cameras import focal_length, intrinsics_matrix, stored_size, turn_intrinsics
from triptych.data.containers import NUMPY
from triptych.data.errors import DataError
from triptych.data.lists import read_text
from triptych.lookup import named_choice, parse_json
from triptych.types import Camera


@dataclass(frozen=True)
class CameraFiles:
    """`[camera]`: one camera for all images, a field of view, or a file per image."""

    intrinsics: tuple[float | int, ...] = ()
    """fx, fy, cx, cy in pixels, of pictures as they are stored; they are rotated along with pictures by EXIF."""
    size: tuple[int, ...] = ()
    """(height, width) of the images that `intrinsics` belong to; others are scaled. Empty: those of the dataset."""
    fov: float = 0.0
    """Horizontal field of view in degrees, of pictures as stored; square pixels, principal point in the middle."""
    files: str = ""
    """Pattern of a file per image: fx fy cx cy or a 3x3 matrix as text, .npy or .json."""
    pixel_centers: Literal["half", "integer"] = "half"
    """Coordinate of the first pixel's center: 0.5, or 0 as in OpenCV's calibration."""

    def __post_init__(self) -> None:
        given = [name for name in ("intrinsics", "fov", "files") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"give exactly one of intrinsics, fov and files, not {given or 'none'}.")
        beside = [each.name for each in fields(self) if getattr(self, each.name) != each.default and each.name != "fov"]
        if self.fov and beside:
            raise DataError(f"{beside[0]} has no effect beside fov, of whatever size a picture is", "leave it out")
        if self.intrinsics and len(self.intrinsics) != 4:
            raise DataError(f"intrinsics is {list(self.intrinsics)}", "give fx, fy, cx, cy in pixels")
        if self.size and len(self.size) != 2:
            raise DataError(f"size is {list(self.size)}", "give (height, width)")
        if self.intrinsics and not (all(map(math.isfinite, self.intrinsics)) and min(self.intrinsics[:2]) > 0):
            raise DataError(f"intrinsics is {list(self.intrinsics)}", "fx and fy are positive, all four finite")
        if self.fov and not 0 < self.fov < 180:
            raise DataError(f"fov is {self.fov:g}", "give the horizontal field of view in degrees, between 0 and 180")
        named_choice("pixel_centers", self.pixel_centers, {"half": 0, "integer": 0})

    def camera(self, size: tuple[int, int], path: Path | None, *, orientation: int = 1) -> Camera | None:
        """The camera of an image of `size`; `path` is its own file, where there are files.

        `orientation` is that of EXIF, by which the image was turned upright: intrinsics describe the stored picture,
        so they are rotated along with it.
        """
        numbers = self._stored(stored_size(size, orientation), path)
        if numbers is None:
            return None
        matrix = intrinsics_matrix(numbers).astype(np.float32)
        return Camera(torch.from_numpy(turn_intrinsics(matrix, orientation, size)))

    def _stored(self, size: tuple[int, int], path: Path | None) -> tuple[float, float, float, float] | None:
        """fx, fy, cx, cy of a picture of `size` as it is stored."""
        height, width = size
        if self.fov:
            focal = focal_length(width, math.radians(self.fov))
            return focal, focal, width / 2, height / 2
        if self.files:
            if path is None:
                return None
            fx, fy, cx, cy = _read_intrinsics(path)
        else:
            fx, fy, cx, cy = self.intrinsics
        shift = {"half": 0.0, "integer": 0.5}[self.pixel_centers]
        y, x = (height / self.size[0], width / self.size[1]) if self.size else (1.0, 1.0)
        return fx * x, fy * y, (cx + shift) * x, (cy + shift) * y


def _read_intrinsics(path: Path) -> tuple[float, float, float, float]:
    try:
        if path.suffix.lower() == ".json":
            values = parse_json(read_text(path))
            if isinstance(values, dict):
                values = [values[name] for name in ("fx", "fy", "cx", "cy")]
        elif path.suffix.lower() == ".npy":
            with NUMPY:
                values = np.load(path, allow_pickle=False)
        else:
            values = np.loadtxt(read_text(path).splitlines())
        values = np.asarray(values, np.float64)
    except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
        raise DataError(
            f"camera file {path} cannot be read: {error}", "expected fx fy cx cy or a 3x3 matrix"
        ) from error
    if values.size == 4:
        fx, fy, cx, cy = values.ravel()
    elif values.size in (9, 16):
        matrix = values.reshape(math.isqrt(values.size), -1)
        fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    else:
        raise DataError(f"camera file {path} holds {values.size} numbers", "expected fx fy cx cy or a 3x3 matrix")
    if not all(map(math.isfinite, (fx, fy, cx, cy))) or min(fx, fy) <= 0:
        text = f"camera file {path} has fx {fx:g}, fy {fy:g}, cx {cx:g}, cy {cy:g}"
        raise DataError(text, "fx and fy are positive, all four finite")
    return float(fx), float(fy), float(cx), float(cy)
