"""Surface normals from a depth map, where a dataset has no normals of its own."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from triptych.types import valid_pixels

_PAIRS = (((1, 0), (0, -1)), ((-1, 0), (0, 1)), ((1, 1), (1, -1)), ((-1, -1), (-1, 1)))
"""Neighbors (column, row) whose differences are crossed: right x up, left x down, and the two diagonal pairs."""


def derive_normals(
    depth: Float[Tensor, "batch 1 height width"],
    intrinsics: Float[Tensor, "batch 3 3"],
    *,
    reference_quirks: bool = False,
) -> Float[Tensor, "batch 3 height width"]:
    """Unit normals in the camera frame, towards the camera, from depth in metres (NaN where unknown).

    The normal of a pixel is the sum of four cross products of differences to its eight neighbors, normalised
    (DenseMTL). A pixel is NaN where it or one of its neighbors is unknown, and on the image border.

    `reference_quirks` gives what DenseMTL trains on when `depth` is its inverse normalised depth u: pixel centres at
    integers, z alone made positive instead of turning the vector, and a border of two pixels lost.

    >>> wall = derive_normals(torch.full((1, 1, 3, 3), 2.0), torch.eye(3)[None])
    >>> (wall[0, :, 1, 1] + 0).tolist()
    [0.0, 0.0, -1.0]
    """
    valid = valid_pixels(depth)
    points = _points(torch.where(valid, depth, 1.0), intrinsics, 0.0 if reference_quirks else 0.5)
    total = torch.zeros_like(points)
    for first, second in _PAIRS:
        total = total + torch.linalg.cross(_difference(points, first), _difference(points, second), dim=1)
    normals = F.normalize(total, dim=1)
    if reference_quirks:
        normals = torch.cat([normals[:, :2], normals[:, 2:].abs()], dim=1)
        valid = _inner(valid)
    else:
        # A surface that is seen turns towards the camera: its normal has a negative product with the viewing ray.
        normals = -normals * (normals * points).sum(dim=1, keepdim=True).sign()
    return torch.where(_eroded(valid), normals, torch.nan)


def _points(depth: Tensor, intrinsics: Tensor, centre: float) -> Tensor:
    """`depth K^-1 (u, v, 1)`, `(B, 3, H, W)`; written out because a matrix product would be autocast."""
    height, width = depth.shape[-2:]
    columns = torch.arange(width, device=depth.device, dtype=depth.dtype) + centre
    rows = torch.arange(height, device=depth.device, dtype=depth.dtype)[:, None] + centre
    inverse = torch.linalg.inv(intrinsics)[..., None, None]
    return depth * (inverse[:, :, 0] * columns + inverse[:, :, 1] * rows + inverse[:, :, 2])


def _difference(points: Tensor, neighbor: tuple[int, int]) -> Tensor:
    column, row = neighbor
    return points.roll((-row, -column), dims=(-2, -1)) - points


def _inner(valid: Tensor) -> Tensor:
    """The same without the image border."""
    return F.pad(valid[..., 1:-1, 1:-1], (1, 1, 1, 1))


def _eroded(valid: Tensor) -> Tensor:
    """True where the whole 3x3 neighborhood is; outside the image counts as false."""
    return -F.max_pool2d(-F.pad(valid.float(), (1, 1, 1, 1)), 3, stride=1) > 0.5
