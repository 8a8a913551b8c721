"""PAD-Net as the DenseMTL repository builds it (Xu et al., CVPR 2018; Lopes, Vu and de Charette, WACV 2023).

Against the survey's version: it reads the last feature map alone, at stride 16. The published training code leaves the
initial predictions' convolutions out of every optimiser group, so they are never trained; here they are.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from triptych.decoders.base import Decoder
from triptych.decoders.distillation import MultiModalDistillation
from triptych.decoders.layers import Bottleneck, resize
from triptych.tasks import Task


class PADNetDenseMTL(Decoder):
    """PAD-Net on the last feature map, meant for a ResNet with `output_stride=16`.

    Per task two bottlenecks and an initial prediction; features of all tasks are distilled into each; two more
    bottlenecks and the final prediction, upsampled by the stride. `auxiliary_tasks` take part in the distillation and
    have initial predictions only.

    >>> import torch
    >>> from triptych.tasks import nyuv2_tasks
    >>> decoder = PADNetDenseMTL((8, 16), strides=(8, 16), tasks=nyuv2_tasks(), width=8)
    >>> initial, final = decoder([torch.randn(1, 8, 8, 12), torch.randn(1, 16, 4, 6)])
    >>> initial["depth"].shape, final["depth"].shape
    (torch.Size([1, 1, 4, 6]), torch.Size([1, 1, 64, 96]))
    """

    align_corners = True  # initial predictions: as the published losses resize them

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        auxiliary_tasks: Mapping[str, Task] | None = None,
        width: int = 256,
    ) -> None:
        super().__init__(channels, strides=strides, tasks=tasks)
        self._auxiliary_tasks = {k: t for k, t in (auxiliary_tasks or {}).items() if k not in tasks}
        sources = {**self.tasks, **self._auxiliary_tasks}
        self.first = nn.ModuleDict({name: _bottlenecks(self.channels[-1], width) for name in sources})
        self.initial = nn.ModuleDict({name: nn.Conv2d(width, t.channels, 1) for name, t in sources.items()})
        self.distillation = MultiModalDistillation(width, list(sources), targets=list(tasks))
        self.second = nn.ModuleDict({name: _bottlenecks(width, width) for name in tasks})
        self.heads = nn.ModuleDict({name: nn.Conv2d(width, t.channels, 1) for name, t in tasks.items()})

    @property
    def auxiliary_tasks(self) -> dict[str, Task]:
        return self._auxiliary_tasks

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        maps = {name: layers(features[-1]) for name, layers in self.first.items()}
        initial = {name: head(maps[name]) for name, head in self.initial.items()}
        distilled = self.distillation(maps)
        raw = {name: head(self.second[name](distilled[name])) for name, head in self.heads.items()}
        size = [side * self.strides[-1] for side in features[-1].shape[-2:]]
        return [initial, {name: resize(x, size) for name, x in raw.items()}]


def _bottlenecks(in_channels: int, width: int) -> nn.Module:
    return nn.Sequential(Bottleneck(in_channels, width), Bottleneck(width, width))
