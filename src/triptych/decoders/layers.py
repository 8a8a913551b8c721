"""Layers that several decoders share."""

from collections.abc import Iterable, Sequence
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.decoders.linear_conv import conv_of_concatenation
from triptych.types import same_size


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
