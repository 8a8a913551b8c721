"""Every method at equal backbone, data and steps: trains what is missing, writes the scores in docs/study-3d-tables.md.

python studies/models.py run --out runs       # trains and scores; goes on where it stopped
python studies/models.py report --out runs    # the table in docs/study-3d-tables.md, and results/models.json
python studies/models.py table                # the table alone, from results/models.json
"""

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grid
import paired
from arms import METHODS, SIZE, base
from lab.gains import FIVE, FOUR, HIGHER, gain

from triptych.datasets.rooms import Rooms, rooms_tasks
from triptych.evaluation.constant import ConstantPredictor
from triptych.evaluation.evaluate import evaluate
from triptych.evaluation.scored_runs import ScoredRun
from triptych.recipes.config import ModelConfig, Options, Recipe

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "models.json"
SEEDS = range(3)
LEARNED = 0.25
"""A cell counts once a method has closed so much of the way from a constant predictor to a single-task network."""
TASKS = tuple(rooms_tasks())

HEAD: Options = {"width": 32, "rates": (2, 4, 6), "dropout": 0.1}
"""DeepLab's head on 8 x 10 cells; published: width 256, rates 12, 24, 36 and dropout 0.5 on 60 x 80."""
AFFINITY: Options = {"width": 32, "inner_width": 16, "stride": 8}
TRUNKS: dict[int, tuple[Options, dict[str, tuple[str, Options]]]] = {
    32: ({}, {name: METHODS[name] for name in ("vanilla", "mti-net", "invpt")}),
    16: (
        {"output_stride": 16, "include_stem": True},
        {name: METHODS[name] for name in ("vanilla", "pad-net-plus", "densemtl")},
    ),
    8: (
        {"output_stride": 8},
        {
            "vanilla": METHODS["vanilla"],
            "fcn": ("fcn", {"width": 64}),
            "deeplab": ("deeplab", HEAD),
            "mtan": ("mtan", HEAD),
            "cross-stitch": ("cross-stitch", HEAD),
            "nddr": ("nddr", HEAD),
            "pad-net": ("pad-net", {"width": 32, "fused_width": 64}),
            "atrc": ("atrc", {"width": 32}),
            "pap-pairs": ("pap", {**AFFINITY, "affinity_weight": 1.0}),
            "pap-no-pairs": ("pap", {**AFFINITY, "affinity_weight": 0.0}),
            "psd": ("psd", AFFINITY),
        },
    ),
}
"""Options of the trunk, and the methods on it, by its output stride: nearest to what each was published on.

Strides of 4 to 32 where a method wants a pyramid (HRNet's branches for MTI-Net, the vision transformer's tokens brought
to 32 for InvPT); 16 with the stem's map for DenseMTL's code; 8 for the dilated ResNets of the survey, and for the
methods that read HRNet's maps as one at stride 4. The parameters of the trunk are the same everywhere. Widths are what
keeps a run within some minutes: a task has 64 channels in vanilla's four levels and in FCN's one map, 32 where it has
several such maps.
"""
STARTED = ("cross-stitch", "nddr")
"""Methods that start from trained single-task networks (`single-stride8-...`), as published: half as many steps of
their own, and a higher learning rate for what mixes the tasks (published: 100 times, with SGD).
"""


def name_arm(method: str, stride: int) -> str:
    """The folder of a method's runs."""
    return method if stride == 32 else f"{method}-stride{stride}"


