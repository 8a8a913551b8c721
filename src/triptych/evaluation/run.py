"""Scoring of a run folder: a table, and files of scores beside the network, with reference scores."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych import __version__, assemble
from triptych.adaptation.base import check_label_spaces
from triptych.backbones.cells import find_padding
from triptych.data.base import DenseDataset
from triptych.data.errors import DataError
from triptych.data.subset import spread_evenly
from triptych.datasets import DATASETS
from triptych.evaluation.constant import ConstantPredictor
from triptych.evaluation.evaluate import Predicts, evaluate_together
from triptych.evaluation.protocols import CLASSES, OWN, DataSettings, Scoring, metric_facts
from triptych.evaluation.results import results_folder, results_path
from triptych.evaluation.run_log import FINISHED, training_end
from triptych.evaluation.scored_runs import read_scored_run, require_one_group, scored_folder
from triptych.evaluation.scores import (
    SAME_LABELS,
    Evaluation,
    HowScored,
    as_json,
    moved_classes,
    read_run_scores,
    read_scores,
    require_same_definition,
    require_same_truth,
    write_scores,
)
from triptych.evaluation.tables import score_table, shown_progress
from triptych.files import check_writable, remove_partials
from triptych.lookup import UnknownNameError
from triptych.machine import accelerated, memory_advice
from triptych.prediction.calibration import describe_metric_score
from triptych.prediction.confidence import Confident
from triptych.prediction.predictor import Predictor
from triptych.prediction.pretrained import hash_weights, read_run_tasks
from triptych.recipes.config import TARGET, Recipe, split_domain, with_root
from triptych.recipes.resolved import code_commit, read_run_recipe
from triptych.tasks import Task
from triptych.terminal import terminal

MEMORY_ADVICE = "score with --device cpu or on a machine with more memory; data workers take some too"
CONSTANT, SINGLE_TASK = "constant predictor", "single-task networks"
"""Titles of the columns that a network is compared with."""


@dataclass(frozen=True)
class RunEvaluation(Evaluation):
    """Scores of a run on `split`, the reference scores, and its network, for a report."""

    split: str = ""
    constant: Evaluation | None = None
    """Scores of the best constant prediction."""
    single_task: Mapping[str, Mapping[str, float | None]] | None = None
    """Scores of single-task networks, by task."""
    weights_sha256: str = ""
    """SHA-256 of the weights that were scored."""
    protocol: str = OWN
    """Protocol of the scores."""
    predictor: Predictor = field(kw_only=True, repr=False)

    def columns(self) -> dict[str, Mapping[str, Mapping[str, float]]]:
        """The numbers by column of a table, the network first, without those that could not be computed."""
        title = self.split if self.protocol == OWN else f"{self.split}, protocol {self.protocol}"
        constant = None if self.constant is None else self.constant.metrics
        columns = {f"network ({title})": self.metrics, SINGLE_TASK: self.single_task, CONSTANT: constant}
        return {
            title: {
                task: {name: value for name, value in numbers.items() if value is not None and math.isfinite(value)}
                for task, numbers in column.items()
            }
            for title, column in columns.items()
            if column
        }


def open_scored_split(recipe: Recipe, split: str = "") -> tuple[str, DenseDataset]:
    """The name and the dataset of the split to score: the one that is asked for, else the recipe's test split, else its
    validation split where the data have no test split.

    Raises `ValueError` where there is none.
    """
    if split:
        return split, assemble.build_dataset(recipe, split)
    candidates = list(dict.fromkeys(name for name in (recipe.data.test_split, recipe.data.val_split) if name))
    reasons = []
    for name in candidates:
        try:
            return name, assemble.build_dataset(recipe, name)
        except UnknownNameError as error:
            if error.name != split_domain(recipe, name)[1]:
                raise  # another name of the recipe
            reasons.append(str(error))
        except DataError as error:
            if not error.missing:
                raise
            reasons.append(str(error))
    raise ValueError(
        f"the data of this run have no split {' or '.join(map(repr, candidates))} ({reasons[0]}); name one with "
        "--split."
    )


def evaluate_run(
    run: Path,
    *,
    split: str = "",
    root: str = "",
    protocol: str = "",
    single_task: Sequence[Path] = (),
    limit: int = 0,
    device: str = "auto",
    constant: bool = True,
    confidence: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> RunEvaluation:
    """Score a run folder on a split: a table, and `evaluation-<split>.json`.

    By default that is the recipe's test split, or its validation split where the data have none (`open_scored_split`).
    `root` is the folder of the data, if they moved since training.

    `target-<split>` is a split of the domain that the recipe adapts to. `protocol` names the line of papers by whose
    rules it is scored (docs/protocols.md), by default the recipe's; `none` are the tasks' own numbers. Tasks that it
    has no rule for keep their own. The JSON has the numbers, those of the best constant prediction (fitted on the
    training split, where the recipe has one), and `delta_mtl` against single-task runs, which must have been evaluated
    on the same split. Beside it, `evaluation-<split>.safetensors` holds the metric sums per image as `task/state`, in
    the order of the JSON's `keys`. Processes started by `torchrun` or `accelerate launch` share the work. For a file of
    `triptych export` both are written to `FILE.results` beside it. With `confidence`, networks that have none fail
    before anything is scored.

    Raises `ValueError` where the JSON has scores of the same weights by another protocol, or on more images than
    `limit`, unless `overwrite` allows to replace them.

    On a CPU, the process keeps and reuses memory that it frees from now on (`mallopt`).
    """
    run = Path(run)
    with accelerated(device) as accelerator, memory_advice(MEMORY_ADVICE):
        weights = hash_weights(run)  # before they are read: a training may replace them meanwhile
        # Exported files refuse a named device other than the CPU: they get the option, not the accelerator's device.
        predictor = Predictor.load(run, device=device if run.is_file() else accelerator.device, calibrated=False)
        beside = run if run.is_dir() else run.parent
        check_writable(beside, "scores are written beside the network: copy it to where you may write")
        if run.is_dir():  # else it is a folder of the user
            remove_partials(run)
        results_path(run)  # fails early where its scores are of another file
        if confidence:
            Confident(predictor)
        data = predictor.recipe.data
        predictor.recipe = with_root(predictor.recipe, root, split or data.test_split or data.val_split)
        recipe, tasks = predictor.recipe, predictor.tasks
        protocol = protocol or recipe.data.protocol
        Scoring(protocol).check(tasks)
        labels = recipe if protocol == OWN else assemble.with_scored_labels(recipe, tasks)
        split, dataset = open_scored_split(labels, split)
        _require_same_classes(tasks, dataset, split)
        scoring = find_scoring(protocol, dataset, tasks)
        tasks = scoring.apply(tasks)
        if (unstretched := scoring.unstretched(recipe)) is not recipe:
            predictor.resize, recipe = True, unstretched
        predictor.resize |= predictor.fixed_size is not None
        images = spread_evenly(len(dataset), limit if limit > 0 else len(dataset))
        groups = {dataset.key(index): dataset.group(index) for index in images}
        if not overwrite:
            _require_nothing_lost(run, split, weights, protocol, len(images), limited=limit > 0)
        how = HowScored(recipe, split, scoring, assemble.scored_size(recipe, split, dataset))
        references = read_references(single_task, split, tasks, [*groups], of=run, how=how, skip=True)
        predictors: list[Predicts] = [predictor]
        best = None
        bad = recipe.data.on_bad_sample
        if constant and recipe.data.train_split:  # a converted network was not trained on these data
            try:
                best = ConstantPredictor.fit(assemble.build_training_set(recipe), tasks, on_bad_sample=bad)
            except (ValueError, OSError) as error:
                text = f"the constant predictor cannot be fitted on {recipe.data.train_split} ({error})"
                raise DataError(text, "--no-constant leaves it out") from error
            predictors.append(best)
        with shown_progress(f"scoring {split}", progress and accelerator.is_main_process) as advance:
            evaluation, *others = evaluate_together(
                predictors,
                dataset,
                tasks,
                transform=assemble.scored_view(recipe, split, tasks),
                limit=limit,
                num_workers=recipe.data.num_workers,
                on_bad_sample=bad,
                progress=advance,
                scoring=scoring,
            )
        reference = others[0].without(best.unknown) if best else None
        left_out = ""
        try:
            truth = evaluation.truth
            references = read_references(single_task, split, tasks, evaluation.keys, of=run, how=how, truth=truth)
        except ValueError as error:  # the scores are worth keeping
            references, left_out = {}, f"no delta_mtl: {error}"
        if accelerator.is_main_process:
            content = {
                "split": split,
                "recipe": recipe.description,
                "data": dataset.fingerprint(),
                "scored_size": how.of_images,
                "pad_to": find_padding(predictor.model),
                "version": __version__,
                "commit": code_commit(),
                **scoring.content(),
                "facts": {name: metric_facts(task.metric()) for name, task in tasks.items()},
                **as_json(evaluation),
                "primary": evaluation.primary(),
                "constant": as_json(reference)["metrics"] if reference is not None else None,
                "delta_mtl": evaluation.gain_over(references) if references else None,
                "single_task": [str(path) for path in single_task],
                "single_task_metrics": {name: references[name] for name in tasks} if references else None,
                "keys": list(evaluation.keys),
                "groups": [groups[key] for key in evaluation.keys],
                "sampling_unit": dataset.sampling_unit,
                "weights_sha256": weights,
            }
            write_scores(results_folder(run) / f"evaluation-{split}.json", content, evaluation.sums)
            notes = [*scoring.describe(tasks, how.by_recipe), predictor.model.describe(), _describe_taken(predictor)]
            if (end := training_end(run, recipe.schedule.steps)) not in ("", FINISHED):
                notes.append(f"the training is not finished ({end}): resume it, or say so beside its numbers")
            notes += [*dataset.notes, describe_metric_score(recipe, tasks) if protocol == OWN else "", left_out]
            notes.append(_describe_skipped(evaluation.skipped))
            _show(run, content, evaluation, reference, [note for note in notes if note])
    return RunEvaluation(
        **vars(evaluation),
        split=split,
        constant=reference,
        single_task=references or None,
        weights_sha256=weights,
        protocol=protocol,
        predictor=predictor,
    )


def _require_nothing_lost(run: Path, split: str, weights: str, protocol: str, images: int, *, limited: bool) -> None:
    """Raise `ValueError` where scores of these weights by another protocol would be replaced, or by a limit those of
    more images.
    """
    path = results_path(run) / f"evaluation-{split}.json"
    try:
        there = read_scores(path).content
    except ValueError:  # none, or damaged
        return
    by, scored = Scoring.of_scores(there).protocol, there.get("images", 0)
    if there.get("weights_sha256") == weights and (by != protocol or (limited and scored > images)):
        raise ValueError(
            f"{path} has scores of {scored} images by protocol '{by}', which those of {images} by protocol "
            f"'{protocol}' would replace; score a copy of {run} to keep both, or allow it with --overwrite."
        )


def _describe_skipped(skipped: Mapping[str, str]) -> str:
    """Note that damaged images were left out; empty where none was."""
    if not skipped:
        return ""
    key, reason = next(iter(skipped.items()))
    return f"{len(skipped)} damaged images were left out, the first of them {key!r}: {reason}; the JSON names all"


def _describe_taken(predictor: Predictor) -> str:
    """Note that a file of one size sees images resized; empty where images are seen as they are."""
    size = predictor.fixed_size
    return f"images of other sizes than {size[0]} x {size[1]} were resized to it, and maps back" if size else ""


def find_scoring(protocol: str, dataset: DenseDataset, tasks: Mapping[str, Task]) -> Scoring:
    """The protocol with the settings of a dataset; `ValueError` where its labels are made for training and papers score
    against others, as in prepared sets.
    """
    if protocol == OWN:
        return Scoring()
    known = DATASETS[dataset.name].scored_options if dataset.name in DATASETS else {}
    others = {name: value for task in tasks for name, value in known.get(task, {}).items()}
    for name, value in others.items():
        if (found := dataset.fingerprint().get(name)) != value:
            raise ValueError(
                f"{name} of {dataset.name} is '{found}' in these data, and protocol '{protocol}' scores against "
                f"'{value}'; prepare the split with that option, or score by the tasks' own numbers (--protocol {OWN})."
            )
    # Labels that are made to be scored against are outlines already.
    settings = DataSettings(dataset.name if dataset.name in CLASSES else "", ground_truth="thin" if others else None)
    return Scoring(protocol, settings)


def _require_same_classes(tasks: Mapping[str, Task], dataset: DenseDataset, split: str) -> None:
    """Raise `ValueError` where a class of the network has another number in the data, or is missing in the target
    domain.
    """
    if split.startswith(TARGET):
        check_label_spaces(tasks, dataset.tasks)
    for name in tasks:
        pairs = moved_classes(tasks[name], dataset.tasks[name]) if name in dataset.tasks else []
        if moved := [pair for pair in pairs if pair[0] != pair[1]]:
            raise ValueError(
                f"{name}: the classes of {split} have another order than when the network was trained "
                f"({moved[0][0]} is where {moved[0][1]} is now); put them back, or train again."
            )


def _show(
    run: Path, content: Mapping[str, Any], evaluation: Evaluation, reference: Evaluation | None, notes: Sequence[str]
) -> None:
    console = terminal()
    by = "" if content["protocol"] == OWN else f", protocol {content['protocol']}"
    images, groups = f"{len(evaluation.keys)} images", len(set(content["groups"]))
    if groups < len(evaluation.keys):
        images += f" of {groups} {content['sampling_unit']}"
    console.print(score_table(f"{run}: {content['split']}, {images}{by}", evaluation, reference))
    if content["delta_mtl"] is not None:
        against = ", ".join(content["single_task"])
        console.print(f"delta_mtl {content['delta_mtl']:+.2f} % against {against}", highlight=False, soft_wrap=True)
    for note in notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def read_references(
    runs: Sequence[Path],
    split: str,
    tasks: Mapping[str, Task],
    keys: Sequence[str],
    *,
    of: Path,
    how: HowScored,
    skip: bool = False,
    truth: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, dict[str, float]]:
    """The numbers of single-task runs on a split, by task: means, where a task has several runs (seeds of one method).

    Every task of `tasks` needs one if there are any runs; `keys` are the images that they have to be scored on, by the
    same numbers and as the network in folder `of` was (`how`). With `skip` they may have skipped some as damaged:
    before scoring, when nobody knows which those are. `truth` has checksums of the targets, by task and image.
    """
    found: dict[str, dict[Path, dict[str, float]]] = {}
    for run in dict.fromkeys(runs):
        saved = read_run_scores(run, split)
        if len(saved.metrics) > 1:
            raise ValueError(
                f"{run} has {len(saved.metrics)} tasks ({', '.join(saved.metrics)}), and delta_mtl compares with "
                "single-task networks; train one with --recipe.data.tasks TASK, or see `triptych compare RUN RUN` for "
                "two networks."
            )
        [(task, numbers)] = saved.metrics.items()
        images = {*saved.keys[task], *(saved.content.get("skipped", {}) if skip else ())}
        if other := images ^ set(keys):
            raise ValueError(
                f"{run} was scored on other images of {split} ({len(other)} differ), and delta_mtl compares numbers of "
                "the same; evaluate both on the same data and limit."
            )
        mine, theirs = (each.get(task, {}) for each in (truth or {}, saved.content.get("truth", {})))
        require_same_truth(task, of, mine, run, theirs, SAME_LABELS)
        if task in tasks:
            folder = results_folder(Path(run))
            by = HowScored.of_scores(saved.content, read_run_recipe(folder), split)
            theirs = by.scoring.apply(read_run_tasks(folder))[task]
            metric = require_same_definition(of, tasks[task], Path(run), theirs, *how.beside(by))
            value = numbers.get(metric.primary, math.nan)
            if numbers and not (value and math.isfinite(value)):
                raise ValueError(
                    f"{run} has {value} as {metric.primary} of {task}, which no gain is relative to; train it further, "
                    "or leave --single-task out."
                )
        found.setdefault(task, {})[run] = numbers
    missing = [name for name in tasks if name not in found]
    if runs and missing:
        raise ValueError(f"no single-task run for {', '.join(missing)}; delta_mtl needs one for every task.")
    for task, each in found.items():
        if len(each) > 1:
            seeds = [read_scored_run(scored_folder(Path(run)), split) for run in each]
            require_one_group(seeds, f"single-task runs of {task}")
    return {
        task: {name: statistics.fmean(one[name] for one in each.values()) for name in next(iter(each.values()))}
        for task, each in found.items()
    }
