"""Compare runs: means over seeds, paired differences, delta_mtl, and what differs between their recipes.

Runs of one recipe on the same data that differ in the seed alone form a group. Two groups are compared seed by seed,
and image by image: the bootstrap resamples images, the same ones for all runs of both groups, and takes the means over
seeds anew.
"""

import json
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from triptych import assemble
from triptych.evaluation.evaluate import read_references
from triptych.evaluation.protocols import DataSettings, find_rule
from triptych.evaluation.scores import SavedScores, read_run_scores, read_scores
from triptych.evaluation.tables import ARROWS
from triptych.files import write_json
from triptych.machine import terminal
from triptych.metrics.base import Metric
from triptych.metrics.bootstrap import PairedDifference, bootstrap_difference, bootstrap_mean_difference
from triptych.metrics.delta import delta_mtl
from triptych.prediction.exported import exported_data, read_export, results_folder, results_path
from triptych.prediction.pretrained import read_run_tasks
from triptych.recipes.config import Recipe, flatten, read_recipe
from triptych.recipes.option_words import flatten as flatten_fields
from triptych.recipes.resolved import data_fingerprints, fill_options, read_run_recipe
from triptych.tasks import Task


@dataclass(frozen=True)
class ScoredRun:
    """One run and its scores on a split: `sums` by task and state, `(images, *state)` in the order of `keys`.

    `resolved` is `recipe` with the options that it leaves out.
    """

    path: Path
    recipe: Recipe
    resolved: Recipe
    tasks: dict[str, Task]
    metrics: dict[str, dict[str, float]]
    keys: tuple[str, ...]
    sums: dict[str, dict[str, Tensor]]
    labelled: Mapping[str, int] = field(default_factory=dict)
    """Images with a label, by task; files of older versions do not say."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Fingerprints of what it was trained on, by dotted name; a recipe names the place alone."""
    export: Mapping[str, Any] = field(default_factory=dict)
    """How it was exported, by dotted name; nothing of a run."""
    scored_on: Mapping[str, Any] = field(default_factory=dict)
    """Fingerprint of the data that it was scored on, by dotted name; files of older versions do not say."""

    @property
    def told(self) -> dict[str, Any]:
        """What is known of it beside the recipe."""
        return {**self.data, **self.export, **self.scored_on}

    @property
    def settings(self) -> dict[str, Any]:
        """All that runs of one method have in common, by dotted name: the recipe without its seed, and what is told."""
        recipe = {name: value for name, value in flatten(self.resolved).items() if name != "seed"}
        return {**recipe, **self.told}

    def primary(self, task: str) -> float:
        """The number of a task that delta_mtl uses."""
        return self.metrics[task][self.tasks[task].metric().primary]

    def images(self, task: str) -> int:
        """Images with a label of a task; all of them, where the file does not say."""
        return self.labelled.get(task, len(self.keys))


@dataclass(frozen=True)
class RunGroup:
    """Runs that differ in the seed alone."""

    name: str
    runs: tuple[ScoredRun, ...]

    def values(self, task: str) -> list[float]:
        """The primary number of a task, run by run."""
        return [run.primary(task) for run in self.runs]


LEAST_IMAGES = 6
"""Fewer tell nothing: that five agree by chance has a probability of 2 / 2^5, which is more than 5 %."""


class GroupDifference(NamedTuple):
    """How a group differs from the baseline on one task: mean and deviation over seeds, interval over images."""

    mean: float
    deviation: float
    seeds: int
    common_seeds: int
    low: float
    high: float
    better: bool
    clear: bool
    """Mean, interval and every seed that both have are on one side of zero, and there are at least `LEAST_IMAGES`."""


def _require_run(path: Path) -> None:
    if not (path / "recipe.json").is_file():
        raise FileNotFoundError(f"{path} is no run folder: it has no recipe.json.")


