"""Sum of logarithms: every task pulls with its relative, not its absolute, error."""

from collections.abc import Mapping

import torch
from torch import Tensor

from triptych.weighting.base import Weighting


class Logarithm(Weighting):
    """total = sum_t w_t log L_t, the log of the losses' geometric mean up to a factor (Chennupati et al. 2019).

    The gradient of each task is divided by its loss, so no scale needs tuning; MTMamba trains with it and weights of 1
    (our reading of "log-losses"). The total can be negative.

    >>> weighting = Logarithm(["depth"], weights={"depth": 1.0})
    >>> weighting({"depth": torch.tensor(1.0)}).item()
    0.0
    """

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        logarithms = {name: _safe_log(loss) for name, loss in self.present(losses).items()}
        return self.weighted_sum(logarithms, dict.fromkeys(self.names, 1.0))


def _safe_log(loss: Tensor) -> Tensor:
    """log, and 0 with zero gradient for a task that is absent from the batch."""
    return torch.where(loss > 0, loss, 1.0).log()
