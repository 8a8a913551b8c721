"""Dynamic weight average: tasks whose loss falls slowly weigh more."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from triptych.weighting.base import Weighting, average_over_processes


class DWA(Weighting):
    """total = sum_t lambda_t w_t L_t with lambda_t = T exp(r_t / temperature) / sum_i exp(r_i / temperature).

    T is the number of tasks and r_t the ratio of the task's mean losses of the last two epochs (Liu, Johns and
    Davison, CVPR 2019, eq. 7).

    All lambda are 1 during the first two epochs. A task without a loss in one of the two epochs counts as r = 1.

    >>> weighting = DWA(["a", "b"], weights={"a": 1.0, "b": 1.0})
    >>> weighting.end_epoch({"a": 1.0, "b": 1.0})
    >>> weighting.end_epoch({"a": 0.5, "b": 1.0})
    >>> [round(value, 3) for value in weighting.factors().tolist()]
    [0.876, 1.124]
    """

    history: Tensor
    """Mean losses `(2, tasks)` of the epoch before last and of the last; NaN where unknown."""

    def __init__(self, names: Sequence[str], *, weights: Mapping[str, float], temperature: float = 2.0) -> None:
        super().__init__(names, weights=weights)
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}; it must be positive (the paper uses 2).")
        self.temperature = temperature
        self.register_buffer("history", torch.full((2, len(self.names)), math.nan))

    def factors(self) -> Tensor:
        """lambda of every task."""
        ratio = self.history[1] / self.history[0]
        ratio = torch.where(ratio.isfinite() & (ratio > 0), ratio, 1.0)
        return len(self.names) * (ratio / self.temperature).softmax(dim=0)

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        return self.weighted_sum(losses, dict(zip(self.names, self.factors().unbind(), strict=True)))

    def end_epoch(self, losses: Mapping[str, float]) -> None:
        mean = self.history.new_tensor([losses.get(name, math.nan) for name in self.names])
        average_over_processes([mean])
        self.history = torch.stack([self.history[1], mean])
