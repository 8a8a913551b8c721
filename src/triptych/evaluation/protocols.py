"""Scoring rules of each line of papers, by task: the table behind `--protocol` of `triptych score` and `evaluate`.

The definitions, and what is known about differences between published code bases, are in docs/protocols.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from triptych import assemble
from triptych.lookup import named_choice
from triptych.metrics.base import Metric
from triptych.metrics.boundary import BoundaryMetric
from triptych.metrics.boundary_protocols import GroundTruth
from triptych.metrics.depth import AlignedDepthMetric, DepthMetric
from triptych.metrics.normals import NormalsMetric, PublishedDenseMTLNormalsMetric
from triptych.metrics.saliency import SaliencyMetric
from triptych.metrics.segmentation import SegmentationMetric
from triptych.recipes.config import Recipe
from triptych.tasks import Task

CLASSES = {"": 0, "nyuv2": 40, "pascal-context": 21, "bsds500": 0}
"""Classes of semantic segmentation by dataset; the keys are the datasets that can be named."""
NUM_PARTS = 7


@dataclass(frozen=True)
class DataSettings:
    """Settings of the user about the data: its name, and what overrides the protocol's default for it."""

    dataset: str = ""
    classes: int = 0
    max_dist: float | None = None
    ground_truth: GroundTruth | None = None

    def __post_init__(self) -> None:
        if self.dataset:
            named_choice("dataset", self.dataset, {name: 0 for name in CLASSES if name})

    @property
    def num_classes(self) -> int:
        """Classes of semantic segmentation; 0 if unknown."""
        return self.classes or CLASSES[self.dataset]


def keep(prediction: Tensor) -> Tensor:
    """Predictions scored as they are."""
    return prediction


def truncate_probability(prediction: Tensor) -> Tensor:
    """Saved as 8 bit: 255 p, truncated."""
    return (prediction * 255).floor() / 255


def truncate_normals(prediction: Tensor) -> Tensor:
    """Unit vectors saved as 8 bit: (n + 1) 255 / 2, truncated."""
    return ((F.normalize(prediction, dim=0) + 1) * 255 / 2).floor() / 255 * 2 - 1


@dataclass(frozen=True)
class Rule:
    """Rule by which one protocol scores one task.

    `metric(settings)` makes the metric, `numbers` names those of its results that the protocol has, the one of the
    tables first; empty: all of them. `store` does to a prediction what saving it as 8 bit does in the published code;
    it is applied to float maps only, which were not saved so yet. `definition` is one sentence for tables and pages.
    """

    metric: Callable[[DataSettings], Metric]
    definition: str
    numbers: tuple[str, ...] = ()
    store: Callable[[Tensor], Tensor] = keep

    def names(self, metric: Metric) -> tuple[str, ...]:
        """The numbers to report, the protocol's main one first."""
        return self.numbers or (metric.primary, *(name for name in metric.better if name != metric.primary))


def metric_facts(metric: Metric) -> dict[str, str | int | float]:
    """Settings of a metric that its numbers depend on, beside the protocol's name."""
    if isinstance(metric, BoundaryMetric):
        return {
            "boundary_protocol": metric.protocol.name,
            "max_dist": metric.max_dist,
            "ground_truth": metric.ground_truth,
            "thresholds": len(metric.protocol.thresholds),
        }
    return {"classes": len(metric.class_names)} if isinstance(metric, SegmentationMetric) else {}


def _semseg(settings: DataSettings) -> Metric:
    if not settings.num_classes:
        raise ValueError("how many classes semseg has is not known; give --classes, or --dataset nyuv2 (40 classes).")
    return SegmentationMetric(settings.num_classes)


def _boundary(protocol: str, settings: DataSettings) -> Metric:
    return BoundaryMetric(
        protocol, dataset=settings.dataset, max_dist=settings.max_dist, ground_truth=settings.ground_truth
    )


