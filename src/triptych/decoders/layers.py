"""Layers that several decoders share."""

from collections.abc import Iterable, Sequence
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor, nn
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

    Twice-repeated pixels meet the 3x3 kernel in sums of neighboring taps, and the row that reflection puts outside
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
    joined = torch.cat([resize(x, size) for x, _ in large], dim=1) if len(large) > 1 else large[0][0]
    own = torch.cat([part for _, part in large], dim=1)
    if weight.shape[-1] == 1:
        total = F.conv2d(joined, own, bias)
        for x, part in small:
            total += resize(F.conv2d(x, part), size)
        return total
    if not small:
        return F.conv2d(joined, own, bias, padding=1)
    # In the layout of what is added to it.
    total = F.conv2d(joined.contiguous(memory_format=torch.channels_last), own, bias, padding=1)
    total += conv_of_bilinear([x for x, _ in small], [part for _, part in small], size)
    return total


def resize(
    x: Float[Tensor, "batch channels height width"],
    size: Sequence[int],
    *,
    mode: str = "bilinear",
    align_corners: bool = False,
) -> Float[Tensor, "batch channels new_height new_width"]:
    """Resize maps to an explicit (height, width); maps that have it already are returned as they are.

    >>> resize(torch.ones(1, 2, 3, 4), (5, 7)).shape
    torch.Size([1, 2, 5, 7])
    """
    if same_size(x.shape[-2:], size):
        return x
    corners = {"bilinear": align_corners, "bicubic": align_corners}.get(mode)
    return F.interpolate(x, size=tuple(size), mode=mode, align_corners=corners)


def concatenate(features: Sequence[Tensor], *, size: Sequence[int] | None = None) -> Tensor:
    """Resize maps to the size of the first (or to `size`) and concatenate them along channels."""
    size = features[0].shape[-2:] if size is None else size
    return torch.cat([resize(feature, size) for feature in features], dim=1)


def initialize_heads(heads: Iterable[nn.Conv2d], std: float | str) -> None:
    """Set the last convolutions of tasks: weights normal with deviation `std` and no bias, or `"default"`, torch's own.

    At 0.01, as published codes have it, predictions start near zero and so do the gradients behind them: beside a loss
    that does not shrink with them (normals are normalized), classes hardly learn within a few hundred steps.

    >>> head = nn.Conv2d(8, 3, 1)
    >>> initialize_heads([head], 0.0)
    >>> head.weight.abs().max().item()
    0.0
    """
    if std == "default":
        return
    if isinstance(std, str) or not 0 <= std < inf:
        raise ValueError(f"head_std is {std!r}; give the deviation of a head's weights, 0 or more, or 'default'.")
    for head in heads:
        nn.init.normal_(head.weight, std=std)
        if head.bias is not None:
            nn.init.zeros_(head.bias)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that does not fail where a batch of one meets a 1x1 map.

    One value per channel has no variance: such a batch is normalised with the running statistics and does not update
    them. In every other case, and in its state dict, it is `torch.nn.BatchNorm2d`.

    >>> BatchNorm2d(3)(torch.ones(1, 3, 1, 1)).shape
    torch.Size([1, 3, 1, 1])
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] * x.shape[2] * x.shape[3] > 1 or not self.training:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


class ConvNormReLU(nn.Sequential):
    """Convolution (no bias unless asked), batch norm, ReLU; keeps the size at stride 1.

    Entries 0 and 1 are the convolution and the norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = False,
        momentum: float = 0.1,
    ) -> None:
        padding = dilation * (kernel_size // 2)
        super().__init__(
            nn.Conv2d(
                in_channels, out_channels, kernel_size, stride=stride, padding=padding, dilation=dilation, bias=bias
            ),
            BatchNorm2d(out_channels, momentum=momentum),
            nn.ReLU(inplace=True),
        )


class JoinedConvNormReLU(ConvNormReLU):
    """ConvNormReLU, 1x1 or 3x3, of maps that are resized to the first one's size and concatenated; neither is computed.

    >>> JoinedConvNormReLU(3, 5)([torch.ones(1, 1, 4, 6), torch.ones(1, 2, 2, 3)]).shape
    torch.Size([1, 5, 4, 6])
    """

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self[2](self[1](conv_of_concatenation(maps, self[0].weight, self[0].bias)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and an identity skip (He et al., 2016), projected where widths differ."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn1 = BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(out_channels)
        self.downsample = _projection(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1 to a quarter of the width, 3x3, 1x1 back, with batch norm and an identity skip (He et al., 2016)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        middle = out_channels // 4
        self.conv1 = nn.Conv2d(in_channels, middle, 1, bias=False)
        self.bn1 = BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, out_channels, 1, bias=False)
        self.bn3 = BatchNorm2d(out_channels)
        self.downsample = _projection(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.downsample(x))


def _projection(in_channels: int, out_channels: int) -> nn.Module:
    if in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), BatchNorm2d(out_channels))


class SqueezeExcitation(nn.Module):
    """Channel gates from the mean over the map: x * sigmoid(W2 relu(W1 mean(x))) (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        inner = max(channels // reduction, 1)
        self.squeeze = nn.Sequential(
            nn.Linear(channels, inner), nn.ReLU(inplace=True), nn.Linear(inner, channels), nn.Sigmoid()
        )

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        return x * self.squeeze(x.mean(dim=(2, 3)))[:, :, None, None]
