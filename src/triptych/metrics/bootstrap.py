"""Uncertainty of a score over a set of images, by drawing the images again with replacement.

Metrics are functions of sums over images, so a resample is a weighted sum of what each image contributed: nothing is
scored twice. Efron and Tibshirani, "An introduction to the bootstrap" (1993), percentile intervals.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from triptych.metrics.base import Metric

Sums = Mapping[str, Tensor]
"""States of a metric per image, `(images, *state)`."""


class Interval(NamedTuple):
    """A number and its interval over resamples."""

    value: float
    low: float
    high: float


class PairedDifference(NamedTuple):
    """Difference of two sets of predictions: `second - first` of the numbers as they are compared
    (`Metric.comparable`), its interval over resamples of the same images, and the share of resamples in which `second`
    is better.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    second_better: float


def compute_sums(metric: Metric, sums: Sums) -> dict[str, float]:
    """The numbers of a metric over some images.

    >>> from triptych.metrics.depth import DepthMetric
    >>> metric = DepthMetric()
    >>> metric.update(torch.full((1, 1, 2, 2), 2.0), torch.full((1, 1, 2, 2), 1.5))
    >>> compute_sums(metric, {name: value[None] for name, value in metric.sums().items()})["rmse"]
    0.5
    """
    return _compute(metric, {name: value.sum(dim=0) for name, value in sums.items()})


def sum_groups(sums: Sums, groups: Sequence[str]) -> dict[str, Tensor]:
    """Add up the sums of images of one group, in the order of first appearance: `(groups, *state)`.

    Images of one scene or video are alike, and intervals over them too narrow. The functions below resample the rows
    that they are given: pass sums of groups, and whole groups are drawn (the cluster bootstrap; Davison and Hinkley,
    "Bootstrap methods and their application", 1997, section 3.8).

    >>> sum_groups({"count": torch.tensor([1, 2, 4])}, ["hall", "hall", "kitchen"])["count"].tolist()
    [3, 4]
    """
    rows = {group: row for row, group in enumerate(dict.fromkeys(groups))}
    index = torch.tensor([rows[group] for group in groups])
    return {state: torch.zeros_like(value[: len(rows)]).index_add_(0, index, value) for state, value in sums.items()}


def bootstrap(
    metric: Metric, sums: Sums, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Every number of a metric that says which way it is better, with its interval over resampled images.

    Raises `ValueError` without images, or for a confidence outside (0, 1).
    """
    values, drawn = compute_sums(metric, sums), _draw(metric, [sums], resamples, confidence, seed)
    return {name: Interval(values[name], *percentiles(rows, confidence)) for name, rows in drawn[0].items()}


def bootstrap_difference(
    metric: Metric, first: Sums, second: Sums, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, PairedDifference]:
    """Every number of a metric that says which way it is better, for two sets of predictions of the same images, in the
    same order, and their paired difference: each resample takes the same images of both.

    Raises `ValueError` when the numbers of images differ.
    """
    return bootstrap_mean_difference(metric, [first], [second], resamples=resamples, confidence=confidence, seed=seed)


def bootstrap_mean_difference(
    metric: Metric,
    first: Sequence[Sums],
    second: Sequence[Sums],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, PairedDifference]:
    """`bootstrap_difference` of means over several sets of predictions on either side, such as those of several seeds:
    each resample takes the same images of all.
    """
    numbers = [compute_sums(metric, sums) for sums in (*first, *second)]
    drawn = _draw(metric, [*first, *second], resamples, confidence, seed)
    values, compared, resampled = (
        (_mean(sets[: len(first)]), _mean(sets[len(first) :]))
        for sets in (numbers, _comparable(metric, numbers), _comparable(metric, drawn))
    )
    found = {}
    for name in resampled[0]:
        one, other = values[0][name], values[1][name]
        difference, differences = (pair[1][name] - pair[0][name] for pair in (compared, resampled))
        gains = differences if metric.better[name] else -differences
        better = float(np.mean(gains > 0) + np.mean(gains == 0) / 2)
        found[name] = PairedDifference(one, other, difference, *percentiles(differences, confidence), better)
    return found


def resampled_primary(metric: Metric, sets: Sequence[Sums], *, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """The primary number, as it is compared, of several sets of predictions of the same images in every resample:
    `(sets, resamples)`. One seed and number of images draw the same images, whatever the metric.
    """
    drawn = _comparable(metric, _draw(metric, list(sets), resamples, 0.95, seed))
    return np.stack([numbers[metric.primary] for numbers in drawn])


def percentiles(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Lowest and highest of the resampled values that the interval holds; those that are not finite do not count."""
    known = values[np.isfinite(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


def _comparable(metric: Metric, sets: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: metric.comparable(value, name) for name, value in numbers.items()} for numbers in sets]


def _mean(sets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Number by number, the mean over sets."""
    return {name: sum(numbers[name] for numbers in sets) / len(sets) for name in sets[0]}


def _draw(
    metric: Metric, sets: list[Sums], resamples: int, confidence: float, seed: int
) -> list[dict[str, np.ndarray]]:
    """The numbers of every set in every resample."""
    images = {len(value) for sums in sets for value in sums.values()}
    if len(images) != 1 or images == {0}:
        raise ValueError(f"sums of {sorted(images)} images; paired resampling needs the same images, at least one.")
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(
            f"confidence {confidence} and resamples {resamples}; give 0 < confidence < 1 and resamples > 0."
        )
    [count] = images
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    weights = torch.from_numpy(times).double()
    drawn = []
    for sums in sets:
        totals = {name: _weighted(weights, value) for name, value in sums.items()}
        whole = _with_sums(metric, {name: value.sum(dim=0) for name, value in sums.items()})
        drawn_metrics = (
            _with_sums(metric, {name: total[i] for name, total in totals.items()}) for i in range(resamples)
        )
        rows = [_as_floats(each.compute_resample(whole)) for each in drawn_metrics]
        drawn.append({name: np.array([row[name] for row in rows]) for name in rows[0] if name in metric.better})
    return drawn


def _weighted(weights: Tensor, values: Tensor) -> Tensor:
    total = weights @ values.reshape(len(values), -1).double()
    return total.view(len(weights), *values.shape[1:]).to(values.dtype)


def _compute(metric: Metric, totals: Mapping[str, Tensor]) -> dict[str, float]:
    # The class's own method: the instance's would add up over processes once more.
    return _as_floats(type(metric).compute(_with_sums(metric, totals)))


def _with_sums(metric: Metric, totals: Mapping[str, Tensor]) -> Metric:
    fresh = copy.copy(metric)
    for name, value in totals.items():
        setattr(fresh, name, value)
    return fresh


def _as_floats(numbers: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items()}
