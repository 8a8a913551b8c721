"""Depth errors: pooled over all pixels, and averaged over images."""

import math
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from triptych.metrics.base import PARTS, Count, Metric, Sum, exact_sum
from triptych.types import check_layout, valid_pixels

Depth = Float[Tensor, "batch 1 height width"]
Pixels = Float[Tensor, "batch pixels"]

ERRORS = ("squared", "absrel", "sqrel", "squared_log", "delta1", "delta2", "delta3")
"""Errors that are averaged, over pixels and over images; the names of the results are `RESULTS`."""
RESULTS = ("rmse", "absrel", "sqrel", "log_rmse", "delta1", "delta2", "delta3")
ROOTS = ("rmse", "log_rmse")
Errors = Annotated[Tensor, Sum((len(ERRORS), PARTS))]


class DepthMetric(Metric):
    """Errors of depth in metres.

    Pooled over all valid pixels of the set: `rmse` (m), `absrel` |d^ - d| / d, `sqrel` (d^ - d)^2 / d (m), `log_rmse`
    of ln d, and the shares `delta1..3` of pixels with max(d^ / d, d / d^) below 1.25, 1.25^2, 1.25^3. The same with the
    suffix `_image`: the mean over images of each image's mean (`rmse_image` and `log_rmse_image`: the root of it), as
    DenseMTL reports; the survey, ATRC and InvPT pool.

    A pixel counts where `near < target < far`; predictions are clamped to `lowest .. highest`. The defaults are those
    of InvPT; TaskPrompter has far=80, DenseMTL near=lowest=1e-3, far=highest=80. `median_scaling` multiplies each
    image's prediction by median(target) / median(prediction) before clamping (lower medians), with `lowest` where it is
    not positive.

    >>> metric = DepthMetric()
    >>> metric.update(torch.tensor([[[[1.0, 5.0]]]]), torch.tensor([[[[2.0, torch.nan]]]]))
    >>> metric.compute()["rmse"], metric.compute()["absrel"]
    (1.0, 0.5)
    """

    primary: ClassVar[str] = "rmse"
    perfect = 0.0
    better: ClassVar[dict[str, bool]] = {
        name + suffix: name.startswith("delta") for suffix in ("", "_image") for name in RESULTS
    }
    pixels: Count
    pixel_sums: Errors
    """Sums of `ERRORS` over pixels, `(errors, 3)` exact parts."""
    images: Count
    image_sums: Errors
    """Sums over images of each image's mean."""

    def __init__(
        self,
        *,
        near: float = 0.0,
        far: float = math.inf,
        lowest: float = 1e-9,
        highest: float = math.inf,
        median_scaling: bool = False,
    ) -> None:
        super().__init__()
        if lowest <= 0:
            raise ValueError(f"lowest is {lowest}; it must be positive, as logarithms and ratios are taken.")
        self.near, self.far = near, far
        self.lowest, self.highest = lowest, highest
        self.median_scaling = median_scaling

    def update(self, prediction: Depth, target: Depth) -> None:
        check_layout(type(self).__name__, prediction, target, 1, 1)
        counts, sums = self._measure(prediction, target, self.median_scaling)
        self.pixels += counts.sum()
        self.images += (counts > 0).sum()
        self.pixel_sums += sums.sum(dim=1)
        self.image_sums += _sum_means(sums, counts)

    def compute(self) -> dict[str, float]:
        return self._numbers(self.pixel_sums, self.image_sums)

    def _measure(
        self, prediction: Depth, target: Depth, median_scaling: bool
    ) -> tuple[Int[Tensor, " batch"], Float[Tensor, "errors batch 3"]]:
        """Pixels that count, and their summed errors, by image."""
        valid = (valid_pixels(target) & (target > self.near) & (target < self.far)).flatten(1)
        truth, predicted = target.flatten(1).double(), prediction.flatten(1).double()
        if median_scaling:
            predicted = torch.where(predicted <= 0, self.lowest, predicted)  # no factor makes these a depth
            predicted = predicted * _median(truth, valid) / _median(predicted, valid)
        truth = torch.where(valid, truth, 1.0)
        predicted = torch.where(valid, predicted.clamp(self.lowest, self.highest), 1.0)
        return valid.sum(dim=1), exact_sum(_errors(predicted, truth) * valid, dim=-1)

    def _numbers(self, pixel_sums: Tensor, image_sums: Tensor) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for suffix, sums, count in (("", pixel_sums, self.pixels), ("_image", image_sums, self.images)):
            means = (sums.sum(dim=-1) / count).tolist()
            for name, value in zip(RESULTS, means, strict=True):
                numbers[name + suffix] = math.sqrt(value) if name in ROOTS else value
        return numbers


class AlignedDepthMetric(DepthMetric):
    """The numbers of `DepthMetric`, and with `_aligned` at the end of their names the same after median scaling.

    Each image's prediction is multiplied by median(target) / median(prediction) over the pixels that count, before it
    is clamped: the scale-aligned protocol of depth from video (Zhou et al., 2017; Godard et al., 2019), where one
    camera sees no scale. The numbers without the suffix are metric: the prediction as it is.

    >>> metric = AlignedDepthMetric()
    >>> metric.update(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[2.0, 4.0]]]]))
    >>> metric.compute()["absrel"], metric.compute()["absrel_aligned"]
    (0.5, 0.0)
    """

    primary: ClassVar[str] = "rmse_aligned"
    perfect = 0.0
    better: ClassVar[dict[str, bool]] = DepthMetric.better | {
        f"{name}_aligned": higher for name, higher in DepthMetric.better.items()
    }
    aligned_pixel_sums: Errors
    aligned_image_sums: Errors

    def __init__(
        self, *, near: float = 0.0, far: float = math.inf, lowest: float = 1e-9, highest: float = math.inf
    ) -> None:
        super().__init__(near=near, far=far, lowest=lowest, highest=highest)

    def update(self, prediction: Depth, target: Depth) -> None:
        super().update(prediction, target)
        counts, sums = self._measure(prediction, target, median_scaling=True)
        self.aligned_pixel_sums += sums.sum(dim=1)
        self.aligned_image_sums += _sum_means(sums, counts)

    def compute(self) -> dict[str, float]:
        aligned = self._numbers(self.aligned_pixel_sums, self.aligned_image_sums)
        return super().compute() | {f"{name}_aligned": value for name, value in aligned.items()}


def _errors(predicted: Pixels, truth: Pixels) -> Float[Tensor, "errors batch pixels"]:
    difference = predicted - truth
    ratio = torch.maximum(predicted / truth, truth / predicted)
    return torch.stack(
        [
            difference.square(),
            difference.abs() / truth,
            difference.square() / truth,
            (predicted.log() - truth.log()).square(),
            *((ratio < 1.25**power).double() for power in (1, 2, 3)),
        ]
    )


def _sum_means(sums: Float[Tensor, "errors batch 3"], counts: Int[Tensor, " batch"]) -> Float[Tensor, "errors 3"]:
    """Sum over images of each image's mean error."""
    return exact_sum(sums.sum(dim=-1)[:, counts > 0] / counts[counts > 0], dim=-1)


def _median(values: Pixels, valid: Bool[Tensor, "batch pixels"]) -> Float[Tensor, "batch 1"]:
    """Lower median of each image's valid pixels; 1 where there is none."""
    median = torch.where(valid, values, torch.nan).nanmedian(dim=1, keepdim=True).values
    return torch.where(valid.any(dim=1, keepdim=True), median, 1.0)
