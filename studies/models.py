"""Every method at equal backbone, data and steps: trains what is missing, writes the scores in docs/models.md.

python studies/models.py run --out runs       # trains and scores; goes on where it stopped
python studies/models.py report --out runs    # the table in docs/models.md, and results/models.json
"""

import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import grid
import paired
from arms import METHODS, base

from triptych.datasets.rooms import rooms_tasks
from triptych.evaluation.compare import ScoredRun
from triptych.recipes.config import ModelConfig, Options, Recipe

ROOT = Path(__file__).resolve().parents[1]
SEEDS = range(3)
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
    """Write the table and the JSON from the runs that are there."""
    tasks = rooms_tasks()
    reference, deeplab = read_singles(out, "single"), read_singles(out, "single-stride8")
    found = {"single-task networks": (32, reference), "single-task networks, deeplab": (8, deeplab)}
    for stride, (_, methods) in TRUNKS.items():
        for method in methods:
            runs = paired.scored(out, name_arm(method, stride), SEEDS, "test")
            title = f"{method}, stride {stride}" if method == "vanilla" and stride != 32 else method
            found[title] = (stride, {seed: paired.primaries(run) for seed, run in runs.items()})
    rows, content = [], {}
    for title, (stride, scores) in found.items():
        if not scores:
            continue
        gains = gains_of(scores, reference)
        values = {name: [score[name] for score in scores.values()] for name in TASKS}
        cells = [grid.mean_and_deviation(values[name], digits=3) for name in TASKS]
        gain = "0" if scores is reference else paired.signed(gains) if gains else "–"
        rows.append([title, str(stride), str(len(scores)), *cells, gain])
        content[title] = {"output_stride": stride, "seeds": list(scores), "values": values, "delta_mtl": gains}
    metrics = {name: task.metric() for name, task in tasks.items()}
    arrows = {True: "↑", False: "↓"}
    header = [
        f"{name} {metric.primary.split('_')[0]} {arrows[metric.better[metric.primary]]}"
        for name, metric in metrics.items()
    ]
    table = grid.markdown_table(["method", "output stride", "seeds", *header, "delta_mtl % ↑"], rows)
    grid.replace_section(ROOT / "docs" / "models.md", "scores", table)
    arms = sorted({job[0] for job in study_jobs()})
    grid.write_results(
        ROOT / "results" / "models.json",
        {
            "command": "python studies/models.py run && python studies/models.py report",
            "data": "generated rooms, 64 x 80, test split",
            "metrics": {name: metric.primary for name, metric in metrics.items()},
            "commits": grid.commits(out, arms, SEEDS),
            "methods": content,
        },
    )
    best = max(content, key=lambda title: statistics.fmean(content[title]["delta_mtl"] or [-1e9]), default=None)
    print(f"{len(content)} rows; the best delta_mtl is that of {best}")


def gains_of(scores: Scores, reference: Mapping[int, Mapping[str, float]]) -> list[float]:
    """delta_mtl of every seed that both have."""
    return [paired.gain(score, reference[seed], rooms_tasks()) for seed, score in scores.items() if seed in reference]


if __name__ == "__main__":
    grid.run_study(__doc__, study_jobs, report)
