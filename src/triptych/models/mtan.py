"""MTAN: multi-task attention network (Liu, Johns and Davison, CVPR 2019, arXiv 1803.10704), on a ResNet.

One trunk is shared; every task attends to its stages through masks of its own. This is the ResNet version of the
multi-task survey (Vandenhende et al., TPAMI 2021) with a DeepLab head per task. The paper's SegNet version is another
network; the authors' ResNet version resizes with aligned corners and normalises predicted normals inside.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.backbones.base import Backbone
from triptych.backbones.resnet import require_resnet, stage_channels
from triptych.decoders.baseline import DeepLab
from triptych.decoders.layers import BatchNorm2d, Bottleneck
from triptych.models.multitask import MultiTaskModel
from triptych.tasks import Task
from triptych.types import Output


class MTAN(MultiTaskModel):
    """MTAN on a ResNet; published with `output_stride=8`.

    Stage l of the trunk is split into all blocks but the last, with output u_b, and the last, with output u_t. A task's
    mask m_l = sigmoid(...) is computed from u_b and the task's previous map a_(l-1); a_l = refine_l(m_l u_t), where
    `refine` is shared by the tasks, brought to the grid of the next stage by max-pooling. `Output.features` are the
    trunk's stages.

    >>> from triptych.backbones import create_backbone
    >>> from triptych.tasks import nyuv2_tasks
    >>> model = MTAN(create_backbone("resnet18", widths=(8, 8, 16, 16)), tasks=nyuv2_tasks(), width=8)
    >>> model(torch.rand(1, 3, 32, 40)).predictions["depth"].shape
    torch.Size([1, 1, 32, 40])
    """

    takes_features = False

    def __init__(
        self,
        backbone: Backbone,
        *,
        tasks: Mapping[str, Task],
        width: int = 256,
        rates: Sequence[int] = (12, 24, 36),
        dropout: float = 0.5,
    ) -> None:
        resnet = require_resnet("mtan", backbone)
        channels = stage_channels(resnet)
        heads = DeepLab(channels, strides=resnet.strides[-4:], tasks=tasks, width=width, rates=rates, dropout=dropout)
        super().__init__(resnet, heads)
        inputs = [channels[0], *(2 * c for c in channels[1:])]
        self.attention = nn.ModuleList(
            nn.ModuleDict({name: _mask(i, c) for name in tasks}) for i, c in zip(inputs, channels, strict=True)
        )
        self.refine = nn.ModuleList(Bottleneck(c, after) for c, after in pairwise(channels))

    @property
    def shared_modules(self) -> list[nn.Module]:
        return [self.backbone, self.refine]

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return self.backbone.channels[-4:]

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return self.backbone.strides[-4:]

    def forward(self, image: Tensor) -> Output:  # type: ignore[override]
        x = self.backbone.pool(self.backbone.stem(image))
        attended: dict[str, Tensor] = {}
        features = []
        for stage, masks, refine in zip(self.backbone.stages, self.attention, [*self.refine, None], strict=True):
            *blocks, last = stage
            for block in blocks:
                x = self.backbone.run(block, x)
            before, x = x, self.backbone.run(last, x)
            features.append(x)
            for name, mask in masks.items():
                previous = attended.get(name)
                if previous is not None and previous.shape[2:] != before.shape[2:]:
                    previous = _shrink(previous, before)
                attended[name] = x * mask(before if previous is None else torch.cat([before, previous], dim=1))
                if refine is not None:
                    attended[name] = refine(attended[name])
        raw = {name: head(attended[name]) for name, head in self.decoder.heads.items()}
        return Output({name: self.resize(raw[name], image.shape[-2:]) for name in self.tasks}, [], features)


def _mask(in_channels: int, channels: int) -> nn.Module:
    """1x1 to a quarter of the width, 1x1 back, both with bias and norm; values in 0..1."""
    inner = max(channels // 4, 1)
    return nn.Sequential(
        nn.Conv2d(in_channels, inner, 1),
        BatchNorm2d(inner),
        nn.ReLU(inplace=True),
        nn.Conv2d(inner, channels, 1),
        BatchNorm2d(channels),
        nn.Sigmoid(),
    )


def _shrink(x: Tensor, like: Tensor) -> Tensor:
    """Max-pooling by two to the grid of a strided stage, whose sides are rounded up."""
    return F.max_pool2d(x, 2, ceil_mode=True)[..., : like.shape[-2], : like.shape[-1]]
