"""`triptych score`: folders of maps against folders or a dataset, under a named protocol, one image at a time."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from triptych.data.errors import DataError
from triptych.data.shares import GROUPS
from triptych.datasets.folder import Folder
from triptych.evaluation.map_encodings import Encodings
from triptych.evaluation.map_files import (
    FolderTargets,
    Pairs,
    Targets,
    dataset_targets,
    find_tasks,
    is_dataset,
    list_maps,
    other_folders,
    pair,
)
from triptych.evaluation.map_meaning import ReadPair
from triptych.evaluation.options import ScoreOptions
from triptych.evaluation.protocols import RULES, DataSettings, Rule, find_rule, metric_facts
from triptych.evaluation.saved_maps import (
    check_finite,
    check_meaning,
    describe_unit,
    read_prediction,
    settle_encodings,
)
from triptych.evaluation.scores import SUMS, hash_target, write_scores
from triptych.evaluation.tables import number_table, shown_progress
from triptych.files import require_new
from triptych.folders.descriptor import FILE_NAME, PSEUDO
from triptych.lookup import named_choice
from triptych.machine import one_thread_each
from triptych.metrics.base import Metric
from triptych.metrics.bootstrap import Interval, bootstrap, compute_sums, sum_groups
from triptych.metrics.boundary import BoundaryMetric
from triptych.metrics.segmentation import SegmentationMetric
from triptych.tasks import Task
from triptych.terminal import terminal
from triptych.types import valid_pixels

ASSUMED = "whole numbers"
"""Name of the fact with the unit assumed for whole numbers of the files."""


@dataclass(frozen=True)
class TaskInput:
    """Predictions and ground truth of one task, and the rule to score them by."""

    task: str
    rule: Rule
    settings: DataSettings
    encodings: Encodings
    predictions: dict[str, Path]
    targets: Targets

    @property
    def unit(self) -> str:
        """Unit assumed for whole numbers of the files; empty where nothing is assumed."""
        files: dict[str, Path] = {}
        encodings = self.encodings
        if isinstance(self.targets, FolderTargets):
            files, encodings = self.targets.files, self.targets.encodings
        return describe_unit([(self.predictions[key], files.get(key)) for key in self.few], self.task, encodings)

    @property
    def few(self) -> list[str]:
        """A few images that have both, spread evenly."""
        known = set(self.targets.keys())
        keys = [key for key in self.predictions if key in known]
        return keys[:: max(len(keys) // 5, 1)][:5]

    def read(self, key: str) -> tuple[Tensor, Tensor]:
        """Prediction, as the protocol stores it, and target of an image, without batch.

        Raises `ValueError` where their sizes differ or a labelled pixel is predicted NaN.
        """
        path = self.predictions[key]
        stored = read_prediction(path, self.task, self.encodings)
        size = (int(stored.values.shape[-2]), int(stored.values.shape[-1]))
        target = self.targets.read(key, size)
        wanted = (int(target.shape[-2]), int(target.shape[-1]))
        if size != wanted:
            raise ValueError(
                f"prediction {path} is {size[0]}x{size[1]}, its ground truth {self.targets.describe(key)} "
                f"{wanted[0]}x{wanted[1]}; maps are scored at the size of the ground truth and never resized here."
            )
        check_finite(stored, valid_pixels(target).reshape(size), path)
        return stored.values if stored.integer else self.rule.store(stored.values), target

    def read_few(self) -> Iterator[ReadPair]:
        """Read the `few`, one after the other."""
        for key in self.few:
            yield ReadPair(*self.read(key), (str(self.predictions[key]), self.targets.describe(key)))


def find_inputs(predictions: Path, targets: Path, options: ScoreOptions) -> tuple[dict[str, TaskInput], dict[str, str]]:
    """The tasks that can be scored, and why others of the predictions' folders are left out.

    A task named in the options must be there. Without any, all tasks with predictions are taken; a protocol of one task
    needs no name.
    """
    settings = DataSettings(options.dataset, options.classes, options.max_dist, options.ground_truth)
    encodings = Encodings(
        classes=options.classes,
        depth_scale=options.depth_scale,
        prediction_depth_scale=options.prediction_depth_scale,
        label_offset=options.label_offset,
        prediction_offset=options.prediction_offset,
        key=options.key,
        normals_axes=options.normals_axes,
        prediction_normals_axes=options.prediction_normals_axes,
    )
    if options.label_offset and is_dataset(targets):
        text = f"--label-offset {options.label_offset} has no effect on {targets}, whose descriptor says what ids mean"
        raise DataError(text, "give offset in [tasks.semseg] or [tasks.human_parts] there")
    if options.normals_axes and is_dataset(targets):
        text = f"--normals-axes has no effect on {targets}, whose descriptor says where components of normals point"
        raise DataError(text, "give axes in [tasks.normals] there")
    if options.split and not is_dataset(targets):
        text = f"--split {options.split} has no effect on {targets}, which has no {FILE_NAME}"
        raise DataError(text, "name the folder with the ground truth of that split")
    rules = RULES[options.protocol]
    named = tuple(options.task) or (tuple(rules) if len(rules) == 1 else ())
    folders = find_tasks(predictions, named)
    found: dict[str, TaskInput] = {}
    left_out: dict[str, str] = {}
    for name, folder in folders.items():
        try:
            rule = find_rule(options.protocol, name)
            truth, own = _find_targets(
                targets, name, rule, settings, encodings, options.split or "test", alone=len(folders) == 1
            )
        except ValueError as error:
            if named:
                raise
            left_out[name] = str(error)
            continue
        meaning = replace(encodings, classes=own.num_classes)
        found[name] = TaskInput(name, rule, own, meaning, list_maps(folder), truth)
    if not named:
        left_out |= dict.fromkeys(other_folders(predictions, folders.values()), "it is named like no task")
    if not found:
        raise ValueError(f"nothing to score: {' '.join(left_out.values())}")
    return found, left_out


def _find_targets(
    root: Path, task: str, rule: Rule, settings: DataSettings, encodings: Encodings, split: str, *, alone: bool
) -> tuple[Targets, DataSettings]:
    """Ground truth of a task, and the settings with what a dataset says about its classes.

    Only a task that is `alone` may have its maps in `root` itself.
    """
    if is_dataset(root):
        dataset = Folder(root, split=split, tasks=[task])
        return dataset_targets(dataset, task), _settle_classes(root, dataset.tasks[task], rule, settings)
    inside = root.resolve()
    if any(place.name == PSEUDO and (place.parent / FILE_NAME).is_file() for place in (inside, *inside.parents)):
        raise DataError(f"{root} holds pseudo-labels, which are no truth", "score against the labels themselves")
    metric = rule.metric(settings)
    recipe, stacked = None, False
    if isinstance(metric, BoundaryMetric):
        recipe = metric.ground_truth
        stacked = metric.protocol.annotators or recipe == "stored"
    files = list_maps(find_tasks(root, [task], alone=alone)[task])
    encodings = settle_encodings(files.values(), task, replace(encodings, classes=settings.num_classes))
    return FolderTargets(files, task, encodings, recipe, stacked), settings


def _settle_classes(root: Path, task: Task, rule: Rule, settings: DataSettings) -> DataSettings:
    """The settings with the classes of a dataset's task; `DataError` where the metric has others, which count 0."""
    own = len(task.classes)

    def scored(count: int) -> int:
        metric = rule.metric(replace(settings, classes=count))
        return len(metric.class_names) if isinstance(metric, SegmentationMetric) else own

    text = f"{task.name} of {root} has {own} classes, and "
    if (fixed := scored(own)) != own:
        cure = "describe it as [tasks.semseg], and score the maps as semseg, which has the classes of the data"
        raise DataError(f"{text}the protocol scores {fixed}", cure)
    if scored(settings.classes or own) != own:
        raise DataError(f"{text}--classes says {settings.classes}", "leave it out")
    return replace(settings, classes=settings.classes or own)


