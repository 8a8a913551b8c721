"""Convolutions of maps that are resized to one size and concatenated, without resizing or concatenating them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from triptych.decoders.resampled_conv import conv_of_bilinear
from triptych.types import same_size


def conv_of_concatenation(
    maps: Sequence[Float[Tensor, "batch _ _ _"]],
    weight: Float[Tensor, "out channels kernel kernel"],
    bias: Float[Tensor, " out"] | None = None,
) -> Float[Tensor, "batch out height width"]:
    """Convolution of maps that are resized to the first one's size (bilinear) and concatenated; 1x1, or 3x3 with zero
    padding.

    It is the sum of each map's part, and a part of half as many pixels or fewer is computed at its own size: fewer
    operations, and nothing of the resized maps is kept for the backward pass.

    >>> maps, weight = [torch.randn(1, 4, 12, 10), torch.randn(1, 2, 6, 5)], torch.randn(3, 6, 3, 3)
    >>> joined = torch.cat([maps[0], F.interpolate(maps[1], size=(12, 10), mode="bilinear")], dim=1)
    >>> torch.allclose(conv_of_concatenation(maps, weight), F.conv2d(joined, weight, padding=1), atol=1e-5)
    True
    """
    size = (maps[0].shape[-2], maps[0].shape[-1])
    parts = list(zip(maps, weight.split([x.shape[1] for x in maps], dim=1), strict=True))
    small = [(x, part) for x, part in parts if 2 * x.shape[-2] * x.shape[-1] <= size[0] * size[1]]
    large = [(x, part) for x, part in parts if 2 * x.shape[-2] * x.shape[-1] > size[0] * size[1]]
    joined = torch.cat([_resize(x, size) for x, _ in large], dim=1) if len(large) > 1 else large[0][0]
    own = torch.cat([part for _, part in large], dim=1)
    if weight.shape[-1] == 1:
        total = F.conv2d(joined, own, bias)
        for x, part in small:
            total += _resize(F.conv2d(x, part), size)
        return total
    if not small:
        return F.conv2d(joined, own, bias, padding=1)
    # In the layout of what is added to it.
    total = F.conv2d(joined.contiguous(memory_format=torch.channels_last), own, bias, padding=1)
    total += conv_of_bilinear([x for x, _ in small], [part for _, part in small], size)
    return total


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if same_size(x.shape[-2:], size) else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
