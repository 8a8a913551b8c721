"""Paired comparison of two arms of a study: by seed, and by image."""

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from grid import folder, markdown_table, mean_and_deviation

from triptych.comparison import Group, ScoredRun, compare_groups, read_scored_run
from triptych.metrics.delta import delta_mtl
from triptych.tasks import Task


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


def compare(out: Path, baseline: str, other: str, seeds: Iterable[int], split: str) -> dict[str, Any] | None:
    """`other` against `baseline` on the seeds that both have; `None` where there is none.

    `gain`: delta_mtl by seed. `tasks`: primary numbers of both by seed, the mean paired difference, its standard
    deviation over seeds, and the 95 % bootstrap interval over images of the difference.
    """
    seeds = list(seeds)
    one, two = scored(out, baseline, seeds, split), scored(out, other, seeds, split)
    both = [seed for seed in seeds if seed in one and seed in two]
    if not both:
        return None
    first = Group(baseline, tuple(one[seed] for seed in both))
    second = Group(other, tuple(two[seed] for seed in both))
    tasks = {}
    for name, task in first.runs[0].tasks.items():
        found = compare_groups(first, second, name)
        tasks[name] = {
            "metric": task.metric().primary,
            "baseline": first.values(name),
            "other": second.values(name),
            "difference": found.mean,
            "deviation": found.deviation if found.seeds > 1 else None,
            "interval": [found.low, found.high],
            "better": found.better,
            "clear": found.clear,
        }
    return {
        "baseline": baseline,
        "other": other,
        "split": split,
        "images": len(first.runs[0].keys),
        "seeds": both,
        "gain": [gain(primaries(two[seed]), primaries(one[seed]), two[seed].tasks) for seed in both],
        "tasks": tasks,
    }


def values_row(out: Path, arm: str, seeds: Iterable[int], split: str, tasks: Iterable[str]) -> list[str]:
    """The cells of one arm: every task's primary number, mean ± deviation over seeds."""
    runs = scored(out, arm, seeds, split)
    return [mean_and_deviation([run.primary(task) for run in runs.values()], digits=3) for task in tasks]


def gains_table(found: Iterable[tuple[str, dict[str, Any] | None]]) -> str:
    """One row per comparison: relative gain per task and over all, paired by seed."""
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
        rows.append([*cells, signed(each["gain"])])
    return markdown_table([*header, "gain %"], rows)


def signed(gains: list[float], digits: int = 2) -> str:
    """`+mean ± deviation` of relative gains in percent."""
    mean = f"{statistics.fmean(gains):+.{digits}f}"
    return mean if len(gains) < 2 else f"{mean} ± {statistics.stdev(gains):.{digits}f}"
