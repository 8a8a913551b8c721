"""Rooms benchmark v1, small: every method on one pretrained trunk, 1,000 steps; what it can tell, and what not.

python studies/bench.py run --source WORKTREE --out runs/lab    # after trunks.py and bench_rates.py
python studies/bench.py table

Options are those of the recipes `rooms-<method>` at the study's commit; 64 x 80, 1,000 steps of 8, AdamW, cosine,
averaged and last weights, the trunk at 0.3 of the rate. Each method, and each single-task network, has the best of its
own three rates of `bench_rates.py`, on validation rooms. Three seeds (five were planned; the time was short), the test
rooms once, after all of them.

The table orders nothing: no contrast is declared, and none is tested. It says below how large a difference between two
methods these seeds would tell, by how far its own rows differ from seed to seed. A cell counts once it closes a quarter
of the way from a constant predictor to the single-task networks; cells that do not are left out of the gains, which say
of how many tasks they are.
"""

import statistics
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from geometry_arms import TRUNK, placed
from grid import markdown_table, mean_and_deviation
from lab import rows
from lab.gains import FIVE, FOUR, HIGHER, gain
from lab.inference import smallest
from lab.learned import CONSTANT, BySeed, cell, has_learned, means
from lab.running import main
from lab.study import Scores, Study
from lab.training import Arm

from triptych.recipes import RECIPES
from triptych.recipes.config import Recipe

METHODS = (
    "vit", "fcn", "deeplab", "mtan", "cross-stitch", "nddr", "pad-net", "pad-net-plus", "mti-net", "atrc", "pap", "psd",
    "invpt", "densemtl",
)  # fmt: skip
"""Cross-Stitch and NDDR-CNN start from the pretrained trunk as all others, not from single-task networks."""
TASKS = tuple(HIGHER)
SINGLE = {f"single {name}": name for name in TASKS}
"""Networks of one task, by arm."""
SEEDS = tuple(range(3))
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


def untuned(rate: float) -> dict[str, Recipe]:
    """Every method at this rate, and the first one with each task alone."""
    found = {method: with_method(method, rate) for method in METHODS}
    first = found[METHODS[0]]
    return found | {arm: replace(first, data=replace(first.data, tasks=(name,))) for arm, name in SINGLE.items()}


def arms() -> dict[str, Arm]:
    """Every network at its chosen rate, and the constant predictor."""
    from bench_rates import chosen_rates

    rates = chosen_rates()
    found = {arm: Arm(untuned(rate)[arm]) for arm, rate in rates.items()}
    return {CONSTANT: replace(found[METHODS[0]], predictor=CONSTANT), **found}


def score(arm: Arm, seed: int, folder: Path) -> Scores:
    """Scores on the test rooms."""
    return replace(arm, recipe=placed(arm.recipe, seed, folder)).score(folder, split="test")


STUDY = Study("bench", "", arms, {CONSTANT: SEEDS[:1], **dict.fromkeys((*METHODS, *SINGLE), SEEDS)}, score)


def table(found: list[rows.Row]) -> str:
    """NYUv2's four tasks and PASCAL-Context's five apart, over single-task networks of the same seed; once every row is
    there.
    """
    if len(found) < len(STUDY.jobs()):
        return f"{len(found)} of {len(STUDY.jobs())} rows; the table is shown after all of them."
    [constant] = rows.by_seed(found, CONSTANT).values()
    alone = {name: rows.by_seed(found, arm) for arm, name in SINGLE.items()}
    single = {seed: {name: each[seed][name] for name, each in alone.items()} for seed in SEEDS}
    goal = means(single, TASKS)
    methods = {method: rows.by_seed(found, method) for method in METHODS}

    def learned(each: BySeed, tasks: tuple[str, ...]) -> list[str]:
        return [name for name in tasks if has_learned(name, means(each, TASKS)[name], constant=constant, goal=goal)]

    def points(each: BySeed, tasks: list[str]) -> list[float]:
        return [gain(each[seed], single[seed], tasks) for seed in SEEDS]

    lines = [[CONSTANT, "1", *(mean_and_deviation([constant[name]], digits=3) for name in TASKS), "", ""]]
    for name, each in {"single-task networks": single, **methods}.items():
        cells = [cell(task, each, constant=constant, goal=goal) for task in TASKS]
        for tasks in (FOUR, FIVE):
            known = learned(each, tasks)
            mean = mean_and_deviation(points(each, known), digits=2) if known else "–"
            cells.append(mean if len(known) == len(tasks) else f"{mean} (of {len(known)} tasks)")
        lines.append([name, str(len(each)), *cells])
    deviations = []
    for one, other in combinations(methods.values(), 2):
        if both := [task for task in learned(one, FOUR) if task in learned(other, FOUR)]:
            pairs = zip(points(one, both), points(other, both), strict=True)
            deviations.append(statistics.stdev(a - b for a, b in pairs))
    left_out = sum(len(TASKS) - len(learned(each, TASKS)) for each in methods.values())
    told = (
        f"In (brackets): {left_out} of {len(methods) * len(TASKS)} cells of methods have not learned, and no gain has "
        f"them. The table orders nothing, as no contrast is tested"
    )
    if deviations:
        common = statistics.fmean(each**2 for each in deviations) ** 0.5
        told += (
            f"; {len(SEEDS)} seeds tell two methods {smallest(common, len(SEEDS)):.1f} points apart on NYUv2's tasks, "
            f"in four cases of five (paired t at 5 %, of one pair; differences deviate by {common:.2f} points)"
        )
    header = ["method", "seeds", *TASKS, "NYUv2's four %", "PASCAL's five %"]
    return f"{markdown_table(header, lines)}\n\n{told}."


if __name__ == "__main__":
    main(STUDY, table)