def _scored_folder(run: Path) -> Path:
    """Where the scores of a run or a file lie; `FileNotFoundError` where a file has none."""
    folder = results_path(run)
    if folder != run and not folder.is_dir():
        raise FileNotFoundError(f"{run} was not scored; run `triptych evaluate {run}` first.")
    return results_folder(run)  # of an older version: how the file was exported is noted now


def read_scored_run(path: Path, split: str) -> ScoredRun:
    """Read a run folder that `triptych evaluate` scored on `split`; `FileNotFoundError` says what to run otherwise."""
    _require_run(path)
    saved = read_run_scores(path, split)
    tasks = read_run_tasks(path)
    recipe, resolved = read_recipe(path / "recipe.json"), read_run_recipe(path)
    # Runs of before the file name no defaults: theirs are the constructors'.
    resolved = fill_options(resolved, assemble.resolve_options(resolved))
    keys = next(iter(saved.keys.values()), ())
    return ScoredRun(
        path,
        recipe,
        resolved,
        tasks={name: task for name, task in tasks.items() if saved.metrics.get(name)},
        metrics=saved.metrics,
        keys=keys,
        sums=saved.read_sums(),
        labelled=saved.content.get("labelled", {}),
        data={f"trained on {name}": value for name, value in (data_fingerprints(path) or exported_data(path)).items()},
        export=read_export(path),
        scored_on={f"scored on {name}": value for name, value in flatten_fields(saved.content.get("data", {})).items()},
    )


def group_runs(runs: Sequence[ScoredRun]) -> list[RunGroup]:
    """Gather runs that differ in the seed alone, in the order of first appearance.

    Runs of one seed never form a group, whatever made them differ: labels that were corrected or predicted in between,
    another version, another machine.

    A group is called what the names of its folders have in common beside the seed; or by its first run, where they have
    nothing in common, and by the path of that where another group is called so.
    """
    gathered: dict[tuple[str, int], list[ScoredRun]] = {}
    rounds: Counter[tuple[str, int]] = Counter()
    for run in runs:
        settings = json.dumps(run.settings, sort_keys=True, default=str)
        repeated = settings, run.recipe.seed
        gathered.setdefault((settings, rounds[repeated]), []).append(run)
        rounds[repeated] += 1
    names = [_common_name(members) for members in gathered.values()]
    return [
        RunGroup(name if names.count(name) == 1 else str(members[0].path), tuple(members))
        for name, members in zip(names, gathered.values(), strict=True)
    ]


def _common_name(runs: Sequence[ScoredRun]) -> str:
    """`invpt` of invpt-seed0 and invpt-seed1, of invpt_0 and invpt_1, and of invpt/0 and invpt/1."""
    if len(runs) == 1:
        return runs[0].path.name
    stems = {re.sub(rf"[-_. ]*(seed|s)?[-_. ]*0*{run.recipe.seed}$", "", run.path.name) for run in runs}
    if stems == {""}:
        stems = {run.path.resolve().parent.name for run in runs}
    return stems.pop() if len(stems) == 1 else runs[0].path.name


def recipe_differences(groups: Sequence[RunGroup]) -> dict[str, list[Any]]:
    """Dotted recipe fields that are not the same in all groups, and what else is told of them, with each group's value;
    of the options that recipes leave out, those that all groups have. A group that does not say what it was trained on,
    such as exported files, or scored on, as files of older versions, is no other for it.
    """
    firsts = [group.runs[0] for group in groups]
    flat = [run.settings for run in firsts]
    names = dict.fromkeys(name for run in firsts for name in (*flatten(run.recipe), *run.told))
    names |= dict.fromkeys(name for name in flat[0] if all(name in fields for fields in flat))
    left_out = ("seed", "description", "plugins")
    rows = {name: [fields.get(name, "-") for fields in flat] for name in names if not name.startswith(left_out)}
    # A table without options is none beside one with some, whose options have rows of their own.
    rows = {name: ["-" if value == {} else value for value in values] for name, values in rows.items()}
    return {name: values for name, values in rows.items() if _differ(name, values, firsts)}


