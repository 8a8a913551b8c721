"""Labels computed from other labels: boundaries from a label map, normals from depth."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from triptych.types import Camera, valid_pixels


def boundaries_from_labels(
    labels: Int64[Tensor, "height width"], *, radius: int = 0
) -> Float[Tensor, "1 height width"]:
    """Class changes of a label map: 1 where a pixel differs from its right, lower or lower right neighbor, else 0.

    Lines are one pixel wide on the upper left side of a change, as in the Berkeley benchmark's maps of regions;
    `radius` makes them thicker by that many pixels on all sides. A pixel next to an invalid one is invalid (NaN).

    >>> boundaries_from_labels(torch.tensor([[0, 0, 1, 255], [0, 0, 1, 1], [0, 0, 1, 1]]))[0].tolist()
    [[0.0, 1.0, nan, nan], [0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    """
    known = valid_pixels(labels)
    change, valid = torch.zeros_like(known), known.clone()
    for down, right in ((0, 1), (1, 0), (1, 1)):
        here = (slice(None, -down or None), slice(None, -right or None))
        there = (slice(down, None), slice(right, None))
        change[here] |= labels[here] != labels[there]
        valid[here] &= known[there]
    edges = (change & valid).float()[None, None]
    if radius:
        size = 2 * radius + 1
        edges = F.max_pool2d(edges, size, stride=1, padding=radius)
        valid = F.max_pool2d((~valid).float()[None, None], size, stride=1, padding=radius)[0, 0] == 0
    return edges[0].masked_fill(~valid, torch.nan)


def normals_from_depth(
    depth: Float[Tensor, "1 height width"], camera: Camera, *, reach: int = 1
) -> Float[Tensor, "3 height width"]:
    """Unit normals that face the camera, x right, y down, z forward, from depth (z, metres) and intrinsics.

    The cross product of central differences, over `reach` pixels to each side, of the points K^-1 (u, v, 1) z. NaN near
    the border and where one of the four neighbors has no depth. Sensor noise wants a longer reach; depth steps give
    normals of surfaces that are not there, so compare medians.
    """
    _, height, width = depth.shape
    normals = torch.full((3, height, width), torch.nan)
    if min(height, width) <= 2 * reach:
        return normals
    v, u = torch.arange(height).double()[:, None] + 0.5, torch.arange(width).double() + 0.5
    rays = torch.stack([row[0] * u + row[1] * v + row[2] for row in torch.linalg.inv(camera.intrinsics.double())])
    rays = rays.float()
    points, inner = rays * depth, slice(reach, -reach)
    ax, ay, az = points[:, inner, 2 * reach :] - points[:, inner, : -2 * reach]
    bx, by, bz = points[:, 2 * reach :, inner] - points[:, : -2 * reach, inner]
    # Written out: torch.linalg.cross and normalize take six times as long along the first axis.
    nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    rx, ry, rz = rays[:, inner, inner]
    # The surface is seen from its front: the normal makes an obtuse angle with the ray.
    scale = torch.copysign(torch.rsqrt(nx * nx + ny * ny + nz * nz), -(nx * rx + ny * ry + nz * rz))
    for component, found in zip(normals, (nx, ny, nz), strict=True):
        torch.mul(found, scale, out=component[inner, inner])
    return normals
