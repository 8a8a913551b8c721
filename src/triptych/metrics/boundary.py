"""The boundary score (ODS, OIS, AP) by exact matching, under named protocols (docs/protocols.md).

Martin, Fowlkes and Malik, "Learning to detect natural image boundaries", PAMI 26 (2004); Arbelaez et al., "Contour
detection and hierarchical image segmentation", PAMI 33 (2011). Thinned predictions and ground truth are matched one to
one within a radius, at every threshold.
"""

import zlib
from concurrent.futures import ThreadPoolExecutor
from math import nan, sqrt
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from triptych.metrics.base import Metric, check_probabilities
from triptych.metrics.boundary_protocols import (
    BestPoint,
    BoundaryCounts,
    BoundaryProtocol,
    GroundTruth,
    average_precision,
    best_point,
    boundary_protocol,
    f_measure,
    precision_recall,
    prepare_target,
)
from triptych.metrics.contours import thin_nested
from triptych.metrics.matching import match_nested
from triptych.types import check_layout


def count_boundaries(
    prediction: Shaped[np.ndarray, "height width"],
    targets: Bool[np.ndarray, "annotators height width"],
    *,
    protocol: BoundaryProtocol,
    max_dist: float,
    valid: Bool[np.ndarray, "height width"] | None = None,
) -> BoundaryCounts:
    """Counts of one image at every threshold of the protocol.

    `prediction`: 8-bit levels or probabilities in [0, 1]. `targets`: boundaries of every annotator, as
    `protocol.prepare` returns them. `max_dist`: matching radius as a fraction of the image diagonal. Predictions
    outside `valid` are dropped.

    >>> line = np.zeros((20, 30), bool)
    >>> line[8] = True
    >>> counts = count_boundaries(line.astype(float), line[None], protocol=boundary_protocol("bsds"), max_dist=0.0075)
    >>> counts.matched_prediction[0] == counts.prediction[0] == 30
    np.True_
    """
    if valid is not None:
        prediction, targets = prediction * valid, targets & valid
    rank = protocol.rank(prediction)
    height, width = rank.shape
    radius = max_dist * sqrt(height * height + width * width)
    border = max(int(radius), 1)
    rank = np.pad(rank, border)
    kept, counts = thin_nested(rank, len(protocol.thresholds)) if protocol.thin else _nested(rank)
    explained = np.zeros(len(kept) if len(targets) > 1 else 0, np.uint8)
    matched = sum(match_nested(kept, counts, np.pad(target, border), radius, explained) for target in targets)
    matched_prediction = _sums(explained, counts) if len(targets) > 1 else matched
    total = np.full(len(counts), targets.sum())
    return BoundaryCounts(*(np.asarray(count, np.float64) for count in (matched, total, matched_prediction, counts)))


def _sums(
    explained: UInt8[np.ndarray, " kept"], counts: Int[np.ndarray, " thresholds"]
) -> Int[np.ndarray, " thresholds"]:
    """Sum the runs of `explained`, which lie from the last threshold down."""
    sums = np.concatenate([[0], np.cumsum(explained, dtype=np.int64)])
    return np.diff(sums[np.concatenate([[0], np.cumsum(counts[::-1])])])[::-1]


