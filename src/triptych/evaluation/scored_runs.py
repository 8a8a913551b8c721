"""Read scored runs, group those that differ in the seed alone, and list the differences between groups."""

import hashlib
import json
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from triptych.data.fingerprints import dotted_as_noted
from triptych.evaluation.results import exported_data, read_export, results_folder, results_path
from triptych.evaluation.run_log import training_end
from triptych.evaluation.scores import HowScored, read_run_scores
from triptych.named_parts import resolve_options
from triptych.prediction.pretrained import read_run_tasks
from triptych.recipes.config import INERT, Recipe, flatten, read_recipe
from triptych.recipes.option_words import flatten as flatten_fields
from triptych.recipes.resolved import data_fingerprints, fill_options, read_resolved, read_run_recipe
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
    groups: Mapping[str, str] = field(default_factory=dict)
    """Groups of the images by key (`DenseDataset.group`); of files of older versions each image is one of its own."""
    sampling_unit: str = "groups"
    """Noun for the groups, in the plural."""
    labelled: Mapping[str, int] = field(default_factory=dict)
    """Images with a label, by task; files of older versions do not say."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Fingerprints of the training data, by dotted name; a recipe has only their path."""
    export: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the export, by dotted name; empty for a run folder."""
    scored_on: Mapping[str, Any] = field(default_factory=dict)
    """Fingerprint of the data that it was scored on, by dotted name; files of older versions do not say."""
    trained: Mapping[str, str] = field(default_factory=dict)
    """How far it was trained, and by which version, where its folder says."""
    truth: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Checksums of the targets that it was scored against, by task and image; files of older versions have none."""
    how: HowScored = field(default_factory=HowScored)
    """Settings of its scoring: `tasks` have the metrics of its protocol."""
    origins: tuple[str, ...] = ()
    """Runs that its weights came from (`model.initialize_from`), the same for runs that differ in the seed alone."""

    @property
    def facts(self) -> dict[str, Any]:
        """Fingerprints of data and facts of training and export, by dotted name."""
        return {**self.data, **self.export, **self.scored_on, **self.trained}

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that runs of one method share, by dotted name, with the `facts`."""
        return _settings(self.resolved, self.origins, self.data) | self.facts

    def primary(self, task: str) -> float:
        """The number of a task that delta_mtl uses."""
        return self.metrics[task][self.tasks[task].metric().primary]

    def images(self, task: str) -> int:
        """Images with a label of a task; all of them, where the file does not say."""
        return self.labelled.get(task, len(self.keys))


def _settings(recipe: Recipe, origins: Sequence[str], data: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a recipe, by dotted name, without those that do not define a method: seeds, paths of data with known
    fingerprints, and plug-ins without a version, whose names depend on how they were loaded.
    """
    free = ("seed", WEIGHTING_SEED, *(name for name in INERT if data or name not in PLACES))
    told = replace(recipe, plugins={name: version for name, version in recipe.plugins.items() if version})
    fields = {name: value for name, value in flatten(told).items() if not name.startswith(free)}
    return fields | {STARTED_FROM: list(origins)}


PLACES = ("data.root", "adaptation.root")
STARTED_FROM, WEIGHTING_SEED, PLUGINS = "model.initialize_from", "weighting.options.seed", "plugins"
ENDED, VERSION = "training", "trained by version"


def _origin(run: str) -> str:
    """One text for runs that differ in the seed alone, and for copies of them; the name where there is no such run."""
    path = Path(run)
    if not (path / "recipe.json").is_file():
        return run
    recipe, data = read_run_recipe(path), data_fingerprints(path)
    settings = _settings(recipe, [_origin(each) for each in recipe.model.initialize_from], data) | data
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class RunGroup:
    """Runs that differ in the seed alone."""

    name: str
    runs: tuple[ScoredRun, ...]

    def values(self, task: str) -> list[float]:
        """The primary number of a task, run by run."""
        return [run.primary(task) for run in self.runs]


def _require_run(path: Path) -> None:
    if not (path / "recipe.json").is_file():
        raise FileNotFoundError(f"{path} is no run folder: it has no recipe.json.")