@dataclass(frozen=True)
class TaskScore:
    """The score of one task.

    `numbers`: what the protocol reports, its main number first. `intervals`: the same over resampled images, or groups
    of them, where asked for. `keys`: the scored images. `groups`: the group of each, which resamples keep together; the
    image itself where it has none. `per_image`: each number of each image alone, in that order. `sums`: metric
    states per image, from which any subset can be scored again. `truth`: a checksum of each image's target as it was
    read. `facts`: what the numbers depend on. `unlabelled`: images whose ground truth has no labelled pixel.
    """

    given: TaskInput = field(repr=False)
    metric: Metric = field(repr=False)
    numbers: dict[str, float]
    intervals: dict[str, Interval]
    keys: tuple[str, ...] = field(repr=False)
    groups: tuple[str, ...] = field(repr=False)
    per_image: dict[str, list[float]] = field(repr=False)
    sums: dict[str, Tensor] = field(repr=False)
    truth: dict[str, str] = field(repr=False)
    facts: dict[str, str | int | float]
    pairs: Pairs = field(repr=False)
    unlabelled: tuple[str, ...] = ()

    @property
    def primary(self) -> str:
        """The protocol's main number."""
        return next(iter(self.numbers))

    def counts(self) -> str:
        """Numbers of files that were used and left out, in words."""
        left_out = {
            "without prediction": len(self.pairs.unpredicted),
            "without ground truth": len(self.pairs.untargeted),
            "without a labelled pixel": len(self.unlabelled),
        }
        drawn = len(set(self.groups))
        over = [f"intervals over {drawn} groups of them"] if self.intervals and drawn < len(self.keys) else []
        return ", ".join([f"{len(self.keys)} scored", *(f"{n} {why}" for why, n in left_out.items() if n), *over])


