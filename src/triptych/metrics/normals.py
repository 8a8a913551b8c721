"""Angular error of surface normals."""

import math
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from triptych.metrics.base import PARTS, Count, Metric, Sum, Total, exact_sum
from triptych.types import check_layout, valid_pixels

Normals = Float[Tensor, "batch 3 height width"]

FINE, COARSE, KNEE = 100, 10, 60
"""Bins per degree of the histogram below and above `KNEE` degrees."""
BINS = FINE * KNEE + COARSE * (180 - KNEE)
LIMITS = (11.25, 22.5, 30.0)


def measure_angle(
    first: Float[Tensor, "batch channels height width"], second: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch height width"]:
    """Angle in degrees, in double precision: 2 atan2(|a - b|, |a + b|) of the unit vectors, accurate at 0 and 180."""
    a, b = F.normalize(first.double(), dim=1), F.normalize(second.double(), dim=1)
    return torch.rad2deg(2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1)))


class NormalsMetric(Metric):
    """Angle between predicted and true normals, pooled over all valid pixels of the set.

    `mErr` is the mean, `median` and `rmse` its companions, in degrees; `within_11.25`, `within_22.5` and `within_30`
    are the shares of pixels below these angles, 0..1. The median comes from a histogram with bins of 0.01 degrees up
    to 60 degrees and 0.1 above, interpolated inside a bin. Predictions that are NaN make `mErr` and `rmse` NaN, and
    count as the largest angle elsewhere.

    >>> metric = NormalsMetric()
    >>> metric.update(torch.tensor([0.0, 1.0, -1.0]).view(1, 3, 1, 1), torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1))
    >>> round(metric.compute()["mErr"], 6)
    45.0
    """

    primary: ClassVar[str] = "mErr"
    perfect = 0.0
    better: ClassVar[dict[str, bool]] = {
        "mErr": False,
        "median": False,
        "rmse": False,
        "within_11.25": True,
        "within_22.5": True,
        "within_30": True,
    }
    pixels: Count
    angle: Total
    squared: Total
    within: Annotated[Tensor, Sum((len(LIMITS),), torch.int64)]
    histogram: Annotated[Tensor, Sum((BINS,), torch.int64)]

    def update(self, prediction: Normals, target: Normals) -> None:
        check_layout(type(self).__name__, prediction, target, 3, 3)
        angle = measure_angle(prediction, target)[valid_pixels(target)[:, 0]]
        self.pixels += angle.numel()
        self.angle += exact_sum(angle)
        self.squared += exact_sum(angle.square())
        self.within += torch.stack([(angle < limit).sum() for limit in LIMITS])
        position = torch.where(angle < KNEE, angle * FINE, FINE * KNEE + (angle - KNEE) * COARSE)
        self.histogram += torch.bincount(position.nan_to_num(BINS).long().clamp(max=BINS - 1), minlength=BINS)

    def compute(self) -> dict[str, float]:
        within = (self.within.double() / self.pixels).tolist()
        return {
            "mErr": (self.angle.sum() / self.pixels).item(),
            "median": self._median(),
            "rmse": math.sqrt(self.squared.sum() / self.pixels),
            **{f"within_{limit:g}": share for limit, share in zip(LIMITS, within, strict=True)},
        }

    def _median(self) -> float:
        if self.pixels == 0:
            return math.nan
        half = self.pixels.item() / 2
        cumulative = self.histogram.double().cumsum(dim=0)
        index = int(torch.searchsorted(cumulative, half))
        inside = self.histogram[index].item()
        position = index + (half - (cumulative[index].item() - inside)) / inside
        return position / FINE if index < FINE * KNEE else KNEE + (position - FINE * KNEE) / COARSE


class PublishedDenseMTLNormalsMetric(Metric):
    """Numbers that DenseMTL's repository prints for normals: **not an angular error**, only for comparison with its
    logs.

    Per image the norms of its formula run over the rows of the image instead of over the channels, invalid pixels
    count, and each number is the mean over images of the image's number (`rmse`: the root of the mean).
    """

    primary: ClassVar[str] = "mErr"
    perfect = 0.0
    better: ClassVar[dict[str, bool]] = NormalsMetric.better
    images: Count
    totals: Annotated[Tensor, Sum((len(NormalsMetric.better), PARTS))]

    def update(self, prediction: Normals, target: Normals) -> None:
        check_layout(type(self).__name__, prediction, target, 3, 3)
        a, b = F.normalize(prediction.double(), dim=1), target.double().nan_to_num()
        angle = torch.rad2deg(2 * torch.atan2((a - b).norm(dim=2), (a + b).norm(dim=2))).flatten(1)
        numbers = [angle.mean(dim=1), angle.median(dim=1).values, angle.square().mean(dim=1)]
        numbers += [(angle < limit).double().mean(dim=1) for limit in LIMITS]
        self.images += len(angle)
        self.totals += exact_sum(torch.stack(numbers), dim=-1)

    def compute(self) -> dict[str, float]:
        numbers = dict(zip(self.better, (self.totals.sum(dim=-1) / self.images).tolist(), strict=True))
        return numbers | {"rmse": math.sqrt(numbers["rmse"])}