def _differ(name: str, values: Sequence[Any], runs: Sequence[ScoredRun]) -> bool:
    """Compare one setting's values over runs; a fact of data over those that say anything of these data."""
    for facts in ("data", "scored_on"):
        if any(name in getattr(run, facts) for run in runs):
            values = [value for value, run in zip(values, runs, strict=True) if getattr(run, facts)]
    return any(value != values[0] for value in values)


def compare_groups(baseline: RunGroup, other: RunGroup, task: str, *, resamples: int = 1000) -> GroupDifference:
    """`other - baseline` in the primary number of a task.

    Runs are paired by seed where both groups have the same seeds; otherwise the difference of the means is given,
    without a deviation. Raises `ValueError` where the groups were scored on different images, or by numbers of another
    definition.
    """
    one, two = _by_seed(baseline), _by_seed(other)
    order = baseline.runs[0].keys
    metric = _same_metric(baseline.runs[0], other.runs[0], task)
    gaps = [two[seed].primary(task) - one[seed].primary(task) for seed in one if seed in two]
    mean = statistics.fmean(other.values(task)) - statistics.fmean(baseline.values(task))
    groups = [[_sums_in(order, run, baseline.runs[0], task) for run in group.runs] for group in (baseline, other)]
    interval = bootstrap_mean_difference(metric, *groups, resamples=resamples)[metric.primary]
    paired = set(one) == set(two)
    one_side = all(mean * value > 0 for value in (*gaps, interval.low, interval.high))
    return GroupDifference(
        mean=mean,
        deviation=statistics.stdev(gaps) if paired and len(gaps) > 1 else float("nan"),
        seeds=len(gaps) if paired else 0,
        common_seeds=len(gaps),
        low=interval.low,
        high=interval.high,
        better=(mean > 0) == metric.better[metric.primary],
        clear=bool(gaps) and one_side and baseline.runs[0].images(task) >= LEAST_IMAGES,
    )


def _same_metric(one: ScoredRun, other: ScoredRun, task: str) -> Metric:
    """The metric of a task, which both runs were scored by; `ValueError` where their numbers mean other things."""
    mine, theirs = one.tasks[task], other.tasks[task]
    metric = mine.metric()
    facts = [
        ("the number", metric.primary, theirs.metric().primary),
        ("the unit", mine.unit, theirs.unit),
        ("the count of classes", len(mine.classes), len(theirs.classes)),
        *(("a class", *names) for names in _moved_classes(mine, theirs)),
        ("what is summed", *(_sizes(run.sums[task]) for run in (one, other))),
    ]
    for what, here, there in facts:
        if here != there:
            raise ValueError(
                f"{task}: {what} is {here} in {one.path}, {there} in {other.path}; such numbers do not compare, train "
                "or score both with the same options of the task."
            )
    return metric


def _moved_classes(mine: Task, theirs: Task) -> list[tuple[str, str]]:
    """Pairs where the same classes have other numbers; other names for the same numbers may be a renaming."""
    same = sorted(mine.classes) == sorted(theirs.classes)
    return list(zip(mine.classes, theirs.classes, strict=True)) if same else []


