"""The multi-modal distillation of PAD-Net (Xu et al., CVPR 2018), shared by its successors."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MultiModalDistillation(nn.Module):
    """Each target task's map plus gated maps of all other tasks. A dict of maps to a dict of maps of the targets.

    O_t = F_t + sum over a != t of sigmoid(W_gate^{t,a} * F_a) (W_feature^{t,a} * F_a), 3x3 convolutions without bias.
    The convolutions that read one source share one weight: its outputs are, for each target other than the source,
    sorted by name, the feature and then the gate. All features of a source are computed at once, and all gates.
    `targets` are all of the tasks unless given.

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


def pack_pairs(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The weight of one source's convolution from the (feature, gate) weights of its readers, in order."""
    return torch.cat([weight for pair in pairs for weight in pair])
