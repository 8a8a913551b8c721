"""Compare runs: means over seeds, paired differences, delta_mtl, and what differs between their recipes.

Runs of one recipe on the same data that differ in the seed alone form a group. Two groups are compared seed by seed,
and image by image: the bootstrap resamples images, or the rooms, videos or other groups that they belong to
(`DenseDataset.group`), the same ones for all runs of both groups, and takes the means over seeds anew.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from triptych.evaluation.protocols import OWN
from triptych.evaluation.run import read_references
from triptych.evaluation.scored_runs import (
    RunGroup,
    ScoredRun,
    common_split,
    group_runs,
    read_scored_run,
    recipe_differences,
    require_one_group,
    scored_folder,
)
from triptych.evaluation.scores import (
    SAME_LABELS,
    Numbers,
    gain_over,
    require_same_definition,
    require_same_truth,
    select_images,
)
from triptych.evaluation.tables import ARROWS
from triptych.files import require_new, write_json
from triptych.metrics.base import Metric
from triptych.metrics.bootstrap import percentiles, resampled_primary, sum_groups
from triptych.metrics.delta import delta_mtl
from triptych.terminal import terminal

LEAST_DRAWN = 6
"""Fewest images, or groups of images, for a clear difference: five agree by chance with probability 2 / 2^5, which is
more than 5 %.
"""


class GroupDifference(NamedTuple):
    """Difference of a group of runs from the baseline in one number: mean and deviation over seeds, interval over
    images, or over groups of them.
    """

    mean: float
    deviation: float
    seeds: int
    common_seeds: int
    low: float
    high: float
    better: bool
    clear: bool
    """Mean, interval and every seed that both have are on one side of zero, and there are at least `LEAST_DRAWN`."""
    drawn: int
    """Number of images, or groups of images, with a label of the task (of each task) that the interval is over."""
    sampling_unit: str
    """Noun for these, in the plural: images, rooms, videos, ..."""


class _Resampled(NamedTuple):
    """The primary number of a task in resamples of the images that two groups of runs were scored on, the same ones for
    every run and task: `(runs, resamples)` for the baseline and for the other group, on the metric's `comparable`
    scale.
    """

    baseline: np.ndarray
    other: np.ndarray
    drawn: int
    """Number of images, or groups of images, with a label of the task."""
    unit: str
    """Noun for these, in the plural."""


def _resample(baseline: RunGroup, other: RunGroup, task: str) -> _Resampled:
    """Raises `ValueError` where the groups were scored on different images or labels, or by numbers of another
    definition.
    """
    runs, keys = (*baseline.runs, *other.runs), baseline.runs[0].keys
    metric = _require_comparable(runs, task)
    # Files of older versions state no groups, nor do readers that were not asked for videos.
    coarsest = min(runs, key=lambda run: len(set(run.groups.values())))
    groups = [coarsest.groups[key] for key in keys]
    sums = [sum_groups(select_images(run.sums[task], run.keys, keys), groups) for run in runs]
    numbers = resampled_primary(metric, sums)
    first, second = np.split(numbers, [len(baseline.runs)])
    unit = coarsest.sampling_unit if len(set(groups)) < len(groups) else "images"
    return _Resampled(first, second, _count_labelled(sums[0]), unit)


def compare_groups(baseline: RunGroup, other: RunGroup, task: str) -> GroupDifference:
    """Difference `other - baseline` in the primary number of a task, on the metric's `comparable` scale.

    Runs are paired by seed where both groups have the same seeds; otherwise the difference of the means is given,
    without a deviation. Raises `ValueError` where the groups were scored on different images or labels, or by
    numbers of another definition.
    """
    return _compare_task(baseline, other, task, _resample(baseline, other, task))


def _compare_task(baseline: RunGroup, other: RunGroup, task: str, found: _Resampled) -> GroupDifference:
    metric = baseline.runs[0].tasks[task].metric()
    return _difference(
        baseline,
        other,
        lambda run: metric.comparable(run.primary(task)),
        interval=percentiles(found.other.mean(axis=0) - found.baseline.mean(axis=0)),
        rises=metric.better[metric.primary],
        drawn=found.drawn,
        unit=found.unit,
    )


def _compare_gains(
    baseline: RunGroup, other: RunGroup, found: Mapping[str, _Resampled], references: Numbers
) -> GroupDifference:
    """Difference `other - baseline` in delta_mtl, in points; the single-task networks' numbers stay what they are."""
    tasks = {name: baseline.runs[0].tasks[name] for name in found}
    metrics = {name: task.metric() for name, task in tasks.items()}
    singles = {name: metric.comparable(references[name][metric.primary]) for name, metric in metrics.items()}
    better = {name: metric.better[metric.primary] for name, metric in metrics.items()}
    # The gain is linear in the numbers: that of their mean over seeds is the mean of the gains.
    low, high = (
        delta_mtl({name: numbers.mean(axis=0) for name, numbers in group.items()}, singles, better)
        for group in (
            {name: each.baseline for name, each in found.items()},
            {name: each.other for name, each in found.items()},
        )
    )
    return _difference(
        baseline,
        other,
        lambda run: gain_over(tasks, run.metrics, references),
        interval=percentiles(high - low),
        rises=True,
        drawn=min(each.drawn for each in found.values()),
        unit=min(found.values(), key=lambda each: each.drawn).unit,
    )


