"""Errors of quantities that have no metric of their own."""

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from triptych.metrics.base import Metric, exact_sum
from triptych.types import valid_pixels

Values = Float[Tensor, "batch channels height width"]


class ValuesMetric(Metric):
    """Errors of any quantity, in its unit, pooled over channels and all valid pixels of the set: `mae` and `rmse`.

    >>> metric = ValuesMetric()
    >>> metric.update(torch.tensor([[[[1.0, 5.0]]]]), torch.tensor([[[[4.0, torch.nan]]]]))
    >>> metric.compute()
    {'mae': 3.0, 'rmse': 3.0}
    """

    primary: ClassVar[str] = "mae"
    better: ClassVar[dict[str, bool]] = {"mae": False, "rmse": False}
    numbers: Tensor
    """How many numbers were compared."""
    absolute: Tensor
    squared: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_sum("numbers", (), torch.int64)
        self.add_sum("absolute", (2,))
        self.add_sum("squared", (2,))

    def update(self, prediction: Values, target: Values) -> None:
        valid = valid_pixels(target).expand_as(target)
        error = torch.where(valid, prediction.double() - target.double(), 0.0)
        self.numbers += valid.sum()
        self.absolute += exact_sum(error.abs())
        self.squared += exact_sum(error.square())

    def compute(self) -> dict[str, float]:
        absolute, squared = (value.sum() / self.numbers for value in (self.absolute, self.squared))
        return {"mae": float(absolute), "rmse": math.sqrt(squared)}
