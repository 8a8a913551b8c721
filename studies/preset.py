"""The choice of the preset `surface`, on validation rooms alone.

python studies/preset.py run --source WORKTREE --out runs/lab    # after trunks.py and the pilot of regime R
python studies/preset.py table

Three densities in regime R, 12 seeds that D1 does not use, 200 validation rooms: the old one and both of `surface`. The
other two of `branch.DENSITIES` are left out for their price: D0 did not tell their gain from nothing (`fog.py`). Rule,
fixed before the first run. Admissible: R2 of depth's density at least that before training + 0.2, and its entropy at
least 0.1 below that of the dullest weights of the same mean depth, on the mean over seeds (beside a fog of the same
opacity, as first planned, an opaque surface looks dull: `sharpness.py`). Of the admissible ones other than `old`, the
best mean over NYUv2's four tasks, if its gain over `old` is above 0 (paired t, Holm over the others); else the fastest
admissible one, marked "not better"; else `old`.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import fog
import geometry_arms
import sharpness
import torch
from branch import DENSITIES, FINE, with_branch
from grid import markdown_table, mean_and_deviation
from lab import rows
from lab.gains import FOUR, gain
from lab.inference import declared, highest_deviation
from lab.running import main
from lab.study import Scores, Study
from lab.training import train_and_score
from safetensors.torch import load_file

from triptych import assemble
from triptych.datasets.rooms import Rooms
from triptych.recipes.config import Recipe
from triptych.regularizers.triplane import Triplane3D

SEEDS = tuple(range(200, 212))
BETTER, SHARPER = 0.2, 0.1
INTERRUPTED = (201,)
"""Seeds whose seconds are of the last part of a run that was interrupted."""
AS_BEFORE = "old"
CANDIDATES = (AS_BEFORE, "surface (exp)", "surface (softplus)")


def arms() -> dict[str, Recipe]:
    """The densities in regime R."""
    plain = geometry_arms.regime_r()
    return {name: with_branch(plain, {**FINE, **DENSITIES[name]}) for name in CANDIDATES}


def score(recipe: Recipe, seed: int, folder: Path) -> Scores:
    """Scores on validation rooms; depth's density before and after; processor seconds of training."""
    recipe = geometry_arms.placed(recipe, seed, folder)
    rooms = assemble.build_dataset(recipe, "val")
    model, regularizer = fog.first_weights(recipe)
    before = numbers_of_depth(model, regularizer, rooms)
    started = time.process_time()
    found = train_and_score(recipe, folder, split="val")
    seconds = time.process_time() - started
    [last] = sorted((folder / "checkpoints").glob("[0-9]*"))[-1:]
    for name, module in (("model", model), ("regularizer", regularizer)):
        module.load_state_dict(load_file(last / f"{name}.safetensors"))
    after = numbers_of_depth(model, regularizer, rooms)
    return {
        **found,
        **{f"before/{name}": value for name, value in before.items()},
        **{f"after/{name}": value for name, value in after.items()},
        "processor_seconds": seconds,
    }


def numbers_of_depth(model: torch.nn.Module, regularizer: Triplane3D, rooms: Rooms) -> Scores:
    """The numbers of the density that depth is rendered with."""
    numbers, sharp = (each.measure(model, regularizer, rooms) for each in (fog, sharpness))
    name = "shared" if "shared" in sharp else "depth"
    found = {key.split("/")[1]: value for key, value in numbers.items() if key.startswith(f"{name}/")}
    return {**found, "below_dullest": sharp[name]}


def is_admissible(scores: Sequence[Scores]) -> bool:
    """Whether depth's density learned something, and is no fog."""
    gained = statistics.fmean(each["after/R2"] - each["before/R2"] for each in scores)
    return gained >= BETTER and statistics.fmean(each["after/below_dullest"] for each in scores) <= -SHARPER


def choose(scores: Mapping[str, Mapping[int, Scores]]) -> tuple[str, str]:
    """The density by the rule, and why."""
    others = [name for name in scores if name != AS_BEFORE]
    gains = {name: [gain(scores[name][s], scores[AS_BEFORE][s], FOUR) for s in scores[AS_BEFORE]] for name in others}
    tested = declared(gains)
    admissible = [name for name in others if is_admissible(list(scores[name].values()))]
    if not admissible:
        return AS_BEFORE, "no other density is admissible"
    best = max(admissible, key=lambda name: tested[name].mean)
    if tested[best].above:
        return best, "better"
    seconds = {
        name: statistics.fmean(
            row["processor_seconds"] for seed, row in scores[name].items() if seed not in INTERRUPTED
        )
        for name in admissible
    }
    return min(seconds, key=seconds.__getitem__), "not better"


STUDY = Study("preset", "b3e7ddf", arms, dict.fromkeys(CANDIDATES, SEEDS), score)


def table(found: list[rows.Row]) -> str:
    """A line per density, and the choice once all rows are there."""
    scores = {name: rows.by_seed(found, name) for name in CANDIDATES}
    lines = []
    for name, each in scores.items():
        seeds = [seed for seed in each if seed in scores[AS_BEFORE]]
        gains = [gain(each[seed], scores[AS_BEFORE][seed], FOUR) for seed in seeds]
        sharp = {"before/below_dullest": 2, "after/below_dullest": 2, "after/excess": 2}
        keys = {"before/R2": 2, "after/R2": 2, **sharp, "processor_seconds": 3}
        cells = [mean_and_deviation([row[key] for row in each.values()], digits=digits) for key, digits in keys.items()]
        lines.append([name, str(len(each)), mean_and_deviation(gains, digits=2), *cells])
    header = [
        "density",
        "seeds",
        "four tasks over old %",
        "R2 before",
        "R2 after",
        "entropy less the dullest's before",
        "after",
        "entropy less fog's after",
        "seconds",
    ]
    text = markdown_table(header, lines)
    if len(found) < len(STUDY.jobs()):
        return text
    chosen, why = choose(scores)
    return f"{text}\n\n{contrasts(scores)}\n\nChosen: {chosen} ({why})."


def contrasts(scores: Mapping[str, Mapping[int, Scores]]) -> str:
    """Gains over the old density with their intervals: on the four tasks, which decide, and on all but depth."""
    others, lines = CANDIDATES[1:], []
    for title, tasks in (("four tasks", FOUR), ("without depth", [task for task in FOUR if task != "depth"])):
        gains = {name: [gain(scores[name][s], scores[AS_BEFORE][s], tasks) for s in SEEDS] for name in others}
        for name, each in declared(gains).items():
            lines.append([f"{name}, {title}", *each.cells(), f"{highest_deviation(gains[name]):.2f}"])
    header = ["over old", "points", "90 %", "95 %", "p (Holm over two)", "deviation, at most (80 %)"]
    return markdown_table(header, lines)


if __name__ == "__main__":
    main(STUDY, table)