_LABELS = "One confusion matrix over the set, label 255 ignored; "
_ABSENT_ZERO = {
    "semseg": Rule(_semseg, _LABELS + "classes that occur nowhere count 0.", ("mIoU_absent_zero", "pixel_accuracy")),
    "human_parts": Rule(
        lambda settings: SegmentationMetric(NUM_PARTS),
        _LABELS + "7 classes with background.",
        ("mIoU_absent_zero", "pixel_accuracy"),
    ),
}
_POOLED_DEPTH = Rule(
    lambda settings: DepthMetric(),
    "Pooled over all pixels of the set with a label; predictions that are not positive become 1e-9 m.",
    ("rmse", "log_rmse", "absrel", "sqrel"),
)
_ANGLE = "Angle between normalised vectors, pooled over all pixels of the set with a label."
_NORMALS = Rule(lambda settings: NormalsMetric(), _ANGLE)
_SEISM = Rule(
    partial(_boundary, "seism"), "SEISM with oriented non-maximum suppression, 101 thresholds, p > t, exact matching."
)
_SEISM_NO_NMS = Rule(
    partial(_boundary, "seism-nonms"), "SEISM without suppression, 99 thresholds, p >= t, exact matching."
)
_PIXEL_F1 = Rule(
    partial(_boundary, "pixel-f1"), "Mean of the F1 of boundary and background pixels at p > 0.5, no tolerance."
)
_BSDS = Rule(partial(_boundary, "bsds"), "BSDS500 benchmark: 99 thresholds, p >= t, every annotator, interpolated ODS.")

RULES: dict[str, dict[str, Rule]] = {
    "survey": _ABSENT_ZERO
    | {
        "saliency": Rule(
            lambda settings: SaliencyMetric(),
            "15 thresholds 0.2 to 0.9, p > t, averaged over images; the mIoU enters delta_m.",
            ("mIoU_survey", "maxF_survey"),
            truncate_probability,
        ),
        "depth": _POOLED_DEPTH,
        "normals": Rule(
            lambda settings: NormalsMetric(), _ANGLE + " Predictions stored as 8 bit.", (), truncate_normals
        ),
        "boundary": _SEISM_NO_NMS,
    },
    "atrc": _ABSENT_ZERO
    | {
        "saliency": Rule(
            lambda settings: SaliencyMetric(),
            "19 thresholds 0.05 to 0.95, p >= t, counts pooled over the set, beta^2 = 0.3.",
            ("maxF",),
        ),
        "depth": _POOLED_DEPTH,
        "normals": _NORMALS,
        "boundary": _SEISM,
    },
    "invpt": _ABSENT_ZERO
    | {
        "saliency": Rule(
            lambda settings: SaliencyMetric(),
            "19 thresholds on sigmoid(p), as published: 4 true thresholds and all-positive; pooled, beta^2 = 0.3.",
            ("maxF_invpt", "maxF"),
        ),
        "depth": _POOLED_DEPTH,
        "normals": _NORMALS,
        "boundary": _SEISM,
    },
    "densemtl": {
        "semseg": Rule(_semseg, _LABELS + "classes that occur nowhere are skipped.", ("mIoU", "pixel_accuracy")),
        "depth": Rule(
            lambda settings: DepthMetric(near=1e-3, far=80.0, lowest=1e-3, highest=80.0),
            "Means of each image averaged over images, 1e-3 < d < 80 m; rmse is the root of the mean MSE. "
            "The published code has depths 0.99 m less, labels too: its relative errors and deltas are others.",
            ("rmse_image", "absrel_image", "sqrel_image", "delta1_image", "delta2_image", "delta3_image"),
        ),
        "normals": Rule(
            lambda settings: PublishedDenseMTLNormalsMetric(),
            "As published: norms over image rows, invalid pixels counted. Not an angular error.",
        ),
        "boundary": _PIXEL_F1,
    },
    "densemtl-video": {
        "semseg": Rule(_semseg, _LABELS + "classes that occur nowhere are skipped.", ("mIoU", "pixel_accuracy")),
        "depth": Rule(
            lambda settings: AlignedDepthMetric(near=1e-3, far=80.0, lowest=1e-3, highest=80.0),
            "As densemtl after median scaling of each image; the numbers without _aligned are metric. "
            "The published code has depths 0.99 m less, labels too: all its numbers but the metric rmse are others.",
            (
                *("rmse_image_aligned", "absrel_image_aligned", "sqrel_image_aligned", "log_rmse_image_aligned"),
                *("delta1_image_aligned", "delta2_image_aligned", "delta3_image_aligned", "rmse_image", "absrel_image"),
            ),
        ),
    },
    "bsds": {"boundary": _BSDS},
    "seism": {"boundary": _SEISM},
    "seism-nonms": {"boundary": _SEISM_NO_NMS},
    "pixel-f1": {"boundary": _PIXEL_F1},
}
"""Rules by protocol and task."""


