"""Sweeps: a recipe trained with several values of its fields, and the best of them by their validation scores."""

import hashlib
import itertools
import json
import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
from rich.table import Table

from triptych import assemble
from triptych.data.fingerprints import as_noted
from triptych.files import check_signed, naming_damage, write_json
from triptych.lookup import parse_json
from triptych.named_parts import check_options, resolve_options
from triptych.processes import is_first_launched
from triptych.recipes import option_words
from triptych.recipes.config import Options, Recipe, from_json, read_recipe
from triptych.recipes.limits import check_numbers
from triptych.recipes.resolved import STARTS, read_resolved, read_starts
from triptych.terminal import say
from triptych.training.building import settle
from triptych.training.checkpoint import STATE, list_checkpoints
from triptych.training.loop import train
from triptych.training.run_folder import check_run_folder

FILE = "sweep.json"
Setting = dict[str, Any]
"""Values by dotted name of a recipe's field."""


@dataclass(frozen=True)
class Axis:
    """Values that a field takes: `choices`, or all between the ends of a `span`."""

    name: str
    choices: tuple[Any, ...] = ()
    span: tuple[float, float] | None = None

    def draw(self, generator: np.random.Generator) -> Any:
        """One value: each choice alike; of a span evenly, on a scale of logarithms where both ends are above 0."""
        if self.span is None:
            return self.choices[int(generator.integers(len(self.choices)))]
        low, high = self.span
        drawn = math.exp(generator.uniform(math.log(low), math.log(high))) if low > 0 else generator.uniform(low, high)
        return float(f"{drawn:.3g}")


@dataclass
class Outcome:
    """Result of one setting: the best validation score of each seed, and the numbers of that evaluation."""

    setting: Setting
    scores: dict[int, float] = field(default_factory=dict)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    """Numbers, images and size behind the scores: only scores with the same ones compare."""

    @property
    def score(self) -> float:
        """The mean over seeds; minus infinity where one of them failed."""
        return statistics.fmean(self.scores.values()) if self.scores and not self.failures else -math.inf

    def metric(self, name: str) -> str:
        """Mean and deviation over seeds."""
        values = [numbers[name] for numbers in self.metrics.values() if name in numbers]
        spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):.4g}{spread}" if values else "-"


def read_axis(word: str) -> Axis:
    """`NAME=A,B,C` or `NAME=[A,B,C]` for choices, `NAME=LOW..HIGH` for a span.

    >>> read_axis("optimizer.lr=1e-4,1e-3"), read_axis("optimizer.lr=1e-5..1e-2").span
    (Axis(name='optimizer.lr', choices=(0.0001, 0.001), span=None), (1e-05, 0.01))
    """
    name, equals, text = word.partition("=")
    if not (name and equals and text):
        raise ValueError(f"'{word}' is no axis; write NAME=A,B,C or NAME=LOW..HIGH, such as optimizer.lr=1e-4,1e-3.")
    ends = text.split("..")
    if len(ends) == 2 and all(_is_number(end) for end in ends):  # a path may have dots too
        low, high = map(float, ends)
        if not low < high < math.inf:
            raise ValueError(f"'{word}' is no span; write two rising numbers, such as {name}=1e-5..1e-2.")
        return Axis(name, span=(low, high))
    parts = [text] if text.startswith("[") else text.split(",")
    values = [option_words.read_options([f"value={part}"])["value"] for part in parts]
    return Axis(name, tuple(values[0]) if text.startswith("[") else tuple(values))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def list_settings(over: Sequence[str], *, samples: int = 0, seed: int = 0) -> list[Setting]:
    """All different combinations of the axes' values, or `samples` of them drawn at random.

    The first n of more samples are those of n: a sweep can be made longer.

    >>> list_settings(["seed=1,2", "optimizer.lr=0.1"])
    [{'seed': 1, 'optimizer.lr': 0.1}, {'seed': 2, 'optimizer.lr': 0.1}]
    """
    if samples < 0:
        raise ValueError(f"--samples is {samples}; give how many settings to draw, or 0 to train all.")
    axes = [read_axis(word) for word in over]
    names = [axis.name for axis in axes]
    if not axes or len(set(names)) < len(names):
        raise ValueError(f"--over names {', '.join(names) or 'nothing'}; give at least one field, each once.")
    if not samples:
        if spans := [axis.name for axis in axes if axis.span is not None]:
            raise ValueError(f"{spans[0]} has a span of values, of which a grid takes none; say how many: --samples.")
        every = (dict(zip(names, values, strict=True)) for values in itertools.product(*(a.choices for a in axes)))
        return list({folder_name(setting): setting for setting in every}.values())
    found: dict[str, Setting] = {}
    for number in range(100 * samples):
        generator = np.random.default_rng((seed, number))
        setting = {axis.name: axis.draw(generator) for axis in axes}
        found.setdefault(folder_name(setting), setting)
        if len(found) == samples:
            break
    return list(found.values())


