"""PAD-Net: prediction-and-distillation (Xu et al., CVPR 2018, arXiv 1805.04409), as three code bases build it.

Every task makes an initial prediction from shared features; the tasks' features are distilled into each other by gated
convolutions, and a head per task makes the final prediction. `PADNet` is the multi-task survey's, `PADNetDenseMTL` that
of the DenseMTL repository (Lopes, Vu and de Charette, WACV 2023, arXiv 2206.08927), `PADNetPlus` the distillation
inside pyramid decoders ("3-ways": Hoyer et al., "Three Ways to Improve Semantic Segmentation with Self-Supervised Depth
Estimation", CVPR 2021) in the version that DenseMTL compares with.

Paper and published code. The paper distils the initial predictions, the survey's code the features behind them.
`reference_quirks=True` computes what the code computes; `reference_quirks=False` distils the predictions, embedded by a
3x3 convolution. The paper upsamples before the final prediction, the code resizes the final logits.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from triptych.decoders.base import Decoder, require_at_least
from triptych.decoders.layers import BatchNorm2d, Bottleneck, ConvNormReLU, concatenate, resize
from triptych.decoders.pyramid import PyramidDecoder
from triptych.tasks import Task


class MultiModalDistillation(nn.Module):
    """Each target task's map plus gated maps of all other tasks. A dict of maps to a dict of maps of the targets.

    O_t = F_t + sum over a != t of sigmoid(W_gate^{t,a} * F_a) (W_feature^{t,a} * F_a), 3x3 convolutions without bias.
    The convolutions that read one source share one weight: its outputs are, for each target other than the source,
    sorted by name, the feature and then the gate. All features of a source are computed at once, and all gates.
    `targets` are all of the tasks unless given.

    >>> import torch
    >>> maps = {name: torch.randn(1, 8, 6, 9) for name in ("semseg", "depth", "normals")}
    >>> list(MultiModalDistillation(8, list(maps), targets=["depth"])(maps))
    ['depth']
    """

    def __init__(self, channels: int, tasks: Sequence[str], *, targets: Sequence[str] | None = None) -> None:
        super().__init__()
        self.targets = list(tasks if targets is None else targets)
        # Sorted, so that joined weights mean the same in whatever order tasks are declared.
        self.readers = {source: [t for t in sorted(self.targets) if t != source] for source in tasks}
        self.convs = nn.ModuleDict(
            {
                source: nn.Conv2d(channels, 2 * channels * len(readers), 3, padding=1, bias=False)
                for source, readers in self.readers.items()
                if readers
            }
        )

    def forward(self, maps: Mapping[str, Tensor], sources: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """`sources` are what the other tasks pass on where that is not their `maps`."""
        passed = maps if sources is None else sources
        distilled = {target: maps[target] for target in self.targets}
        for source, conv in self.convs.items():
            readers = self.readers[source]
            # Apart, not one map to be cut in two: what is cut is copied, channels last above all.
            weight = conv.weight.unflatten(0, (len(readers), 2, -1))
            features, gates = (F.conv2d(passed[source], part.flatten(0, 1), padding=1) for part in weight.unbind(dim=1))
            gated = features * gates.sigmoid_()
            for target, part in zip(readers, gated.chunk(len(readers), dim=1), strict=True):
                distilled[target] = distilled[target] + part
        return distilled


class TwoPredictions(Decoder):
    """Per task two bottlenecks and an initial prediction; features of all tasks are distilled into each; two more
    bottlenecks and the final prediction.
    """

    def build(self, channels: int, width: int, *, embedded: bool = False) -> None:
        """Make the layers on a shared map of `channels`; `embedded` distils the initial predictions, not the features
        behind them.
        """
        require_at_least(4, width=width)  # bottlenecks have a quarter of it
        sources = self.intermediate_tasks
        self.first = nn.ModuleDict({name: _bottlenecks(channels, width) for name in sources})
        self.initial = nn.ModuleDict({name: nn.Conv2d(width, t.channels, 1) for name, t in sources.items()})
        self.embeddings = nn.ModuleDict()
        if embedded:
            self.embeddings.update({name: ConvNormReLU(t.channels, width) for name, t in sources.items()})
        self.distillation = MultiModalDistillation(width, list(sources), targets=list(self.tasks))
        self.second = nn.ModuleDict({name: _bottlenecks(width, width) for name in self.tasks})
        self.heads = nn.ModuleDict({name: nn.Conv2d(width, t.channels, 1) for name, t in self.tasks.items()})

    def predict(self, shared: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Initial and final predictions at the size of the shared map."""
        maps = {name: layers(shared) for name, layers in self.first.items()}
        initial = {name: head(maps[name]) for name, head in self.initial.items()}
        embedded = {name: layer(initial[name]) for name, layer in self.embeddings.items()}
        distilled = self.distillation(maps, embedded or None)
        return initial, {name: head(self.second[name](distilled[name])) for name, head in self.heads.items()}