def find_rule(protocol: str, task: str) -> Rule:
    """The rule of a protocol for a task; `ValueError` lists the tasks it has, and the protocols that score this one.

    >>> find_rule("atrc", "saliency").numbers
    ('maxF',)
    """
    rules = named_choice("protocol", protocol, RULES)
    if task not in rules:
        others = [name for name, table in RULES.items() if task in table]
        hint = f"{task} is scored by {', '.join(others)}" if others else "there is no such task"
        raise ValueError(f"protocol '{protocol}' has no {task}: it scores {', '.join(rules)}; {hint}.")
    return rules[task]


NATIVE = ("survey", "atrc", "invpt")
"""Protocols that score at the native size of the labels."""
OWN = "none"
"""In place of a protocol: each task's own metric."""


@dataclass(frozen=True)
class Scoring:
    """Scoring of a network's tasks: a protocol, or `OWN`, and settings of its data."""

    protocol: str = OWN
    settings: DataSettings = DataSettings()

    @classmethod
    def of_scores(cls, content: Mapping[str, Any]) -> "Scoring":
        """Read the scoring from a file of a run's scores; files of older versions have the tasks' own numbers."""
        return cls(content.get("protocol", OWN), DataSettings(**content.get("settings", {})))

    def content(self) -> dict[str, Any]:
        """Protocol and settings as JSON, for `of_scores`."""
        return {"protocol": self.protocol, "settings": vars(self.settings)}

    @property
    def rules(self) -> Mapping[str, Rule]:
        """Its rules by task."""
        return named_choice("protocol", self.protocol, {OWN: {}} | RULES)

    def check(self, tasks: Mapping[str, Task]) -> None:
        """Raise `ValueError` for an unknown protocol, or one that has other classes than the tasks."""
        for task in self.apply(tasks).values():
            task.metric()

    def apply(self, tasks: Mapping[str, Task]) -> dict[str, Task]:
        """The tasks with the protocol's metrics; those that it has no rule for keep their own."""
        rules = self.rules
        return {
            name: replace(task, metric=partial(_metric_of, rules[name], self, task)) if name in rules else task
            for name, task in tasks.items()
        }

    def unstretched(self, recipe: Recipe) -> Recipe:
        """The recipe with labels at their native size, where the protocol scores them so and the recipe would stretch
        them: networks see stretched images nevertheless, and their maps are resized back (`Predictor.resize`).
        """
        stretches = self.protocol in NATIVE and assemble.stretched_size(recipe) is not None
        return assemble.unstretched(recipe) if stretches else recipe

    def describe(self, tasks: Mapping[str, Task], size: str) -> list[str]:
        """Lines that define the numbers of tasks that it was applied to; labels were scored at `size`."""
        lines = []
        for name, task in tasks.items():
            facts = ", ".join(f"{fact} {value}" for fact, value in metric_facts(task.metric()).items())
            if name in self.rules:
                lines.append(f"{name}: {'. '.join(filter(None, (facts, self.rules[name].definition)))}")
            elif self.protocol != OWN:
                lines.append(f"{name}: protocol {self.protocol} has no rule for it; its own numbers.")
        if self.protocol in NATIVE and size != "native":
            lines.append(f"labels were scored at {size}, and protocol {self.protocol} has them at their native size.")
        return lines

    def store(self, predictions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Decoded predictions of a batch as the protocol's code has them once it has saved them."""
        stores = {name: rule.store for name, rule in self.rules.items() if rule.store is not keep}
        return {
            name: torch.stack([stores[name](one) for one in maps]) if name in stores else maps
            for name, maps in predictions.items()
        }


def _metric_of(rule: Rule, scoring: Scoring, task: Task) -> Metric:
    """A rule's metric with the classes of a task, whose first number is the protocol's."""
    metric = rule.metric(replace(scoring.settings, classes=len(task.classes)))
    if isinstance(metric, SegmentationMetric):
        if len(metric.class_names) != len(task.classes):
            raise ValueError(
                f"{task.name} has {len(task.classes)} classes, and protocol '{scoring.protocol}' scores "
                f"{len(metric.class_names)}; score by the tasks' own numbers (--protocol {OWN}, or data.protocol)."
            )
        metric.class_names = task.classes
    if rule.numbers:
        metric.primary, metric.better = rule.numbers[0], {name: metric.better[name] for name in rule.numbers}
    return metric
