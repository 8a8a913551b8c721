"""From shared features to a triplane: choice of the lifted maps, and the plane encoder e."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from triptych.decoders.layers import resize
from triptych.lookup import named_choice
from triptych.rendering.triplane import Triplane
from triptych.types import ceil_div

Features = Float[Tensor, "batch channels height width"]


def choose_lift(lift: str, strides: Sequence[int], stride: int) -> tuple[int, ...]:
    """Indices of the feature maps to lift.

    `all`; `last`; `nearest`: the map whose stride is nearest `stride`; `auto`: the last of a plain transformer (equal
    strides), all of a pyramid, so that the gradient reaches the whole backbone.

    >>> choose_lift("auto", (4, 8, 16, 32), 8), choose_lift("auto", (16, 16), 8)
    ((0, 1, 2, 3), (1,))
    """
    every, last = tuple(range(len(strides))), (len(strides) - 1,)
    nearest = min(every, key=lambda i: (abs(math.log2(strides[i] / stride)), strides[i]))
    choices = {
        "auto": last if len(set(strides)) == 1 else every,
        "all": every,
        "last": last,
        "nearest": (nearest,),
    }
    return named_choice("lift", lift, choices)


class Trunk(nn.Module):
    """The part of e before the planes: 1x1 to `width`, two 3x3 blocks (GroupNorm, GELU), resized to stride `stride`.

    Group norm, because regularized batches are small. A 1x1 convolution commutes with bilinear resizing, so each lifted
    map is projected at its own size. The blocks run at the finest lifted stride, or `stride` if that is coarser.
    """

    def __init__(
        self, channels: Sequence[int], *, strides: Sequence[int], lift: str, stride: int, width: int = 256
    ) -> None:
        super().__init__()
        self.lifted = choose_lift(lift, strides, stride)
        self.stride = stride
        self.working_stride = max(stride, min(strides[i] for i in self.lifted))
        self.projections = nn.ModuleList(nn.Conv2d(channels[i], width, 1) for i in self.lifted)
        self.blocks = nn.Sequential(*(_block(width) for _ in range(2)))

    def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> Features:
        """`size` is the image's; sides that strides do not divide are rounded up."""
        working = ceil_divide(size, self.working_stride)
        pairs = zip(self.projections, self.lifted, strict=True)
        projected = [resize(project(features[i]), working) for project, i in pairs]
        return resize(self.blocks(torch.stack(projected).sum(dim=0)), ceil_divide(size, self.stride))


def ceil_divide(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Height and width of a map at `stride`, rounded up.

    >>> ceil_divide((97, 128), 8)
    (13, 16)
    """
    return ceil_div(size[0], stride), ceil_div(size[1], stride)


def _block(width: int) -> nn.Module:
    groups = math.gcd(width, 32)
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(groups, width), nn.GELU())


class Split(nn.Module):
    """One convolution whose channels are the three planes, as EG3D has it (default, for fidelity).

    xz reads image rows as depth, yz image columns; the other axis of each stays aligned with the image.
    """

    def __init__(self, width: int, channels: int, *, bins: int) -> None:
        super().__init__()
        self.planes = nn.Conv2d(width, 3 * channels, 1)

    def forward(self, maps: Features) -> Triplane:
        xy, xz, yz = self.planes(maps).chunk(3, dim=1)
        return Triplane(xy, xz, yz.transpose(2, 3))


class Pooled(nn.Module):
    """Aligned planes: the mean over rows (for xz) or columns (for yz), then a small net to `bins` cells of depth."""

    def __init__(self, width: int, channels: int, *, bins: int) -> None:
        super().__init__()
        self.shape = (channels, bins)
        self.xy = nn.Conv2d(width, channels, 1)
        self.xz = nn.Conv1d(width, channels * bins, 3, padding=1)
        self.yz = nn.Conv1d(width, channels * bins, 3, padding=1)

    def forward(self, maps: Features) -> Triplane:
        xz, yz = self.xz(maps.mean(dim=2)), self.yz(maps.mean(dim=3))
        return Triplane(self.xy(maps), xz.unflatten(1, self.shape), yz.unflatten(1, self.shape))


class DepthCode(nn.Module):
    """Control: the xy plane and a learned code of depth that is the same for every image and pixel."""

    def __init__(self, width: int, channels: int, *, bins: int) -> None:
        super().__init__()
        self.xy = nn.Conv2d(width, channels, 1)
        self.code = nn.Parameter(torch.randn(1, channels, bins, 1) * 0.1)

    def forward(self, maps: Features) -> Triplane:
        xy = self.xy(maps)
        code = self.code.expand(len(xy), -1, -1, -1).to(xy.dtype)
        return Triplane(xy, code, torch.zeros_like(code[:, :, :1]))


class Flat(nn.Module):
    """Control: the xy plane alone."""

    def __init__(self, width: int, channels: int, *, bins: int) -> None:
        super().__init__()
        self.xy = nn.Conv2d(width, channels, 1)

    def forward(self, maps: Features) -> Triplane:
        xy = self.xy(maps)
        nothing = xy.new_zeros(*xy.shape[:2], 1, 1)
        return Triplane(xy, nothing, nothing)


class PlaneEncoder(nn.Module):
    """e: shared features to a triplane, rendered and read at stride `stride` of the image."""

    KINDS: ClassVar[dict[str, type[nn.Module]]] = {"split": Split, "pooled": Pooled}

    def __init__(self, trunk: Trunk, planes: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.planes = planes

    def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> Triplane:
        return self.planes(self.trunk(features, size))
