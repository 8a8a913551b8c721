"""Moving the pixels of a sample: image, targets, extras and camera together.

Every geometric transform is one `Window`: which part of the source image each output pixel sees, and what that does to
the scene in front of the camera. Pixel coordinates are continuous, `(x, y)` with pixel centres at integer + 0.5, so a
flip, a crop and a zoom are exact for the camera too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from triptych.tasks import Task
from triptych.types import Camera, Sample

PAD_COLOR = (0.485, 0.456, 0.406)
"""ImageNet's mean colour, which is 0 once a backbone has normalised the image: what published pipelines pad with."""


@dataclass(frozen=True, eq=False)
class Window:
    """A view of `size` (height, width) onto a source image.

    `matrix` (3, 3) takes source pixel coordinates to output pixel coordinates. `mirrored`, `zoom` and `angle` say what
    becomes of the scene, in this order: its x is mirrored, it shrinks by `zoom` (the image is magnified, so all
    distances are divided by it, as published depth targets are), it turns by `angle` radians about the viewing axis,
    from x towards y. With both, a point of the scene still projects to its pixel.
    """

    matrix: Float[np.ndarray, "3 3"]
    size: tuple[int, int]
    zoom: float = 1.0
    angle: float = 0.0
    mirrored: bool = False

    @cached_property
    def inverse(self) -> Float[np.ndarray, "3 3"]:
        """Output pixel coordinates to source pixel coordinates."""
        return np.linalg.inv(self.matrix)

    @property
    def separable(self) -> bool:
        """Whether rows stay rows and columns stay columns."""
        return self.matrix[0, 1] == 0 and self.matrix[1, 0] == 0


Pair = tuple[float | int, float | int]
"""Something along x and along y."""


def affine(*, scale: Pair = (1.0, 1.0), offset: Pair = (0.0, 0.0)) -> Float[np.ndarray, "3 3"]:
    """The matrix of `(x, y) -> (scale_x x + offset_x, scale_y y + offset_y)`.

    >>> affine(scale=(2.0, 2.0), offset=(-3.0, 0.0))[0].tolist()
    [2.0, 0.0, -3.0]
    """
    return np.array([[scale[0], 0.0, offset[0]], [0.0, scale[1], offset[1]], [0.0, 0.0, 1.0]])


def turn(angle: float, zoom: float, center: Pair) -> Float[np.ndarray, "3 3"]:
    """The matrix that turns by `angle` from x towards y and magnifies by `zoom` about `center` (x, y)."""
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    x, y = center
    return np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y], [0.0, 0.0, 1.0]])


def look_through(
    sample: Sample,
    window: Window,
    tasks: Mapping[str, Task],
    *,
    fill: tuple[float, float, float] = PAD_COLOR,
    outside: Mapping[str, float] | None = None,
) -> Sample:
    """The sample as seen through `window`, with the targets of `tasks`.

    The image is interpolated linearly and is `fill` outside the source; targets and extras move by nearest neighbour:
    averaging labels would invent values. Outside the source a target is invalid, or `outside[task name]` where given.
    A target that the sample lacks is invalid everywhere.
    """
    source = _Source(window, (sample.image.shape[-2], sample.image.shape[-1]))
    targets = {}
    for name, task in tasks.items():
        target = sample.targets.get(name)
        if target is None:
            targets[name] = task.invalid_target(window.size)
            continue
        beyond = (outside or {}).get(name, _invalid(target))
        targets[name] = _change_values(source.nearest(target, beyond), task, window)
    return replace(
        sample,
        image=source.linear(sample.image, fill),
        targets=targets,
        camera=None if sample.camera is None else move_camera(sample.camera, window),
        extras={
            name: source.nearest(extra, _invalid(extra)) if source.covers(extra) else extra
            for name, extra in sample.extras.items()
        },
    )


def _invalid(values: Tensor) -> float:
    if values.is_floating_point():
        return float("nan")
    return 255 if values.dtype != torch.bool else 0


def _change_values(target: Tensor, task: Task, window: Window) -> Tensor:
    if window.mirrored:
        target = task.mirror(target)
    if window.zoom != 1:
        target = task.zoom(target, window.zoom)
    if window.angle != 0:
        target = task.rotate(target, window.angle)
    return target


