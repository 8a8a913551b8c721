"""Scoring: run a predictor over a dataset, once per image, and add the metrics' sums up.

Training and the verb `evaluate` both come through `evaluate`, so that their numbers cannot disagree.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from triptych.augmentation.presets import Transform
from triptych.data.base import DenseDataset, require_truth
from triptych.data.errors import DataError
from triptych.data.loading import OnBadSample, evaluation_loader
from triptych.evaluation.protocols import Scoring
from triptych.evaluation.scores import Evaluation, hash_target
from triptych.lookup import grouped
from triptych.metrics.base import Metric
from triptych.metrics.bootstrap import compute_sums
from triptych.prediction.predictor import Predictor
from triptych.processes import gather_objects, num_processes, rank
from triptych.tasks import Task
from triptych.types import Sample, valid_pixels


class EvaluationLeft(Exception):
    """Raised by `progress` to end an evaluation between two images; all processes then raise it."""


@runtime_checkable
class Predicts(Protocol):
    """A predictor that can be scored: decoded predictions of a batch `(B, 3, H, W)`, by task."""

    def predict(self, image: Tensor) -> dict[str, Tensor]: ...


@runtime_checkable
class PredictsRaw(Predicts, Protocol):
    """A predictor whose losses can be computed too: raw maps of a batch by task (`None` where it has none), and their
    decoding.
    """

    def raw(self, image: Tensor) -> dict[str, Tensor] | None: ...

    def decode(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]: ...


class _Row(NamedTuple):
    """One image: the metrics' states and the losses by task, `None` where there is no label or no raw map, and the
    checksums of its targets; `place` is its number among those of its process.
    """

    place: int
    key: str
    sums: dict[str, dict[str, Tensor] | None]
    losses: dict[str, float | None]
    truth: dict[str, str]


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
    scoring: Scoring | None = None,
) -> Evaluation:
    """Score `tasks` on a dataset, image by image at the size that `transform` gives (the native one without), by their
    own metrics or by those of the protocol of `scoring`.

    A module is run through `Predictor`. `limit` scores that many images spread over the dataset; 0 scores all. Under
    several processes each takes its share and every one returns the whole result. `progress(done, of)` is called
    after each image of this process, and may raise `EvaluationLeft`. Losses come from the same raw maps as the
    predictions, in evaluation mode.
    """
    [evaluation] = evaluate_together(
        [Predictor(model, tasks=tasks) if isinstance(model, nn.Module) else model],
        dataset,
        tasks,
        transform=transform,
        limit=limit,
        num_workers=num_workers,
        on_bad_sample=on_bad_sample,
        progress=progress,
        scoring=scoring,
    )
    return evaluation


def evaluate_together(
    predictors: Sequence[Predicts],
    dataset: DenseDataset,
    tasks: Mapping[str, Task],
    *,
    transform: Transform | None = None,
    limit: int = 0,
    num_workers: int = 0,
    on_bad_sample: OnBadSample = "raise",
    progress: Callable[[int, int], None] | None = None,
    scoring: Scoring | None = None,
) -> list[Evaluation]:
    """`evaluate` for several predictors, which reads every image once."""
    if not isinstance(dataset, DenseDataset):
        raise TypeError(
            f"dataset is a {type(dataset).__name__}; give a triptych.DenseDataset, whose samples have targets by task "
            "(docs/extend.md)."
        )
    require_truth(dataset, tasks)
    scoring = scoring or Scoring()
    tasks = scoring.apply(tasks)
    if transform is None and (unknown := [name for name in tasks if name not in dataset.tasks]):
        raise DataError(
            f"{dataset.name} has no labels of {', '.join(unknown)}; its tasks are {', '.join(dataset.tasks)}",
            "give tasks by these names",
        )
    loader = evaluation_loader(
        dataset,
        transform=transform,
        limit=limit,
        num_workers=num_workers,
        rank=rank(),
        world=num_processes(),
        on_bad_sample=on_bad_sample,
    )
    metrics = {name: task.metric() for name, task in tasks.items()}
    rows: list[list[_Row]] = [[] for _ in predictors]
    left = False
    try:
        for done, sample in enumerate(loader, start=1):
            truth = {name: hash_target(sample.targets[name]) for name in tasks}
            for predictor, own in zip(predictors, rows, strict=True):
                place = len(own) + len(loader.skipped)
                own.append(_score(predictor, sample, place, tasks, metrics, scoring, truth))
            if progress is not None:
                progress(done, len(loader))
    except EvaluationLeft:
        left = True
    if any(gather_objects(left)):
        raise EvaluationLeft
    return [_add_up(own, loader.skipped, tasks) for own in rows]


def _score(
    predictor: Predicts,
    sample: Sample,
    place: int,
    tasks: Mapping[str, Task],
    metrics: Mapping[str, Metric],
    scoring: Scoring,
    truth: dict[str, str],
) -> _Row:
    """Metric states and losses of one image."""
    predictions, raw = _predict(predictor, sample.image)
    predictions = scoring.store(predictions)
    return _Row(
        place,
        sample.image_keys[0],
        {name: _sums(metrics[name], predictions[name], sample, name) for name in tasks},
        {name: _loss(task, raw[name], sample.targets[name]) for name, task in tasks.items()} if raw else {},
        truth,
    )


def _add_up(rows: list[_Row], skipped: dict[str, str], tasks: Mapping[str, Task]) -> Evaluation:
    """The scores of all processes' rows."""
    rows, skipped = _merge(rows, skipped)
    metrics = {name: task.metric() for name, task in tasks.items()}
    sums = {name: _stack(metrics[name], [row.sums[name] for row in rows]) for name in tasks}
    labelled = {name: sum(row.sums[name] is not None for row in rows) for name in tasks}
    return Evaluation(
        metrics={name: compute_sums(metrics[name], sums[name]) if labelled[name] else {} for name in tasks},
        labelled=labelled,
        keys=tuple(row.key for row in rows),
        sums=sums,
        tasks=dict(tasks),
        skipped=skipped,
        losses=_mean_losses(rows),
        truth={name: {row.key: row.truth[name] for row in rows} for name in tasks},
    )


def _predict(predictor: Predicts, image: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """Predictions, and the raw maps that they come from, where there are any."""
    if isinstance(predictor, PredictsRaw):
        raw = predictor.raw(image)
        if raw is not None:
            return predictor.decode(raw), raw
    return predictor.predict(image), None


def _loss(task: Task, raw: Tensor, target: Tensor) -> float | None:
    """The task's loss for one image, `None` where it has no label."""
    return float(task.loss(raw, target.to(raw.device))) if valid_pixels(target).any() else None


def _mean_losses(rows: Sequence[_Row]) -> dict[str, float]:
    """Means over the images that have one; the sums are exact, so that their order does not matter."""
    values = grouped((name, loss) for row in rows for name, loss in row.losses.items() if loss is not None)
    return {name: math.fsum(each) / len(each) for name, each in values.items()}


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


def _merge(rows: list[_Row], skipped: dict[str, str]) -> tuple[list[_Row], dict[str, str]]:
    """The rows of all processes in the order of the dataset: process r had number r, r + world, ..."""
    parts = gather_objects((rows, dict(skipped)))
    placed = [(row.place, rank, row) for rank, (part, _) in enumerate(parts) for row in part]
    merged = [row for *_, row in sorted(placed, key=lambda each: each[:2])]
    return merged, {key: reason for _, part in parts for key, reason in part.items()}