def _nested(rank: Shaped[np.ndarray, "height width"]) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of one threshold, not thinned, in the form of `thin_nested`."""
    kept = np.flatnonzero(rank).astype(np.int32)
    return kept, np.array([len(kept)])


class BoundaryMetric(Metric):
    """Boundary F over a set of images: `odsF`, `oisF` and `AP`, or DenseMTL's `F1`, each named with its protocol and
    maxDist.

    `protocol`: bsds, seism, seism-nonms or pixel-f1. `max_dist`: matching radius as a fraction of the image diagonal,
    by default the protocol's for `dataset` (0.0075; 0.011 for "nyuv2"), which also settles how ground truth is read
    unless `ground_truth` says so. `share` < 1 scores a fixed part of the images, chosen by a hash of their ground
    truth: a fast number while training, the same for any order, batch size and number of processes; its names end in
    `_share`.

    `update` takes probabilities `(B, 1, H, W)` in [0, 1] and ground truth `(B, annotators, H, W)` in {0, 1}, NaN where
    invalid. Invalid margins are cropped, so that the diagonal is that of the image itself; an annotator without valid
    pixels is skipped. Raises `ValueError` for predictions outside [0, 1] or NaN, and for ground truth outside [0, 1]
    (255 for no label).

    >>> metric = BoundaryMetric()
    >>> line = torch.zeros(1, 1, 32, 32)
    >>> line[..., 12, 6:26] = 1.0
    >>> metric.update(line, line)
    >>> round(float(metric.compute()["odsF_seism_0.0075"]), 3)
    1.0
    """

    primary: ClassVar[str] = "odsF_seism_0.0075"
    perfect = 1.0
    better: ClassVar[dict[str, bool]] = {
        "odsF_seism_0.0075": True,
        "oisF_seism_0.0075": True,
        "AP_seism_0.0075": True,
    }
    counts: Tensor
    """`BoundaryCounts` by threshold."""
    best_counts: Tensor
    """The same four at each image's own best threshold, for OIS."""
    pixels: Tensor
    images: Tensor

    def __init__(
        self,
        protocol: str = "seism",
        *,
        max_dist: float | None = None,
        dataset: str = "",
        ground_truth: GroundTruth | None = None,
        share: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 < share <= 1:
            raise ValueError(f"share {share} is not in (0, 1]: the part of the images to score; 1 scores all of them.")
        self.protocol = boundary_protocol(protocol)
        self.max_dist = self.protocol.radius(dataset) if max_dist is None else max_dist
        if not 0 <= self.max_dist < 1:
            raise ValueError(
                f"max_dist {self.max_dist} is not in [0, 1): a fraction of the image diagonal, e.g. 0.0075."
            )
        self.ground_truth = ground_truth or self.protocol.recipe(dataset)
        self.share = share
        self.suffix = f"_{protocol}_{self.max_dist:g}" + (f"_share{share:g}" if share < 1 else "")
        names = ("F1",) if self.protocol.headline == "F1" else ("odsF", "oisF", "AP")
        self.primary = names[0] + self.suffix
        self.better = {name + self.suffix: True for name in names} | ({"images": True} if share < 1 else {})
        self.add_sum("counts", (4, len(self.protocol.thresholds)))
        self.add_sum("best_counts", (4,))
        self.add_sum("pixels")
        self.add_sum("images")

    def update(
        self, prediction: Float[Tensor, "batch 1 height width"], target: Float[Tensor, "batch annotators height width"]
    ) -> None:
        annotators = target.shape[1] if target.ndim == 4 else 1
        check_layout(type(self).__name__, prediction, target, 1, annotators)
        pairs = zip(prediction[:, 0].detach().float().cpu().numpy(), target.detach().float().cpu().numpy(), strict=True)
        with ThreadPoolExecutor(max(torch.get_num_threads(), 1)) as pool:
            for counts in pool.map(self._count, *zip(*pairs, strict=True)):
                if counts is not None:
                    self.add_counts(*counts)

    def _count(
        self, prediction: Float[np.ndarray, "height width"], target: Float[np.ndarray, "annotators height width"]
    ) -> tuple[BoundaryCounts, int] | None:
        """Counts and pixels of one image; `None` when it has no label or is not in the share."""
        known = ~np.isnan(target)
        annotated = known.any(axis=(1, 2))
        if not annotated.any() or not self._chosen(target):
            return None
        if self.protocol.headline == "F1" and annotated.sum() > 1:
            raise ValueError(
                f"target has boundaries of {annotated.sum()} annotators, and {self.protocol.name} counts the pixels of "
                "one; give one map, or take a protocol that matches every annotator's (bsds)."
            )
        check_probabilities(torch.from_numpy(prediction))
        if self.ground_truth != "outline":  # of a map of labels, which may have any
            check_labels(target[known])
        valid = known[annotated].all(axis=0)
        rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        targets = np.nan_to_num(target[annotated])[:, window[0], window[1]]
        prepared = np.stack([prepare_target(one, self.ground_truth) for one in targets])
        valid = valid[window]
        counts = count_boundaries(
            prediction[window], prepared, protocol=self.protocol, max_dist=self.max_dist, valid=valid
        )
        return counts, int(valid.sum())

    def _chosen(self, target: Float[np.ndarray, "annotators height width"]) -> bool:
        return self.share == 1 or zlib.crc32(np.packbits(target > 0).tobytes()) < self.share * 2**32

    def add_counts(self, counts: BoundaryCounts, pixels: int) -> None:
        """Add one image: its counts, and again those of its best threshold for OIS."""
        sums = torch.from_numpy(np.stack(counts)).to(self.counts.device)
        best = int(f_measure(*self._curve(counts)).argmax())
        self.counts += sums
        self.best_counts += sums[:, best]
        self.pixels += pixels
        self.images += 1

    def _curve(self, counts: BoundaryCounts) -> tuple[np.ndarray, np.ndarray]:
        return precision_recall(counts, empty_is_perfect=self.protocol.empty_is_perfect)

    def curve(self) -> tuple[Float[np.ndarray, " thresholds"], Float[np.ndarray, " thresholds"]]:
        """Precision and recall of the summed counts at every threshold."""
        return self._curve(BoundaryCounts(*self.counts.cpu().numpy()))

    def best(self) -> BestPoint:
        """The threshold, precision, recall and F of ODS."""
        return best_point(*self.curve(), self.protocol)

    def compute(self) -> dict[str, float]:
        if self.images == 0:
            return dict.fromkeys(self.better, nan)
        values = (self._macro_f1(),) if self.protocol.headline == "F1" else self._f_scores()
        return dict(zip(self.better, (*values, float(self.images)), strict=False))

    def _f_scores(self) -> tuple[float, float, float]:
        best = BoundaryCounts(*self.best_counts.cpu().numpy()[:, None])
        return self.best().f, float(f_measure(*self._curve(best))[0]), average_precision(*self.curve())

    def _macro_f1(self) -> float:
        """Mean over boundary and background of 2 TP / (2 TP + FP + FN), over the classes that occur."""
        matched, target, _, predicted = self.counts[:, 0].tolist()
        pixels = float(self.pixels)
        classes = (
            (matched, target + predicted),
            (pixels - target - predicted + matched, 2 * pixels - target - predicted),
        )
        scores = [2 * hits / marked for hits, marked in classes if marked]
        return sum(scores) / len(scores)


def check_labels(labels: Float[np.ndarray, " labelled"]) -> None:
    """Raise `ValueError` where ground truth leaves [0, 1]: a mark of pixels without a label would be a boundary."""
    low, high = float(labels.min()), float(labels.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"target has values in [{low:g}, {high:g}]; boundaries are 1, all else is 0, and NaN is what has no label."
        )
