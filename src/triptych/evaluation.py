"""Scoring: run a predictor over a dataset, once per image, and add the metrics' sums up.

Training and the verb `evaluate` both come through `evaluate`, so that their numbers cannot disagree.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from triptych.datasets.base import DenseDataset
from triptych.datasets.loading import OnBadSample, evaluation_loader
from triptych.datasets.transforms import Transform
from triptych.metrics.base import Metric
from triptych.prediction import Predictor
from triptych.tasks import Task
from triptych.types import Sample, valid_pixels


@runtime_checkable
class Predicts(Protocol):
    """What can be scored: decoded predictions of a batch `(B, 3, H, W)`, by task."""

    def predict(self, image: Tensor) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Evaluation:
    """Scores of one predictor on one dataset.

    `metrics`: named numbers by task; a task without a labelled image has none. `labelled`: images with a label, by
    task. `keys`: the images in the order of the dataset. `sums`: for every task the states of its metric per image,
    `(images, *state)`, from which any subset can be scored again (paired statistics). `skipped`: damaged samples and
    why.
    """

    metrics: dict[str, dict[str, float]]
    labelled: dict[str, int]
    keys: tuple[str, ...]
    sums: dict[str, dict[str, Tensor]]
    tasks: Mapping[str, Task] = field(repr=False)
    skipped: dict[str, str] = field(default_factory=dict)

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


def evaluate(
    model: nn.Module | Predicts,
    dataset: DenseDataset,
    tasks: Mapping[str, Task],
    *,
    transform: Transform | None = None,
    limit: int = 0,
    num_workers: int = 0,
    on_bad_sample: OnBadSample = "raise",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score `tasks` on a dataset, image by image at the size that `transform` gives (the native one without).

    A module is run through `Predictor`. `limit` scores that many images spread over the dataset; 0 scores all. Under
    several processes each takes its share and every one returns the whole result. `progress(done, of)` is called
    after each image of this process.
    """
    predictor = Predictor(model, tasks=tasks) if isinstance(model, nn.Module) else model
    rank, world = _place()
    loader = evaluation_loader(
        dataset,
        transform=transform,
        limit=limit,
        num_workers=num_workers,
        rank=rank,
        world=world,
        on_bad_sample=on_bad_sample,
    )
    metrics = {name: task.metric() for name, task in tasks.items()}
    rows: list[tuple[str, dict[str, dict[str, Tensor] | None]]] = []
    for done, sample in enumerate(loader, start=1):
        predictions = predictor.predict(sample.image)
        rows.append((sample.key[0], {name: _sums(metrics[name], predictions[name], sample, name) for name in tasks}))
        if progress is not None:
            progress(done, len(loader))
    rows, skipped = _merge(rows, loader.skipped, world)
    sums = {name: _stack(metrics[name], [row[name] for _, row in rows]) for name in tasks}
    labelled = {name: sum(row[name] is not None for _, row in rows) for name in tasks}
    return Evaluation(
        metrics={name: compute(task.metric(), sums[name]) if labelled[name] else {} for name, task in tasks.items()},
        labelled=labelled,
        keys=tuple(key for key, _ in rows),
        sums=sums,
        tasks=dict(tasks),
        skipped=skipped,
    )


def compute(metric: Metric, sums: Mapping[str, Tensor]) -> dict[str, float]:
    """The numbers of a metric over some images, from their sums `(images, *state)`."""
    metric.add_sums({name: value.sum(dim=0) for name, value in sums.items()})
    # The class's own method: the instance's would add up over processes once more.
    return {name: float(value) for name, value in type(metric).compute(metric).items()}


def _sums(metric: Metric, prediction: Tensor, sample: Sample, name: str) -> dict[str, Tensor] | None:
    """The metric's states for one image, on the CPU; `None` where it has no label."""
    target = sample.targets[name]
    if not valid_pixels(target).any():
        return None
    metric.to(prediction.device).reset()
    metric.update(prediction, target.to(prediction.device))
    return {state: value.cpu() for state, value in metric.sums().items()}


def _stack(metric: Metric, rows: Sequence[dict[str, Tensor] | None]) -> dict[str, Tensor]:
    metric.reset()
    empty = {state: torch.zeros_like(value.cpu()) for state, value in metric.sums().items()}
    return {
        state: torch.stack([(row or empty)[state] for row in rows]) if rows else zero[None][:0]
        for state, zero in empty.items()
    }


def _place() -> tuple[int, int]:
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _merge(rows: list, skipped: dict[str, str], world: int) -> tuple[list, dict[str, str]]:
    """The rows of all processes in the order of the dataset: process r had number r, r + world, ..."""
    if world == 1:
        return rows, dict(skipped)
    parts: list[Any] = [None] * world
    torch.distributed.all_gather_object(parts, (rows, dict(skipped)))
    longest = max(len(part) for part, _ in parts)
    merged = [part[i] for i in range(longest) for part, _ in parts if i < len(part)]
    return merged, {key: reason for _, part in parts for key, reason in part.items()}


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """The numbers of an evaluation for a JSON file; not finite becomes null."""
    finite = {
        task: {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        for task, numbers in evaluation.metrics.items()
    }
    return {
        "metrics": finite,
        "labelled": evaluation.labelled,
        "images": len(evaluation.keys),
        "skipped": evaluation.skipped,
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write readable JSON."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
