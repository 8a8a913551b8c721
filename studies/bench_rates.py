"""The learning rate of every network of the rooms benchmark: one seed apart, validation rooms, 500 steps.

python studies/bench_rates.py run --source WORKTREE --out runs/lab    # after trunks.py
python studies/bench_rates.py table

Rule: of a method's rates, the one with the best mean over NYUv2's four tasks, relative to the plain network at 2e-3; of
a single-task network's, the one with the best score of its task; of two alike, the lower. A run that diverges has a row
that says so, and its rate is not chosen. The table marks a choice at an end of its rates: what lies beyond was not
tried.

Each is tried in half as many steps as the benchmark's, for time: a rate that is best in 500 may be a little high for
1,000.

First 1e-3, 2e-3 and 4e-3 were declared, a factor of two above what was planned (5e-4 to 2e-3): in
`geometry_pilot.py`, which trained the plain network on this trunk for longer, 2e-3 was best with three seeds of three.
Of the nine networks that had all three first, 4e-3 was best for eight and 1e-3 for none. So 8e-3 was added for all,
and 1e-3 is not tried for those that had not begun; the test rooms had not been read.

The rows of those nine are on the trunk that was made anew on another processor (`results/remade/trunks.jsonl`), whose
file was lost; all others, and the benchmark, on that of `results/trunks.jsonl`. Both were trained with the same
settings and seed and differ by how processors round. A network's rates are always compared on one of them.
"""

from dataclasses import replace
from pathlib import Path

from bench import METHODS, PLAIN, SCORED, SINGLE, check_trunk, trunk_of, untuned
from geometry_arms import placed
from grid import markdown_table
from lab import rows
from lab.gains import FOUR, gain
from lab.running import main, results_folder
from lab.study import Scores, Study
from lab.training import train_and_score

from triptych.recipes.config import Recipe

RATES = (1e-3, 2e-3, 4e-3, 8e-3)
MIDDLE = 2e-3
"""The plain network's rate that others are relative to."""
BEGUN = (PLAIN, "fcn", "pad-net", "pad-net-plus", "mti-net", "atrc", "pap", "psd", "invpt", "densemtl")
"""Networks that the lowest rate was tried for."""
SEED = 300
STEPS = 500
DIVERGED = "diverged"
"""In the place of scores, where a run's loss was not finite."""
NETWORKS = (*METHODS, *SINGLE)


def name(network: str, rate: float) -> str:
    """The arm of a network and a rate."""
    return f"{network}, {rate:g}"


def rates_of(network: str) -> tuple[float, ...]:
    """The rates that are tried for a network."""
    return RATES if network in BEGUN else RATES[1:]


def arms() -> dict[str, Recipe]:
    """Every network at every one of its rates."""
    return {
        name(network, rate): replace(recipe, schedule=replace(recipe.schedule, steps=STEPS))
        for rate in RATES
        for network, recipe in untuned(rate).items()
        if rate in rates_of(network)
    }


def score(recipe: Recipe, seed: int, folder: Path) -> Scores:
    """Scores on the validation rooms, or that the run diverged; and which trunk it was."""
    recipe = placed(recipe, seed, folder)
    try:
        found = train_and_score(recipe, folder, split="val", limit=SCORED)
    except FloatingPointError:  # the loss is not finite
        found = {DIVERGED: True}
    return {**found, **trunk_of(recipe)}


NAMES = tuple(name(network, rate) for network in NETWORKS for rate in rates_of(network))
STUDY = Study("bench-rates", "82585235", arms, dict.fromkeys(NAMES, (SEED,)), score)


def gains(found: list[rows.Row], network: str) -> dict[float, float]:
    """Gain of every rate that trained, over the plain network, or that one, at `MIDDLE`; by rate."""
    tasks, first = ((SINGLE[network],), network) if network in SINGLE else (FOUR, PLAIN)
    of_rates = {rate: rows.by_seed(found, name(network, rate))[SEED] for rate in rates_of(network)}
    trained = {rate: scores for rate, scores in of_rates.items() if DIVERGED not in scores}
    # Where that one diverged, any other will do, as one on another trunk does: the order of the gains hardly depends
    # on it.
    middle = rows.by_seed(found, name(first, MIDDLE))[SEED]
    reference = next(iter(trained.values()), {}) if DIVERGED in middle else middle
    return {rate: gain(scores, reference, tasks) for rate, scores in trained.items()}


def choose(found: list[rows.Row]) -> dict[str, float]:
    """The rate of every network by the rule; `ValueError` before all were tried, or where none trains."""
    if len(found) < len(STUDY.jobs()):
        raise ValueError(f"{len(found)} of {len(STUDY.jobs())} rates were tried; run bench_rates.py first.")
    for network in NETWORKS:
        check_trunk([row for row in found if row.arm in {name(network, rate) for rate in rates_of(network)}])
    of_rates = {network: gains(found, network) for network in NETWORKS}
    if none := [network for network, each in of_rates.items() if not each]:
        raise ValueError(f"{', '.join(none)} diverged at every rate; the benchmark has nothing to train them at.")
    return {network: max(each, key=each.__getitem__) for network, each in of_rates.items()}


def chosen_rates() -> dict[str, float]:
    """The same of the rows that lie where those of this study are written."""
    return choose(rows.read_declared(results_folder() / f"{STUDY.name}.jsonl", STUDY.commit))


def table(found: list[rows.Row]) -> str:
    """A line per network, with the trunk that it was trained on: only on the plain network's are gains over it of one
    trunk.
    """
    if len(found) < len(STUDY.jobs()):
        return f"{len(found)} of {len(STUDY.jobs())} rows."
    lines = []
    for network, rate in choose(found).items():
        each, tried = gains(found, network), rates_of(network)
        cells = [f"{each[rate]:+.2f}" if rate in each else DIVERGED if rate in tried else "–" for rate in RATES]
        [trunk] = {row.scores["trunk"][:6] for row in found if row.arm in {name(network, rate) for rate in tried}}
        lines.append([network, trunk, *cells, f"{rate:g}{' (end)' if rate in (tried[0], tried[-1]) else ''}"])
    return markdown_table(["network", "trunk", *(f"{rate:g}" for rate in RATES), "chosen"], lines)


if __name__ == "__main__":
    main(STUDY, table)
