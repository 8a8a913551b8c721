"""Rooms benchmark v1, small: every method on one pretrained trunk, 1,000 steps; what it can tell, and what not.

python studies/bench.py run --source WORKTREE --out runs/lab    # after trunks.py and bench_rates.py
python studies/bench.py table

Options are those of the recipes `rooms-<method>` at the study's commit; 64 x 80, 1,000 steps of 8, AdamW, cosine,
averaged and last weights, the trunk at 0.3 of the rate, each method's rate from `bench_rates.py` on validation rooms.
Five seeds, the test rooms once. A cell counts once it closes a quarter of the way from a constant predictor to
single-task networks. With five seeds methods half a point apart are not told apart: that needs 70.
"""

import json
import statistics
from dataclasses import replace
from pathlib import Path

from geometry_arms import TRUNK, placed
from grid import markdown_table, mean_and_deviation
from lab import rows
from lab.gains import FIVE, FOUR, HIGHER, gain
from lab.running import ROOT, main
from lab.study import Scores, Study
from lab.training import train_and_score

from triptych.recipes import RECIPES
from triptych.recipes.config import Recipe

METHODS = (
    "vit", "fcn", "deeplab", "mtan", "cross-stitch", "nddr", "pad-net", "pad-net-plus", "mti-net", "atrc", "pap", "psd",
    "invpt", "densemtl",
)  # fmt: skip
"""Cross-Stitch and NDDR-CNN start from the pretrained trunk as all others, not from single-task networks."""
TASKS = tuple(HIGHER)
SEEDS = tuple(range(5))
LEARNED = 0.25
STEPS = 1000


def with_method(method: str, rate: float) -> Recipe:
    """A recipe on rooms with the trunk, the size and the schedule of the benchmark."""
    shipped = RECIPES[f"rooms-{method}"]
    return replace(
        shipped,
        description=f"Rooms benchmark v1: {method}.",
        data=replace(shipped.data, size=(64, 80), batch_size=8, options={"size": (64, 80)}, val_split=""),
        model=replace(shipped.model, weights=f"trunk {TRUNK}"),
        optimizer=replace(shipped.optimizer, name="adamw", lr=rate, backbone_lr_factor=0.3),
        schedule=replace(shipped.schedule, steps=STEPS, name="cosine", warmup_steps=50),
        training=replace(shipped.training, ema=0.98, evaluate_every=0, checkpoint_every=500, keep_checkpoints=1),
    )


def arms() -> dict[str, Recipe]:
    """Every method at its chosen rate, and the first one with each task alone."""
    from bench_rates import chosen_rates

    rates = chosen_rates()
    found = {method: with_method(method, rates[method]) for method in METHODS}
    first = found[METHODS[0]]
    return found | {f"single {name}": replace(first, data=replace(first.data, tasks=(name,))) for name in TASKS}


def score(recipe: Recipe, seed: int, folder: Path) -> Scores:
    """Scores on the test rooms."""
    return train_and_score(placed(recipe, seed, folder), folder, split="test")


NAMES = (*METHODS, *(f"single {name}" for name in TASKS))
STUDY = Study("bench", "", arms, dict.fromkeys(NAMES, SEEDS), score)


def table(found: list[rows.Row]) -> str:
    """NYUv2's four tasks and PASCAL-Context's five apart, over single-task networks of the same seed."""
    single = {
        seed: {name: rows.by_seed(found, f"single {name}")[seed][name] for name in TASKS}
        for seed in SEEDS
        if all(seed in rows.by_seed(found, f"single {name}") for name in TASKS)
    }
    lines = []
    for method in METHODS:
        scores = {seed: each for seed, each in rows.by_seed(found, method).items() if seed in single}
        cells = [mark(name, [each[name] for each in scores.values()], single) for name in TASKS]
        for tasks in (FOUR, FIVE):
            cells.append(
                mean_and_deviation([gain(each, single[seed], tasks) for seed, each in scores.items()], digits=2)
            )
        lines.append([method, str(len(scores)), *cells])
    return markdown_table(["method", "seeds", *TASKS, "NYUv2's four %", "PASCAL's five %"], lines)


def mark(name: str, values: list[float], single: dict[int, Scores]) -> str:
    """A cell, in brackets where it has not learned."""
    constant = json.loads((ROOT / "results" / "models.json").read_text(encoding="utf-8"))["constant"][name]
    cell = mean_and_deviation(values, digits=3)
    if not values or not single:
        return cell
    goal = constant + LEARNED * (statistics.fmean(each[name] for each in single.values()) - constant)
    mean = statistics.fmean(values)
    return cell if (mean >= goal if HIGHER[name] else mean <= goal) else f"({cell})"


if __name__ == "__main__":
    main(STUDY, table)
