"""The learning rate of every network of the rooms benchmark: three rates, one seed apart, validation rooms.

python studies/bench_rates.py run --source WORKTREE --out runs/lab    # after trunks.py
python studies/bench_rates.py table

Rule: of a method's rates, the one with the best mean over NYUv2's four tasks, relative to the first method at 1e-3; of
a single-task network's, the one with the best score of its task.
"""

from pathlib import Path

from bench import METHODS, SINGLE, untuned
from geometry_arms import placed
from grid import markdown_table
from lab import rows
from lab.gains import FOUR, gain
from lab.running import main, results_folder
from lab.study import Scores, Study
from lab.training import train_and_score

from triptych.recipes.config import Recipe

RATES = (5e-4, 1e-3, 2e-3)
SEED = 300


NETWORKS = (*METHODS, *SINGLE)


def name(network: str, rate: float) -> str:
    """The arm of a network and a rate."""
    return f"{network}, {rate:g}"


def arms() -> dict[str, Recipe]:
    """Every network at every rate."""
    return {name(network, rate): recipe for rate in RATES for network, recipe in untuned(rate).items()}


def score(recipe: Recipe, seed: int, folder: Path) -> Scores:
    """Scores on the validation rooms."""
    return train_and_score(placed(recipe, seed, folder), folder, split="val")


NAMES = tuple(name(network, rate) for network in NETWORKS for rate in RATES)
STUDY = Study("bench-rates", "", arms, dict.fromkeys(NAMES, (SEED,)), score)


def gains(found: list[rows.Row], network: str) -> dict[float, float]:
    """Gain of every rate of a network over the first method, or that network, at 1e-3."""
    tasks, first = ((SINGLE[network],), network) if network in SINGLE else (FOUR, METHODS[0])
    reference = rows.by_seed(found, name(first, 1e-3))[SEED]
    return {rate: gain(rows.by_seed(found, name(network, rate))[SEED], reference, tasks) for rate in RATES}


def choose(found: list[rows.Row]) -> dict[str, float]:
    """The rate of every network by the rule; `ValueError` before all were tried."""
    if len(found) < len(STUDY.jobs()):
        raise ValueError(f"{len(found)} of {len(STUDY.jobs())} rates were tried; run bench_rates.py first.")
    of_rates = {network: gains(found, network) for network in NETWORKS}
    return {network: max(each, key=each.__getitem__) for network, each in of_rates.items()}


def chosen_rates() -> dict[str, float]:
    """The same of the rows that lie where those of this study are written."""
    return choose(rows.read_declared(results_folder() / f"{STUDY.name}.jsonl", STUDY.commit))


def table(found: list[rows.Row]) -> str:
    """A line per network."""
    if len(found) < len(STUDY.jobs()):
        return f"{len(found)} of {len(STUDY.jobs())} rows."
    chosen = choose(found)
    lines = [
        [network, *(f"{value:+.2f}" for value in gains(found, network).values()), f"{chosen[network]:g}"]
        for network in NETWORKS
    ]
    return markdown_table(["network", *(f"{rate:g}" for rate in RATES), "chosen"], lines)


if __name__ == "__main__":
    main(STUDY, table)
