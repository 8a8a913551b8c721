"""Every method at equal backbone, data and steps: trains what is missing, writes the scores in docs/models.md.

python studies/models.py run --out runs       # trains and scores; goes on where it stopped
python studies/models.py report --out runs    # the table in docs/models.md, and results/models.json
"""

import statistics
from dataclasses import replace
from pathlib import Path

import grid
import paired
from arms import METHODS, base

from triptych.datasets.rooms import rooms_tasks
from triptych.recipes.config import Recipe

ROOT = Path(__file__).resolve().parents[1]
SEEDS = range(3)
TASKS = tuple(rooms_tasks())


def single_arms() -> dict[str, Recipe]:
    """One network per task, as the vanilla one: what delta_mtl compares with."""
    vanilla = base("vanilla")
    return {
        f"single-{name}": replace(
            vanilla, description=f"Study on generated rooms: {name} alone.", data=replace(vanilla.data, tasks=(name,))
        )
        for name in TASKS
    }


def study_jobs() -> list[grid.Job]:
    """Methods that the other study has too come with its splits."""
    methods = {name: base(name) for name in METHODS}
    return grid.jobs_of(single_arms() | methods, SEEDS, ["test"])


def report(out: Path) -> None:
    """Write the table and the JSON from the runs that are there."""
    singles = {name: paired.scored(out, f"single-{name}", SEEDS, "test") for name in TASKS}
    with_all = [seed for seed in SEEDS if all(seed in runs for runs in singles.values())]
    metrics = {name: task.metric() for name, task in rooms_tasks().items()}
    arrows = {True: "↑", False: "↓"}
    rows, content = [], {}
    cells = [grid.mean_and_deviation([run.primary(name) for run in singles[name].values()], digits=3) for name in TASKS]
    rows.append(["single-task networks", str(len(with_all)), *cells, "0"])
    for method in METHODS:
        runs = paired.scored(out, method, SEEDS, "test")
        if not runs:
            continue
        gains = [
            paired.gain(paired.primaries(run), {name: singles[name][seed].primary(name) for name in TASKS}, run.tasks)
            for seed, run in runs.items()
            if seed in with_all
        ]
        cells = paired.values_row(out, method, SEEDS, "test", TASKS)
        rows.append([method, str(len(runs)), *cells, paired.signed(gains) if gains else "–"])
        values = {name: [run.primary(name) for run in runs.values()] for name in TASKS}
        content[method] = {"seeds": list(runs), "values": values, "delta_mtl": gains}
    header = [
        f"{name} {metric.primary.split('_')[0]} {arrows[metric.better[metric.primary]]}"
        for name, metric in metrics.items()
    ]
    table = grid.markdown_table(["method", "seeds", *header, "delta_mtl % ↑"], rows)
    grid.replace_section(ROOT / "docs" / "models.md", "scores", table)
    grid.write_results(
        ROOT / "results" / "models.json",
        {
            "command": "python studies/models.py run && python studies/models.py report",
            "data": "generated rooms, 64 x 80, test split",
            "metrics": {name: metric.primary for name, metric in metrics.items()},
            "commits": grid.commits(out, [*METHODS, *single_arms()], SEEDS),
            "single": {name: [run.primary(name) for run in runs.values()] for name, runs in singles.items()},
            "methods": content,
        },
    )
    best = max(content, key=lambda name: statistics.fmean(content[name]["delta_mtl"] or [-1e9]), default=None)
    print(f"{len(content)} methods; the best delta_mtl is {best}'s")


if __name__ == "__main__":
    grid.run_study(__doc__, study_jobs, report)
