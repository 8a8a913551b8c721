"""The base of every metric: sums in float64, mergeable across batches and processes."""

from typing import ClassVar

import torch
from torch import Tensor

from triptych._torchvision import declare_missing_operators

declare_missing_operators()  # before torchmetrics, which imports torchvision
import torchmetrics  # noqa: E402


class Metric(torchmetrics.Metric):
    """A metric whose states are sums, so that the result does not depend on the order, the batch size or the process.

    Subclasses declare states with `add_sum`, accumulate in `update(prediction, target)` (a batch, prediction decoded
    to physical units, target in the layout of its task), and return named numbers from `compute()`. `primary` names
    the number that model selection and delta_mtl use; `higher_is_better` says which way every returned number is
    better.
    """

    full_state_update = False
    primary: ClassVar[str]
    better: ClassVar[dict[str, bool]]
    """For every number of `compute()`: is higher better?"""

    def add_sum(self, name: str, shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float64) -> None:
        """Declare a state that starts at zero and is added up over batches and processes."""
        self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def sums(self) -> dict[str, Tensor]:
        """The states by name: what is added up, kept per image for paired statistics."""
        return {name: getattr(self, name).clone() for name in self._defaults}

    def add_sums(self, sums: dict[str, Tensor]) -> None:
        """Add states that another instance of this metric collected."""
        for name, value in sums.items():
            setattr(self, name, getattr(self, name) + value)
        self._update_count += 1
        self._computed = None

    def set_dtype(self, dst_type: torch.dtype) -> "Metric":
        """States stay in double precision whatever the model's precision."""
        return self

    def half(self) -> "Metric":
        return self

    def float(self) -> "Metric":
        return self