@dataclass(frozen=True)
class Score:
    """The result of `score`: a `TaskScore` by task, and why other tasks with predictions were left out."""

    protocol: str
    predictions: Path
    targets: Path
    tasks: dict[str, TaskScore]
    left_out: dict[str, str]


def score(
    predictions: Path, targets: Path, *, protocol: str, task: Sequence[str] = (), quiet: bool = False, **options: Any
) -> Score:
    """Score maps saved by any code base; `options` are the others of `ScoreOptions`.

    `predictions` holds one sub-folder per task, or the maps of the one `task` named; `targets` likewise, or a dataset
    that a `dataset.toml` describes (then `split` is scored, test by default). Files pair by name. `dataset` (nyuv2,
    pascal-context, bsds500) sets maxDist, the recipe of boundary ground truth and the number of classes, which
    `max_dist`, `ground_truth` and `classes` override. Prints a table unless `quiet`.

    Raises `ValueError` for predictions that are missing (unless `partial`), of another size than their ground truth,
    NaN, or out of range, and `OSError` for files that cannot be read; each names the file and the way out.
    """
    named_choice("protocol", protocol, RULES)
    how = ScoreOptions(**{"protocol": protocol, "task": tuple(task), **options})
    require_new(how.out, how.overwrite, beside=(SUMS,))
    found, left_out = find_inputs(predictions, targets, how)
    pairs = {
        name: pair(given.predictions, given.targets.keys(), name, partial=how.partial) for name, given in found.items()
    }
    scores = {}
    for name, given in found.items():
        with shown_progress(name, not quiet) as advance:
            scores[name] = score_task(
                given, pairs[name], ci=how.ci, group=how.group, threads=how.threads, advance=advance
            )
    result = Score(protocol, predictions, targets, scores, left_out)
    if not quiet:
        print_score(result)  # before saving: shown even where the file cannot be written
    if how.out is not None:
        save_score(result, how.out)
    return result


