"""Baselines: one head per task on shared features. With one task they are the single-task networks of the literature.

Sources: the DeepLabV3 head (Chen et al., arXiv 1706.05587) and the HRNet head (Wang et al., TPAMI 2020), as the
multi-task survey of Vandenhende et al. (TPAMI 2021) uses them; the FCN head of ATRC (Bruggemann et al., ICCV 2021); the
four-level head of SAK's baselines (Lu et al., ICLR 2025).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from triptych.decoders.base import Decoder, require_at_least
from triptych.decoders.layers import (
    BatchNorm2d,
    ConvNormReLU,
    JoinedConvNormReLU,
    concatenate,
    initialize_heads,
    resize,
)
from triptych.tasks import Task


class HeadDecoder(Decoder):
    """One head per task, made by `make_head(outputs)`; all read the same selection of the features."""

    has_independent_heads = True

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        make_head: Callable[[int], nn.Module],
    ) -> None:
        super().__init__(channels, strides=strides, tasks=tasks)
        self.heads = nn.ModuleDict({name: make_head(task.channels) for name, task in tasks.items()})

    def select(self, features: list[Tensor]) -> Tensor | list[Tensor]:
        """Feature maps that the heads read: all."""
        return features

    def predict_task(self, task: str, features: list[Tensor]) -> Tensor:
        return self.heads[task](self.select(features))

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        return [{name: self.predict_task(name, features) for name in self.heads}]


class FCN(HeadDecoder):
    """ATRC's multi-task FCN head on all maps concatenated: 3x3 to a quarter of the width, batch norm, ReLU, 1x1.

    `width` replaces the quarter; smaller values make it cheap. `head_std` is the deviation of the 1x1's weights, 0.01
    as published; `"default"` is torch's initialization, with which a few hundred steps from random weights learn more.

    >>> from triptych.tasks import nyuv2_tasks
    >>> decoder = FCN((18, 36, 72, 144), strides=(4, 8, 16, 32), tasks=nyuv2_tasks())
    >>> sum(parameter.numel() for parameter in decoder.parameters())
    654836
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        width: int | None = None,
        dropout: float = 0.0,
        head_std: float | str = 0.01,
    ) -> None:
        total = sum(channels)
        inner = max(total // 4, 1) if width is None else width
        require_at_least(1, width=width)

        def make_head(outputs: int) -> nn.Module:
            logits = nn.Conv2d(inner, outputs, 1)
            initialize_heads([logits], head_std)
            return nn.Sequential(JoinedConvNormReLU(total, inner), nn.Dropout2d(dropout), logits)

        super().__init__(channels, strides=strides, tasks=tasks, make_head=make_head)


class HRNetHead(JoinedConvNormReLU):
    """The head of HRNet on maps concatenated at the first one's size: 1x1, batch norm, ReLU, 1x1, both convolutions
    with bias.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__(channels, channels, 1, bias=True)
        self.append(nn.Conv2d(channels, outputs, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self[3](super().forward(maps))


class HRNetDecoder(HeadDecoder):
    """The survey's HRNet head on all maps concatenated at the finest size."""

    def __init__(self, channels: Sequence[int], *, strides: Sequence[int], tasks: Mapping[str, Task]) -> None:
        super().__init__(
            channels, strides=strides, tasks=tasks, make_head=lambda outputs: HRNetHead(sum(channels), outputs)
        )


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: 1x1, three dilated 3x3 and image pooling side by side, joined by 1x1 and dropout.

    (B, in_channels, h, w) to (B, width, h, w). A batch of one, whose pooled map holds one value per channel, is
    normalised there with the running statistics.
    """

    def __init__(
        self, in_channels: int, width: int = 256, *, rates: Sequence[int] = (12, 24, 36), dropout: float = 0.5
    ) -> None:
        super().__init__()
        dilated = [ConvNormReLU(in_channels, width, 3, dilation=rate) for rate in rates]
        self.branches = nn.ModuleList([ConvNormReLU(in_channels, width, 1), *dilated])
        self.pooling = ConvNormReLU(in_channels, width, 1)
        self.project = ConvNormReLU((len(rates) + 2) * width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch inner height width"]:
        pooled = self.pooling(x.mean(dim=(2, 3), keepdim=True))
        parts = [branch(x) for branch in self.branches]
        return self.dropout(self.project(torch.cat([*parts, resize(pooled, x.shape[-2:])], dim=1)))


class DeepLabHead(nn.Sequential):
    """ASPP, 3x3, batch norm, ReLU, 1x1 with bias."""

    def __init__(
        self,
        in_channels: int,
        outputs: int,
        *,
        width: int = 256,
        rates: Sequence[int] = (12, 24, 36),
        dropout: float = 0.5,
    ) -> None:
        super().__init__(
            ASPP(in_channels, width, rates=rates, dropout=dropout),
            ConvNormReLU(width, width),
            nn.Conv2d(width, outputs, 1),
        )


class DeepLab(HeadDecoder):
    """DeepLabV3's head for each task, on the last map only: the survey's ResNet baseline, and DenseMTL's.

    Meant for a backbone dilated to stride 8 (survey, `backbone_options={"output_stride": 8}`) or 16 (DenseMTL).
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        width: int = 256,
        rates: Sequence[int] = (12, 24, 36),
        dropout: float = 0.5,
    ) -> None:
        require_at_least(1, width=width, rates=min(rates, default=1))

        def make_head(outputs: int) -> nn.Module:  # once the base class has found a map
            return DeepLabHead(channels[-1], outputs, width=width, rates=rates, dropout=dropout)

        super().__init__(channels, strides=strides, tasks=tasks, make_head=make_head)

    def select(self, features: list[Tensor]) -> Tensor:
        """The last map."""
        return features[-1]


class FourLevelHead(nn.Module):
    """Reduce each map by a 1x1, resize all to `size`, concatenate, 3x3 with bias, batch norm, GELU, 1x1 with bias."""

    def __init__(self, channels: Sequence[int], outputs: int, *, widths: Sequence[int]) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(*pair, 1) for pair in zip(channels, widths, strict=True))
        total = sum(widths)
        self.mix = nn.Sequential(nn.Conv2d(total, total, 3, padding=1), BatchNorm2d(total), nn.GELU())
        self.logits = nn.Conv2d(total, outputs, 1)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        reduced = [layer(feature) for layer, feature in zip(self.reduce, features, strict=True)]
        return self.logits(self.mix(concatenate(reduced, size=size)))


class FourLevel(HeadDecoder):
    """SAK's strong baseline: per task, every map reduced to a quarter of its width, joined at a quarter of the image
    size.

    `width` replaces the quarters by one width for every map; at small widths this is the cheapest baseline.
    """

    def __init__(
        self, channels: Sequence[int], *, strides: Sequence[int], tasks: Mapping[str, Task], width: int | None = None
    ) -> None:
        require_at_least(1, width=width)
        widths = [max(channel // 4, 1) if width is None else width for channel in channels]
        make_head = partial(FourLevelHead, channels, widths=widths)
        super().__init__(channels, strides=strides, tasks=tasks, make_head=make_head)

    def predict_task(self, task: str, features: list[Tensor]) -> Tensor:
        height, width = features[0].shape[-2:]
        size = (height * self.strides[0] // 4, width * self.strides[0] // 4)
        return self.heads[task](features, size)