def scored_folder(run: Path) -> Path:
    """Folder with the scores of a run or a file; `FileNotFoundError` where a file has none."""
    folder = results_path(run)
    if folder != run and not folder.is_dir():
        raise FileNotFoundError(f"{run} was not scored; run `triptych evaluate {run}` first.")
    return results_folder(run)  # of an older version: how the file was exported is noted now


def read_scored_run(path: Path, split: str) -> ScoredRun:
    """Read a run folder that `triptych evaluate` scored on `split`; `FileNotFoundError` says what to run otherwise."""
    _require_run(path)
    saved = read_run_scores(path, split)
    recipe, resolved = read_recipe(path / "recipe.json"), read_run_recipe(path)
    how = HowScored.of_scores(saved.content, resolved, split)
    tasks = how.scoring.apply(read_run_tasks(path))
    begun = read_resolved(path)
    trained = {ENDED: training_end(path, recipe.schedule.steps), VERSION: (begun and begun.version) or ""}
    # Older runs, without that file, have the constructors' defaults.
    resolved = fill_options(resolved, resolve_options(resolved))
    keys, found = next(iter(saved.keys.values()), ()), saved.read_sums()
    return ScoredRun(
        path,
        recipe,
        resolved,
        tasks={name: task for name, task in tasks.items() if saved.metrics.get(name)},
        metrics=saved.metrics,
        keys=keys,
        sums={name: tasks[name].metric().upgrade_sums(sums) for name, sums in found.items() if name in tasks},
        groups=dict(zip(keys, saved.content.get("groups", keys), strict=True)),
        sampling_unit=saved.content.get("sampling_unit", "groups"),
        labelled=saved.content.get("labelled", {}),
        data={f"trained on {name}": value for name, value in (data_fingerprints(path) or exported_data(path)).items()},
        export=read_export(path),
        scored_on={f"scored on {name}": value for name, value in flatten_fields(saved.content.get("data", {})).items()},
        trained={name: value for name, value in trained.items() if value},
        truth=saved.content.get("truth", {}),
        how=how,
        origins=tuple(map(_origin, recipe.model.initialize_from)),
    )


def group_runs(*sets: Sequence[ScoredRun]) -> list[RunGroup]:
    """Gather runs of a set that differ in the seed alone and were scored alike, in the order of first appearance; runs
    of different sets (baseline and methods) never form a group.

    Neither do runs of one seed: something else differs, such as labels that were corrected or predicted in between,
    another version, another machine.

    A group is named by the common part of its folder names without the seed; where there is none, by its first run, and
    by the path of that run where another group has the same name.
    """
    gathered = [members for runs in sets for members in _gather(runs)]
    names = [_common_name(members) for members in gathered]
    return [
        RunGroup(name if names.count(name) == 1 else str(members[0].path), tuple(members))
        for name, members in zip(names, gathered, strict=True)
    ]


def _gather(runs: Sequence[ScoredRun]) -> list[list[ScoredRun]]:
    gathered: list[list[ScoredRun]] = []
    for run in runs:
        joined = (members for members in gathered if all(_differ_in_seed_alone(run, each) for each in members))
        if (members := next(joined, None)) is not None:
            members.append(run)
        else:
            gathered.append([run])
    return gathered


def require_one_group(runs: Sequence[ScoredRun], what: str) -> None:
    """Raise `ValueError` where runs differ in more than the seed; `what` names them in the message."""
    groups = group_runs(runs)
    if len(groups) > 1:
        one, other = (group.runs[0] for group in groups[:2])
        facts = [(name, *values) for name, values in recipe_differences(groups[:2]).items()]
        facts += [fact for fact in one.how.beside(other.how) if fact[1] != fact[2]]
        facts += [("the seed of both", one.recipe.seed, other.recipe.seed)]
        name, *values = facts[0]
        raise ValueError(
            f"{what} are not seeds of one method: {name} is {values[0]} in {one.path}, {values[1]} in {other.path}; "
            "name runs that differ in the seed alone, each seed once."
        )


