"""Diffusion of features along affinities between tasks: PAP (Zhang et al., CVPR 2019, arXiv 1906.03525) and PSD (Zhou
et al., CVPR 2020).

No official code of either is public: these are our readings of the papers. Features and initial predictions are those
of ATRC's concatenation head.

PAP. Affinities live at stride 16. The paper trains with a pairwise affinity loss besides, which compares the similarity
of pairs of predictions with that of pairs of targets; which similarity, over which pairs, how compared and with what
weight is not in what we read. Ours (`triptych.losses.pairs`): one similarity in 0..1 by kind of task, squared
differences, all pairs of places of the affinities' grid, for initial and final predictions alike, times the task's
weight. Saliency and boundaries, which the paper does not have, are left out: their losses are balanced. The paper's
loss of depth is the reversed Huber; `nyuv2-pap` has ATRC's protocol, beside whose reading of PAP it stands, and its L1.

PSD. A pattern structure is what a pixel's k x k neighbors mean to it, as averaging weights. Inside a task, structures
are averaged along themselves, more where the response is strong, which makes them depend on ever wider surroundings;
between tasks, a pixel takes over the structures that other tasks have at its place, as far as they correlate with its
own. The features then diffuse along the result.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.decoders.base import Decoder, require_at_least
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
        spread = {name: torch.cat([x, resize(diffused[name], x.shape[-2:])], dim=1) for name, x in maps.items()}
        return [initial, {name: head(self.reconstruct[name](spread[name])) for name, head in self.heads.items()}]


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
        require_at_least(1, width=width, inner_width=inner_width, stride=stride)
        require_at_least(0, steps=steps)
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


Structure = Float[Tensor, "batch neighbors height width"]


def neighbors(x: Float[Tensor, "batch channels height width"], size: int) -> Tensor:
    """The `size` x `size` neighbors of every pixel, zero outside: `(B, C, size^2, H, W)`.

    >>> neighbors(torch.ones(1, 2, 4, 5), 3)[0, 0].sum(dim=0)[0].tolist()
    [4.0, 6.0, 6.0, 6.0, 4.0]
    """
    height, width = x.shape[-2:]
    unfolded = F.unfold(x, size, padding=size // 2)
    return unfolded.view(x.shape[0], x.shape[1], size * size, height, width)


def average(structure: Structure, x: Float[Tensor, "batch channels height width"], size: int) -> Tensor:
    """Every pixel's average over its neighbors, weighted by its structure."""
    return (neighbors(x, size) * structure[:, None]).sum(dim=2)


class PatternStructure(nn.Module):
    """Diffuse each task's map along structures of its own and of the other tasks.

    P_t = softmax over the neighbors inside the image of (W_t f_t)(i) . (W_t f_t)(j) / sqrt(d). Inside a task, `order`
    times, P_t(i) <- r(i) sum_j P_t(i, j) P_t(j) + (1 - r(i)) P_t(i), where r = sigmoid(v_t f_t), and what would leave
    the image is dropped and the rest scaled up. Between tasks, Q_t = sum over s of g_ts P_s with gates g_t(i) = softmax
    over s of a learned number times the correlation of P_t(i) and P_s(i). Then h <- beta Q_t h + (1 - beta) h, `steps`
    times. All weights of a pixel sum to one, so constant maps stay as they are.
    """

    def __init__(
        self, width: int, tasks: Sequence[str], *, inner_width: int = 32, size: int = 3, order: int = 2, steps: int = 4
    ) -> None:
        super().__init__()
        if size % 2 == 0:
            raise ValueError(f"size of a pattern structure is {size}; a neighborhood needs an odd one.")
        self.size, self.order, self.steps = size, order, steps
        # Sorted, so that the numbers mean the same in whatever order tasks are declared.
        self.names = sorted(tasks)
        self.reduce = nn.ModuleDict({name: nn.Conv2d(width, inner_width, 1) for name in self.names})
        self.response = nn.ModuleDict({name: nn.Conv2d(width, 1, 1) for name in self.names})
        self.sharpness = nn.Parameter(torch.ones(len(self.names)))
        self.rate = nn.Parameter(torch.zeros(len(self.names)))

    def structures(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Q_t of every task: `(B, size^2, H, W)`, non-negative, summing to one, zero outside the image."""
        own = {name: self.diffuse_inside(name, maps[name]) for name in self.names}
        stacked = torch.stack(list(own.values()), dim=1)
        unit = F.normalize(stacked, dim=2)
        correlation = torch.einsum("btkhw,bskhw->btshw", unit, unit)
        gates = (self.sharpness[:, None, None, None] * correlation).softmax(dim=2)
        mixed = torch.einsum("btshw,bskhw->btkhw", gates, stacked)
        return dict(zip(self.names, mixed.unbind(dim=1), strict=True))

    def diffuse_inside(self, name: str, x: Tensor) -> Structure:
        """The structures of one task, diffused along themselves."""
        reduced = self.reduce[name](x)
        inside = neighbors(torch.ones_like(x[:1, :1]), self.size)[:, 0]
        logits = (neighbors(reduced, self.size) * reduced[:, :, None]).sum(dim=1) / reduced.shape[1] ** 0.5
        structure = logits.masked_fill(inside == 0, float("-inf")).softmax(dim=1)
        response = self.response[name](x).sigmoid()
        for _ in range(self.order):
            # A sharp structure may lead out of the image whole: then a pixel keeps its own.
            spread = average(structure, structure, self.size) * inside + 1e-6 * structure
            spread = spread / spread.sum(dim=1, keepdim=True)
            structure = response * spread + (1 - response) * structure
        return structure

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        structures, rates = self.structures(maps), dict(zip(self.names, self.rate.sigmoid().unbind(), strict=True))
        diffused = {}
        for name, state in maps.items():
            for _ in range(self.steps):
                state = rates[name] * average(structures[name], state, self.size) + (1 - rates[name]) * state
            diffused[name] = state
        return diffused


class PSD(DiffusionDecoder):
    """Pattern-structure diffusion at about `stride`, on any backbone.

    >>> from triptych.tasks import nyuv2_tasks
    >>> decoder = PSD((4, 8), strides=(4, 8), tasks=nyuv2_tasks(), width=8)
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
        size: int = 3,
        order: int = 2,
        steps: int = 4,
        stride: int = 8,
    ) -> None:
        require_at_least(1, width=width, inner_width=inner_width, size=size, stride=stride)
        require_at_least(0, order=order, steps=steps)
        affinity = PatternStructure(width, list(tasks), inner_width=inner_width, size=size, order=order, steps=steps)
        super().__init__(channels, strides=strides, tasks=tasks, width=width, stride=stride, affinity=affinity)
