"""Paired comparison of two arms of a study: by seed, and by image."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from grid import folder, markdown_table, mean_and_deviation
from scipy.stats import t as student
from torch import Tensor

from triptych.evaluation.compare import compare_groups
from triptych.evaluation.scored_runs import RunGroup, ScoredRun, read_scored_run
from triptych.metrics.bootstrap import compute_sums
from triptych.metrics.delta import delta_mtl
from triptych.tasks import Task

RESAMPLES = 500


def scored(out: Path, arm: str, seeds: Iterable[int], split: str) -> dict[int, ScoredRun]:
    """The runs of an arm that were scored, by seed."""
    return {
        seed: read_scored_run(folder(out, arm, seed), split)
        for seed in seeds
        if (folder(out, arm, seed) / f"evaluation-{split}.json").is_file()
    }


def gain(found: Mapping[str, float], reference: Mapping[str, float], tasks: Mapping[str, Task]) -> float:
    """delta_mtl of the primary numbers of `tasks` against others, percent."""
    metrics = {name: task.metric() for name, task in tasks.items()}
    return delta_mtl(found, reference, {name: metric.better[metric.primary] for name, metric in metrics.items()})


def primaries(run: ScoredRun) -> dict[str, float]:
    """The primary number of every task of a run."""
    return {name: run.primary(name) for name in run.tasks}


def interval_over_seeds(gains: Sequence[float], confidence: float = 0.95) -> list[float] | None:
    """Student's t interval of the mean of paired gains; `None` of a single one.

    >>> [round(end, 3) for end in interval_over_seeds([1.0, 2.0, 3.0])]
    [-0.484, 4.484]
    """
    if len(gains) < 2:
        return None
    half = student.ppf((1 + confidence) / 2, len(gains) - 1) * statistics.stdev(gains) / len(gains) ** 0.5
    return [float(statistics.fmean(gains) - half), float(statistics.fmean(gains) + half)]


def interval_over_images(
    one: Sequence[ScoredRun], two: Sequence[ScoredRun], *, confidence: float = 0.95, resamples: int = RESAMPLES
) -> list[float]:
    """Percentile bootstrap of the gain of `two` over `one`: every resample takes the same images of both and of all
    tasks, whole groups of them (the views of a room), each image's sums averaged over the runs of an arm.

    Raises `ValueError` where the runs were not scored on the same images in the same order.
    """
    keys = one[0].keys
    if other := [run.path for run in (*one, *two) if run.keys != keys]:
        raise ValueError(f"{other[0]} was scored on other images than {one[0].path}; score both again.")
    groups = [one[0].groups.get(key, key) for key in keys]
    names = list(dict.fromkeys(groups))
    times = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    weights = torch.from_numpy(times[:, [names.index(group) for group in groups]]).double()
    tasks = one[0].tasks
    drawn = [{name: _resampled(runs, name, weights) for name in tasks} for runs in (one, two)]
    gains = [
        gain(*({name: values[i] for name, values in arm.items()} for arm in reversed(drawn)), tasks)
        for i in range(resamples)
    ]
    low, high = np.percentile(gains, [50 * (1 - confidence), 50 * (1 + confidence)])
    return [float(low), float(high)]


def _resampled(runs: Sequence[ScoredRun], name: str, weights: Tensor) -> list[float]:
    """The primary number of a task in every resample."""
    metric = runs[0].tasks[name].metric()
    pooled = {state: sum(run.sums[name][state].double() for run in runs) / len(runs) for state in runs[0].sums[name]}
    totals = {state: torch.tensordot(weights, value, dims=1) for state, value in pooled.items()}
    rows = ({state: total[i, None] for state, total in totals.items()} for i in range(len(weights)))
    return [compute_sums(metric, row)[metric.primary] for row in rows]


def compare(out: Path, baseline: str, other: str, seeds: Iterable[int], split: str) -> dict[str, Any] | None:
    """`other` against `baseline` on the seeds that both have; `None` where there is none.

    `gain`: delta_mtl by seed, with its mean, deviation, and 95 % intervals over seeds (t) and over images (bootstrap).
    `tasks`: primary numbers of both and their difference by seed, the mean paired difference, its standard deviation
    over seeds, and the 95 % bootstrap interval over images of the difference.
    """
    seeds = list(seeds)
    one, two = scored(out, baseline, seeds, split), scored(out, other, seeds, split)
    both = [seed for seed in seeds if seed in one and seed in two]
    if not both:
        return None
    first = RunGroup(baseline, tuple(one[seed] for seed in both))
    second = RunGroup(other, tuple(two[seed] for seed in both))
    tasks = {}
    for name, task in first.runs[0].tasks.items():
        found = compare_groups(first, second, name)
        tasks[name] = {
            "metric": task.metric().primary,
            "baseline": first.values(name),
            "other": second.values(name),
            "differences": [b - a for a, b in zip(first.values(name), second.values(name), strict=True)],
            "difference": found.mean,
            "deviation": found.deviation if found.seeds > 1 else None,
            "interval": [found.low, found.high],
            "better": found.better,
            "clear": found.clear,
        }
    gains = [gain(primaries(two[seed]), primaries(one[seed]), two[seed].tasks) for seed in both]
    return {
        "baseline": baseline,
        "other": other,
        "split": split,
        "images": len(first.runs[0].keys),
        "seeds": both,
        "gain": gains,
        "gain_mean": statistics.fmean(gains),
        "gain_deviation": statistics.stdev(gains) if len(gains) > 1 else None,
        "gain_interval_seeds": interval_over_seeds(gains),
        "gain_interval_images": interval_over_images(first.runs, second.runs),
        "tasks": tasks,
    }


def values_row(out: Path, arm: str, seeds: Iterable[int], split: str, tasks: Iterable[str]) -> list[str]:
    """The cells of one arm: every task's primary number, mean ± deviation over seeds."""
    runs = scored(out, arm, seeds, split)
    return [mean_and_deviation([run.primary(task) for run in runs.values()], digits=3) for task in tasks]


def gains_table(found: Iterable[tuple[str, dict[str, Any] | None]]) -> str:
    """One row per comparison: relative gain per task and over all, paired by seed; empty without one."""
    rows, header = [], ["arm", "seeds"]
    for title, each in found:
        if each is None:
            continue
        if len(header) == 2:
            header += [f"{name} {task['metric'].split('_')[0]}" for name, task in each["tasks"].items()]
        cells = [title, str(len(each["seeds"]))]
        for task in each["tasks"].values():
            mark = (" ▲" if task["better"] else " ▼") if task["clear"] else ""
            base = statistics.fmean(task["baseline"])
            cells.append(f"{base:.3g} → {base + task['difference']:.3g}{mark}")
        intervals = [between(each[f"gain_interval_{over}"]) for over in ("seeds", "images")]
        rows.append([*cells, signed(each["gain"]), *intervals])
    return markdown_table([*header, "gain %", "95 % over seeds", "95 % over images"], rows) if rows else ""


def between(interval: Sequence[float] | None) -> str:
    """`low to high` with signs.

    >>> between([-0.5, 2.0])
    '-0.5 to +2.0'
    """
    return "–" if interval is None else f"{interval[0]:+.1f} to {interval[1]:+.1f}"


def signed(gains: list[float], digits: int = 2) -> str:
    """`+mean ± deviation` of relative gains in percent."""
    mean = f"{statistics.fmean(gains):+.{digits}f}"
    return mean if len(gains) < 2 else f"{mean} ± {statistics.stdev(gains):.{digits}f}"