def move_camera(camera: Camera, window: Window) -> Camera:
    """The camera that sees the changed scene through `window`.

    With A the window's matrix, R its rotation and M its mirroring, a point p of the camera frame moves to
    p' = R M p / zoom, so K' = A K (R M)^-1 up to a factor; the world is mirrored and shrunk along, so that poses stay
    rigid and views of one scene that are moved alike keep their relative pose.
    """
    mirror = torch.diag(torch.tensor([-1.0 if window.mirrored else 1.0, 1.0, 1.0], dtype=torch.float64))
    cos, sin = np.cos(window.angle), np.sin(window.angle)
    rotation = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    back = mirror @ rotation.T
    intrinsics = torch.from_numpy(window.matrix) @ camera.intrinsics.double() @ back
    intrinsics = (intrinsics / intrinsics[..., 2:, 2:]).to(camera.intrinsics.dtype)
    if camera.pose is None:
        return Camera(intrinsics)
    pose = camera.pose.double().clone()
    pose[..., :3, :3] = mirror @ pose[..., :3, :3] @ back
    pose[..., :3, 3] = (pose[..., :3, 3] @ mirror) / window.zoom
    return Camera(intrinsics, pose.to(camera.pose.dtype))


class _Source:
    """Where each output pixel of a window lies in a source image of `size`."""

    def __init__(self, window: Window, size: tuple[int, int]) -> None:
        self.window, self.size = window, size
        height, width = window.size
        x, y = torch.arange(width, dtype=torch.float64) + 0.5, torch.arange(height, dtype=torch.float64) + 0.5
        inverse = window.inverse
        if window.separable:
            self.x, self.y = inverse[0, 0] * x + inverse[0, 2], inverse[1, 1] * y + inverse[1, 2]
        else:
            self.x = inverse[0, 0] * x + inverse[0, 1] * y[:, None] + inverse[0, 2]
            self.y = inverse[1, 0] * x + inverse[1, 1] * y[:, None] + inverse[1, 2]
        self.x_inside = (self.x >= 0) & (self.x < size[1])
        self.y_inside = (self.y >= 0) & (self.y < size[0])
        self.column = self.x.floor().long().clamp(0, size[1] - 1)
        self.row = self.y.floor().long().clamp(0, size[0] - 1)

    def covers(self, values: Tensor) -> bool:
        return values.ndim >= 2 and tuple(values.shape[-2:]) == self.size

    def nearest(self, values: Tensor, beyond: float) -> Tensor:
        if self.window.separable:
            moved = values.index_select(-2, self.row).index_select(-1, self.column)
        else:
            moved = values.flatten(-2)[..., self.row * self.size[1] + self.column]
        return self._fill(moved, beyond)

    def linear(self, image: Float[Tensor, "channels height width"], fill: tuple[float, ...]) -> Tensor:
        if not self.window.separable:
            grid = torch.stack([self.x / self.size[1], self.y / self.size[0]], dim=-1) * 2 - 1
            moved = F.grid_sample(
                image[None], grid[None].to(image.dtype), mode="bilinear", padding_mode="border", align_corners=False
            )[0]
        else:
            moved = _interpolate(_interpolate(image, self.y, -2), self.x, -1)
        return self._fill(moved, torch.tensor(fill, dtype=image.dtype).view(-1, 1, 1))

    def _fill(self, moved: Tensor, beyond: float | Tensor) -> Tensor:
        if self.x_inside.all() and self.y_inside.all():
            return moved
        inside: Bool[Tensor, "height width"] = (
            self.x_inside & self.y_inside[:, None] if self.window.separable else self.x_inside & self.y_inside
        )
        beyond = beyond if isinstance(beyond, Tensor) else torch.tensor(beyond, dtype=moved.dtype)
        return torch.where(inside, moved, beyond)


def _interpolate(image: Tensor, position: Float[Tensor, " count"], dim: int) -> Tensor:
    """Linear interpolation at continuous `position` along `dim`, with the border repeated."""
    last = image.shape[dim] - 1
    position = (position - 0.5).clamp(0, last)
    before: Int64[Tensor, " count"] = position.floor().long()
    fraction = (position - before).to(image.dtype)
    first = image.index_select(dim, before)
    if not fraction.any():
        return first
    second = image.index_select(dim, (before + 1).clamp(max=last))
    return torch.lerp(first, second, fraction if dim == -1 else fraction[:, None])
