"""Segmentation scores from one confusion matrix over the whole set."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from triptych.metrics.base import Metric
from triptych.types import check_layout, valid_pixels

Labels = Int[Tensor, "batch height width"]


class SegmentationMetric(Metric):
    """mIoU, pixel accuracy and IoU of every class, from one confusion matrix; shares in 0..1.

    `mIoU` is the mean over classes that occur in labels or predictions (DenseMTL's definition), `mIoU_absent_zero`
    counts a class that occurs nowhere as 0 (survey, ATRC, InvPT); they agree on the standard test sets, where every
    class occurs. `mF1` is the mean of 2TP / (2TP + FP + FN) over the same classes as `mIoU`, which DenseMTL reports
    for edges. `class_names` may also be a count. Raises `ValueError` on a class id outside of the classes.

    >>> metric = SegmentationMetric(["wall", "floor"])
    >>> metric.update(torch.tensor([[[0, 0, 1]]]), torch.tensor([[[0, 1, 255]]]))
    >>> metric.compute()["mIoU"], metric.per_class()
    (0.25, {'wall': 0.5, 'floor': 0.0})
    """

    primary: ClassVar[str] = "mIoU"
    perfect = 1.0
    better: ClassVar[dict[str, bool]] = {"mIoU": True, "mIoU_absent_zero": True, "pixel_accuracy": True, "mF1": True}
    confusion: Tensor
    """Pixels by (label, prediction)."""

    def __init__(self, class_names: Sequence[str] | int) -> None:
        super().__init__()
        if isinstance(class_names, int):
            class_names = [str(index) for index in range(class_names)]
        self.class_names = tuple(class_names)
        self.add_sum("confusion", (len(self.class_names),) * 2, torch.int64)

    def update(self, prediction: Labels, target: Labels) -> None:
        check_layout(type(self).__name__, prediction, target, None, None)
        classes = len(self.class_names)
        valid = valid_pixels(target)
        label, predicted = target[valid], prediction[valid]
        _check_range("target", label, classes)
        _check_range("prediction", predicted, classes)
        counts = torch.bincount(label.long() * classes + predicted, minlength=classes**2)
        self.confusion += counts.view(classes, classes)

    def compute(self) -> dict[str, float]:
        matrix = self.confusion.double()
        hits, sizes = matrix.diagonal(), matrix.sum(dim=0) + matrix.sum(dim=1)
        f1 = 2 * hits / sizes
        iou = hits / (sizes - hits)
        if matrix.sum() == 0:
            return dict.fromkeys(self.better, torch.nan)
        return {
            "mIoU": iou.nanmean().item(),
            "mIoU_absent_zero": iou.nan_to_num().mean().item(),
            "pixel_accuracy": (hits.sum() / matrix.sum()).item(),
            "mF1": f1.nanmean().item(),
        }

    def per_class(self) -> dict[str, float]:
        """IoU of every class on this process's images; NaN for a class that occurs nowhere."""
        matrix = self.confusion.double()
        iou = matrix.diagonal() / (matrix.sum(dim=0) + matrix.sum(dim=1) - matrix.diagonal())
        return dict(zip(self.class_names, iou.tolist(), strict=True))


def _check_range(argument: str, labels: Tensor, classes: int) -> None:
    if labels.numel() and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"{argument} has class ids {labels.min().item()}..{labels.max().item()}, the metric has {classes} classes "
            f"(0..{classes - 1}); mark pixels without a class as IGNORE (255)."
        )
