"""Frames around labelled images, each image's in a folder of its own, with the poses of their cameras.

`KEY/OFFSET.jpg` was taken OFFSET frames after the labelled image KEY (negative: before). Beside it may lie its depth in
metres, `KEY/OFFSET.npy`, and its pose: a 4x4 matrix in `KEY/OFFSET.txt`, or lines of COLMAP's `images.txt`, there or in
the folder above, which name it. The labelled image itself has the offset 0, of which only the pose is read.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from triptych.data.errors import DataError
from triptych.data.files import walk_files
from triptych.data.lists import read_text
from triptych.lookup import named_choice
from triptych.rendering.poses import check_rigid
from triptych.rendering.reprojection import color_errors_by_direction
from triptych.types import Sample

PICTURES = (".jpg", ".jpeg", ".png", ".ppm")
COLMAP = "images.txt"
BETTER = 0.9
"""The inverses of poses are taken for right where their color error is below this share of that of the poses."""
DIRECTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "camera-to-world": lambda pose: pose,
    "world-to-camera": np.linalg.inv,
}


@dataclass(frozen=True)
class NearbyFrames:
    """Files by the name of a frame (`KEY/+5`), and poses, camera to world in metres, also of the images themselves."""

    images: dict[str, Path] = field(default_factory=dict)
    depths: dict[str, Path] = field(default_factory=dict)
    poses: dict[str, np.ndarray] = field(default_factory=dict)

    def shift(self, name: str, step: int) -> str:
        """Name of the frame `step` frames after an image or a listed frame, whether or not it exists.

        >>> NearbyFrames(images={"5/+2": Path("5/2.jpg")}).shift("5/+2", -2)
        '5'
        """
        key, _, offset = name.rpartition("/") if name in self.images else (name, "", "0")
        return name_frame(key, int(offset) + step)

    def with_depth(self, keys: Iterable[str], what: str) -> list[str]:
        """The frames around the images `keys` that have a depth, sorted; `DataError` where none of `what` has."""
        images = set(keys)
        found = sorted(name for name in self.images.keys() & self.depths.keys() if name.rpartition("/")[0] in images)
        if not found:
            raise DataError(
                f"no frame around an image of {what} has depth",
                "put it in metres into frames/KEY/OFFSET.npy (docs/datasets.md), or leave frames_as_samples out",
            )
        return found


def name_frame(key: str, offset: int) -> str:
    """The name of the frame `offset` frames after an image; of the image itself for 0.

    >>> name_frame("0005", -3), name_frame("0005", 0)
    ('0005/-3', '0005')
    """
    return f"{key}/{offset:+d}" if offset else key


def find_nearby(folder: Path, *, pose_direction: str = "camera-to-world", pose_scale: float = 1.0) -> NearbyFrames:
    """List the frames below a folder.

    `pose_direction` is that of the 4x4 matrices (COLMAP's are always world to camera), `pose_scale` the metres of one
    unit of all poses.

    Raises `DataError` for poses that cannot be read, are given twice or are no rigid motions.
    """
    direct = named_choice("pose_direction", pose_direction, DIRECTIONS)
    found = NearbyFrames()
    origins: dict[str, Path] = {}
    for path in walk_files(folder):
        name = _frame_of(path.relative_to(folder))
        if path.name == COLMAP:
            poses = {
                frame: np.linalg.inv(pose)
                for file, pose in read_colmap(path).items()
                if (frame := _frame_of((path.parent / file).relative_to(folder)))
            }
        elif name and path.suffix == ".txt":
            poses = {name: direct(read_matrix(path))}
        else:
            poses = {}
            # 0.jpg, which COLMAP may have used, is the labelled image, which is read from the dataset itself.
            around = name and int(path.stem) != 0
            if around and path.suffix.lower() in PICTURES:
                found.images[name] = path
            elif around and path.suffix == ".npy":
                found.depths[name] = path
        for frame, pose in poses.items():
            if frame in origins:
                raise DataError(f"{path} and {origins[frame]} both have a pose of {frame}", "keep one of them")
            origins[frame] = path
            found.poses[frame] = pose.copy()
            found.poses[frame][:3, 3] *= pose_scale
    return found


def check_direction(folder: Path, samples: Iterable[tuple[Sample, Tensor]]) -> None:
    """Raise `DataError` where samples, each with depth `(1, H, W)`, match their neighbors better by the inverse poses.

    Undecidable cases (no neighbor, no overlap, similar errors in both directions) pass.
    """
    errors = []
    for sample, depth in samples:
        for view in sample.neighbors:
            own, other = sample.camera, view.camera
            if own is None or other is None or own.pose is None or other.pose is None or view.image.isnan().any():
                continue
            errors.append(
                color_errors_by_direction(
                    sample.image[None],
                    depth[None],
                    view.image[None],
                    own.intrinsics[None],
                    other.intrinsics[None],
                    (own.pose[None], other.pose[None]),
                )
            )
    told = [pair for pair in errors if all(map(math.isfinite, pair))]
    given, inverted = (sum(side) / len(told) for side in zip(*told, strict=True)) if told else (0.0, 0.0)
    if inverted < BETTER * given:
        raise DataError(
            f"the poses below {folder} point the other way: by them depth shows the neighbors' colors with a mean "
            f"error of {given:.3f}, by their inverses {inverted:.3f}",
            "pass the other pose_direction, or COLMAP's own images.txt",
        )


def _frame_of(path: Path) -> str:
    """Name of the frame of a path below the folder; empty for other files."""
    try:
        offset = int(path.stem)
    except ValueError:
        return ""
    key = path.parent.as_posix()
    return name_frame(key, offset) if key != "." else ""


def read_matrix(path: Path) -> np.ndarray:
    """A rigid motion `(4, 4)` float64 from text: 16 numbers, or 12 without the last row."""
    try:
        values = np.array(read_text(path).replace(",", " ").split(), np.float64)
    except ValueError as error:
        raise DataError(f"pose file {path} cannot be read ({error})", "expected a 4x4 matrix as text") from error
    if values.size not in (12, 16):
        raise DataError(f"pose file {path} holds {values.size} numbers", "expected a 4x4 matrix as text")
    matrix = np.eye(4)
    matrix[: values.size // 4] = values.reshape(-1, 4)
    return _rigid(matrix, path, path.stem)


def read_colmap(path: Path) -> dict[str, np.ndarray]:
    """Poses `(4, 4)`, world to camera, by the names in COLMAP's `images.txt`.

    Two lines per image: `IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME`, and its points as triples, maybe none.
    """
    poses: dict[str, np.ndarray] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#") or (len(words) % 3 == 0 and _are_numbers(words)):
            continue
        if len(words) < 10 or not _are_numbers(words[:9]):
            raise DataError(
                f"line {number} of {path} is no image of COLMAP's",
                "expected IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, and a line of points after it",
            )
        quaternion, translation = np.array(words[1:5], np.float64), np.array(words[5:8], np.float64)
        name = " ".join(words[9:])
        length = float(np.linalg.norm(quaternion))
        if not math.isclose(length, 1, abs_tol=1e-2):
            raise DataError(f"line {number} of {path}: the quaternion of {name} has length {length:g}", "expected 1")
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation_of_quaternion(quaternion / length), translation
        poses[name] = _rigid(pose, path, name)
    return poses


def rotation_of_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """Rotation matrix of a unit quaternion (w, x, y, z).

    >>> rotation_of_quaternion(np.array([0.0, 0.0, 0.0, 1.0])).astype(int).tolist()
    [[-1, 0, 0], [0, -1, 0], [0, 0, 1]]
    """
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _are_numbers(words: list[str]) -> bool:
    try:
        return all(math.isfinite(float(word)) for word in words)
    except ValueError:
        return False


def _rigid(matrix: np.ndarray, path: Path, name: str) -> np.ndarray:
    try:
        check_rigid(torch.from_numpy(matrix)[None], (name,))
    except ValueError as error:
        raise DataError.about(f"pose file {path}", error) from error
    return matrix
