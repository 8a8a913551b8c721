"""The learning rate of every method of the rooms benchmark: three rates, one seed apart, validation rooms.

python studies/bench_rates.py run --source WORKTREE --out runs/lab    # after trunks.py
python studies/bench_rates.py table

Rule: of a method's rates, the one with the best mean over NYUv2's four tasks, relative to the first method at 1e-3.
"""

from pathlib import Path

from bench import METHODS, with_method
from geometry_arms import placed
from grid import markdown_table
from lab import rows
from lab.gains import FOUR, gain
from lab.running import ROOT, main
from lab.study import Scores, Study
from lab.training import train_and_score

from triptych.recipes.config import Recipe

RATES = (5e-4, 1e-3, 2e-3)
SEED = 300


def name(method: str, rate: float) -> str:
    """The arm of a method and a rate."""
    return f"{method}, {rate:g}"


def arms() -> dict[str, Recipe]:
    """Every method at every rate."""
    return {name(method, rate): with_method(method, rate) for method in METHODS for rate in RATES}


def score(recipe: Recipe, seed: int, folder: Path) -> Scores:
    """Scores on the validation rooms."""
    return train_and_score(placed(recipe, seed, folder), folder, split="val")


NAMES = tuple(name(method, rate) for method in METHODS for rate in RATES)
STUDY = Study("bench-rates", "", arms, dict.fromkeys(NAMES, (SEED,)), score)


def gains(found: list[rows.Row], method: str) -> dict[float, float]:
    """Gain of every rate of a method over the first method at 1e-3."""
    reference = rows.by_seed(found, name(METHODS[0], 1e-3))[SEED]
    return {rate: gain(rows.by_seed(found, name(method, rate))[SEED], reference, FOUR) for rate in RATES}


def chosen_rates() -> dict[str, float]:
    """The rate of every method; `ValueError` before all were tried."""
    found = rows.read_declared(ROOT / "results" / f"{STUDY.name}.jsonl", STUDY.commit)
    if len(found) < len(STUDY.jobs()):
        raise ValueError(f"{len(found)} of {len(STUDY.jobs())} rates were tried; run bench_rates.py first.")
    chosen = {}
    for method in METHODS:
        of_rates = gains(found, method)
        chosen[method] = max(of_rates, key=of_rates.__getitem__)
    return chosen


def table(found: list[rows.Row]) -> str:
    """A line per method."""
    if len(found) < len(STUDY.jobs()):
        return f"{len(found)} of {len(STUDY.jobs())} rows."
    lines = [[method, *(f"{value:+.2f}" for value in gains(found, method).values())] for method in METHODS]
    return markdown_table(["method", *(f"{rate:g}" for rate in RATES)], lines)


if __name__ == "__main__":
    main(STUDY, table)