def _differ_in_seed_alone(first: ScoredRun, second: ScoredRun) -> bool:
    if first.recipe.seed == second.recipe.seed or any(one != two for _, one, two in first.how.beside(second.how)):
        return False
    pairs = ((first.settings, second.settings), (second.settings, first.settings))
    return operator.eq(*(json.dumps(_as_noted(*pair), sort_keys=True, default=str) for pair in pairs))


def _as_noted(settings: Mapping[str, Any], noted: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run, without facts and plug-ins that the older version of another run did not record in `noted`."""
    kept = dotted_as_noted(settings, noted)
    return {name: value for name, value in kept.items() if name in noted or not _if_noted(name)}


def _if_noted(name: str) -> bool:
    return name in (ENDED, VERSION) or name.startswith(PLUGINS)


def _common_name(runs: Sequence[ScoredRun]) -> str:
    """`invpt` of invpt-seed0 and invpt-seed1, of invpt_0 and invpt_1, and of invpt/0 and invpt/1."""
    if len(runs) == 1:
        return runs[0].path.name
    stems = {re.sub(rf"[-_. ]*(seed|s)?[-_. ]*0*{run.recipe.seed}$", "", run.path.name) for run in runs}
    if stems == {""}:
        stems = {run.path.resolve().parent.name for run in runs}
    return stems.pop() if len(stems) == 1 else runs[0].path.name


def recipe_differences(groups: Sequence[RunGroup]) -> dict[str, list[Any]]:
    """Dotted recipe fields, and facts of data, training and export, that are not the same in all groups, with each
    group's value; of the options that recipes leave out, those that all groups have. Missing facts are no difference:
    some exported files lack the training data, and files of older versions the data that were scored.
    """
    # Of each group, the run whose version recorded most facts.
    firsts = [max(group.runs, key=lambda run: len(run.facts)) for group in groups]
    flat = [run.settings for run in firsts]
    names = dict.fromkeys(name for run in firsts for name in (*flatten(run.recipe), *run.facts))
    names |= dict.fromkeys(name for name in flat[0] if all(name in fields for fields in flat))
    left_out = ("seed", "description", *(name for name in PLACES if any(name not in each for each in flat)))
    rows = {name: [fields.get(name, "-") for fields in flat] for name in names if not name.startswith(left_out)}
    # An empty table of options is shown as missing: options of other groups have rows of their own.
    rows = {name: ["-" if value == {} else value for value in values] for name, values in rows.items()}
    different = {name: values for name, values in rows.items() if _differ(name, values, firsts)}
    if STARTED_FROM in different:  # by the names that the recipes have for it
        different[STARTED_FROM] = [run.recipe.model.initialize_from for run in firsts]
    return _differences_of_one_seed(groups) | different


def _differences_of_one_seed(groups: Sequence[RunGroup]) -> dict[str, list[Any]]:
    """Settings that change with the seed within a group, where they differ between groups for the same seed."""
    by_seed = [{run.recipe.seed: flatten(run.resolved) for run in group.runs} for group in groups]
    found: dict[str, list[Any]] = {}
    for name in (STARTED_FROM, WEIGHTING_SEED):
        for seed in set.intersection(*map(set, by_seed)):
            values = [runs[seed][name] for runs in by_seed if name in runs[seed]]
            told = [[*map(_start, value)] if name == STARTED_FROM else value for value in values]
            if len(values) == len(groups) and any(each != told[0] for each in told):
                found.setdefault(name, values)
    return found


def _start(run: str) -> tuple[str, int | None]:
    """Origin and seed of a run that others began from, the same wherever its folder lies."""
    file = Path(run) / "recipe.json"
    return _origin(run), read_recipe(file).seed if file.is_file() else None


def _differ(name: str, values: Sequence[Any], runs: Sequence[ScoredRun]) -> bool:
    """Whether a setting differs between runs: a fact of data among runs that record it, a version or the end of a
    training among runs that name it.
    """
    if _if_noted(name):
        values = [value for value in values if value != "-"]
    for facts in ("data", "scored_on"):
        if any(name in getattr(run, facts) for run in runs):
            noted = [getattr(run, facts) for run in runs]
            values = [v for v, each in zip(values, noted, strict=True) if each and dotted_as_noted({name: v}, each)]
    return any(value != values[0] for value in values)


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
