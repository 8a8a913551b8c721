"""The scores of one predictor on one dataset: numbers, and the sums per image that they come from."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from triptych.metrics.base import Metric
from triptych.metrics.delta import delta_mtl
from triptych.tasks import Task


@dataclass(frozen=True)
class Evaluation:
    """Scores of one predictor on one dataset.

    `metrics`: named numbers by task; a task without a labelled image has none. `labelled`: images with a label, by
    task. `keys`: the images in the order of the dataset. `sums`: for every task the states of its metric per image,
    `(images, *state)`, from which any subset can be scored again (paired statistics). `skipped`: damaged samples and
    why. `losses`: by task, the mean over labelled images of the task's own loss, unweighted; only where the predictor
    has raw maps.
    """

    metrics: dict[str, dict[str, float]]
    labelled: dict[str, int]
    keys: tuple[str, ...]
    sums: dict[str, dict[str, Tensor]]
    tasks: Mapping[str, Task] = field(repr=False)
    skipped: dict[str, str] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)

    def flat(self) -> dict[str, float]:
        """All numbers under `task/metric`."""
        return {f"{task}/{name}": value for task, numbers in self.metrics.items() for name, value in numbers.items()}

    def primary(self) -> dict[str, float]:
        """The number of each task that selection and delta_mtl use, under `task/metric`."""
        named = {name: task.metric() for name, task in self.tasks.items() if self.metrics[name]}
        return {f"{name}/{metric.primary}": self.metrics[name][metric.primary] for name, metric in named.items()}

    def score(self) -> float:
        """Mean over tasks of the logarithm of the primary number, negative where lower is better: what selection
        maximises.

        The difference of two scores is, to first order, delta_mtl of the one against the other; it needs no
        reference, and adding a third evaluation cannot change which of two is better. Nothing labelled: minus
        infinity.
        """
        logarithms = []
        for name, task in self.tasks.items():
            metric = task.metric()
            if self.metrics[name]:
                value = self.metrics[name][metric.primary]
                sign = 1 if metric.better[metric.primary] else -1
                logarithms.append(sign * math.log(max(value, 1e-6)) if math.isfinite(value) else -math.inf)
        return sum(logarithms) / len(logarithms) if logarithms else -math.inf

    def gain_over(self, references: Mapping[str, Mapping[str, float]]) -> float:
        """delta_mtl of the primary numbers against those of single-task networks, in percent."""
        metrics = {name: task.metric() for name, task in self.tasks.items() if self.metrics[name]}
        return delta_mtl(
            {name: self.metrics[name][metric.primary] for name, metric in metrics.items()},
            {name: references[name][metric.primary] for name, metric in metrics.items()},
            {name: metric.better[metric.primary] for name, metric in metrics.items()},
        )


def compute(metric: Metric, sums: Mapping[str, Tensor]) -> dict[str, float]:
    """The numbers of a metric over some images, from their sums `(images, *state)`."""
    metric.add_sums({name: value.sum(dim=0) for name, value in sums.items()})
    # The class's own method: the instance's would add up over processes once more.
    return {name: float(value) for name, value in type(metric).compute(metric).items()}


def per_class(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """The primary number of every class, for the tasks that have classes."""
    found = {}
    for name, task in evaluation.tasks.items():
        metric = task.metric()
        metric.add_sums({state: value.sum(dim=0) for state, value in evaluation.sums[name].items()})
        found[name] = metric.per_class()
    return {name: classes for name, classes in found.items() if classes}


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """The numbers of an evaluation for a JSON file; not finite becomes null."""
    return {
        "metrics": _finite(evaluation.metrics),
        "per_class": _finite(per_class(evaluation)),
        **_finite({"losses": evaluation.losses}),
        "labelled": evaluation.labelled,
        "images": len(evaluation.keys),
        "skipped": evaluation.skipped,
    }


def _finite(numbers: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    return {
        task: {name: value if math.isfinite(value) else None for name, value in named.items()}
        for task, named in numbers.items()
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write readable JSON."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