def change_fields(recipe: Recipe, setting: Setting) -> Recipe:
    """The recipe with other values of fields, by their dotted names; `ValueError` names what it does not have.

    >>> change_fields(Recipe(), {"weighting.weights.depth": 2.0, "optimizer.lr": 0.1}).weighting.weights
    {'depth': 2.0}
    """
    data = asdict(recipe)
    for name, value in setting.items():
        _put(Recipe, data, name, value, name)
    return from_json(json.dumps(data))


def _put(hint: Any, place: dict[str, Any], name: str, value: Any, whole: str) -> None:
    """Put the field `whole` into a recipe's data, of which `name` is left in a `place` of that type."""
    table, dot, rest = name.partition(".")
    hints = get_type_hints(hint) if is_dataclass(hint) else {}
    inside = hints.get(table) if hints else get_args(hint)[1]
    if inside is int and isinstance(value, float) and not value.is_integer():
        raise ValueError(
            f"{whole} is {value:g}, and takes whole numbers; a span LOW..HIGH draws fractions: list them, such as "
            f"{whole}=2,4,8."
        )
    if inside in (float, str) or not dot:  # a part of the network has a name with dots
        place[name] = value
        return
    if not hints:  # a table of options begins with its first
        place.setdefault(table, {})
    if not isinstance(place.get(table), dict):
        raise ValueError(f"a recipe has no field '{whole}': '{table}' is no table; see `triptych train --help`.")
    _put(inside if is_dataclass(inside) or get_origin(inside) is dict else Options, place[table], rest, value, whole)


def folder_name(setting: Setting) -> str:
    """The name of a setting's folder of runs.

    >>> folder_name({"optimizer.lr": 0.001, "data.size": (48, 64)})
    'optimizer.lr=0.001,data.size=48,_64-01c72e28'
    """
    text = ",".join(f"{name}={value}" for name, value in setting.items())
    plain = re.sub(r"[^\w.=,+-]+", "_", text.replace("(", "").replace(")", ""))[:120].strip("_")
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def sweep(
    recipe: Recipe,
    out: Path | str,
    over: Sequence[str],
    *,
    samples: int = 0,
    seeds: Sequence[int] = (),
    device: str = "auto",
    progress: bool = True,
    told: Callable[[str], None] = say,
) -> list[Outcome]:
    """Train `recipe` with every setting and every seed into `out`, and return the outcomes, the best first.

    Runs that are finished are not trained again, and one that was interrupted is resumed: the same call continues a
    sweep, and may have more values, samples or seeds. Settings are chosen by the best score of each run on the
    validation split, the mean over seeds; the test split is not read. A run whose loss is not finite counts as failed.
    Settings that are scored by other tasks, numbers, images, sizes or versions keep their order (`are_ranked`).
    `sweep.json` in `out` holds the outcomes. Raises `ValueError`, before anything is trained, for fields, numbers and
    names that a recipe does not take, and for finished runs of other data or another start; other mistakes of a setting
    show when its turn comes.
    """
    out = Path(out)
    if not recipe.data.val_split or recipe.training.evaluate_every < 1:
        raise ValueError(
            "a sweep chooses on the validation split: data.val_split must name one (without images of "
            "data.train_split), and training.evaluate_every be at least 1."
        )
    settings = list_settings(over, samples=samples, seed=recipe.seed)
    if seeds and any("seed" in setting for setting in settings):
        raise ValueError(f"the sweep goes over seed, and seeds are {tuple(seeds)} too; leave one of the two out.")
    own: list[Setting] = [{"seed": seed} for seed in seeds] or [{}]
    outcomes, runs = [Outcome(setting) for setting in settings], []
    for outcome, seed in itertools.product(outcomes, own):
        each = change_fields(recipe, outcome.setting | seed)
        check_numbers(each)
        check_options(each)
        if each.model.backbone == "auto":
            raise ValueError(
                "model.backbone is auto, which may be another one for each run, and a sweep compares runs; name the "
                "backbone, and its model.weights."
            )
        resolve_options(each)  # every name is known
        run = out / folder_name(outcome.setting) / f"seed-{each.seed}"
        runs.append((outcome, settle(each, device)[0], run))
    for _, each, run in runs:
        check_run_folder(run, each, resume=True, overwrite=False)
        if _is_finished(run, each):
            _check_same_start(run, each)
    for done, (outcome, each, run) in enumerate(runs, start=1):
        if not _is_finished(run, each):
            told(f"run {done} of {len(runs)}: {run}")
            try:
                train(each, run, resume=run.exists(), device=device, progress=progress)
            except FloatingPointError as error:
                outcome.failures[each.seed] = str(error)
        if each.seed not in outcome.failures:
            best = _state(run)["best"]
            outcome.scores[each.seed], outcome.metrics[each.seed] = best["score"], best["metrics"]
            outcome.measured = _measured(run, each, best)
        ranked = outcomes
        if are_ranked(outcomes):
            ranked = sorted(outcomes, key=lambda outcome: outcome.score, reverse=True)
        if is_first_launched():
            write_json(out / FILE, [asdict(each) | {"score": each.score} for each in ranked])
    return ranked


