"""PAD-Net: prediction-and-distillation (Xu et al., CVPR 2018, arXiv 1805.04409), as the multi-task survey builds it.

Every task makes an initial prediction from shared features; the tasks' features are distilled into each other by gated
convolutions, and a head per task makes the final prediction.

Paper and published code. The paper distils the initial predictions, the survey's code the features behind them.
`reference_quirks=True` computes what the code computes; `reference_quirks=False` distils the predictions, embedded by a
3x3 convolution. The paper upsamples before the final prediction, the code resizes the final logits.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from triptych.decoders.base import Decoder
from triptych.decoders.distillation import MultiModalDistillation
from triptych.decoders.layers import BatchNorm2d, Bottleneck, ConvNormReLU, concatenate
from triptych.tasks import Task


class PADNet(Decoder):
    """The PAD-Net decoder on all feature maps, concatenated at the finest size; published on HRNet.

    `auxiliary_tasks` take part in the distillation and have initial predictions only. `fused_width` is that of the
    shared map, as wide as the concatenation unless given; `width` that of the tasks' maps. Returns the initial
    predictions, then the final ones, at the finest size.

    >>> import torch
    >>> from triptych.tasks import nyuv2_tasks
    >>> decoder = PADNet((8, 16), strides=(4, 8), tasks=nyuv2_tasks(), width=8)
    >>> initial, final = decoder([torch.randn(1, 8, 7, 9), torch.randn(1, 16, 4, 5)])
    >>> initial["depth"].shape, final["depth"].shape
    (torch.Size([1, 1, 7, 9]), torch.Size([1, 1, 7, 9]))
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        auxiliary_tasks: Mapping[str, Task] | None = None,
        width: int = 256,
        fused_width: int | None = None,
        reference_quirks: bool = True,
    ) -> None:
        super().__init__(channels, strides=strides, tasks=tasks)
        self._auxiliary_tasks = {k: t for k, t in (auxiliary_tasks or {}).items() if k not in tasks}
        sources = {**self.tasks, **self._auxiliary_tasks}
        total = sum(self.channels)
        fused = total if fused_width is None else fused_width
        self.fuse = nn.Sequential(nn.Conv2d(total, fused, 1), BatchNorm2d(fused), nn.ReLU(inplace=True))
        self.first = nn.ModuleDict({name: _bottlenecks(fused, width) for name in sources})
        self.initial = nn.ModuleDict({name: nn.Conv2d(width, t.channels, 1) for name, t in sources.items()})
        self.embeddings = nn.ModuleDict()
        if not reference_quirks:
            self.embeddings.update({name: ConvNormReLU(t.channels, width) for name, t in sources.items()})
        self.distillation = MultiModalDistillation(width, list(sources), targets=list(tasks))
        self.second = nn.ModuleDict({name: _bottlenecks(width, width) for name in tasks})
        self.heads = nn.ModuleDict({name: nn.Conv2d(width, t.channels, 1) for name, t in tasks.items()})

    @property
    def auxiliary_tasks(self) -> dict[str, Task]:
        return self._auxiliary_tasks

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        fused = self.fuse(concatenate(features))
        maps = {name: layers(fused) for name, layers in self.first.items()}
        initial = {name: head(maps[name]) for name, head in self.initial.items()}
        embedded = {name: layer(initial[name]) for name, layer in self.embeddings.items()}
        distilled = self.distillation(maps, embedded or None)
        return [initial, {name: head(self.second[name](distilled[name])) for name, head in self.heads.items()}]


def _bottlenecks(in_channels: int, width: int) -> nn.Module:
    return nn.Sequential(Bottleneck(in_channels, width), Bottleneck(width, width))
