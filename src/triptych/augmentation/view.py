"""Moving the pixels of a sample: image, targets, extras and camera together.

Every geometric transform is one `View`: which part of the source image each output pixel sees, and what that does to
the scene in front of the camera. Pixel coordinates are continuous, `(x, y)` with pixel centers at integer + 0.5, so a
flip, a crop and a zoom are exact for the camera too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from triptych.augmentation.kernels import take_linear, take_nearest
from triptych.tasks import Task
from triptych.types import IGNORE, Camera, Sample

PAD_COLOR = (0.485, 0.456, 0.406)
"""ImageNet's mean color, which is 0 after normalization: the padding of published pipelines."""


@dataclass(frozen=True, eq=False)
class View:
    """A view of `size` (height, width) onto a source image.

    `matrix` (3, 3) maps source pixel coordinates to output pixel coordinates. `mirrored`, `zoom` and `angle` describe
    how the scene changes, in this order: its x is mirrored, it shrinks by `zoom` (the image is magnified, so all
    distances are divided by it, as published depth targets are), it rotates by `angle` radians about the viewing axis,
    from x towards y. With both changes, a point of the scene still projects to its pixel.
    """

    matrix: Float[np.ndarray, "3 3"]
    size: tuple[int, int]
    zoom: float = 1.0
    angle: float = 0.0
    mirrored: bool = False

    @cached_property
    def inverse(self) -> Float[np.ndarray, "3 3"]:
        """Map from output pixel coordinates to source pixel coordinates."""
        return np.linalg.inv(self.matrix)

    @property
    def is_straight(self) -> bool:
        """Whether rows stay rows and columns stay columns."""
        return bool(self.matrix[0, 1] == 0 and self.matrix[1, 0] == 0)


Pair = tuple[float | int, float | int]
"""Values for x and y."""


def affine(*, scale: Pair = (1.0, 1.0), offset: Pair = (0.0, 0.0)) -> Float[np.ndarray, "3 3"]:
    """The matrix of `(x, y) -> (scale_x x + offset_x, scale_y y + offset_y)`.

    >>> affine(scale=(2.0, 2.0), offset=(-3.0, 0.0))[0].tolist()
    [2.0, 0.0, -3.0]
    """
    return np.array([[scale[0], 0.0, offset[0]], [0.0, scale[1], offset[1]], [0.0, 0.0, 1.0]])


def rotate(angle: float, zoom: float, center: Pair) -> Float[np.ndarray, "3 3"]:
    """The matrix that turns by `angle` from x towards y and magnifies by `zoom` about `center` (x, y)."""
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    x, y = center
    return np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y], [0.0, 0.0, 1.0]])


def apply_view(
    sample: Sample,
    view: View,
    tasks: Mapping[str, Task],
    *,
    fill: tuple[float, float, float] = PAD_COLOR,
    outside: Mapping[str, float | int] | None = None,
) -> Sample:
    """The sample as seen through `view`, with the targets of `tasks`.

    The image is interpolated linearly and is `fill` outside the source; targets, and extras of the image's size, move
    by nearest neighbor: averaging labels would invent values. Outside the source a target is invalid, or
    `outside[task name]` where given; extras are NaN, or 0 where they are whole numbers (no instance, no mask). A target
    that the sample lacks is invalid everywhere. Neighbors move through the same view.
    """
    size = tuple(sample.image.shape[-2:])
    source = (_Straight if view.is_straight else _Turned)(view, (size[0], size[1]))
    targets = {}
    for name, task in tasks.items():
        target = sample.targets.get(name)
        if target is None:
            targets[name] = task.invalid_target(view.size)
            continue
        invalid = float("nan") if target.is_floating_point() else IGNORE
        moved = source.nearest(target, _fill_like(target, (outside or {}).get(name, invalid)))
        targets[name] = _change_values(moved, task, view)
    extras = {}
    for name, extra in sample.extras.items():
        invalid = float("nan") if extra.is_floating_point() else 0
        is_map = tuple(extra.shape[-2:]) == size
        extras[name] = source.nearest(extra, _fill_like(extra, invalid)) if is_map else extra
    return replace(
        sample,
        image=source.linear(sample.image, _fill_like(sample.image, fill).view(-1, 1, 1)),
        targets=targets,
        camera=None if sample.camera is None else move_camera(sample.camera, view),
        extras=extras,
        neighbors=tuple(apply_view(frame, view, tasks, fill=fill, outside=outside) for frame in sample.neighbors),
    )


def _fill_like(values: Tensor, fill: float | int | tuple[float, ...]) -> Tensor:
    return torch.tensor(fill, dtype=values.dtype)


def _change_values(target: Tensor, task: Task, view: View) -> Tensor:
    if view.mirrored:
        target = task.mirror(target)
    if view.zoom != 1:
        target = task.zoom(target, view.zoom)
    if view.angle != 0:
        target = task.rotate(target, view.angle)
    return target


