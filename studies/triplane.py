"""The first study of the 3D-aware regularizer: trains what is missing, writes docs/study-3d-tables.md and its JSON.

python studies/triplane.py sweep --out runs     # choose the configuration on the validation split
python studies/triplane.py weights --out runs   # its weight, schedule and samples, with more seeds
python studies/triplane.py main --out runs      # architectures, controls, sizes, data, on the test split
python studies/triplane.py views --out runs     # camera paths, with a second view and without
python studies/triplane.py ablations --out runs # what is rendered, how finely, other regularizers
python studies/triplane.py real --out runs      # photographs, where they lie beside the checkout
python studies/triplane.py report --out runs    # tables from the saved runs alone

Each part goes on where it stopped. One run uses one thread; `--workers` says how many go side by side. `--steps 4`
tries a part out with a few steps, in a folder of its own: such runs are no study.
"""

import argparse
import itertools
import multiprocessing
import statistics
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grid
import paired
import triplane_ablations
import triplane_arms
from triplane_arms import ANNEALED, CONTROLS, FINALISTS, IMAGES, REAL, SAMPLES, VIEWS, WEIGHTS

ROOT = Path(__file__).resolve().parents[1]
MORE_SEEDS, MAIN_SEEDS, ALL_SEEDS = range(3), range(5), range(10)
AGAIN = ("vanilla", "vanilla, one sample", "vanilla, auxiliary heads", "vanilla, 2D decoder")
"""Pairs with twice the seeds: whether five fresh ones repeat what the first five gave."""


def sweep_jobs() -> list[grid.Job]:
    """Every switch with one seed, then more seeds for the finalists."""
    arms = triplane_arms.sweep_arms()
    finalists = {name: arms[name] for name in ("vanilla", *(f"sweep/{name}" for name in FINALISTS))}
    return grid.jobs_of(arms, [0], ["val"]) + grid.jobs_of(finalists, [1, 2], ["val"])


def weight_jobs() -> list[grid.Job]:
    """Weights, samples and switches under the chosen schedule, on the validation split."""
    return grid.jobs_of(triplane_arms.weight_arms(), MORE_SEEDS, ["val"])


def main_jobs() -> list[grid.Job]:
    """The main pair first, what costs most last; within a block seed by seed, so that a study cut short is balanced."""
    arms, named = triplane_arms.main_arms(), triplane_arms.pairs()
    asides = [*(f"vanilla, {title} of the images" for title in IMAGES), *(f"vanilla, {title}" for title in CONTROLS)]
    blocks = [
        (["vanilla"], MAIN_SEEDS),
        (AGAIN, ALL_SEEDS),
        (asides, MORE_SEEDS),
        (["pad-net", "mti-net", "invpt"], MORE_SEEDS),
        (["vanilla, constant weight", "vanilla, large backbone"], MORE_SEEDS),
        (["densemtl"], MORE_SEEDS),
        (list(named), MAIN_SEEDS),
    ]
    jobs: dict[tuple[str, int], grid.Job] = {}
    for titles, seeds in blocks:
        chosen = {arm: arms[arm] for title in titles for arm in named[title]}
        jobs |= {job[:2]: job for job in grid.jobs_of(chosen, seeds, ["test"]) if job[:2] not in jobs}
    return list(jobs.values())


def view_jobs() -> list[grid.Job]:
    """Camera paths: three seeds of all arms, then two more."""
    return grid.jobs_of(triplane_arms.view_arms(), MAIN_SEEDS, ["test"])


def real_jobs() -> list[grid.Job]:
    """BSDS500 is scored on its validation photographs, where both tasks have labels; nothing was chosen on them. The
    pair with the triplane gets more seeds than the controls.
    """
    arms = triplane_arms.real_arms()
    named = [(pair, split) for name, split in REAL.items() for pair in triplane_arms.photographs(name).values()]
    main = [(next(iter(triplane_arms.photographs(name).values())), split) for name, split in REAL.items()]
    jobs: dict[tuple[str, int], grid.Job] = {}
    for chosen, seeds in ((main, MORE_SEEDS), (named, MORE_SEEDS), (main, MAIN_SEEDS)):
        for seed, (pair, split) in itertools.product(seeds, chosen):
            found = grid.jobs_of({arm: arms[arm] for arm in pair}, [seed], [split])
            jobs |= {job[:2]: job for job in found if job[:2] not in jobs}
    return list(jobs.values())


