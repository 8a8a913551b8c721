"""Rooms benchmark v1, small: methods on one pretrained trunk, 1,000 steps; what it can tell, and what not.

python studies/bench.py run --source WORKTREE --out runs/lab    # after trunks.py and bench_rates.py
python studies/bench.py table

64 x 80, 1,000 steps of 8, AdamW, cosine, averaged and last weights, the trunk at 0.3 of the rate. 400 training images
of as many rooms; scores are on 200 other rooms, one image each, as each run ends, and the table is shown after all.
Options are those of the recipes `rooms-<method>` at the study's commit, but for methods that read the trunk's last map
alone (`ON_ONE_MAP`): 2 x 3 cells at its own stride of 32, where no weights draw a boundary. These have its weights
dilated to an output stride of 8, 8 x 10 cells, as published, and the plain network is there at both strides.

Each method, and each single-task network, has the best of its own rates of `bench_rates.py`, on validation rooms
and in half as many steps: a single-task network's is the best for its task, a method's one for all, by NYUv2's four
tasks, which favours the former. Three seeds (five were planned; the time was short). Left out, for time too:
NDDR-CNN, a step of whose six joined trunks takes as long as nine of the plain network.

The table orders nothing: no contrast is declared, and none is tested. It says below how large a difference between two
methods these seeds would tell, by how far its own rows differ from seed to seed. A cell counts once it closes a quarter
of the way from a constant predictor to the single-task networks; a method has a gain over tasks whose cells all count.
"""

import statistics
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from branch import SIZE
from geometry_arms import TRUNK, placed
from grid import markdown_table, mean_and_deviation
from lab import rows
from lab.gains import FIVE, FOUR, HIGHER, gain
from lab.inference import smallest
from lab.learned import CONSTANT, BySeed, cell, has_learned, means
from lab.running import main
from lab.study import Scores, Study
from lab.training import Arm
from trunks import checksum

from triptych.decoders.densemtl import DenseMTL
from triptych.recipes import RECIPES
from triptych.recipes.config import Options, Recipe

PLAIN = "vit"
"""The decoder `four-level` by the name that recipes have: four fused levels and a head for each task."""
ON_LEVELS = (PLAIN, "fcn", "pad-net", "pad-net-plus", "mti-net", "atrc", "pap", "psd", "invpt", "densemtl")
"""Methods that read maps at strides of 4 to 32."""
_HEAD: Options = {"width": 32, "rates": (2, 4, 6), "dropout": 0.1}
ON_ONE_MAP: dict[str, tuple[str, Options]] = {
    "vit, stride 8": (PLAIN, {"width": 16}),
    "deeplab": ("deeplab", _HEAD),
    "mtan": ("mtan", _HEAD),
    "cross-stitch": ("cross-stitch", {**_HEAD, "alpha": 0.8, "beta": 0.04}),
}
"""Methods on the last map, at stride 8, and the plain network there: recipe and options.

Cross-Stitch starts from the pretrained trunk as all others, not from single-task networks; its factors sum to 1, as
published for five tasks, and learn ten times as fast as its heads (published: a hundred times, by SGD).
"""
METHODS = (*ON_LEVELS, *ON_ONE_MAP)
TASKS = tuple(HIGHER)
SINGLE = {f"single {name}": name for name in TASKS}
"""Networks of one task, by arm."""
SEEDS = tuple(range(3))
ALPHA = "mean alpha"
STEPS = 1000
TRAINED, SCORED = 400, 200
"""Rooms, one view each."""


def with_method(method: str, rate: float) -> Recipe:
    """A recipe on rooms with the trunk, the size and the schedule of the benchmark."""
    name, options = ON_ONE_MAP.get(method, (method, None))
    shipped = RECIPES[f"rooms-{name}"]
    model = replace(shipped.model, weights=f"trunk {TRUNK}")
    if options is not None:
        model = replace(model, backbone_options={"output_stride": 8}, decoder_options=options)
    rooms: Options = {"size": SIZE, "scenes": TRAINED, "views": 1}
    return replace(
        shipped,
        description=f"Rooms benchmark v1: {method}.",
        data=replace(shipped.data, size=SIZE, batch_size=8, options=rooms, val_split=""),
        model=model,
        optimizer=replace(shipped.optimizer, name="adamw", lr=rate, backbone_lr_factor=0.3, fusion_lr_factor=10.0),
        schedule=replace(shipped.schedule, steps=STEPS, name="cosine", warmup_steps=50),
        training=replace(shipped.training, ema=0.98, evaluate_every=0, checkpoint_every=500, keep_checkpoints=1),
    )


def untuned(rate: float) -> dict[str, Recipe]:
    """Every method at this rate, and the first one with each task alone."""
    found = {method: with_method(method, rate) for method in METHODS}
    first = found[PLAIN]
    return found | {arm: replace(first, data=replace(first.data, tasks=(name,))) for arm, name in SINGLE.items()}


