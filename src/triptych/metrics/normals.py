"""Angular error of normals."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from triptych.metrics.base import Metric
from triptych.types import valid_pixels


class NormalsMetric(Metric):
    """Mean angle in degrees."""

    primary: ClassVar[str] = "mErr"
    better: ClassVar[dict[str, bool]] = {"mErr": False}

    def __init__(self) -> None:
        super().__init__()
        self.add_sum("count")
        self.add_sum("angle")

    def update(
        self, prediction: Float[Tensor, "batch 3 height width"], target: Float[Tensor, "batch 3 height width"]
    ) -> None:
        valid = valid_pixels(target)[:, 0]
        a = F.normalize(prediction.double(), dim=1)
        b = F.normalize(target.double(), dim=1)
        angle = 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))[valid]
        self.count += valid.sum()
        self.angle += angle.rad2deg().sum()

    def compute(self) -> dict[str, float]:
        return {"mErr": (self.angle / self.count).item()}