def ablation_jobs() -> list[grid.Job]:
    """What readers asked: three seeds of everything."""
    return grid.jobs_of(triplane_ablations.ablation_arms(), MORE_SEEDS, ["test"])


PARTS = {
    "sweep": sweep_jobs,
    "weights": weight_jobs,
    "main": main_jobs,
    "views": view_jobs,
    "ablations": ablation_jobs,
    "real": real_jobs,
}


def shortened(jobs: Iterable[grid.Job], steps: int) -> list[grid.Job]:
    """The first seed of every arm, with few steps: whether it runs at all."""
    short = {}
    for arm, seed, recipe, splits in jobs:
        every = min(recipe.training.evaluate_every, steps)
        training = replace(recipe.training, checkpoint_every=steps, evaluate_every=every, evaluate_limit=8)
        recipe = replace(recipe, schedule=replace(recipe.schedule, steps=steps, warmup_steps=1), training=training)
        short.setdefault(arm, (arm, seed, recipe, splits))
    return list(short.values())


Comparison = tuple[tuple[str, str], range, str]
"""Two arms, the seeds, the split."""


def comparisons() -> dict[str, dict[str, Comparison]]:
    """What the tables compare: by table and title."""

    def validated(arms: Mapping[str, str]) -> dict[str, Comparison]:
        return {title: (("vanilla", arm), MORE_SEEDS, "val") for title, arm in arms.items()}

    ablations = {
        name: {title: (arms, MORE_SEEDS, "test") for title, arms in named.items()}
        for name, named in triplane_ablations.pairs().items()
    }
    sweep = {arm.removeprefix("sweep/"): arm for arm in triplane_arms.sweep_arms() if arm != "vanilla"}
    return {
        "sweep": validated(sweep),
        "weight": validated(WEIGHTS),
        "samples": validated(SAMPLES),
        "annealed": validated(ANNEALED),
        "main": {title: (arms, ALL_SEEDS, "test") for title, arms in triplane_arms.pairs().items()},
        "views": {title: (arms, MAIN_SEEDS, "test") for title, arms in VIEWS.items()},
        "photographs": {
            title: (arms, MAIN_SEEDS, split)
            for name, split in REAL.items()
            for title, arms in triplane_arms.photographs(name).items()
        },
        **ablations,
    }


def compare(out: Path, comparison: Comparison) -> dict[str, Any] | None:
    """One row; `None` where no seed has both arms."""
    arms, seeds, split = comparison
    return paired.compare(out, *arms, seeds, split)


def report(out: Path, *, workers: int) -> None:
    """Write the tables of docs/study-3d-tables.md and results/study-3d.json from the runs that are there."""
    named = comparisons()
    wanted = list(dict.fromkeys(each for rows in named.values() for each in rows.values()))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = dict(zip(wanted, pool.map(partial(compare, out), wanted), strict=True))
    tables = {
        name: {title: row for title, each in rows.items() if (row := found[each]) is not None}
        for name, rows in named.items()
    }
    tables["sweep"] = dict(sorted(tables["sweep"].items(), key=lambda item: -statistics.fmean(item[1]["gain"])))
    page = ROOT / "docs" / "study-3d-tables.md"
    for name in ("sweep", "weight", "samples", "annealed", "main", "views", *triplane_ablations.pairs()):
        grid.replace_section(page, name, paired.gains_table(tables[name].items()))
    photographs = tables["photographs"]
    sets = ([(title, photographs.get(title)) for title in triplane_arms.photographs(name)] for name in REAL)
    grid.replace_section(page, "real", "\n\n".join(map(paired.gains_table, sets)))
    arms = {job[0] for jobs in PARTS.values() for job in jobs()}
    grid.write_results(
        ROOT / "results" / "study-3d.json",
        {
            "command": " && ".join(f"python studies/triplane.py {part}" for part in (*PARTS, "report")),
            "data": "generated rooms, 64 x 80; photographs: BSDS500 with SOD masks, CamVid, crops of 96 x 128",
            "commits": grid.commits(out, arms, ALL_SEEDS),
            "chosen": triplane_arms.CHOSEN,
            **tables,
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "report"])
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=0, help="try the part out with so few steps")
    arguments = parser.parse_args()
    if arguments.part == "report":
        report(arguments.out, workers=arguments.workers)
        return
    jobs = PARTS[arguments.part]()
    if arguments.steps:
        jobs = shortened(jobs, arguments.steps)
    for name, reason in grid.run_all(jobs, arguments.out, workers=arguments.workers).items():
        print(f"{name} failed: {reason}")


if __name__ == "__main__":
    main()
