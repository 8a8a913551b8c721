"""Saliency scores: the published F-measures, each under its own name."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from triptych.metrics.base import PARTS, Count, Metric, Sum, Total, check_probabilities, exact_sum
from triptych.types import check_layout, valid_pixels

POOLED = tuple(0.05 * i for i in range(1, 20))
PUBLISHED_INVPT = (0.5, 0.55, 0.6, 0.65, 0.7)
"""Of the same 19 thresholds those that differ for values in [0.5, 0.731]: at 0.5 and below everything is positive."""
PER_IMAGE = tuple(0.2 + 0.05 * i for i in range(15))
BETA_SQUARED = 0.3


class SaliencyMetric(Metric):
    """Scores of a saliency probability against labels of 0 and 1.

    `maxF`: largest F with beta^2 = 0.3 over the thresholds 0.05, 0.10 .. 0.95 (p >= t), from counts pooled over all
    pixels of the set (ATRC, SAK). `maxF_invpt`: the same from sigmoid(p), as the code of InvPT, TaskPrompter and MLoRE
    computes it; only five of its thresholds differ. `maxF_survey`: largest F1 over 0.20, 0.25 .. 0.90 (p > t) from
    precision and recall averaged over images, and `mIoU_survey` the largest mean IoU of the images, where an empty
    prediction of an empty label counts 1 (survey). `mae` is the mean of |p - label|. Memory does not grow with the
    number of images. NaN in a labelled pixel makes every number NaN; a prediction outside [0, 1] there, by more than
    rounding, raises `ValueError`.

    >>> metric = SaliencyMetric()
    >>> metric.update(torch.tensor([[[[0.9, 0.8, 0.3]]]]), torch.tensor([[[1, 0, 0]]]))
    >>> round(metric.compute()["maxF"], 6)
    1.0
    """

    primary: ClassVar[str] = "maxF"
    perfect = 1.0
    better: ClassVar[dict[str, bool]] = {
        "maxF": True,
        "maxF_invpt": True,
        "maxF_survey": True,
        "mIoU_survey": True,
        "mae": False,
    }
    pixels: Count
    absolute: Total
    actual: Count
    hits: Annotated[Tensor, Sum((len(POOLED),), torch.int64)]
    predicted: Annotated[Tensor, Sum((len(POOLED),), torch.int64)]
    hits_invpt: Annotated[Tensor, Sum((len(PUBLISHED_INVPT),), torch.int64)]
    predicted_invpt: Annotated[Tensor, Sum((len(PUBLISHED_INVPT),), torch.int64)]
    images: Count
    image_scores: Annotated[Tensor, Sum((3, len(PER_IMAGE), PARTS))]

    def update(
        self, prediction: Float[Tensor, "batch 1 height width"], target: Int[Tensor, "batch height width"]
    ) -> None:
        check_layout(type(self).__name__, prediction, target, 1, None)
        probability, valid = prediction.flatten(1).float(), valid_pixels(target).flatten(1)
        check_probabilities(torch.where(valid, probability, 0).nan_to_num())
        positive = (target.flatten(1) == 1) & valid
        self.pixels += valid.sum()
        self.absolute += exact_sum(((probability - positive.float()).abs())[valid])
        self.actual += positive.sum()
        self.hits += count_above(probability, positive, POOLED).sum(dim=0)
        self.predicted += count_above(probability, valid, POOLED).sum(dim=0)
        squashed = probability.sigmoid()
        self.hits_invpt += count_above(squashed, positive, PUBLISHED_INVPT).sum(dim=0)
        self.predicted_invpt += count_above(squashed, valid, PUBLISHED_INVPT).sum(dim=0)
        labelled = valid.any(dim=1)
        self.images += labelled.sum()
        scores = _image_scores(
            count_above(probability, positive, PER_IMAGE, strict=True),
            count_above(probability, valid, PER_IMAGE, strict=True),
            positive.sum(dim=1, keepdim=True),
        )
        self.image_scores += exact_sum(scores[:, labelled], dim=1)

    def compute(self) -> dict[str, float]:
        # Thresholds sort NaN above them all: such pixels would be salient with certainty.
        if self.pixels == 0 or self.absolute.isnan().any():
            return dict.fromkeys(self.better, torch.nan)
        precision, recall, iou = self.image_scores.sum(dim=-1) / self.images
        f1 = 2 * precision * recall / (precision + recall)
        return {
            "maxF": _max_f(self.hits, self.predicted, self.actual),
            "maxF_invpt": _max_f(self.hits_invpt, self.predicted_invpt, self.actual),
            "maxF_survey": f1.nan_to_num().amax().item(),
            "mIoU_survey": iou.amax().item(),
            "mae": (self.absolute.sum() / self.pixels).item(),
        }


def count_above(
    values: Float[Tensor, "batch pixels"],
    counted: Bool[Tensor, "batch pixels"],
    thresholds: tuple[float, ...],
    *,
    strict: bool = False,
) -> Int[Tensor, "batch thresholds"]:
    """Number of counted pixels of each image with value >= t (`strict`: > t), for every ascending threshold t.

    One histogram instead of one pass per threshold.

    >>> count_above(torch.tensor([[0.1, 0.5, 0.9]]), torch.tensor([[True, True, True]]), (0.5, 0.8)).tolist()
    [[2, 1]]
    """
    # Double: read back from 8 bit, 51 / 255 in single precision is above 0.2, as the published script has it.
    edges = torch.tensor(thresholds, device=values.device, dtype=torch.float64)
    passed = torch.bucketize(values.double(), edges, right=not strict)
    bins = len(thresholds) + 1
    image = torch.arange(len(values), device=values.device)[:, None]
    histogram = torch.bincount((image * bins + passed)[counted], minlength=len(values) * bins).view(-1, bins)
    return histogram.flip(1).cumsum(dim=1).flip(1)[:, 1:]


def _image_scores(hits: Tensor, predicted: Tensor, actual: Tensor) -> Float[Tensor, "3 batch thresholds"]:
    """Precision, recall and IoU per image and threshold; 0 where nothing is predicted or there is nothing to find."""
    hits, predicted, actual = hits.double(), predicted.double(), actual.double()
    union = predicted + actual - hits
    iou = torch.where(union > 0, hits / union.clamp(min=1), 1.0)
    return torch.stack([hits / predicted.clamp(min=1), hits / actual.clamp(min=1), iou])


def _max_f(hits: Tensor, predicted: Tensor, actual: Tensor) -> float:
    """Largest (1 + b) P R / (b P + R) = (1 + b) TP / (b actual + predicted)."""
    score = (1 + BETA_SQUARED) * hits.double() / (BETA_SQUARED * actual + predicted)
    return score.nan_to_num().amax().item()
