"""Metrics with made-up images, for the properties that all of them share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from triptych.metrics.base import Metric
from triptych.metrics.boundary import BoundaryMetric
from triptych.metrics.depth import DepthMetric
from triptych.metrics.normals import NormalsMetric, PublishedDenseMTLNormalsMetric
from triptych.metrics.saliency import SaliencyMetric
from triptych.metrics.segmentation import SegmentationMetric
from triptych.metrics.values import AngleMetric, ExplainedMetric, ValuesMetric
from triptych.types import IGNORE

Images = tuple[Tensor, Tensor]
"""Predictions and targets of a batch."""
IMAGES, SIZE = 7, (5, 9)


@dataclass(frozen=True)
class Case:
    """A metric, and predictions with valid targets for some images of a size."""

    metric: Callable[[], Metric]
    make: Callable[[int, int, int], Images]


def make_labels(batch: int, height: int, width: int) -> Images:
    size = (batch, height, width)
    return torch.randint(0, 4, size), torch.randint(0, 4, size)


def make_depth(batch: int, height: int, width: int) -> Images:
    target = torch.rand(batch, 1, height, width) * 9 + 0.5
    return target + torch.randn_like(target), target


def make_normals(batch: int, height: int, width: int) -> Images:
    target = F.normalize(torch.randn(batch, 3, height, width), dim=1)
    return F.normalize(target + torch.randn_like(target) / 3, dim=1), target


def make_saliency(batch: int, height: int, width: int) -> Images:
    target = torch.randint(0, 2, (batch, height, width))
    return (torch.randn(batch, 1, height, width) + 2 * target[:, None] - 1).sigmoid(), target


def make_boundary(batch: int, height: int, width: int) -> Images:
    target = (torch.rand(batch, 1, height, width) < 0.3).float()
    return (torch.randn_like(target) + 2 * target - 1).sigmoid(), target


CASES = {
    "segmentation": Case(lambda: SegmentationMetric(["a", "b", "c", "d", "absent"]), make_labels),
    "depth": Case(DepthMetric, make_depth),
    "depth-scaled": Case(
        lambda: DepthMetric(near=1e-3, far=8.0, lowest=1e-3, highest=80.0, median_scaling=True), make_depth
    ),
    "values": Case(ValuesMetric, make_depth),
    "values-explained": Case(lambda: ExplainedMetric(3), make_normals),
    "values-angle": Case(AngleMetric, make_normals),
    "normals": Case(NormalsMetric, make_normals),
    "normals-densemtl": Case(PublishedDenseMTLNormalsMetric, make_normals),
    "saliency": Case(SaliencyMetric, make_saliency),
    "boundary": Case(lambda: BoundaryMetric("seism", max_dist=0.1), make_boundary),
    "boundary-share": Case(lambda: BoundaryMetric("bsds", max_dist=0.1, share=0.6), make_boundary),
    "boundary-pixels": Case(lambda: BoundaryMetric("pixel-f1"), make_boundary),
}


def hide(target: Tensor, hidden: Tensor) -> Tensor:
    """Mark the pixels of the `(B, H, W)` map `hidden` invalid."""
    if target.is_floating_point():
        return torch.where(hidden[:, None], torch.nan, target)
    return torch.where(hidden, IGNORE, target)


def images_of(name: str) -> Images:
    """Seven images with invalid pixels; the fourth has no label."""
    torch.manual_seed(3)
    prediction, target = CASES[name].make(IMAGES, *SIZE)
    hidden = torch.rand(IMAGES, *SIZE) < 0.2
    hidden[3] = True
    return prediction, hide(target, hidden)


def score(name: str, batches: Sequence[Sequence[int]]) -> dict[str, float]:
    """The metric over images in the given batches."""
    metric = CASES[name].metric()
    prediction, target = images_of(name)
    for batch in batches:
        metric.update(prediction[list(batch)], target[list(batch)])
    return metric.compute()


def score_share(rank: int, world: int) -> dict[str, dict[str, float]]:
    """Every metric over this process's images."""
    return {name: score(name, [[image] for image in range(rank, IMAGES, world)]) for name in CASES}
