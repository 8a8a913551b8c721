"""Segmentation scores from pixels counted over the whole set."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from triptych.metrics.base import Metric
from triptych.types import check_layout, valid_pixels

Labels = Int[Tensor, "batch height width"]


class SegmentationMetric(Metric):
    """mIoU, pixel accuracy and IoU of every class, from pixels counted over the whole set; shares in 0..1.

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
    counts: Tensor
    """Pixels of every class, `(3, classes)`: rightly predicted, labelled, predicted. No confusion matrix, which of 150
    classes is 180 kB for every image that is scored.
    """

    def __init__(self, class_names: Sequence[str] | int) -> None:
        super().__init__()
        if isinstance(class_names, int):
            class_names = [str(index) for index in range(class_names)]
        self.class_names = tuple(class_names)
        self.add_sum("counts", (3, len(self.class_names)), torch.int64)

    def update(self, prediction: Labels, target: Labels) -> None:
        check_layout(type(self).__name__, prediction, target, None, None)
        classes = len(self.class_names)
        valid = valid_pixels(target)
        label, predicted = target[valid].long(), prediction[valid].long()
        _check_range("target", label, classes)
        _check_range("prediction", predicted, classes)
        found = (label[label == predicted], label, predicted)
        self.counts += torch.stack([torch.bincount(each, minlength=classes) for each in found])

    def upgrade_sums(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Counts from the confusion matrix by (label, prediction) that earlier versions saved."""
        if "confusion" not in sums:
            return sums
        matrix = sums["confusion"]
        return {"counts": torch.stack([matrix.diagonal(dim1=-2, dim2=-1), matrix.sum(-1), matrix.sum(-2)], dim=-2)}

    def compute(self) -> dict[str, float]:
        hits, labelled, predicted = self.counts.double()
        sizes = labelled + predicted
        f1 = 2 * hits / sizes
        iou = hits / (sizes - hits)
        if labelled.sum() == 0:
            return dict.fromkeys(self.better, torch.nan)
        return {
            "mIoU": iou.nanmean().item(),
            "mIoU_absent_zero": iou.nan_to_num().mean().item(),
            "pixel_accuracy": (hits.sum() / labelled.sum()).item(),
            "mF1": f1.nanmean().item(),
        }

    def compute_resample(self, whole: Metric) -> dict[str, float]:
        """A class that the drawn images lack, and `whole` does not, is left out of their means: counted as 0 it would
        lower every resample of a set with rare classes.
        """
        numbers = SegmentationMetric.compute(self)
        if not self.counts[1].any():  # NaN
            return numbers
        _, labelled, predicted = whole.counts
        return numbers | {"mIoU_absent_zero": numbers["mIoU"] * (labelled + predicted > 0).double().mean().item()}

    def per_class(self) -> dict[str, float]:
        """IoU of every class on this process's images; NaN for a class that occurs nowhere."""
        hits, labelled, predicted = self.counts.double()
        iou = hits / (labelled + predicted - hits)
        return dict(zip(self.class_names, iou.tolist(), strict=True))


def _check_range(argument: str, labels: Tensor, classes: int) -> None:
    if labels.numel() and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"{argument} has class ids {labels.min().item()}..{labels.max().item()}, the metric has {classes} classes "
            f"(0..{classes - 1}); mark pixels without a class as IGNORE (255)."
        )
