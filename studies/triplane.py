"""The study of the 3D-aware regularizer: trains what is missing, writes docs/study-3d.md and results/study-3d.json.

python studies/triplane.py sweep --out runs     # choose the configuration on the validation split
python studies/triplane.py main --out runs      # architectures, controls, sizes, data, on the test split
python studies/triplane.py real --out runs      # photographs, where they lie beside the checkout
python studies/triplane.py report --out runs    # tables from the saved runs alone

Each part goes on where it stopped. One run uses one thread; `--workers` says how many go side by side.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import grid
import paired
from arms import base, with_regularizer

from triptych.recipes.config import DataConfig, Options, Recipe

ROOT = Path(__file__).resolve().parents[1]
FINALISTS = (
    "weight 1 (default)",
    "weight 0.03",
    "lift last",
    "planes pooled",
    "annealed to 0",
    "semseg alone",
    "annealed, weight 0.1, lift last",
)
"""Of the sweep: the default, the five best of seed 0 on the validation split, and the best of them together."""
MAIN_SEEDS = range(5)
MORE_SEEDS = range(3)
ARCHITECTURES = ("vanilla", "pad-net", "mti-net", "invpt", "densemtl")
IMAGES = {"10 %": 40, "25 %": 100, "50 %": 200}
REAL = {"bsds500_sod": "val", "camvid": "test"}
CHOSEN: Options = {"schedule": "linear"}
"""What the sweep chose over the defaults: the weight falls to 0 at the end; see docs/study-3d.md."""


def sweep_jobs() -> list[grid.Job]:
    """Every switch with one seed, then more seeds for the finalists."""
    arms = sweep_arms()
    finalists = {name: arms[name] for name in ("vanilla", *(f"sweep/{name}" for name in FINALISTS))}
    return grid.jobs_of(arms, [0], ["val"]) + grid.jobs_of(finalists, [1, 2], ["val"])


def sweep_arms() -> dict[str, Recipe]:
    """One switch at a time on the vanilla network, beside the network alone."""
    plain = base("vanilla")
    switches: dict[str, Options] = {
        "weight 0.03": {"weight": 0.03},
        "weight 0.1": {"weight": 0.1},
        "weight 0.3": {"weight": 0.3},
        "weight 1 (default)": {},
        "lift last": {"lift": "last"},
        "lift nearest": {"lift": "nearest"},
        "planes pooled": {"planes": "pooled"},
        "camera metric": {"camera": "metric"},
        "density shared": {"density": "shared"},
        "depth from termination": {"depth_from": "termination"},
        "aggregation product": {"aggregation": "product"},
        "8 samples": {"num_samples": 8},
        "32 samples": {"num_samples": 32},
        "stride 4": {"stride": 4},
        "annealed to 0": {"schedule": "linear"},
        "annealed, weight 0.1, lift last": {"schedule": "linear", "weight": 0.1, "lift": "last"},
        "semseg alone": {"rendered": ("semseg",)},
        "depth and normals alone": {"rendered": ("normals", "depth")},
    }
    arms = {"vanilla": plain}
    return arms | {f"sweep/{key}": with_regularizer(plain, **options) for key, options in switches.items()}


CONTROLS = {
    "xy plane and depth code": "triplane-xy",
    "one sample": "triplane-single-sample",
    "uniform weights": "triplane-uniform",
    "shuffled depth": "triplane-shuffled",
    "auxiliary heads": "auxiliary-heads",
    "2D decoder": "decoder-2d",
}
"""What the triplane is compared with: the same options where they apply, or as many parameters."""
CONTROL_OPTIONS: dict[str, Options] = {"triplane-single-sample": {"num_samples": 1}}


def pairs() -> dict[str, tuple[str, str]]:
    """Title to the arms (network, network with the regularizer) of every comparison of the main part."""
    found = {name: (name, f"{name}+3d") for name in ARCHITECTURES}
    found["vanilla, large backbone"] = ("large", "large+3d")
    found |= {f"vanilla, {title} of the images": (f"images-{n}", f"images-{n}+3d") for title, n in IMAGES.items()}
    found["vanilla, default options"] = ("vanilla", "sweep/weight 1 (default)")
    return found | {f"vanilla, {title}": ("vanilla", f"control/{title}") for title in CONTROLS}


def main_arms() -> dict[str, Recipe]:
    """Every arm that `pairs` names."""
    arms = {name: base(name) for name in ARCHITECTURES}
    arms["large"] = base("vanilla", backbone="large")
    arms |= {f"images-{count}": base("vanilla", images=count) for count in IMAGES.values()}
    arms |= {f"{name}+3d": with_regularizer(recipe, **CHOSEN) for name, recipe in arms.items()}
    name = "sweep/weight 1 (default)"
    arms[name] = sweep_arms()[name]
    vanilla = base("vanilla")
    return arms | {
        f"control/{title}": with_regularizer(vanilla, key, **CHOSEN, **CONTROL_OPTIONS.get(key, {}))
        for title, key in CONTROLS.items()
    }


def main_jobs() -> list[grid.Job]:
    """The main pair first, what costs most last; within a block seed by seed, so that a study cut short is balanced."""
    arms, named = main_arms(), pairs()
    asides = [*(f"vanilla, {title} of the images" for title in IMAGES), *(f"vanilla, {title}" for title in CONTROLS)]
    blocks = [
        (["vanilla"], MAIN_SEEDS),
        (asides, MORE_SEEDS),
        (["pad-net", "mti-net", "invpt"], MORE_SEEDS),
        (["vanilla, default options", "vanilla, large backbone"], MORE_SEEDS),
        (["densemtl"], MORE_SEEDS),
        (list(named), MAIN_SEEDS),
    ]
    jobs: dict[tuple[str, int], grid.Job] = {}
    for titles, seeds in blocks:
        chosen = {arm: arms[arm] for title in titles for arm in named[title]}
        jobs |= {job[:2]: job for job in grid.jobs_of(chosen, seeds, ["test"]) if job[:2] not in jobs}
    return list(jobs.values())


def real_arms() -> dict[str, Recipe]:
    """Photographs that lie beside the checkout (examples/real-data), with and without the regularizer; no selection."""
    vanilla = base("vanilla", steps=200)
    arms = {}
    for name in REAL:
        data = DataConfig(dataset="folder", root=f"examples/real-data/{name}.toml", size=(96, 128), val_split="")
        arms[f"real/{name}"] = replace(
            vanilla,
            description=f"Study on photographs: {name}.",
            data=data,
            training=replace(vanilla.training, evaluate_every=0),
        )
    return arms | {f"{name}+3d": with_regularizer(recipe, **CHOSEN) for name, recipe in arms.items()}


def real_jobs() -> list[grid.Job]:
    """BSDS500 is scored on its validation photographs, where both tasks have labels; nothing was chosen on them."""
    arms = real_arms()
    return [
        job
        for name, split in REAL.items()
        for job in grid.jobs_of({a: arms[a] for a in (f"real/{name}", f"real/{name}+3d")}, MORE_SEEDS, [split])
    ]


def report(out: Path) -> None:
    """Write the tables of docs/study-3d.md and results/study-3d.json from the runs that are there."""
    sweep = {}
    for arm in sweep_arms():
        found = paired.compare(out, "vanilla", arm, MORE_SEEDS, "val") if arm != "vanilla" else None
        if found is not None:
            sweep[arm.removeprefix("sweep/")] = found
    ranked = dict(sorted(sweep.items(), key=lambda item: -statistics.fmean(item[1]["gain"])))
    main_part = {title: paired.compare(out, *arms, MAIN_SEEDS, "test") for title, arms in pairs().items()}
    main_part = {title: found for title, found in main_part.items() if found is not None}
    real = {
        f"{name}, {split}": paired.compare(out, f"real/{name}", f"real/{name}+3d", MORE_SEEDS, split)
        for name, split in REAL.items()
    }
    real = {title: found for title, found in real.items() if found is not None}
    page = ROOT / "docs" / "study-3d.md"
    grid.replace_section(page, "real", "\n\n".join(paired.gains_table([item]) for item in real.items()))
    grid.replace_section(page, "sweep", paired.gains_table(ranked.items()))
    grid.replace_section(page, "main", paired.gains_table(main_part.items()))
    arms = {*sweep_arms(), *main_arms(), *real_arms()}
    grid.write_results(
        ROOT / "results" / "study-3d.json",
        {
            "command": "python studies/triplane.py sweep && python studies/triplane.py main && "
            "python studies/triplane.py real && "
            "python studies/triplane.py report",
            "data": "generated rooms, 64 x 80; photographs: BSDS500 with SOD masks, CamVid, crops of 96 x 128",
            "commits": grid.commits(out, arms, MAIN_SEEDS),
            "chosen": CHOSEN,
            "sweep": ranked,
            "main": main_part,
            "photographs": real,
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["sweep", "main", "real", "report"])
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    jobs = {"sweep": sweep_jobs, "main": main_jobs, "real": real_jobs, "report": list}[arguments.part]()
    failed = grid.run_all(jobs, arguments.out, workers=arguments.workers)
    for name, reason in failed.items():
        print(f"{name} failed: {reason}")
    if arguments.part == "report":
        report(arguments.out)


if __name__ == "__main__":
    main()
