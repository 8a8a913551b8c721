"""PAP: pattern-affinitive propagation across tasks (Zhang et al., CVPR 2019, arXiv 1906.03525).

No official code is public: this is our reading of the paper. Features and initial predictions are those of ATRC's
concatenation head; affinities live at stride 16. The paper trains with a pairwise affinity loss besides, which
compares the similarity of pairs of predictions with that of pairs of targets; which similarity, over which pairs, how
compared and with what weight is not in what we read. Ours (`triptych.losses.pairs`): one similarity in 0..1 by kind of
task, squared differences, all pairs of places of the affinities' grid, for initial and final predictions alike, times
the task's weight. Saliency and boundaries, which the paper does not have, are left out: their losses are balanced.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.decoders.base import Decoder
from triptych.decoders.layers import ConvNormReLU, JoinedConvNormReLU, resize
from triptych.tasks import Task
from triptych.types import Output


class DiffusionDecoder(Decoder):
    """Per task features and initial predictions, a diffusion of all tasks on a smaller grid, and final predictions.

    `affinity` maps a dict of features to a dict of diffused ones, on a grid of about `stride`. Returns the initial
    predictions, then the final ones, both at the size of the finest feature.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        width: int,
        stride: int,
        affinity: nn.Module,
    ) -> None:
        super().__init__(channels, strides=strides, tasks=tasks)
        self.pooling = max(1, round(stride / self.strides[0]))
        self.bottlenecks = nn.ModuleDict({name: JoinedConvNormReLU(sum(self.channels), width) for name in tasks})
        self.initial = nn.ModuleDict({name: nn.Conv2d(width, task.channels, 1) for name, task in tasks.items()})
        self.affinity = affinity
        self.reconstruct = nn.ModuleDict({name: ConvNormReLU(2 * width, width) for name in tasks})
        self.heads = nn.ModuleDict({name: nn.Conv2d(width, task.channels, 1) for name, task in tasks.items()})

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        maps = {name: layer(features) for name, layer in self.bottlenecks.items()}
        initial = {name: head(maps[name]) for name, head in self.initial.items()}
        diffused = self.affinity({name: F.avg_pool2d(x, self.pooling, ceil_mode=True) for name, x in maps.items()})
        final = {}
        for name, head in self.heads.items():
            spread = resize(diffused[name], maps[name].shape[-2:])
            final[name] = head(self.reconstruct[name](torch.cat([maps[name], spread], dim=1)))
        return [initial, final]


class PatternAffinity(nn.Module):
    """Diffuse each task's map along the affinities of all tasks.

    A_t = softmax over rows of (W_t f_t)^T (W_t f_t) / sqrt(d); mixed, M_t = sum over s of alpha_ts A_s with alpha_t a
    softmax of learned numbers; then h <- beta M_t h + (1 - beta) h, `steps` times, from h = f_t. Every M_t is a matrix
    of averages (rows sum to one), so constant maps stay as they are.

    >>> maps = {name: torch.randn(1, 8, 4, 5) for name in ("depth", "semseg")}
    >>> PatternAffinity(8, ["depth", "semseg"])(maps)["depth"].shape
    torch.Size([1, 8, 4, 5])
    """

    def __init__(self, width: int, tasks: Sequence[str], *, inner_width: int = 32, steps: int = 4) -> None:
        super().__init__()
        self.steps = steps
        # Sorted, so that the numbers mean the same in whatever order tasks are declared.
        self.names = sorted(tasks)
        self.reduce = nn.ModuleDict({name: nn.Conv2d(width, inner_width, 1) for name in self.names})
        self.mixture = nn.Parameter(torch.zeros(len(self.names), len(self.names)))
        self.rate = nn.Parameter(torch.zeros(len(self.names)))

    def affinities(self, maps: Mapping[str, Tensor]) -> Float[Tensor, "batch tasks places places"]:
        """The mixed affinities M_t of the tasks, sorted by name."""
        reduced = torch.stack([self.reduce[name](maps[name]).flatten(2) for name in self.names], dim=1)
        own = (reduced.transpose(2, 3) @ reduced / reduced.shape[2] ** 0.5).softmax(dim=-1)
        return torch.einsum("ts,bsij->btij", self.mixture.softmax(dim=1), own)

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        mixed = self.affinities(maps)
        state = torch.stack([maps[name].flatten(2).transpose(1, 2) for name in self.names], dim=1)
        rate = self.rate.sigmoid()[:, None, None]
        for _ in range(self.steps):
            state = rate * (mixed @ state) + (1 - rate) * state
        spread = dict(zip(self.names, state.transpose(2, 3).unbind(dim=1), strict=True))
        return {name: spread[name].unflatten(2, x.shape[-2:]) for name, x in maps.items()}


class PAP(DiffusionDecoder):
    """Pattern-affinitive propagation at about `stride`, on any backbone.

    `affinity_weight` is the factor of the pairwise affinity loss beside a task's other losses; 0 switches it off.

    >>> from triptych.tasks import nyuv2_tasks
    >>> decoder = PAP((4, 8), strides=(4, 8), tasks=nyuv2_tasks(), width=8)
    >>> initial, final = decoder([torch.randn(1, 4, 16, 24), torch.randn(1, 8, 8, 12)])
    >>> final["depth"].shape
    torch.Size([1, 1, 16, 24])
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        width: int = 128,
        inner_width: int = 32,
        steps: int = 4,
        stride: int = 16,
        affinity_weight: float = 1.0,
    ) -> None:
        affinity = PatternAffinity(width, list(tasks), inner_width=inner_width, steps=steps)
        super().__init__(channels, strides=strides, tasks=tasks, width=width, stride=stride, affinity=affinity)
        self.affinity_weight = affinity_weight

    def affinity_losses(self, output: Output, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The pairwise affinity loss of every task, at the pixels in the middle of the cells of the affinities' grid:
        there predictions and targets are read where they are, not averaged."""
        if not self.affinity_weight:
            return {}
        cell = self.pooling * self.strides[0]
        middle = (..., slice(cell // 2, None, cell), slice(cell // 2, None, cell))
        stages = [*output.auxiliary, output.predictions]
        return {
            name: self.affinity_weight
            * torch.stack([task.pair_loss(stage[name][middle], targets[name][middle]) for stage in stages]).sum()
            for name, task in self.tasks.items()
            if task.pair_loss is not None
        }