def make_recipe(method: str, stride: int) -> Recipe:
    """A method on the trunk of that output stride."""
    recipe, (trunk, methods) = base("vanilla"), TRUNKS[stride]
    decoder, options = methods[method]
    model = ModelConfig(recipe.model.backbone, decoder, backbone_options=trunk, decoder_options=options)
    recipe = replace(recipe, description=f"Study on generated rooms: {method}.", model=model)
    if method not in STARTED:
        return recipe
    steps = recipe.schedule.steps // 2
    return replace(
        recipe,
        model=replace(model, initialize_from=tuple(f"single-stride8-{name}" for name in TASKS)),
        optimizer=replace(recipe.optimizer, fusion_lr_factor=10.0),
        schedule=replace(recipe.schedule, steps=steps),
        training=replace(recipe.training, evaluate_every=steps // 2, checkpoint_every=steps // 2),
    )


def method_arms() -> dict[str, Recipe]:
    """Every method on its trunk, by the name of the arm."""
    return {
        name_arm(method, stride): make_recipe(method, stride)
        for stride, (_, methods) in TRUNKS.items()
        for method in methods
    }


def single_arms(prefix: str, method: str, stride: int) -> dict[str, Recipe]:
    """One network per task, by task: as the vanilla one, or as Cross-Stitch and NDDR-CNN start from."""
    recipe = make_recipe(method, stride)
    return {
        f"{prefix}-{name}": replace(
            recipe, description=f"Study on generated rooms: {name} alone.", data=replace(recipe.data, tasks=(name,))
        )
        for name in TASKS
    }


def study_jobs() -> list[grid.Job]:
    """Methods that the other study has too come with its splits."""
    singles = single_arms("single", "vanilla", 32) | single_arms("single-stride8", "deeplab", 8)
    return grid.jobs_of(singles | method_arms(), SEEDS, ["test"])


Scores = dict[int, dict[str, float]]
"""The primary number of every task, by seed."""


def read_singles(out: Path, prefix: str) -> Scores:
    """The scores of single-task networks, of the seeds that every task has."""
    runs: dict[str, dict[int, ScoredRun]] = {
        name: paired.scored(out, f"{prefix}-{name}", SEEDS, "test") for name in TASKS
    }
    whole = [seed for seed in SEEDS if all(seed in of_task for of_task in runs.values())]
    return {seed: {name: runs[name][seed].primary(name) for name in TASKS} for seed in whole}


def report(out: Path) -> None:
    """Write the JSON from the runs that are there, and the table from it."""
    reference, deeplab = read_singles(out, "single"), read_singles(out, "single-stride8")
    found = {"single-task networks": (32, reference), "single-task networks, deeplab": (8, deeplab)}
    for stride, (_, methods) in TRUNKS.items():
        for method in methods:
            runs = paired.scored(out, name_arm(method, stride), SEEDS, "test")
            title = f"{method}, stride {stride}" if method == "vanilla" and stride != 32 else method
            found[title] = (stride, {seed: paired.primaries(run) for seed, run in runs.items()})
    content = {
        title: {
            "output_stride": stride,
            "seeds": list(scores),
            "values": {name: [score[name] for score in scores.values()] for name in TASKS},
            "delta_mtl": gains_of(scores, reference),
        }
        for title, (stride, scores) in found.items()
        if scores
    }
    arms = sorted({job[0] for job in study_jobs()})
    grid.write_results(
        RESULTS,
        {
            "command": "python studies/models.py run && python studies/models.py report",
            "data": "generated rooms, 64 x 80, test split",
            "metrics": {name: task.metric().primary for name, task in rooms_tasks().items()},
            "commits": grid.commits(out, arms, SEEDS),
            "constant": constant_scores(),
            "methods": content,
        },
    )
    write_table()


def constant_scores() -> dict[str, float]:
    """The primary numbers of the best prediction that does not look at the image."""
    tasks = rooms_tasks()
    train, test = (Rooms(split=split, size=SIZE, progress=False) for split in ("train", "test"))
    found = evaluate(ConstantPredictor.fit(train, tasks), test, tasks).metrics
    return {name: found[name][task.metric().primary] for name, task in tasks.items()}


def write_table() -> None:
    """The table of docs/study-3d-tables.md, from the JSON alone."""
    content = json.loads(RESULTS.read_text(encoding="utf-8"))
    methods, constant = content["methods"], content["constant"]
    single = methods["single-task networks"]
    goals = {
        name: constant[name] + LEARNED * (statistics.fmean(single["values"][name]) - constant[name]) for name in TASKS
    }
    rows = [["constant predictor", "–", "–", *(f"{constant[name]:.3g}" for name in TASKS), "–", "–"]]
    for title, row in methods.items():
        cells = [mark_unlearned(name, row["values"][name], goals[name]) for name in TASKS]
        gains = [gains_over(row, single, tasks) for tasks in (FOUR, FIVE)]
        rows.append([title, str(row["output_stride"]), str(len(row["seeds"])), *cells, *gains])
    metrics = {name: task.metric() for name, task in rooms_tasks().items()}
    arrows = {True: "↑", False: "↓"}
    titles = [
        f"{name} {each.primary.split('_')[0]} {arrows[each.better[each.primary]]}" for name, each in metrics.items()
    ]
    header = ["method", "output stride", "seeds", *titles, "NYUv2's four % ↑", "PASCAL's five % ↑"]
    grid.replace_section(ROOT / "docs" / "study-3d-tables.md", "scores", grid.markdown_table(header, rows))


def mark_unlearned(name: str, values: Sequence[float], goal: float) -> str:
    """A cell, in brackets where it has not closed `LEARNED` of the way from a constant to a single-task network."""
    cell = grid.mean_and_deviation(values, digits=3)
    mean = statistics.fmean(values)
    return cell if (mean >= goal if HIGHER[name] else mean <= goal) else f"({cell})"


def gains_over(row: Mapping[str, Any], single: Mapping[str, Any], tasks: Sequence[str]) -> str:
    """Mean relative gain over the single-task networks of the same seeds."""
    if row is single:
        return "0"

    def by_seed(of: Mapping[str, Any]) -> Scores:
        return {seed: {name: of["values"][name][i] for name in TASKS} for i, seed in enumerate(of["seeds"])}

    found, reference = by_seed(row), by_seed(single)
    gains = [gain(score, reference[seed], tasks) for seed, score in found.items() if seed in reference]
    return paired.signed(gains) if gains else "–"


def gains_of(scores: Scores, reference: Mapping[int, Mapping[str, float]]) -> list[float]:
    """delta_mtl of every seed that both have."""
    return [paired.gain(score, reference[seed], rooms_tasks()) for seed, score in scores.items() if seed in reference]


if __name__ == "__main__":
    if sys.argv[1:] == ["table"]:
        write_table()
    else:
        grid.run_study(__doc__, study_jobs, report)
