"""The study of the 3D-aware regularizer: trains what is missing, writes docs/study-3d.md and results/study-3d.json.

python studies/triplane.py sweep --out runs     # choose the configuration on the validation split
python studies/triplane.py main --out runs      # architectures, controls, sizes, data, on the test split
python studies/triplane.py report --out runs    # tables from the saved runs alone

Each part goes on where it stopped. One run uses one thread; `--workers` says how many go side by side.
"""

import argparse
from pathlib import Path

import grid
from arms import base, with_regularizer

from triptych.recipes.config import Recipe

FINALISTS = (
    "weight 1 (default)",
    "weight 0.03",
    "lift last",
    "planes pooled",
    "annealed to 0",
    "semseg alone",
    "annealed, weight 0.1, lift last",
)
"""Of the sweep: the default, the five best of seed 0 on the validation split, and what the best of them make together."""
MAIN_SEEDS = range(5)
ARCHITECTURES = ("vanilla", "pad-net", "mti-net", "invpt", "densemtl")
IMAGES = {"10 %": 40, "25 %": 100, "50 %": 200}
CHOSEN: dict[str, object] = {}
"""Options of the configuration that the sweep chose, over the defaults; see docs/study-3d.md."""


def sweep_arms() -> dict[str, Recipe]:
    """One switch at a time on the vanilla network, beside the network alone."""
    plain = base("vanilla")
    steps = plain.schedule.steps
    switches: dict[str, dict[str, object]] = {
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
        "annealed to 0": {"schedule": "linear", "schedule_steps": steps},
        "annealed, weight 0.1, lift last": {
            "schedule": "linear",
            "schedule_steps": steps,
            "weight": 0.1,
            "lift": "last",
        },
        "semseg alone": {"rendered": ("semseg",)},
        "depth and normals alone": {"rendered": ("normals", "depth")},
    }
    arms = {"vanilla": plain}
    return arms | {f"sweep/{key}": with_regularizer(plain, **options) for key, options in switches.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["sweep", "main", "report"])
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.part == "sweep":
        arms = sweep_arms()
        jobs = grid.jobs_of(arms, [0], ["val"])
        jobs += grid.jobs_of({"vanilla": arms["vanilla"]}, [1, 2], ["val"])
        jobs += grid.jobs_of({f"sweep/{name}": arms[f"sweep/{name}"] for name in FINALISTS}, [1, 2], ["val"])
        grid.run_all(jobs, arguments.out, workers=arguments.workers)


if __name__ == "__main__":
    main()
