"""Camera motion by direct image alignment: six numbers, found without a network where depth is known.

The motion T under which another image I' has the colours of the frame I minimises, with depth D,
sum_p w(r) r(p)^2, r(p) = I'(project(T D(p) K^-1 p)) - I(p), by Gauss-Newton steps T <- exp(xi) T with
(J^T W J + damping) xi = -J^T W r, from coarse images to fine ones (Lucas and Kanade, IJCAI 1981; of images with depth:
Kerl, Sturm and Cremers, ICRA 2013; of depth that is being learnt: Wang et al., CVPR 2018).
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from triptych.rendering.reprojection import (
    Depth,
    Images,
    Matrices,
    Motions,
    Points,
    backproject,
    move_points,
    project,
    rigid_motion,
)

COARSEST = 8
"""Pixels that the smaller side of the coarsest images has at least."""
ROBUST = 0.1
"""Difference of colours from which on a pixel counts little (Geman and McClure): hidden surfaces, highlights."""
NEAREST = 0.05
"""Depth, relative to the median, that a moved point keeps at least."""


@torch.no_grad()
def align_images(
    frame: Images,
    image: Images,
    depth: Depth,
    intrinsics: Matrices,
    image_intrinsics: Matrices,
    *,
    damping: float = 1e-5,
    inside: Bool[Tensor, "batch 1 height width"] | None = None,
) -> Motions:
    """The motion that takes points of the frame's camera to that of `image`, which begins at none; without gradients.

    `depth` belongs to the frame; the translation has its unit. `damping`, relative to the mean curvature, holds
    directions that the images do not tell apart, such as turning and shifting before a far wall. Images without any
    texture do not move. Where both images are padded alike, `inside` are the pixels that are not: the rim of what they
    show stands still, however the camera moves.

    >>> K = torch.tensor([[[48.0, 0.0, 24.0], [0.0, 48.0, 24.0], [0.0, 0.0, 1.0]]])
    >>> rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    >>> def stripes(x, y):
    ...     return (0.5 + 0.2 * torch.sin(x / 4) + 0.2 * torch.sin(y / 5)).expand(1, 3, 48, 48)
    >>> depth = 2 + rows / 24 + (columns > 20)  # no plane: shifts and turns differ
    >>> moved = stripes(columns - 48 * 0.05 / depth, rows)
    >>> motion = align_images(moved, stripes(columns, rows), depth[None, None], K, K)
    >>> bool((motion[0, :3, 3] - torch.tensor([-0.05, 0.0, 0.0])).abs().max() < 0.01)
    True
    """
    inside = torch.ones_like(depth, dtype=torch.bool) if inside is None else inside
    scale = depth.flatten(1).median(dim=1).values[:, None, None, None]
    motion = torch.eye(4, device=depth.device, dtype=depth.dtype).expand(len(depth), 4, 4)
    for level in reversed(range(_levels(frame))):
        coarse = _Level.build(level, frame, image, depth / scale, intrinsics, image_intrinsics, inside)
        for _ in range(2 * (level + 1)):
            motion = coarse.step(motion, damping) @ motion
    rigid = motion.clone()
    rigid[:, :3, 3] *= scale[:, 0, 0]
    return rigid


def _levels(frame: Images) -> int:
    """How often images can be halved, and once more."""
    level = 0
    while min(frame.shape[-2:]) >> (level + 1) >= COARSEST:
        level += 1
    return level + 1


class _Level(NamedTuple):
    """Both images at one resolution: the frame with its points, the other one with its slopes along x and y and where
    these are of what it shows.
    """

    frame: Images
    inside: Bool[Tensor, "batch 1 height width"]
    stack: Float[Tensor, "batch all_channels height width"]
    points: Points
    image_intrinsics: Matrices

    @classmethod
    def build(
        cls,
        level: int,
        frame: Images,
        image: Images,
        depth: Depth,
        intrinsics: Matrices,
        image_intrinsics: Matrices,
        inside: Bool[Tensor, "batch 1 height width"],
    ) -> "_Level":
        factor = 2**level
        small, other, disparity = (F.avg_pool2d(x, factor) for x in (frame, image, 1 / depth))
        wide = F.pad(other, (1, 1, 1, 1), mode="replicate")
        slopes = [
            (wide[:, :, 1:-1, 2:] - wide[:, :, 1:-1, :-2]) / 2,
            (wide[:, :, 2:, 1:-1] - wide[:, :, :-2, 1:-1]) / 2,
        ]
        # Slopes are of two pixels; beyond the image's own border they are of it again.
        shown = (F.avg_pool2d(inside.float(), factor) == 1).float()
        whole = 1 - F.max_pool2d(F.pad(1 - shown, (1, 1, 1, 1)), 3, stride=1)
        shrink = intrinsics.new_tensor([1 / factor, 1 / factor, 1.0])[:, None]
        points = backproject(1 / disparity, shrink * intrinsics)
        stack = torch.cat([other, *slopes, whole.to(other)], dim=1)
        return cls(small, shown > 0, stack, points, shrink * image_intrinsics)

    def step(self, motion: Motions, damping: float) -> Motions:
        """One step of Gauss-Newton: what to apply after `motion`."""
        points = move_points(self.points, motion)
        pixels, z = project(points, self.image_intrinsics)
        height, width = self.frame.shape[-2:]
        grid = 2 * pixels / pixels.new_tensor([width, height]) - 1
        sampled = F.grid_sample(self.stack, grid, mode="bilinear", padding_mode="border", align_corners=False)
        (colors, along_x, along_y), whole = sampled[:, :-1].chunk(3, dim=1), sampled[:, -1:]
        residual = colors - self.frame
        seen = ((z > NEAREST) & (grid.abs() <= 1).all(dim=-1))[:, None] & self.inside & (whole > 1 - 1e-4)
        weight = seen / (1 + (residual / ROBUST).square().mean(dim=1, keepdim=True)).square()
        jacobian = _jacobian(points, along_x, along_y, self.image_intrinsics)
        weighted = (jacobian * weight[:, None]).flatten(2)
        curvature = weighted @ jacobian.flatten(2).mT
        slope = weighted @ residual.flatten(1)[:, :, None]
        mean = curvature.diagonal(dim1=1, dim2=2).mean(dim=1)
        # The last term keeps the matrix of an image without texture regular.
        hold = (damping * mean + 1e-9)[:, None, None] * torch.eye(6, device=mean.device, dtype=mean.dtype)
        numbers = -torch.linalg.solve(curvature + hold, slope)[..., 0]
        return rigid_motion(numbers[:, 3:], numbers[:, :3])


def _jacobian(
    points: Points, along_x: Images, along_y: Images, intrinsics: Matrices
) -> Float[Tensor, "batch 6 channels height width"]:
    """How colours change with a small translation (3) and rotation (3) of the moved points (x, y, z).

    Of a pixel u = fx x / z + cx: du/dt = fx (1, 0, -x/z) / z, and a rotation v moves points by v x p.
    """
    inverse = 1 / points[..., 2].clamp(min=NEAREST)[:, None]
    x, y = points[..., 0][:, None] * inverse, points[..., 1][:, None] * inverse
    a, b = along_x * intrinsics[:, 0, 0, None, None, None], along_y * intrinsics[:, 1, 1, None, None, None]
    radial = a * x + b * y
    shifts = [a * inverse, b * inverse, -radial * inverse]
    turns = [-radial * y - b, radial * x + a, b * x - a * y]
    return torch.stack([*shifts, *turns], dim=1)