def arms() -> dict[str, Arm]:
    """Every network at its chosen rate, and the constant predictor."""
    from bench_rates import chosen_rates

    rates = chosen_rates()
    found = {arm: Arm(untuned(rate)[arm]) for arm, rate in rates.items()}
    return {CONSTANT: replace(found[PLAIN], predictor=CONSTANT), **found}


def score(arm: Arm, seed: int, folder: Path) -> Scores:
    """Scores on the test rooms, which trunk it was, and how far DenseMTL's attention takes part."""
    recipe = placed(arm.recipe, seed, folder)
    found = replace(arm, recipe=recipe).score(folder, split="test", limit=SCORED)
    return {**found, "rate": recipe.optimizer.lr, **trunk_of(recipe), **attention_of(arm, folder)}


def attention_of(arm: Arm, folder: Path) -> Scores:
    """Mean |alpha| of the attentions of a trained network whose decoder has such scales: 0 at the start."""
    from triptych.prediction import Predictor

    decoder = Predictor.load(folder, device="cpu").model.decoder if arm.predictor == "trained" else None
    if not isinstance(decoder, DenseMTL):
        return {}
    return {ALPHA: statistics.fmean(value for row in decoder.attention_scales().values() for value in row.values())}


def trunk_of(recipe: Recipe) -> Scores:
    """Which file the trunk's weights came from, for the row: its hash."""
    return {"trunk": checksum(Path(recipe.model.weights))}


def check_trunk(found: list[rows.Row]) -> None:
    """`ValueError` where rows have trunks of two files."""
    if len(trunks := sorted({row.scores["trunk"][:12] for row in found})) > 1:
        raise ValueError(f"rows of two trunks ({', '.join(trunks)}); keep one, move others away.")


STUDY = Study("bench", "c08d7b52", arms, {CONSTANT: SEEDS[:1], **dict.fromkeys((*METHODS, *SINGLE), SEEDS)}, score)


def table(found: list[rows.Row]) -> str:
    """NYUv2's four tasks and PASCAL-Context's five apart, over single-task networks of the same seed; once every row is
    there.
    """
    if len(found) < len(STUDY.jobs()):
        return f"{len(found)} of {len(STUDY.jobs())} rows; the table is shown after all of them."
    check_trunk(found)
    [constant] = rows.by_seed(found, CONSTANT).values()
    alone = {name: rows.by_seed(found, arm) for arm, name in SINGLE.items()}
    single = {seed: {name: each[seed][name] for name, each in alone.items()} for seed in SEEDS}
    goal = means(single, TASKS)
    methods = {method: rows.by_seed(found, method) for method in METHODS}

    def learned(each: BySeed, tasks: tuple[str, ...]) -> int:
        of_tasks = means(each, tasks)
        return sum(has_learned(name, of_tasks[name], constant=constant, goal=goal) for name in tasks)

    def points(each: BySeed, tasks: tuple[str, ...]) -> list[float]:
        return [gain(each[seed], single[seed], tasks) for seed in SEEDS]

    lines = [[CONSTANT, "", "1", *(mean_and_deviation([constant[name]], digits=3) for name in TASKS), "", ""]]
    rates = {row.arm: row.scores["rate"] for row in found if "rate" in row.scores}
    for name, each in {"single-task networks": single, **methods}.items():
        cells = [cell(task, each, constant=constant, goal=goal) for task in TASKS]
        for tasks in (FOUR, FIVE):
            known = learned(each, tasks)
            whole = known == len(tasks)
            cells.append(mean_and_deviation(points(each, tasks), digits=2) if whole else f"– ({known} of {len(tasks)})")
        lines.append([name, f"{rates[name]:g}" if name in rates else "of each", str(len(each)), *cells])
    whole = [points(each, FOUR) for each in methods.values() if learned(each, FOUR) == len(FOUR)]
    deviations = [
        statistics.stdev(a - b for a, b in zip(one, other, strict=True)) for one, other in combinations(whole, 2)
    ]
    left_out = sum(len(TASKS) - learned(each, TASKS) for each in methods.values())
    told = (
        f"In (brackets): {left_out} of {len(methods) * len(TASKS)} cells of methods have not learned; a method has no "
        f"gain over tasks of which one has not. The table orders nothing, as no contrast is tested, and knows "
        f"{SCORED} rooms, the same for all"
    )
    if deviations:
        common = statistics.fmean(each**2 for each in deviations) ** 0.5
        told += (
            f"; {len(SEEDS)} seeds tell two methods {smallest(common, len(SEEDS)):.1f} points apart on NYUv2's tasks, "
            f"in four cases of five (paired t at 5 %, of one pair; differences deviate by {common:.2f} points)"
        )
    if alphas := [row.scores[ALPHA] for row in found if ALPHA in row.scores]:
        told += f". The mean |alpha| of DenseMTL's attention is {mean_and_deviation(alphas, digits=2)}"
    header = ["method", "rate", "seeds", *TASKS, "NYUv2's four %", "PASCAL's five %"]
    return f"{markdown_table(header, lines)}\n\n{told}."


if __name__ == "__main__":
    main(STUDY, table)
