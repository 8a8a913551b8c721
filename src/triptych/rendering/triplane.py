"""Triplanes: three axis-aligned feature planes, read where a point's projections fall (Chan et al., EG3D, 2022)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from triptych.lookup import named_choice


class Triplane(NamedTuple):
    """Feature planes over [-1, 1]^3: the first letter names the columns, the second the rows.

    `xy` has columns along x and rows along y, `xz` columns along x and rows along z, `yz` columns along y and rows
    along z. A plane that is constant along an axis may have size 1 there.
    """

    xy: Float[Tensor, "batch channels height width"]
    xz: Float[Tensor, "batch channels depth width_of_xz"]
    yz: Float[Tensor, "batch channels depth_of_yz height_of_yz"]


class PlaneFeatures(NamedTuple):
    """What the three planes say at points, `(batch, *points, channels)` each."""

    xy: Float[Tensor, "batch *points channels"]
    xz: Float[Tensor, "batch *points_of_xz channels"]
    yz: Float[Tensor, "batch *points_of_yz channels"]


def sample_plane(
    plane: Float[Tensor, "batch channels rows columns"], coordinates: Float[Tensor, "batch *points 2"]
) -> Float[Tensor, "batch *points channels"]:
    """Bilinear reading at (column, row) coordinates in [-1, 1]; cell centres are at (2 i + 1) / n - 1.

    Half a cell at the rim keeps the value of the rim. Interpolation is float32 at least (a bfloat16 coordinate misses
    cells); the result has the plane's type.

    >>> sample_plane(torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[-0.5, 0.0], [0.0, 0.0]]])).flatten().tolist()
    [1.0, 2.0]
    """
    full = torch.promote_types(plane.dtype, torch.float32)
    grid = coordinates.to(full).flatten(1, -2)[:, :, None]
    values = F.grid_sample(plane.to(full), grid, mode="bilinear", padding_mode="border", align_corners=False)
    values = values[..., 0].transpose(1, 2).to(plane.dtype)
    return values.unflatten(1, coordinates.shape[1:-1])


def sample_planes(planes: Triplane, points: Float[Tensor, "batch *points 3"]) -> PlaneFeatures:
    """Read all three planes at points of the cube.

    >>> planes = Triplane(*(torch.full((1, 1, 2, 2), float(value)) for value in (1, 2, 4)))
    >>> [value.item() for value in sample_planes(planes, torch.zeros(1, 1, 3))]
    [1.0, 2.0, 4.0]
    """
    return PlaneFeatures(
        sample_plane(planes.xy, points[..., [0, 1]]),
        sample_plane(planes.xz, points[..., [0, 2]]),
        sample_plane(planes.yz, points[..., [1, 2]]),
    )


def sample_planes_parallel(planes: Triplane, points: Float[Tensor, "batch height width samples 3"]) -> PlaneFeatures:
    """The same for a grid of rays parallel to z, as shapes that broadcast: each plane is read where it differs only.

    x must depend on the column alone, y on the row, z on the sample: xy is read `(height, width, 1)` times, xz
    `(1, width, samples)` and yz `(height, 1, samples)` times.
    """
    return PlaneFeatures(
        sample_plane(planes.xy, points[:, :, :, :1][..., [0, 1]]),
        sample_plane(planes.xz, points[:, :1][..., [0, 2]]),
        sample_plane(planes.yz, points[:, :, :1][..., [1, 2]]),
    )


def _mean(features: PlaneFeatures) -> Tensor:
    return (features.xy + features.xz + features.yz) / 3


def _concatenate(features: PlaneFeatures) -> Tensor:
    return torch.cat(torch.broadcast_tensors(*features), dim=-1)


AGGREGATIONS = {
    "sum": lambda features: features.xy + features.xz + features.yz,
    "mean": _mean,
    "product": lambda features: features.xy * features.xz * features.yz,
    "concat": _concatenate,
}
"""How the readings of three planes become one feature: sum (the paper, as recalled), mean (EG3D), product (K-Planes),
concatenation."""


def aggregate_planes(features: PlaneFeatures, how: str = "sum") -> Float[Tensor, "batch *points channels"]:
    """One feature per point.

    >>> aggregate_planes(PlaneFeatures(*(torch.full((1, 1, 1), float(v)) for v in (1, 2, 4))), "product").item()
    8.0
    """
    return named_choice("aggregation", how, AGGREGATIONS)(features)