def move_camera(camera: Camera, view: View) -> Camera:
    """The camera that sees the changed scene through `view`.

    With A the view's matrix, R its rotation and M its mirroring, a point p of the camera frame moves to
    p' = R M p / zoom, so K' = A K (R M)^-1 up to a factor; the world is mirrored and shrunk along, so that poses stay
    rigid and views of one scene that are moved alike keep their relative pose.
    """
    mirror = torch.diag(torch.tensor([-1.0 if view.mirrored else 1.0, 1.0, 1.0], dtype=torch.float64))
    cos, sin = np.cos(view.angle), np.sin(view.angle)
    rotation = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    back = mirror @ rotation.T
    intrinsics = torch.from_numpy(view.matrix) @ camera.intrinsics.double() @ back
    intrinsics = (intrinsics / intrinsics[..., 2:, 2:]).to(camera.intrinsics.dtype)
    if camera.pose is None:
        return Camera(intrinsics)
    pose = camera.pose.double().clone()
    pose[..., :3, :3] = mirror @ pose[..., :3, :3] @ back
    pose[..., :3, 3] = (pose[..., :3, 3] @ mirror) / view.zoom
    return Camera(intrinsics, pose.to(camera.pose.dtype))


class _Axis:
    """Sampling positions of the rows or columns of a view along an axis of the source of `length` pixels."""

    def __init__(self, scale: float, offset: float, count: int, length: int) -> None:
        position = scale * (np.arange(count) + 0.5) + offset
        inside = np.flatnonzero((position >= 0) & (position < length))
        position = position[inside]
        start = int(inside[0]) if len(inside) else 0
        self.place, self.is_whole = slice(start, start + len(inside)), len(inside) == count
        self.nearest = np.floor(position).astype(np.int64)
        # Between pixel centers; the border pixel is repeated beyond its center.
        between = (position - 0.5).clip(0, length - 1)
        self.before = np.floor(between).astype(np.int64)
        self.fraction = between - self.before
        self.is_shift = scale == 1 and not self.fraction.any()

    def __len__(self) -> int:
        return len(self.nearest)

    def cut(self) -> slice:
        """Slice of the source that is seen, where the view only shifts it."""
        return slice(int(self.nearest[0]), int(self.nearest[0]) + len(self))


class _Straight:
    """Resampling for a view whose rows stay rows: each axis is resampled separately."""

    def __init__(self, view: View, size: tuple[int, int]) -> None:
        inverse, self.size = view.inverse, view.size
        self.rows = _Axis(inverse[1, 1], inverse[1, 2], self.size[0], size[0])
        self.columns = _Axis(inverse[0, 0], inverse[0, 2], self.size[1], size[1])

    def nearest(self, values: Tensor, beyond: Tensor) -> Tensor:
        rows, columns = self.rows.nearest, self.columns.nearest
        return self._move(values, beyond, lambda source, output: take_nearest(source, rows, columns, output))

    def linear(self, image: Tensor, beyond: Tensor) -> Tensor:
        def move(source: np.ndarray, output: np.ndarray) -> None:
            below, beside = (axis.fraction.astype(source.dtype) for axis in (self.rows, self.columns))
            take_linear(source, self.rows.before, below, self.columns.before, beside, output)

        return self._move(image, beyond, move)

    def _move(self, values: Tensor, beyond: Tensor, move: Callable[[np.ndarray, np.ndarray], None]) -> Tensor:
        rows, columns = self.rows, self.columns
        seen = values.new_empty((*values.shape[:-2], len(rows), len(columns)))
        if seen.numel() and rows.is_shift and columns.is_shift:
            seen = values[..., rows.cut(), columns.cut()]
        elif seen.numel():
            move(_planes(values.contiguous()), _planes(seen))
        if rows.is_whole and columns.is_whole:
            return seen
        filled = values.new_empty((*values.shape[:-2], *self.size))
        filled[..., : rows.place.start, :], filled[..., rows.place.stop :, :] = beyond, beyond
        between = filled[..., rows.place, :]
        between[..., : columns.place.start], between[..., columns.place.stop :] = beyond, beyond
        between[..., columns.place] = seen
        return filled


def _planes(values: Tensor) -> np.ndarray:
    """`(planes, height, width)` over the same memory."""
    return values.view(-1, *values.shape[-2:]).numpy()


class _Turned:
    """Resampling for any other view, pixel by pixel."""

    def __init__(self, view: View, size: tuple[int, int]) -> None:
        self.size = size
        height, width = view.size
        x, y = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
        self.x, self.y = (row[0] * x + row[1] * y + row[2] for row in view.inverse[:2])
        self.inside = torch.from_numpy((self.x >= 0) & (self.x < size[1]) & (self.y >= 0) & (self.y < size[0]))

    def nearest(self, values: Tensor, beyond: Tensor) -> Tensor:
        row, column = (
            np.floor(position).clip(0, length - 1) for position, length in zip((self.y, self.x), self.size, strict=True)
        )
        index = (row * self.size[1] + column).astype(np.int64)
        moved = values.reshape(*values.shape[:-2], -1).numpy().take(index, axis=-1, mode="clip")
        return torch.where(self.inside, torch.from_numpy(moved), beyond)

    def linear(self, image: Tensor, beyond: Tensor) -> Tensor:
        grid = np.stack([self.x / self.size[1], self.y / self.size[0]], axis=-1) * 2 - 1
        moved = F.grid_sample(
            image[None],
            torch.from_numpy(grid)[None].to(image.dtype),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        return torch.where(self.inside, moved[0], beyond)
