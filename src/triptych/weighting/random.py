"""Random loss weighting."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from triptych.weighting.base import Weighting


class RandomWeighting(Weighting):
    """total = sum_t lambda_t w_t L_t, lambda the softmax of new normal numbers for every batch (Lin et al., TMLR 2022).

    The numbers of a batch depend on `seed` and on how many batches came before, which a buffer counts: a resumed run
    goes on where it stopped, every process draws the same, and nobody else's random numbers move.

    >>> weighting = RandomWeighting(["a", "b"], weights={"a": 1.0, "b": 1.0})
    >>> total = weighting({"a": torch.tensor(1.0), "b": torch.tensor(1.0)})
    >>> round(total.item(), 5)
    1.0
    """

    batches: Tensor

    def __init__(self, names: Sequence[str], *, weights: Mapping[str, float], seed: int = 0) -> None:
        super().__init__(names, weights=weights)
        self.seed = seed
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def draw(self) -> Tensor:
        """The weights of the next batch, which sum to 1."""
        generator = torch.Generator().manual_seed(self.seed + 7919 * int(self.batches))
        self.batches += 1
        return torch.randn(len(self.names), generator=generator).softmax(dim=0)

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        return self.weighted_sum(losses, dict(zip(self.names, self.draw().tolist(), strict=True)))
