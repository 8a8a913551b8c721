"""Learned weights from homoscedastic uncertainty."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from triptych.weighting.base import Weighting


class Uncertainty(Weighting):
    """total = sum_t exp(-s_t) w_t L_t + s_t / 2 with learned s_t = log sigma_t^2 (Kendall, Gal and Cipolla, CVPR 2018).

    This is the paper's classification form for every task. Its regression form, L / (2 sigma^2) + log sigma, is the
    same up to a constant with s shifted by ln 2, so the choice only moves the starting point. A task that is absent
    from the batch leaves its s_t alone. `initial` is the first s_t of every task.

    >>> weighting = Uncertainty(["depth"], weights={"depth": 1.0})
    >>> weighting({"depth": torch.tensor(2.0)}).item()
    2.0
    """

    def __init__(self, names: Sequence[str], *, weights: Mapping[str, float], initial: float = 0.0) -> None:
        super().__init__(names, weights=weights)
        self.log_variances = nn.Parameter(torch.full((len(self.names),), float(initial)))

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        log_variances = dict(zip(self.names, self.log_variances.unbind(), strict=True))
        terms = []
        for name, loss in self.present(losses).items():
            s, loss = log_variances[name], self.weights[name] * loss
            terms.append(torch.where(loss != 0, (-s).exp() * loss + s / 2, loss))
        return torch.stack(terms).sum()
