"""Errors of quantities that have no metric of their own: `VALUES_METRICS` by the number that selects."""

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from triptych.lookup import named_choice
from triptych.metrics.base import PARTS, Count, Metric, Total, exact_sum
from triptych.metrics.normals import measure_angle
from triptych.types import check_layout, valid_pixels

Values = Float[Tensor, "batch channels height width"]


class ValuesMetric(Metric):
    """Errors of any quantity, in its unit, pooled over channels and all valid pixels of the set: `mae` and `rmse`.

    `primary` is the one that selects and is compared.

    >>> metric = ValuesMetric()
    >>> metric.update(torch.tensor([[[[1.0, 5.0]]]]), torch.tensor([[[[4.0, torch.nan]]]]))
    >>> metric.compute()
    {'mae': 3.0, 'rmse': 3.0}
    """

    primary: str = "mae"
    perfect = 0.0
    better: ClassVar[dict[str, bool]] = {"mae": False, "rmse": False}
    numbers: Count
    """Number of values that were compared."""
    absolute: Total
    squared: Total

    def __init__(self, *, primary: str = "mae") -> None:
        super().__init__()
        self.primary = named_choice("error of values", primary, {name: name for name in ("mae", "rmse")})

    def update(self, prediction: Values, target: Values) -> None:
        _check_layout(self, prediction, target)
        valid = valid_pixels(target).expand_as(target)
        error = torch.where(valid, prediction.double() - target.double(), 0.0)
        self.numbers += valid.sum()
        self.absolute += exact_sum(error.abs())
        self.squared += exact_sum(error.square())

    def compute(self) -> dict[str, float]:
        absolute, squared = (value.sum() / self.numbers for value in (self.absolute, self.squared))
        return {"mae": float(absolute), "rmse": math.sqrt(squared)}


class ExplainedMetric(Metric):
    """Coefficient of determination of any quantity, `r2` = 1 - sum (v^ - v)^2 / sum (v - mean v)^2, beside `rmse`.

    The mean is that of each channel over all valid pixels of the set, the sums are over channels and these pixels. 1
    is perfect, 0 is as good as the mean, and a quantity that never changes has none (NaN or minus infinity).

    >>> metric = ExplainedMetric()
    >>> metric.update(torch.tensor([[[[1.0, 5.0]]]]), torch.tensor([[[[1.0, 3.0]]]]))
    >>> metric.compute()["r2"]
    -1.0
    """

    primary: ClassVar[str] = "r2"
    perfect = 1.0
    below_zero = True
    better: ClassVar[dict[str, bool]] = {"r2": True, "rmse": False}
    pixels: Count
    total: Tensor
    power: Tensor
    squared: Tensor

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        for name in ("total", "power", "squared"):
            self.add_sum(name, (channels, PARTS))

    def update(self, prediction: Values, target: Values) -> None:
        _check_layout(self, prediction, target)
        valid = valid_pixels(target)
        known = torch.where(valid, target.double(), 0.0)
        error = torch.where(valid, prediction.double() - known, 0.0)
        self.pixels += valid.sum()
        for name, values in (("total", known), ("power", known.square()), ("squared", error.square())):
            setattr(self, name, getattr(self, name) + exact_sum(values, dim=(0, 2, 3)))

    def compute(self) -> dict[str, float]:
        total, power, squared = (value.sum(dim=-1) for value in (self.total, self.power, self.squared))
        spread = (power - total.square() / self.pixels).sum()
        mean_squared = squared.sum() / (self.pixels * len(squared))
        return {"r2": float(1 - squared.sum() / spread), "rmse": float(mean_squared.sqrt())}


class AngleMetric(Metric):
    """Mean angle in degrees between predicted and true vectors of channels, `angle`, over all valid pixels of the set.

    >>> metric = AngleMetric()
    >>> metric.update(torch.tensor([1.0, 1.0]).view(1, 2, 1, 1), torch.tensor([0.0, 2.0]).view(1, 2, 1, 1))
    >>> round(metric.compute()["angle"], 6)
    45.0
    """

    primary: ClassVar[str] = "angle"
    perfect = 0.0
    better: ClassVar[dict[str, bool]] = {"angle": False}
    pixels: Count
    total: Total

    def update(self, prediction: Values, target: Values) -> None:
        _check_layout(self, prediction, target)
        angle = measure_angle(prediction, target)[valid_pixels(target)[:, 0]]
        self.pixels += angle.numel()
        self.total += exact_sum(angle)

    def compute(self) -> dict[str, float]:
        return {"angle": float(self.total.sum() / self.pixels)}


def _check_layout(metric: Metric, prediction: Values, target: Values) -> None:
    channels = target.shape[1] if target.ndim == 4 else 1
    check_layout(type(metric).__name__, prediction, target, channels, channels)


def _error(primary: str, channels: int) -> Metric:
    return ValuesMetric(primary=primary)


def _angle(channels: int) -> Metric:
    return AngleMetric()


# Functions with names: tasks are sent to worker processes.
VALUES_METRICS: dict[str, Callable[[int], Metric]] = {
    "mae": partial(_error, "mae"),
    "rmse": partial(_error, "rmse"),
    "r2": ExplainedMetric,
    "angle": _angle,
}
"""Metrics of any quantity from its number of channels, by the number that selects."""
