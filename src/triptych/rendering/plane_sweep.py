"""Plane sweep: how alike two views are if each pixel of one lay on each of several planes.

A pixel is moved to the plane at inverse depth r and projected into the other view; where the features of both agree,
the surface may be (Collins, CVPR 1996; over learned features Yao et al., "MVSNet", ECCV 2018).
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from triptych.rendering.cameras import metric_rays
from triptych.rendering.reprojection import NEAREST

Features = Float[Tensor, "batch channels height width"]
Matrices = Float[Tensor, "batch 3 3"]


class Swept(NamedTuple):
    """Similarities by plane, 0 where the other view does not see the point; and whether it does."""

    similarity: Float[Tensor, "batch planes height width"]
    in_view: Bool[Tensor, "batch planes height width"]


def sweep_planes(
    features: Features,
    others: Features,
    intrinsics: Matrices,
    other_intrinsics: Matrices,
    motion: Float[Tensor, "batch 4 4"],
    inverse_depths: Float[Tensor, " planes"],
    image_size: tuple[int, int],
    shown: tuple[int, int] | None = None,
) -> Swept:
    """c(p, r) = f(p) . g(p') / sqrt(channels) with p' ~ K' (R K^-1 p + r t), g linear between centers.

    `motion` takes points of the first camera to the other's, in the unit of 1 / `inverse_depths`; 0 is infinity.
    `intrinsics` are in pixels of images of `image_size`, which the maps tile. Of the other image the first `shown` rows
    and columns are seen, and the rest is padding; by default all of it.

    A product with an interpolated feature is the interpolated product: all products are computed once, and only they
    are looked up at every plane. That takes (height width)^2 numbers an image instead of planes channels height width.

    >>> K = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 2.0, 0.5], [0.0, 0.0, 1.0]]])
    >>> maps = torch.tensor([[[[1.0, 3.0]]]])
    >>> one_pixel_at_two_metres = torch.eye(4)[None].clone()
    >>> one_pixel_at_two_metres[0, 0, 3] = 1.0
    >>> found = sweep_planes(maps, maps, K, K, one_pixel_at_two_metres, torch.tensor([0.0, 0.5]), (1, 2))
    >>> found.similarity[0, :, 0].tolist()
    [[1.0, 9.0], [3.0, 0.0]]
    """
    batch, channels, height, width = features.shape
    with torch.autocast(features.device.type, enabled=False):
        features, others = (_full(maps) for maps in (features, others))
        rays = metric_rays(_full(intrinsics), image_size, (height, width)).directions
        motion, planes = motion.to(rays), inverse_depths.to(rays)
        turned = torch.einsum("bij,bhwj->bhwi", motion[:, :3, :3], rays)
        points = turned[:, :, :, None] + planes[:, None] * motion[:, None, None, None, :3, 3]
        z = points[..., 2]
        on_plane = points / z.clamp(min=NEAREST)[..., None]
        pixels = torch.einsum("bij,bhwlj->bhwli", other_intrinsics.to(rays), on_plane)[..., :2]
        grid = 2 * pixels / pixels.new_tensor([image_size[1], image_size[0]]) - 1
        rows, columns = shown or image_size
        inside = (pixels >= 0) & (pixels <= pixels.new_tensor([columns, rows]))
        in_view = (z > NEAREST) & inside.all(dim=-1)
        products = torch.einsum("bchw,bcyx->bhwyx", features, others) / channels**0.5
        sampled = F.grid_sample(
            products.view(batch * height * width, 1, height, width),
            grid.to(products).view(batch * height * width, 1, len(planes), 2),
            padding_mode="border",
            align_corners=False,
        ).view(batch, height, width, len(planes))
        return Swept((sampled * in_view).movedim(3, 1), in_view.movedim(3, 1))


def _full(value: Tensor) -> Tensor:
    return value.to(torch.promote_types(value.dtype, torch.float32))
