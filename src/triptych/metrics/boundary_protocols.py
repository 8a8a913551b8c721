"""The named protocols of the boundary score: what is thresholded, how it is compared, and how counts become numbers.

Numbers of different protocols differ by over a point for the same maps, so every number carries its protocol.
Definitions: docs/protocols.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

from triptych.lookup import named_choice
from triptych.metrics.contours import label_outlines, oriented_suppression, thin

GroundTruth = Literal["stored", "thin", "outline"]
"""Preparation of a ground-truth map: used as it is, thinned, or read as a label map whose outline is thinned."""


class BoundaryCounts(NamedTuple):
    """Counts that are added up over images. `matched_target`, `target`: pixels of the annotators' boundaries, all and
    matched; `matched_prediction`, `prediction`: pixels of the thinned prediction, all and matched by any annotator. One
    entry per threshold.
    """

    matched_target: Float[np.ndarray, " thresholds"]
    target: Float[np.ndarray, " thresholds"]
    matched_prediction: Float[np.ndarray, " thresholds"]
    prediction: Float[np.ndarray, " thresholds"]


@dataclass(frozen=True, eq=False)
class BoundaryProtocol:
    """One way of computing the boundary score.

    `strict` compares `p > t`, else `p >= t`; `single` does so in single precision. `quantize` stores predictions as 8
    bit, truncated, as the published pipelines do before scoring. `suppress` runs SEISM's oriented non-maximum
    suppression, `thin` thins the thresholded map. `annotators`: ground truth has several, of which every one counts.
    `empty_is_perfect`: precision of an empty prediction and recall of an empty ground truth are 1, not 0. `max_dist` is
    the matching radius as a fraction of the image diagonal, per dataset; `ground_truth` likewise says how the
    annotation is prepared. The key "" is every other dataset.
    """

    name: str
    thresholds: tuple[float, ...]
    headline: str = "odsF"
    strict: bool = False
    single: bool = False
    quantize: bool = True
    suppress: bool = False
    thin: bool = True
    annotators: bool = False
    interpolate: bool = False
    empty_is_perfect: bool = False
    max_dist: dict[str, float] = field(default_factory=lambda: {"": 0.0075, "nyuv2": 0.011})
    ground_truth: dict[str, GroundTruth] = field(default_factory=lambda: {"": "stored"})

    def rank(self, prediction: Shaped[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
        """The number of thresholds that every pixel passes. `prediction`: 8-bit levels or probabilities in [0, 1]."""
        precision = np.dtype(np.float32 if self.single else np.float64)
        values = to_levels(prediction) if self.quantize else prediction
        peak = 255 if values.dtype == np.uint8 else 1
        values = values.astype(precision) / np.array(peak, precision)
        if self.suppress:
            values = oriented_suppression(values)
        thresholds = np.array(self.thresholds, precision)
        return np.searchsorted(thresholds, values, side="left" if self.strict else "right").astype(np.uint8)

    def recipe(self, dataset: str = "") -> GroundTruth:
        """Preparation of the ground truth of `dataset`."""
        return self.ground_truth.get(dataset, self.ground_truth[""])

    def radius(self, dataset: str = "") -> float:
        """The default of maxDist for `dataset`."""
        return self.max_dist.get(dataset, self.max_dist[""])


def prepare_target(target: Shaped[np.ndarray, "height width"], recipe: GroundTruth) -> Bool[np.ndarray, "height width"]:
    """The boundaries of one annotator's map: a boundary map, or for `outline` a map of labels.

    >>> prepare_target(np.array([[1, 1, 2], [1, 1, 2]]), "outline").astype(int).tolist()
    [[0, 1, 0], [0, 1, 0]]
    """
    return named_choice("recipe of ground truth", recipe, _RECIPES)(target)


def to_levels(prediction: Shaped[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Probabilities as the 8-bit levels that published code saves: 255 p, truncated, in the map's own precision."""
    return prediction if prediction.dtype == np.uint8 else (prediction * 255).astype(np.uint8)


_RECIPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "stored": lambda target: target != 0,
    "thin": lambda target: thin(target != 0),
    "outline": lambda target: thin(label_outlines(target)),
}

_HUNDREDTHS = tuple(k / 100 for k in range(1, 100))
_SEISM_TARGETS: dict[str, GroundTruth] = {"": "thin", "nyuv2": "outline", "pascal-context": "outline"}

PROTOCOLS: dict[str, BoundaryProtocol] = {
    "bsds": BoundaryProtocol("bsds", _HUNDREDTHS, annotators=True, interpolate=True),
    "seism": BoundaryProtocol(
        "seism",
        (0.001, *_HUNDREDTHS, 0.999),
        strict=True,
        single=True,
        suppress=True,
        empty_is_perfect=True,
        ground_truth=_SEISM_TARGETS,
    ),
    "seism-nonms": BoundaryProtocol("seism-nonms", _HUNDREDTHS, empty_is_perfect=True, ground_truth=_SEISM_TARGETS),
    "pixel-f1": BoundaryProtocol(
        "pixel-f1", (0.5,), headline="F1", strict=True, quantize=False, thin=False, max_dist={"": 0.0}
    ),
}
"""`bsds`: the BSDS500 benchmark. `seism`: the tool published with InvPT. `seism-nonms`: the survey's reader.
`pixel-f1`: DenseMTL's count."""


def boundary_protocol(name: str) -> BoundaryProtocol:
    """The protocol of that name.

    >>> boundary_protocol("seism").radius("nyuv2")
    0.011
    """
    return named_choice("boundary protocol", name, PROTOCOLS)


def precision_recall(
    counts: BoundaryCounts, *, empty_is_perfect: bool
) -> tuple[Float[np.ndarray, " thresholds"], Float[np.ndarray, " thresholds"]]:
    """Precision and recall of summed counts; a ratio with nothing below is 1 or 0."""
    empty = float(empty_is_perfect)
    precision = np.where(counts.prediction > 0, counts.matched_prediction / np.maximum(counts.prediction, 1), empty)
    recall = np.where(counts.target > 0, counts.matched_target / np.maximum(counts.target, 1), empty)
    return precision, recall


def f_measure(precision: Float[np.ndarray, "*n"], recall: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Harmonic mean of precision and recall; 0 where both are 0."""
    total = precision + recall
    return np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1), 0.0)


class BestPoint(NamedTuple):
    """The point of a precision-recall curve with the largest F; the first of equals."""

    threshold: float
    precision: float
    recall: float
    f: float


def best_point(
    precision: Float[np.ndarray, " thresholds"], recall: Float[np.ndarray, " thresholds"], protocol: BoundaryProtocol
) -> BestPoint:
    """The best F of the curve, on the thresholds or, where the protocol interpolates, at 100 points between neighbors
    too."""
    thresholds = np.array(protocol.thresholds)
    if protocol.interpolate and len(thresholds) > 1:
        share = np.linspace(0, 1, 100)
        thresholds, precision, recall = (
            (values[:-1, None] * (1 - share) + values[1:, None] * share).ravel()
            for values in (thresholds, precision, recall)
        )
    f = f_measure(precision, recall)
    best = int(f.argmax())
    return BestPoint(float(thresholds[best]), float(precision[best]), float(recall[best]), float(f[best]))


def average_precision(precision: Float[np.ndarray, " thresholds"], recall: Float[np.ndarray, " thresholds"]) -> float:
    """BSDS's area: precision interpolated at recall 0, 0.01, ..., 1, zero outside the curve's range, summed and
    divided by 100.

    101 points are divided by 100: a slip of the original that every published number shares.
    """
    recalls, first = np.unique(recall, return_index=True)
    if len(recalls) < 2:
        return 0.0
    return float(np.interp(np.arange(101) / 100, recalls, precision[first], left=0.0, right=0.0).sum() / 100)
