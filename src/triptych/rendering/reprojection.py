"""View synthesis: one image as its camera would have seen it from where another camera stands.

A pixel of the frame is lifted to a point with its depth, moved into the other camera and projected there; the colour
found at that place is the synthesised one. Jaderberg et al. (NeurIPS 2015) made the sampling differentiable; Zhou et
al. (CVPR 2017, eq. 2) trained depth and motion with it: p' ~ K' T D(p) K^-1 p. Pixel centres are at integer + 0.5.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from triptych.rendering.cameras import metric_rays
from triptych.rendering.poses import relative_pose

Images = Float[Tensor, "batch channels height width"]
Depth = Float[Tensor, "batch 1 height width"]
Matrices = Float[Tensor, "batch 3 3"]
Motions = Float[Tensor, "batch 4 4"]
Vectors = Float[Tensor, "batch 3"]
Points = Float[Tensor, "batch height width 3"]

NEAREST = 1e-6
"""Metres before a camera that a point keeps at least when it is projected."""


class Warped(NamedTuple):
    """A synthesised image, and where its points lie in front of the other camera and inside its image."""

    image: Float[Tensor, "batch channels height width"]
    in_view: Bool[Tensor, "batch 1 height width"]


def rotation_from_axis_angle(vector: Vectors) -> Matrices:
    """exp([v]x): the rotation by |v| radians about v (Rodrigues); smooth at 0.

    >>> quarter = rotation_from_axis_angle(torch.tensor([[0.0, 0.0, torch.pi / 2]]))
    >>> (quarter @ torch.tensor([1.0, 0.0, 0.0])).round(decimals=4).tolist()
    [[0.0, 1.0, 0.0]]
    """
    x, y, z = vector.unbind(dim=1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    return torch.linalg.matrix_exp(skew)


def rigid_motion(axis_angle: Vectors, translation: Vectors) -> Motions:
    """x -> R x + t as a matrix.

    >>> rigid_motion(torch.zeros(1, 3), torch.tensor([[1.0, 2.0, 3.0]]))[0, :3, 3].tolist()
    [1.0, 2.0, 3.0]
    """
    top = torch.cat([rotation_from_axis_angle(axis_angle), translation[:, :, None]], dim=2)
    last = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(top), 1, 4)
    return torch.cat([top, last], dim=1)


def invert_motion(motion: Motions) -> Motions:
    """The motion back: x -> R^T (x - t).

    >>> invert_motion(rigid_motion(torch.zeros(1, 3), torch.ones(1, 3)))[0, :3, 3].tolist()
    [-1.0, -1.0, -1.0]
    """
    back = motion[:, :3, :3].mT
    top = torch.cat([back, -back @ motion[:, :3, 3:]], dim=2)
    return torch.cat([top, motion[:, 3:]], dim=1)


def backproject(depth: Depth, intrinsics: Matrices) -> Points:
    """The point D(p) K^-1 p that each pixel shows, in metres, in the camera's frame.

    >>> K = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, 0.0, 1.0]]])
    >>> backproject(torch.full((1, 1, 2, 2), 4.0), K)[0, 0, 1].tolist()
    [1.0, -1.0, 4.0]
    """
    size = (depth.shape[-2], depth.shape[-1])
    return depth[:, 0, :, :, None] * metric_rays(intrinsics, size, size).directions


def move_points(points: Points, motion: Motions) -> Points:
    """R x + t of every point."""
    return torch.einsum("bij,bhwj->bhwi", motion[:, :3, :3], points) + motion[:, None, None, :3, 3]


def project(
    points: Points, intrinsics: Matrices
) -> tuple[Float[Tensor, "batch height width 2"], Float[Tensor, "batch height width"]]:
    """Pixel coordinates (x, y) of points in a camera's frame, and their depth; behind the camera they mean nothing.

    >>> K = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, 0.0, 1.0]]])
    >>> project(torch.tensor([[[[1.0, -1.0, 4.0]]]]), K)[0].flatten().tolist()
    [1.5, 0.5]
    """
    z = points[..., 2]
    on_plane = points / z.clamp(min=NEAREST)[..., None]
    return torch.einsum("bij,bhwj->bhwi", intrinsics, on_plane)[..., :2], z


def warp(image: Images, depth: Depth, intrinsics: Matrices, image_intrinsics: Matrices, motion: Motions) -> Warped:
    """What the frame with `depth` and `intrinsics` would look like, by the colours of another camera's `image`.

    `motion` takes points of the frame's camera to the other camera. Colours are interpolated linearly between pixel
    centres; beyond the rim that of the rim is taken, and `in_view` is false.

    >>> K = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, 0.0, 1.0]]])
    >>> image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> one_pixel = rigid_motion(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]))
    >>> warped = warp(image, torch.full((1, 1, 2, 2), 2.0), K, K, one_pixel)
    >>> warped.image.flatten().tolist(), warped.in_view.flatten().tolist()
    ([2.0, 2.0, 4.0, 4.0], [True, False, True, False])
    """
    height, width = image.shape[-2:]
    pixels, z = project(move_points(backproject(depth, intrinsics), motion), image_intrinsics)
    grid = 2 * pixels / pixels.new_tensor([width, height]) - 1
    sampled = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return Warped(sampled, ((z > NEAREST) & (grid.abs() <= 1).all(dim=-1))[:, None])


def color_errors_by_direction(
    image: Images,
    depth: Depth,
    other: Images,
    intrinsics: Matrices,
    other_intrinsics: Matrices,
    poses: tuple[Motions, Motions],
) -> tuple[float, float]:
    """Mean absolute color errors of `image` synthesized from `other`, with `poses` (of both) taken as camera to world
    and as world to camera: the lower one tells what they are. Over pixels that lie in the other view either way; NaN
    where there are none.
    """
    both = [pose.to(torch.promote_types(pose.dtype, torch.float32)) for pose in poses]
    known = depth.isfinite()
    warps = [
        warp(
            other,
            torch.where(known, depth, 1.0),
            intrinsics,
            other_intrinsics,
            relative_pose(other_pose, own).to(depth),
        )
        for own, other_pose in (both, [invert_motion(pose) for pose in both])
    ]
    seen = (known & warps[0].in_view & warps[1].in_view).expand_as(image)
    given, inverted = ((warped.image - image).abs()[seen].mean().item() for warped in warps)
    return given, inverted
