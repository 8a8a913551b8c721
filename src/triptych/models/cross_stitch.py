"""Cross-stitch networks (Misra et al., CVPR 2016, arXiv 1604.03539), as the multi-task survey builds them on ResNets.

After each stage of the trunks every task's map becomes a learnt combination of all tasks' maps, channel by channel.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from triptych.models.joined import JoinedNetworks


class CrossStitchUnit(nn.Module):
    """x_t = sum over s of a_ts x_s with one factor per channel; a_tt starts at `alpha`, the others at `beta`.

    `factors[t * T + s]` is a_ts, tasks sorted by name.

    >>> unit = CrossStitchUnit(4, ["semseg", "depth"], alpha=1.0, beta=0.5)
    >>> unit({"semseg": torch.ones(1, 4, 2, 2), "depth": torch.zeros(1, 4, 2, 2)})["depth"].mean().item()
    0.5
    """

    def __init__(self, channels: int, tasks: Sequence[str], *, alpha: float = 0.9, beta: float = 0.1) -> None:
        super().__init__()
        # Sorted, so that joined weights mean the same in whatever order tasks are declared.
        self.names = sorted(tasks)
        start = torch.full((len(self.names), len(self.names)), beta).fill_diagonal_(alpha)
        self.factors = nn.Parameter(start.flatten()[:, None].repeat(1, channels))

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        factors = iter(self.factors[:, None, :, None, None])
        mixed = {}
        for target in self.names:
            total = maps[self.names[0]] * next(factors)
            for source in self.names[1:]:
                total = torch.addcmul(total, maps[source], next(factors))
            mixed[target] = total
        return {name: mixed[name] for name in maps}


class CrossStitch(JoinedNetworks):
    """Single-task ResNets with cross-stitch units after layer1 to layer4; published with `output_stride=8`.

    Published start: `alpha` 0.9 and `beta` 0.1 on NYUD, 0.8 and 0.05 on PASCAL.

    >>> from triptych.backbones import create_backbone
    >>> from triptych.tasks import nyuv2_tasks
    >>> model = CrossStitch(create_backbone("resnet18", widths=(8, 8, 16, 16)), tasks=nyuv2_tasks(), width=8)
    >>> model(torch.rand(1, 3, 32, 40)).predictions["depth"].shape
    torch.Size([1, 1, 32, 40])
    """

    architecture = "cross-stitch"
    unit = CrossStitchUnit
    mixes_stem = False
