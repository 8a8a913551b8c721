"""Depth errors pooled over all valid pixels."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from triptych.metrics.base import Metric
from triptych.types import valid_pixels


class DepthMetric(Metric):
    """rmse and absrel."""

    primary: ClassVar[str] = "rmse"
    better: ClassVar[dict[str, bool]] = {"rmse": False, "absrel": False}

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "squared", "relative"):
            self.add_sum(name)

    def update(
        self, prediction: Float[Tensor, "batch 1 height width"], target: Float[Tensor, "batch 1 height width"]
    ) -> None:
        valid = valid_pixels(target) & (target > 0)
        predicted, truth = prediction[valid].double(), target[valid].double()
        self.count += valid.sum()
        self.squared += (predicted - truth).square().sum()
        self.relative += ((predicted - truth).abs() / truth).sum()

    def compute(self) -> dict[str, float]:
        return {"rmse": (self.squared / self.count).sqrt().item(), "absrel": (self.relative / self.count).item()}