def score_task(
    given: TaskInput,
    pairs: Pairs,
    *,
    ci: int = 0,
    group: str | None = None,
    threads: int = 0,
    advance: Callable[[int, int], None] | None = None,
) -> TaskScore:
    """Score the images of one task in `threads` threads (0: one per processor). Results do not depend on them.

    `ci` resamples draw images, or their groups by the rule `group` (`GROUPS`; `None`: those of the ground truth).
    """
    metric, unit = given.rule.metric(given.settings), given.unit
    check_meaning(given.task, given.read_few(), given.encodings)
    scored: list[tuple[dict[str, Tensor], str] | None] = []
    with one_thread_each(), ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for row in pool.map(lambda key: _score_image(given, key), pairs.keys):
            scored.append(row)
            if advance is not None:
                advance(len(scored), len(pairs.keys))
    rows = {key: row for key, row in zip(pairs.keys, scored, strict=True) if row is not None}
    keys = tuple(rows)
    if not keys:
        raise ValueError(
            f"{given.task}: none of {len(pairs.keys)} images has a labelled pixel; check the ground truth."
        )
    sums = {state: torch.stack([row[state] for row, _ in rows.values()]) for state in metric.sums()}
    names = given.rule.names(metric)
    alone = [compute_sums(metric, {state: value[i : i + 1] for state, value in sums.items()}) for i in range(len(keys))]
    whole = compute_sums(metric, sums)
    known = given.targets.groups()
    groups = GROUPS[group](list(keys)) if group else [known[key] for key in keys]
    intervals = bootstrap(metric, sum_groups(sums, groups), resamples=ci) if ci else {}
    return TaskScore(
        given=given,
        metric=metric,
        numbers={name: whole[name] for name in names},
        intervals={name: intervals[name] for name in names if intervals},
        keys=keys,
        groups=tuple(groups),
        per_image={name: [values[name] for values in alone] for name in names},
        sums=sums,
        truth={key: truth for key, (_, truth) in rows.items()},
        facts=metric_facts(metric) | ({ASSUMED: unit} if unit else {}),
        pairs=pairs,
        unlabelled=tuple(key for key in pairs.keys if key not in rows),
    )


def _score_image(given: TaskInput, key: str) -> tuple[dict[str, Tensor], str] | None:
    """Metric states of one image, and the checksum of its target; `None` where it has no label."""
    prediction, target = given.read(key)
    if not valid_pixels(target).any():
        return None
    metric = given.rule.metric(given.settings)
    try:
        metric.update(prediction[None], target[None])
    except ValueError as error:
        raise ValueError(f"{given.task} of {key} ({given.predictions[key]}): {error}") from error
    return metric.sums(), hash_target(target)


def print_score(result: Score) -> None:
    """The table, with what the numbers depend on, and the counts of files."""
    console = terminal()
    console.print(score_table(result))
    for name, task in result.tasks.items():
        facts = ", ".join(f"{fact} {value}" for fact, value in task.facts.items())
        words = [task.counts() + (f"; {facts}" if facts else ""), task.given.rule.definition]
        console.print(f"{name}: {'. '.join(words)}", highlight=False)
    for name, reason in result.left_out.items():
        console.print(f"{name} left out: {reason}", highlight=False)


def score_table(result: Score) -> Table:
    """One row per number: its task, name with the better direction, value, interval and the number of images."""
    intervals = any(task.intervals for task in result.tasks.values())
    rows = [
        (
            name,
            number,
            task.metric.better[number],
            [f"{value:.4f}", *(f"{one.low:.4f} to {one.high:.4f}" for one in [task.intervals.get(number)] if one)],
            len(task.keys),
        )
        for name, task in result.tasks.items()
        for number, value in task.numbers.items()
    ]
    columns = ["value", *(["95 % interval"] if intervals else [])]
    return number_table(f"{result.predictions}, protocol {result.protocol}", columns, rows)


def save_score(score: Score, path: Path) -> None:
    """Write a score as a file of scores, with the values of every image."""
    content = {
        "protocol": score.protocol,
        "predictions": score.predictions,
        "targets": score.targets,
        "metrics": {name: task.numbers for name, task in score.tasks.items()},
        "tasks": {name: _describe(task) for name, task in score.tasks.items()},
        "left_out": score.left_out,
        "keys": {name: task.keys for name, task in score.tasks.items()},
    }
    write_scores(path, content, {name: task.sums for name, task in score.tasks.items()})


def _describe(task: TaskScore) -> dict[str, Any]:
    return {
        "definition": task.given.rule.definition,
        "facts": task.facts,
        "settings": vars(task.given.settings),
        "images": len(task.keys),
        "primary": task.primary,
        "numbers": task.numbers,
        "higher_is_better": {name: task.metric.better[name] for name in task.numbers},
        "intervals": {name: [interval.low, interval.high] for name, interval in task.intervals.items()},
        "without_prediction": task.pairs.unpredicted,
        "without_ground_truth": task.pairs.untargeted,
        "without_label": task.unlabelled,
        "truth": task.truth,
        "groups": dict(zip(task.keys, task.groups, strict=True)),
        "per_image": {
            key: {name: values[i] for name, values in task.per_image.items()} for i, key in enumerate(task.keys)
        },
    }
