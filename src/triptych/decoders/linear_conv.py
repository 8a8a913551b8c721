"""3x3 convolutions of upsampled and of concatenated maps, computed at each map's own resolution: the same numbers for
fewer operations.

Upsampling, concatenation and convolution are linear. A convolution of an upsampled map is therefore one matrix product
per kernel tap on the small map, followed by the upsampling of the products, shifted by the tap's offset; nothing of the
upsampled input is computed or kept for the backward pass. A convolution of concatenated maps is the sum of each map's.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from triptych.types import same_size


def conv_of_bilinear(
    maps: Sequence[Float[Tensor, "batch _ _ _"]],
    weights: Sequence[Float[Tensor, "out _ 3 3"]],
    size: tuple[int, int],
    *,
    bias: Float[Tensor, " out"] | None = None,
    dilation: int = 1,
) -> Float[Tensor, "batch out height width"]:
    """Sum over i of conv3x3(resize(maps[i], size), weights[i]), resized bilinearly (`align_corners=False`), plus bias.

    Zero padding as wide as `dilation` keeps the size, as in `F.conv2d(..., padding=dilation, dilation=dilation)`.
    Summed maps may differ in size and channels. Worth its while where `size` is twice a map's or more.

    >>> x, weight = torch.randn(1, 4, 6, 5), torch.randn(3, 4, 3, 3)
    >>> plain = F.conv2d(F.interpolate(x, size=(12, 10), mode="bilinear"), weight, padding=1)
    >>> torch.allclose(conv_of_bilinear([x], [weight], (12, 10)), plain, atol=1e-5)
    True
    """
    height, width = size
    batch, out = len(maps[0]), len(weights[0])
    total = maps[0].new_zeros(1) if bias is None else bias.repeat(width)
    total = total.expand(batch, height, width * out)
    for x, weight in zip(maps, weights, strict=True):
        h, w = x.shape[-2:]
        # Channels last, so that every matrix product reads its input in place: (row tap, row, column, column tap, out).
        taps = weight.permute(2, 1, 3, 0).flatten(2)
        products = x.permute(0, 2, 3, 1).flatten(1, 2)[:, None] @ taps
        columns = _shifted_resize(w, width, dilation, x).permute(1, 2, 0).flatten(1)
        resized = columns.expand(batch * 3 * h, -1, -1) @ products.view(batch * 3 * h, 3 * w, out)
        rows = _shifted_resize(h, height, dilation, x).transpose(0, 1).flatten(1)
        total = torch.baddbmm(total, rows.expand(batch, -1, -1), resized.view(batch, 3 * h, width * out))
    return total.view(batch, height, width, out).permute(0, 3, 1, 2)


def _shifted_resize(low: int, high: int, dilation: int, like: Tensor) -> Float[Tensor, "3 high low"]:
    """The matrices that resize `low` samples to `high` and shift them by -dilation, 0 and dilation, zeros moving in."""
    identity = torch.eye(low, device=like.device, dtype=like.dtype)
    resized = F.interpolate(identity[None], size=high, mode="linear", align_corners=False)[0]
    padded = F.pad(resized, (dilation, dilation))
    return torch.stack([padded[:, tap * dilation : tap * dilation + high].t() for tap in range(3)])


def compose(
    weight: Float[Tensor, "out middle 3 3"], first: Float[Tensor, "middle channels 1 1"]
) -> Float[Tensor, "out channels 3 3"]:
    """The 3x3 convolution that equals the 1x1 `first` followed by the 3x3 `weight`, biases apart."""
    taps = weight.permute(1, 3, 2, 0)
    composed = first[:, :, 0, 0].t() @ taps.flatten(1)
    return composed.view(-1, *taps.shape[1:]).permute(3, 0, 2, 1)


def conv_of_nearest(
    x: Float[Tensor, "batch channels height width"],
    weight: Float[Tensor, "out channels 3 3"],
    bias: Float[Tensor, " out"] | None = None,
) -> Float[Tensor, "batch out two_height two_width"]:
    """conv3x3(nearest x2 of x) with reflection padding, as one transposed 4x4 convolution: 4 products per output for 9.

    Twice-repeated pixels meet the 3x3 kernel in sums of neighbouring taps, and the row that reflection puts outside
    repeats the border pixel.

    >>> x, weight = torch.randn(1, 4, 6, 5), torch.randn(3, 4, 3, 3)
    >>> upsampled = F.pad(F.interpolate(x, scale_factor=2.0), (1, 1, 1, 1), mode="reflect")
    >>> torch.allclose(conv_of_nearest(x, weight), F.conv2d(upsampled, weight), atol=1e-5)
    True
    """
    kernel = _merge_taps(_merge_taps(weight, 2), 3).transpose(0, 1)
    return F.conv_transpose2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, bias, stride=2, padding=3)


def _merge_taps(weight: Tensor, axis: int) -> Tensor:
    """(w0, w1, w2) to (w2, w1 + w2, w0 + w1, w0): over repeated pixels, in the order of a transposed convolution."""
    first, middle, last = weight.split(1, dim=axis)
    return torch.cat([last, middle + last, first + middle, first], dim=axis)


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