def _is_finished(run: Path, recipe: Recipe) -> bool:
    """Whether the last validation is over: who left in the middle of it has no score of the last weights."""
    return bool(list_checkpoints(run)) and _state(run)["evaluated"] >= recipe.schedule.steps


def _state(run: Path) -> dict[str, Any]:
    """State of a run in its last checkpoint; `best` is the evaluation whose weights are deployed."""
    path = list_checkpoints(run)[-1] / STATE
    with naming_damage(path, f"delete {path.parent} to go on from an older checkpoint"):
        return check_signed(parse_json(path.read_text(encoding="utf-8")))


def _check_same_start(run: Path, recipe: Recipe) -> None:
    """Raise `ValueError` where a finished run learned from other data, or began from other weights."""
    began = read_recipe(run / "recipe.json").model.initialize_from
    if [Path(each).resolve() for each in began] != [Path(each).resolve() for each in recipe.model.initialize_from]:
        raise ValueError(
            f"{run} began from {began or 'no other run'}, and model.initialize_from is "
            f"{recipe.model.initialize_from or 'empty'} now; choose another --out, or put it back."
        )
    if not (run / STARTS).is_file():
        return
    before = read_starts(run / STARTS)[0]["data"]
    sets = {
        "train": assemble.build_training_set(recipe, unread=assemble.unread_tasks(recipe)),
        "validation": assemble.build_dataset(recipe, recipe.data.val_split),
    }
    for name, dataset in sets.items():
        now = as_noted(json.loads(json.dumps(dataset.fingerprint(), default=str)), before.get(name))
        if name in before and before[name] != now:
            changed = [key for key in now if before[name].get(key) != now[key]]
            raise ValueError(
                f"{run} is of other data: {', '.join(changed)} of the {name} images differ now; choose another --out, "
                "or put the data back."
            )


def _measured(run: Path, recipe: Recipe, best: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions of a score: numbers, images, limit, size and version."""
    images = read_starts(run / STARTS)[0]["data"].get("validation") if (run / STARTS).is_file() else None
    split = recipe.data.val_split
    size = assemble.scored_size(recipe, split, assemble.build_dataset(recipe, split))
    begun = read_resolved(run)
    return {
        "numbers": sorted(best["metrics"]),
        "images": images,
        "limit": recipe.training.evaluate_limit,
        "size": size,
        "version": begun.version if begun is not None else None,
    }


def are_ranked(outcomes: Sequence[Outcome]) -> bool:
    """Whether all scores are of the same numbers, images, size and version, so that one can be above another."""
    told = itertools.combinations((outcome.measured for outcome in outcomes if outcome.measured), 2)
    return all(as_noted(first, second) == as_noted(second, first) for first, second in told)


def sweep_table(outcomes: Sequence[Outcome]) -> Table:
    """One row for each setting, the best first: its values, primary numbers on the validation split, and how far its
    score is below the best, in percent; none is best where scores do not compare.
    """
    names = list(dict.fromkeys(name for each in outcomes for numbers in each.metrics.values() for name in numbers))
    table = Table(*outcomes[0].setting, "seeds", *names, "below the best %", title_justify="left")
    ranked = are_ranked(outcomes)
    others = "not ranked: scores are of other tasks, images, sizes or versions"
    table.title = f"validation, {'best first' if ranked else others}"
    best = outcomes[0].score
    for outcome in outcomes:
        values = [str(value) for value in outcome.setting.values()]
        gap = f"{100 * (best - outcome.score):.2f}" if ranked else "-"
        gap = gap if math.isfinite(outcome.score) else "failed"
        table.add_row(*values, str(len(outcome.scores)), *(outcome.metric(name) for name in names), gap)
    return table