def _bottlenecks(in_channels: int, width: int) -> nn.Module:
    return nn.Sequential(Bottleneck(in_channels, width), Bottleneck(width, width))


class PADNet(TwoPredictions):
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
        super().__init__(channels, strides=strides, tasks=tasks, auxiliary_tasks=auxiliary_tasks)
        require_at_least(1, fused_width=fused_width)
        total = sum(self.channels)
        fused = total if fused_width is None else fused_width
        self.fuse = nn.Sequential(nn.Conv2d(total, fused, 1), BatchNorm2d(fused), nn.ReLU(inplace=True))
        self.build(fused, width, embedded=not reference_quirks)

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        return list(self.predict(self.fuse(concatenate(features))))


class PADNetDenseMTL(TwoPredictions):
    """PAD-Net on the last feature map, meant for a ResNet with `output_stride=16`.

    The final prediction is upsampled by the stride. `auxiliary_tasks` take part in the distillation and have initial
    predictions only. Against the survey's version it reads the last feature map alone. The published training code
    leaves the initial predictions' convolutions out of every optimiser group, so they are never trained; here they are.

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
        super().__init__(channels, strides=strides, tasks=tasks, auxiliary_tasks=auxiliary_tasks)
        self.build(self.channels[-1], width)

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        initial, final = self.predict(features[-1])
        size = [side * self.strides[-1] for side in features[-1].shape[-2:]]
        return [initial, {name: resize(x, size) for name, x in final.items()}]


class PADNetPlus(PyramidDecoder):
    """PAD-Net+: one pyramid decoder per task, distilled at level 2 (a quarter of the image's size).

    Published on ResNet-101 with `output_stride=16, include_stem=True`. The prediction at level 2 is supervised besides
    the final one and precedes the distillation. With one task nothing is distilled. `auxiliary_tasks` are distilled
    into the others and have the first prediction only.

    >>> import torch
    >>> from triptych.tasks import nyuv2_tasks
    >>> decoder = PADNetPlus((4, 4, 8, 8), strides=(4, 8, 16, 32), tasks=nyuv2_tasks(), widths=(4, 8))
    >>> features = [torch.randn(1, c, 64 // s, 96 // s) for c, s in zip((4, 4, 8, 8), (4, 8, 16, 32))]
    >>> [tuple(stage["depth"].shape[2:]) for stage in decoder(features)]
    [(16, 24), (64, 96)]
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        widths: Sequence[int] = (64, 128, 128, 256, 256),
        exchange_level: int = 2,
        scales: Sequence[int] = (0, 2),
        auxiliary_tasks: Mapping[str, Task] | None = None,
        aspp_rates: Sequence[int] = (6, 12, 18),
        dropout: float = 0.5,
        init: str = "default",
    ) -> None:
        super().__init__(
            channels,
            strides=strides,
            tasks=tasks,
            widths=widths,
            exchange=MultiModalDistillation,
            exchange_level=exchange_level,
            scales=scales,
            auxiliary_tasks=auxiliary_tasks,
            aspp_rates=aspp_rates,
            dropout=dropout,
            init=init,
        )