def _difference(
    baseline: RunGroup,
    other: RunGroup,
    value: Callable[[ScoredRun], float],
    *,
    interval: tuple[float, float],
    rises: bool,
    drawn: int,
    unit: str,
) -> GroupDifference:
    """Mean and seeds of a number beside its interval, and the verdict; `rises`: whether higher is better."""
    one, two = _by_seed(baseline), _by_seed(other)
    gaps = [value(two[seed]) - value(one[seed]) for seed in one if seed in two]
    mean = statistics.fmean(map(value, other.runs)) - statistics.fmean(map(value, baseline.runs))
    paired = set(one) == set(two)
    one_side = all(mean * each > 0 for each in (*gaps, *interval))
    return GroupDifference(
        mean=mean,
        deviation=statistics.stdev(gaps) if paired and len(gaps) > 1 else float("nan"),
        seeds=len(gaps) if paired else 0,
        common_seeds=len(gaps),
        low=interval[0],
        high=interval[1],
        better=(mean if rises else -mean) > 0,
        clear=bool(gaps) and one_side and drawn >= LEAST_DRAWN,
        drawn=drawn,
        sampling_unit=unit,
    )


def _count_labelled(sums: Mapping[str, Tensor]) -> int:
    """Rows that add to any sum; those without a label are zero."""
    parts = torch.cat([value.reshape(len(value), -1) != 0 for value in sums.values()], dim=1)
    return int(parts.any(dim=1).sum())


