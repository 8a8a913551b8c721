"""Cameras: where the rays of an image run through the cube [-1, 1]^3 of a triplane.

Cube axes are x right, y down, z forward; z = -1 is near, z = 1 far. An orthographic camera and a pinhole camera in
normalised device coordinates (NDC) both have rays parallel to z, through pixel centres; they differ in what a point of
the cube means in metres (`cube_from_metric`, `metric_from_cube`). A metric pinhole camera has rays that spread out in a
box of fixed size in metres.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Intrinsics = Float[Tensor, "batch 3 3"]
Points = Float[Tensor, "batch *points 3"]


class Rays(NamedTuple):
    """`origins + t directions`, each `(batch, height, width, 3)`.

    Cube rays run from t = 0 (the near face) to t = 2 (the far face). Metric rays start in the camera and have
    directions with z = 1: t is the depth in metres.
    """

    origins: Float[Tensor, "batch height width 3"]
    directions: Float[Tensor, "batch height width 3"]


def pixel_centers(
    size: tuple[int, int], *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "height width 2"]:
    """x and y of pixel centres in [-1, 1]: (2 i + 1) / n - 1, as `align_corners=False` has it.

    >>> pixel_centers((1, 2))[0, :, 0].tolist()
    [-0.5, 0.5]
    """
    y, x = ((2 * torch.arange(n, device=device, dtype=dtype) + 1) / n - 1 for n in size)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def orthographic_rays(
    size: tuple[int, int], *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Rays:
    """Parallel rays from the near face of the cube to its far face, one per pixel.

    They are also those of a pinhole camera in its own NDC cube (its frustum, unbent), where every ray is parallel to z
    and runs through its pixel's centre; the intrinsics matter in `cube_from_metric` only.

    >>> orthographic_rays((2, 2)).origins[0, 0, 1].tolist()
    [0.5, -0.5, -1.0]
    """
    centres = pixel_centers(size, device=device, dtype=dtype)
    origins = torch.cat([centres, -torch.ones_like(centres[..., :1])], dim=-1)
    directions = torch.zeros_like(origins)
    directions[..., 2] = 1
    return Rays(origins[None], directions[None])


def metric_rays(intrinsics: Intrinsics, image_size: tuple[int, int], size: tuple[int, int]) -> Rays:
    """Rays K^-1 (u, v, 1) of a pinhole camera through the centres of `size` pixels that tile its image.

    `intrinsics` are in pixels of the image of `image_size`, with pixel centres at integer + 0.5.

    >>> K = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, 0.0, 1.0]]])
    >>> metric_rays(K, (2, 2), (1, 1)).directions.flatten().tolist()
    [0.0, 0.0, 1.0]
    """
    height, width = image_size
    centres = pixel_centers(size, device=intrinsics.device, dtype=intrinsics.dtype)
    pixels = (centres + 1) / 2 * centres.new_tensor([width, height])
    pixels = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)
    directions = torch.einsum("bij,hwj->bhwi", torch.linalg.inv(intrinsics), pixels)
    directions = directions / directions[..., 2:]
    return Rays(torch.zeros_like(directions), directions)


def points_on_rays(
    rays: Rays, distances: Float[Tensor, "batch samples"]
) -> Float[Tensor, "all_images height width samples 3"]:
    """`origins + t directions` at distances that all rays of an image share; batches of one are broadcast."""
    return rays.origins[..., None, :] + distances[:, None, None, :, None] * rays.directions[..., None, :]


def cube_from_metric(
    points: Points, intrinsics: Intrinsics, image_size: tuple[int, int], *, near: float, far: float
) -> Points:
    """Points in front of a pinhole camera (metres) to its NDC cube.

    x and y are the pixel, from -1 to 1; z is linear in inverse depth, -1 at `near` and 1 at `far`:
    z_cube = 1 - 2 (1/z - 1/far) / (1/near - 1/far).

    >>> K = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]])
    >>> cube_from_metric(torch.tensor([[[0.0, 0.0, 4.0]]]), K, (1, 1), near=1.0, far=4.0).tolist()
    [[[0.0, 0.0, 1.0]]]
    """
    height, width = image_size
    pixels = torch.einsum("bij,b...j->b...i", intrinsics, points / points[..., 2:])
    z = 1 - 2 * (1 / points[..., 2] - 1 / far) / (1 / near - 1 / far)
    return torch.stack([2 * pixels[..., 0] / width - 1, 2 * pixels[..., 1] / height - 1, z], dim=-1)


def metric_from_cube(
    points: Points, intrinsics: Intrinsics, image_size: tuple[int, int], *, near: float, far: float
) -> Points:
    """The inverse of `cube_from_metric`.

    >>> K = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]])
    >>> metric_from_cube(torch.tensor([[[0.0, 0.0, 1.0]]]), K, (1, 1), near=1.0, far=4.0).tolist()
    [[[0.0, 0.0, 4.0]]]
    """
    height, width = image_size
    depth = 1 / ((1 - points[..., 2:]) / 2 * (1 / near - 1 / far) + 1 / far)
    pixels = (points[..., :2] + 1) / 2 * points.new_tensor([width, height])
    pixels = torch.cat([pixels, torch.ones_like(depth)], dim=-1)
    return torch.einsum("bij,b...j->b...i", torch.linalg.inv(intrinsics), pixels) * depth


def cube_from_box(points: Points, *, half_width: float, near: float, far: float) -> Points:
    """Points in metres to the cube of a fixed box: |x|, |y| <= `half_width`, z from `near` to `far`, all linear.

    >>> cube_from_box(torch.tensor([[[1.0, -2.0, 6.0]]]), half_width=2.0, near=2.0, far=10.0).tolist()
    [[[0.5, -1.0, 0.0]]]
    """
    z = 2 * (points[..., 2:] - near) / (far - near) - 1
    return torch.cat([points[..., :2] / half_width, z], dim=-1)


def inside_cube(points: Points) -> Bool[Tensor, "batch *points"]:  # noqa: F821 (shapes)
    """Whether points lie in [-1, 1]^3.

    >>> inside_cube(torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, 1.5]]])).tolist()
    [[True, False]]
    """
    return (points.abs() <= 1).all(dim=-1)