def _sizes(sums: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of every state, as one image has it."""
    return {name: tuple(value.shape[1:]) for name, value in sums.items()}


def _by_seed(group: RunGroup) -> dict[int, ScoredRun]:
    return {run.recipe.seed: run for run in group.runs}


def _sums_in(order: Sequence[str], run: ScoredRun, like: ScoredRun, task: str) -> dict[str, Tensor]:
    """Every image's sums of a run in the order of `like`'s images."""
    if set(run.keys) != set(order):
        raise ValueError(
            f"{run.path} was scored on other images than {like.path} ({len(set(run.keys) ^ set(order))} differ); "
            "evaluate both on the same split and limit."
        )
    return select_images(run.sums[task], run.keys, order)


def select_images(sums: Mapping[str, Tensor], keys: Sequence[str], wanted: Sequence[str]) -> dict[str, Tensor]:
    """The rows of `wanted` images from sums whose rows are those of `keys`."""
    rows = {key: index for index, key in enumerate(keys)}
    index = torch.tensor([rows[key] for key in wanted])
    return {state: value[index] for state, value in sums.items()}


def compare_scores(
    first: Path, second: Path, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, dict[str, PairedDifference]]:
    """Compare what `triptych score --out` saved of two sets of predictions, by task and number.

    Only images that both scored count, for both. Raises `ValueError` where the scores share no task, or one was scored
    under another protocol, maxDist, recipe or number of classes: such numbers do not compare.
    """
    one, other = read_scores(first), read_scores(second)
    shared = [name for name in one.metrics if name in other.metrics]
    if not shared:
        raise ValueError(
            f"{first} has {', '.join(one.metrics)}, {second} has {', '.join(other.metrics)}: no task in common."
        )
    sums = [one.read_sums(), other.read_sums()]
    compared = {}
    for name in shared:
        facts = [_facts(scores, name) for scores in (one, other)]
        if facts[0] != facts[1]:
            raise ValueError(
                f"{name} was scored under {facts[0]} in {first}, under {facts[1]} in {second}; score both alike."
            )
        common = set(other.keys[name])
        keys = [key for key in one.keys[name] if key in common]
        if not keys:
            raise ValueError(f"{name}: {first} and {second} have no image in common.")
        rows = [
            select_images(each[name], scores.keys[name], keys) for each, scores in zip(sums, (one, other), strict=True)
        ]
        metric = find_rule(one.content["protocol"], name).metric(DataSettings(**one.content["tasks"][name]["settings"]))
        found = bootstrap_difference(metric, *rows, resamples=resamples, confidence=confidence, seed=seed)
        compared[name] = {number: found[number] for number in one.metrics[name]}
    return compared


def _facts(scores: SavedScores, task: str) -> str:
    """Settings that the numbers of a task depend on, in words."""
    try:
        facts = {"protocol": scores.content["protocol"], **scores.content["tasks"][task]["facts"]}
    except KeyError as error:
        raise ValueError(
            f"{scores.path} has scores of a run; compare the run's folder, or files of `triptych score --out`."
        ) from error
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def comparison_table(compared: dict[str, dict[str, PairedDifference]], first: str, second: str) -> Table:
    """One row per number; the last column is the share of resamples in which the second is better."""
    table = Table("task", "metric", first, second, "difference", "interval", f"{second} better")
    for name, numbers in compared.items():
        for i, (number, found) in enumerate(numbers.items()):
            table.add_row(
                name if i == 0 else "",
                number,
                f"{found.first:.4f}",
                f"{found.second:.4f}",
                f"{found.difference:+.4f}",
                f"{found.low:+.4f} to {found.high:+.4f}",
                f"{100 * found.second_better:.0f} %",
            )
    return table


def common_split(runs: Sequence[Path]) -> str:
    """The split that all runs were scored on: `test`, else `val`, else the first by name.

    Raises `ValueError` naming what each was scored on where they have none in common.
    """
    for run in runs:
        _require_run(run)
    prefix = "evaluation-"
    scored = {run: {path.stem.removeprefix(prefix) for path in run.glob(f"{prefix}*.json")} for run in runs}
    common = set.intersection(*scored.values())
    if not common:
        each = "; ".join(f"{run}: {', '.join(sorted(splits)) or 'none'}" for run, splits in scored.items())
        raise ValueError(
            f"the runs were scored on no split in common ({each}); run `triptych evaluate RUN --split SPLIT` for each."
        )
    return next((name for name in ("test", "val") if name in common), min(common))


def compare_runs(
    runs: Sequence[Path],
    *,
    split: str = "",
    baseline: Sequence[Path] = (),
    single_task: Sequence[Path] = (),
    out: Path | None = None,
) -> dict[str, Any]:
    """Print the comparison of scored runs (exported files, too), and return it as plain data, which is also written to
    `out` as JSON.

    `split` is by default the first that all runs were scored on: test, else val, else another. `baseline` names the
    runs to compare with; the first group by default.
    """
    if not runs:
        raise ValueError("no runs to compare; name run folders that `triptych evaluate` scored.")
    paths = [_scored_folder(Path(path)) for path in dict.fromkeys((*baseline, *runs))]
    split = split or common_split(paths)
    groups = group_runs([read_scored_run(path, split) for path in paths])
    names = [
        name for name in groups[0].runs[0].tasks if all(name in run.tasks for group in groups for run in group.runs)
    ]
    if not names:
        raise ValueError(f"{groups[0].name} and the other runs have no task in common.")
    first = groups[0].runs[0]
    images = [*first.keys, *read_run_scores(first.path, split).content.get("skipped", {})]
    references = read_references(single_task, split, {name: first.tasks[name] for name in names}, images)
    content: dict[str, Any] = {
        "split": split,
        "images": len(groups[0].runs[0].keys),
        "labelled": {name: groups[0].runs[0].images(name) for name in names},
        "groups": {group.name: [str(run.path) for run in group.runs] for group in groups},
        "values": {name: {group.name: group.values(name) for group in groups} for name in names},
        "delta_mtl": {group.name: [_gain(run, references, names) for run in group.runs] for group in groups}
        if references
        else None,
        "differences": {
            group.name: {name: compare_groups(groups[0], group, name)._asdict() for name in names}
            for group in groups[1:]
        },
        "recipes": recipe_differences(groups),
    }
    _print(terminal(), groups, names, content)
    if out is not None:
        write_json(out, content)
    return content


def _gain(run: ScoredRun, references: dict[str, dict[str, float]], names: Sequence[str]) -> float:
    metrics = {name: run.tasks[name].metric() for name in names}
    return delta_mtl(
        {name: run.primary(name) for name in names},
        {name: references[name][metrics[name].primary] for name in names},
        {name: metrics[name].better[metrics[name].primary] for name in names},
    )


def _mean_and_deviation(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.4g}"
    return f"{statistics.fmean(values):.4g} ± {statistics.stdev(values):.2g} ({len(values)} seeds)"


def _print(console: Console, groups: Sequence[RunGroup], names: Sequence[str], content: dict[str, Any]) -> None:
    table = Table("task", "metric", *(group.name for group in groups), "images", title_justify="left")
    table.title = content["split"]
    for name in names:
        metric = groups[0].runs[0].tasks[name].metric()
        arrow = ARROWS[metric.better[metric.primary]]
        cells = [_mean_and_deviation(group.values(name)) for group in groups]
        table.add_row(name, f"{metric.primary} {arrow}", *cells, str(content["labelled"][name]))
    if content["delta_mtl"]:
        gains = [_mean_and_deviation(content["delta_mtl"][group.name]) for group in groups]
        table.add_row("all", "delta_mtl % ↑", *gains)
    console.print(table)
    for group, differences in content["differences"].items():
        rows = Table("task", "difference", "95 % over images", "images", "verdict", title_justify="left")
        rows.title = f"{group} minus {groups[0].name}"
        for name, found in differences.items():
            spread = f" ± {found['deviation']:.2g}" if found["deviation"] == found["deviation"] else ""
            few = content["labelled"][name] < LEAST_IMAGES
            unclear = "too few images" if few else "noise?" if found["common_seeds"] else "other seeds"
            word = ("better" if found["better"] else "worse") if found["clear"] else unclear
            interval = f"[{found['low']:+.3g}, {found['high']:+.3g}]"
            rows.add_row(name, f"{found['mean']:+.4g}{spread}", interval, str(content["labelled"][name]), word)
        console.print(rows)
    if content["recipes"]:
        fields = Table("recipe field", *(group.name for group in groups), title="what differs", title_justify="left")
        for field, values in content["recipes"].items():
            fields.add_row(field, *(str(value) for value in values))
        console.print(fields)