def _sizes(sums: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of every state, as one image has it."""
    return {name: tuple(value.shape[1:]) for name, value in sums.items()}


def _by_seed(group: RunGroup) -> dict[int, ScoredRun]:
    return {run.recipe.seed: run for run in group.runs}


def _require_comparable(runs: Sequence[ScoredRun], task: str) -> Metric:
    """Return the metric of a task; raise `ValueError` where two runs were scored on other images or labels, or by
    another definition.
    """
    first = runs[0]
    for run in runs:
        summed = ("what is summed", _sizes(first.sums[task]), _sizes(run.sums[task]))
        facts = [summed, *first.how.beside(run.how)]
        require_same_definition(first.path, first.tasks[task], run.path, run.tasks[task], *facts)
        if other := set(run.keys) ^ set(first.keys):
            raise ValueError(
                f"{run.path} was scored on other images than {first.path} ({len(other)} differ); evaluate both on the "
                "same split and limit."
            )
        truths = [each.truth.get(task, {}) for each in (first, run)]
        require_same_truth(task, first.path, truths[0], run.path, truths[1], SAME_LABELS)
    return first.tasks[task].metric()


def compare_runs(
    runs: Sequence[Path],
    *,
    split: str = "",
    baseline: Sequence[Path] = (),
    single_task: Sequence[Path] = (),
    out: Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Print the comparison of scored runs (exported files, too), and return it as plain data, which is also written to
    `out` as JSON, if that is new or may be overwritten.

    `split` is by default the first that all runs were scored on: test, else val, else another. `baseline` names the
    runs to compare with, which differ in the seed alone; the first group by default.
    """
    require_new(out, overwrite)
    if not runs:
        raise ValueError("no runs to compare; name run folders that `triptych evaluate` scored.")
    paths = [scored_folder(Path(path)) for path in dict.fromkeys((*baseline, *runs))]
    split = split or common_split(paths)
    scored = [read_scored_run(path, split) for path in paths]
    of_baseline = len(dict.fromkeys(baseline))
    require_one_group(scored[:of_baseline], "runs of --baseline")
    groups = group_runs(scored[:of_baseline], scored[of_baseline:])
    lacking = {
        name: [str(run.path) for run in scored if name not in run.tasks] for each in scored for name in each.tasks
    }
    left_out = {name: paths for name, paths in lacking.items() if paths}
    names = [name for name in lacking if name not in left_out]
    if not names:
        raise ValueError(f"{groups[0].name} and the other runs have no task in common.")
    for name in names:
        _require_comparable(groups[0].runs, name)  # with others they are compared below
    first = groups[0].runs[0]
    tasks = {name: first.tasks[name] for name in names}
    references = read_references(single_task, split, tasks, first.keys, of=first.path, how=first.how, truth=first.truth)

    def gain(run: ScoredRun) -> float:
        return gain_over({name: run.tasks[name] for name in names}, run.metrics, references)

    resampled = {group.name: {name: _resample(groups[0], group, name) for name in names} for group in groups[1:]}
    content: dict[str, Any] = {
        "split": split,
        "images": len(groups[0].runs[0].keys),
        "labelled": {name: groups[0].runs[0].images(name) for name in names},
        "groups": {group.name: [str(run.path) for run in group.runs] for group in groups},
        "values": {name: {group.name: group.values(name) for group in groups} for name in names},
        "delta_mtl": {group.name: list(map(gain, group.runs)) for group in groups} if references else None,
        "differences": {
            group.name: {
                name: _compare_task(groups[0], group, name, found)._asdict()
                for name, found in resampled[group.name].items()
            }
            for group in groups[1:]
        },
        "delta_mtl_differences": {
            group.name: _compare_gains(groups[0], group, resampled[group.name], references)._asdict()
            for group in groups[1:]
        }
        if references
        else None,
        "recipes": recipe_differences(groups),
        "left_out": left_out,
        "notes": [
            *(f"{name} is left out: no numbers of it in {', '.join(paths)}" for name, paths in left_out.items()),
            *(note for group in groups[1:] for note in _notes(groups[0], group)),
        ],
    }
    _print(terminal(), groups, names, content)
    if out is not None:
        write_json(out, content)
    return content


def _notes(baseline: RunGroup, other: RunGroup) -> Iterator[str]:
    """Lines about two groups that no table shows."""
    if not recipe_differences([baseline, other]):
        yield (
            f"{other.name} and {baseline.name} differ in nothing that is recorded but the seed: they are seeds of one "
            "method, or what was changed is in no recipe (a script, the code)."
        )


def _mean_and_deviation(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.4g}"
    return f"{statistics.fmean(values):.4g} ± {statistics.stdev(values):.2g} ({len(values)} seeds)"


def _print(console: Console, groups: Sequence[RunGroup], names: Sequence[str], content: dict[str, Any]) -> None:
    table = Table("task", "metric", *(group.name for group in groups), "images", title_justify="left")
    by = groups[0].runs[0].how.scoring.protocol
    table.title = content["split"] if by == OWN else f"{content['split']}, protocol {by}"
    for name in names:
        metric = groups[0].runs[0].tasks[name].metric()
        arrow = ARROWS[metric.better[metric.primary]]
        cells = [_mean_and_deviation(group.values(name)) for group in groups]
        table.add_row(name, f"{metric.primary} {arrow}", *cells, str(content["labelled"][name]))
    if content["delta_mtl"]:
        gains = [_mean_and_deviation(content["delta_mtl"][group.name]) for group in groups]
        table.add_row(f"{len(names)} tasks" if content["left_out"] else "all", "delta_mtl % ↑", *gains)
    console.print(table)
    for group, differences in content["differences"].items():
        rows = Table("task", "difference", "95 % interval", "over", "verdict", title_justify="left")
        rows.title = f"{group} minus {groups[0].name}"
        gain = {"delta_mtl": content["delta_mtl_differences"][group]} if content["delta_mtl"] else {}
        for name, found in {**differences, **gain}.items():
            spread = f" ± {found['deviation']:.2g}" if found["deviation"] == found["deviation"] else ""
            unit, images = found["sampling_unit"], f"{content['labelled'].get(name, content['images'])} images"
            over = images if unit == "images" else f"{found['drawn']} {unit} of {images}"
            few = found["drawn"] < LEAST_DRAWN
            unclear = f"too few {unit}" if few else "noise?" if found["common_seeds"] else "other seeds"
            word = ("better" if found["better"] else "worse") if found["clear"] else unclear
            interval = f"[{found['low']:+.3g}, {found['high']:+.3g}]"
            rows.add_row(name, f"{found['mean']:+.4g}{spread}", interval, over, word)
        console.print(rows)
    if content["recipes"]:
        fields = Table("recipe field", *(group.name for group in groups), title="what differs", title_justify="left")
        for field, values in content["recipes"].items():
            fields.add_row(field, *(str(value) for value in values))
        console.print(fields)
    for note in content["notes"]:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
