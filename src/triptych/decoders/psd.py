"""PSD: pattern-structure diffusion across tasks (Zhou et al., CVPR 2020).

No official code is public: this is our reading of the paper. A pattern structure is what a pixel's k x k neighbours
mean to it, as averaging weights. Inside a task, structures are averaged along themselves, more where the response is
strong, which makes them depend on ever wider surroundings; between tasks, a pixel takes over the structures that other
tasks have at its place, as far as they correlate with its own. The features then diffuse along the result.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.decoders.pap import DiffusionDecoder
from triptych.tasks import Task

Structure = Float[Tensor, "batch neighbours height width"]


def neighbours(x: Float[Tensor, "batch channels height width"], size: int) -> Tensor:
    """The `size` x `size` neighbours of every pixel, zero outside: `(B, C, size^2, H, W)`.

    >>> neighbours(torch.ones(1, 2, 4, 5), 3)[0, 0].sum(dim=0)[0].tolist()
    [4.0, 6.0, 6.0, 6.0, 4.0]
    """
    height, width = x.shape[-2:]
    unfolded = F.unfold(x, size, padding=size // 2)
    return unfolded.view(x.shape[0], x.shape[1], size * size, height, width)


def average(structure: Structure, x: Float[Tensor, "batch channels height width"], size: int) -> Tensor:
    """Every pixel's average over its neighbours, weighted by its structure."""
    return (neighbours(x, size) * structure[:, None]).sum(dim=2)


class PatternStructure(nn.Module):
    """Diffuse each task's map along structures of its own and of the other tasks.

    P_t = softmax over the neighbours inside the image of (W_t f_t)(i) . (W_t f_t)(j) / sqrt(d). Inside a task, `order`
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
            raise ValueError(f"size of a pattern structure is {size}; a neighbourhood needs an odd one.")
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
        inside = neighbours(torch.ones_like(x[:1, :1]), self.size)[:, 0]
        logits = (neighbours(reduced, self.size) * reduced[:, :, None]).sum(dim=1) / reduced.shape[1] ** 0.5
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
        affinity = PatternStructure(width, list(tasks), inner_width=inner_width, size=size, order=order, steps=steps)
        super().__init__(channels, strides=strides, tasks=tasks, width=width, stride=stride, affinity=affinity)
