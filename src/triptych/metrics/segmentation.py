"""Segmentation scores from one confusion matrix over the whole set."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from triptych.metrics.base import Metric
from triptych.types import valid_pixels


class SegmentationMetric(Metric):
    """mIoU, pixel accuracy and IoU per class."""

    primary: ClassVar[str] = "mIoU"
    better: ClassVar[dict[str, bool]] = {"mIoU": True, "pixel_accuracy": True}

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.add_sum("confusion", (len(self.class_names),) * 2, torch.int64)

    def update(self, prediction: Int[Tensor, "batch height width"], target: Int[Tensor, "batch height width"]) -> None:
        classes = len(self.class_names)
        valid = valid_pixels(target)
        index = target[valid] * classes + prediction[valid]
        self.confusion += torch.bincount(index, minlength=classes**2).view(classes, classes)

    def compute(self) -> dict[str, float]:
        matrix = self.confusion.double()
        hits = matrix.diagonal()
        union = matrix.sum(0) + matrix.sum(1) - hits
        iou = hits / union.clamp(min=1)
        return {"mIoU": iou.mean().item(), "pixel_accuracy": (hits.sum() / matrix.sum()).item()}
