"""F-measure of saliency."""

from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from triptych.metrics.base import Metric
from triptych.types import valid_pixels


class SaliencyMetric(Metric):
    """Largest F over 19 thresholds, pooled over all pixels, beta squared 0.3."""

    primary: ClassVar[str] = "maxF"
    better: ClassVar[dict[str, bool]] = {"maxF": True}

    def __init__(self) -> None:
        super().__init__()
        for name in ("hits", "predicted"):
            self.add_sum(name, (19,))
        self.add_sum("actual")

    def update(
        self, prediction: Float[Tensor, "batch 1 height width"], target: Int[Tensor, "batch height width"]
    ) -> None:
        valid = valid_pixels(target)
        positive = target[valid] == 1
        for i in range(19):
            marked = prediction[:, 0][valid] >= 0.05 * (i + 1)
            self.hits[i] += (marked & positive).sum()
            self.predicted[i] += marked.sum()
        self.actual += positive.sum()

    def compute(self) -> dict[str, float]:
        scores = 1.3 * self.hits / (0.3 * self.actual + self.predicted).clamp(min=1)
        return {"maxF": scores.max().item()}
