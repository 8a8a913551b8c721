"""Adapting from the first look of the rooms to the second without its labels, and depth from video without labels.

python studies/adaptation.py run --out runs       # trains and scores; goes on where it stopped
python studies/adaptation.py adabn --out runs     # every finished run again with the target's batch norm statistics
python studies/adaptation.py report --out runs    # docs/study-adaptation.md, results/study-adaptation.json

Every network is scored on the target's test rooms. `source only` never saw the target, `oracle` was trained on the
target's labels; the share of the gap between them that a method closes is (method - source) / (oracle - source).
`statistics only` sees the target's images and learns nothing from them: running statistics of its norms are of both
domains, as those of every adapter's network. What a method gains beyond it is the method's. `METHOD + adabn` is the
network of a finished run with the statistics of the target alone: what a method gains there, its weights have learned.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import grid
import paired
from arms import SIZE, base

from triptych.adaptation import ADAPTERS
from triptych.evaluation.evaluate import evaluate_run
from triptych.recipes.config import AdaptationConfig, Options, Recipe
from triptych.training.adapted_run import adapt_run

ROOT = Path(__file__).resolve().parents[1]
SEEDS = range(3)
SPLIT = "target-test"
TASKS = ("semseg", "depth")
AFTER = " + adabn"
ADAPTER_OPTIONS: dict[str, Options] = {"advent-mt": {"width": 16}}


def arms_of(method: str) -> dict[str, Recipe]:
    """Source only, every adapter, one of weight 0 and the oracle, on one architecture."""
    plain = base(method)
    data = replace(plain.data, tasks=TASKS, val_split="", test_split=SPLIT)
    target = AdaptationConfig(dataset="rooms", dataset_options={"size": SIZE, "look": "b"})
    source = replace(
        plain,
        description=f"Adaptation on generated rooms: {method}, source only.",
        data=data,
        adaptation=target,
        training=replace(plain.training, evaluate_every=0),
    )
    found = {"source only": source}
    for name in ADAPTERS:
        config = replace(target, name=name, options=ADAPTER_OPTIONS.get(name, {}))
        found[name] = replace(source, description=f"{source.description[:-13]} {name}.", adaptation=config)
    found["statistics only"] = replace(
        source,
        description=f"{source.description[:-13]} statistics only.",
        adaptation=replace(target, name="min-ent", options={"weight": 0.0}),
    )
    seen = replace(data, options={**data.options, "look": "b"})
    found["oracle"] = replace(source, description=f"{source.description[:-13]} oracle.", data=seen)
    return {f"adaptation/{method}/{name}": recipe for name, recipe in found.items()}


def study_jobs() -> list[grid.Job]:
    """Seed by seed, both architectures."""
    return grid.jobs_of(arms_of("vanilla") | arms_of("densemtl"), SEEDS, [SPLIT])


def score_after_adabn(
    arms: Mapping[str, Recipe], out: Path, *, seeds: Iterable[int] = SEEDS, device: str = "cpu"
) -> int:
    """Adapt and score every scored run of `arms` that this was not done to; returns how many there were.

    The run of an arm and a seed becomes one of the arm `<arm> + adabn`. Those that `adabn` trained are what it would
    make of them already.
    """
    done = 0
    for seed in seeds:
        for arm, recipe in arms.items():
            run, new = grid.folder(out, arm, seed), grid.folder(out, arm + AFTER, seed)
            scores = f"evaluation-{SPLIT}.json"
            if recipe.adaptation.name == "adabn" or not (run / scores).is_file() or (new / scores).is_file():
                continue
            if not (new / "model.safetensors").is_file():
                adapt_run(run, replace(recipe.adaptation, name="adabn", options={}), new, device=device)
            evaluate_run(new, split=SPLIT, device=device, constant=False, progress=False)
            done += 1
    return done


def closed(found: dict[str, Any], oracle: dict[str, Any], task: str) -> list[float]:
    """The share of the gap to the oracle that was closed, percent, seed by seed."""
    one, two = found["tasks"][task], oracle["tasks"][task]
    tops = dict(zip(oracle["seeds"], two["other"], strict=True))
    return [
        100 * (value - low) / (tops[seed] - low)
        for seed, value, low in zip(found["seeds"], one["other"], one["baseline"], strict=True)
        if seed in tops and tops[seed] != low
    ]


def report(out: Path) -> None:
    """Write the tables and the JSON from the runs that are there."""
    content: dict[str, Any] = {}
    rows = []
    for method in ("vanilla", "densemtl"):
        source = f"adaptation/{method}/source only"
        arms = [each for arm in arms_of(method) for each in (arm, arm + AFTER)]
        pairs = {arm.rsplit("/", 1)[1]: paired.compare(out, source, arm, SEEDS, SPLIT) for arm in arms}
        found = {name: pair for name, pair in pairs.items() if pair is not None}
        content[method] = found
        for name, pair in found.items():
            cells = []
            for task in TASKS:
                numbers = pair["tasks"][task]
                share = closed(pair, found["oracle"], task) if "oracle" in found else []
                low, high = numbers["interval"]
                cells += [
                    grid.mean_and_deviation(numbers["other"], digits=3),
                    "–" if name == "source only" else f"{numbers['difference']:+.3f} [{low:+.3f}, {high:+.3f}]",
                    "–" if name in ("source only", "oracle") or not share else f"{paired.signed(share, digits=0)} %",
                ]
            rows.append([method, name, str(len(pair["seeds"])), *cells])
    header = ["network", "training", "seeds"]
    for task, metric in (("semseg", "mIoU ↑"), ("depth", "rmse ↓")):
        header += [f"{task} {metric}", "difference [95 % over images]", "gap closed"]
    grid.replace_section(ROOT / "docs" / "study-adaptation.md", "adaptation", grid.markdown_table(header, rows))
    grid.write_results(
        ROOT / "results" / "study-adaptation.json",
        {
            "command": "python studies/adaptation.py run && python studies/adaptation.py report",
            "data": "generated rooms, look a to look b, 64 x 80, test rooms of look b",
            "commits": grid.commits(out, [*arms_of("vanilla"), *arms_of("densemtl")], SEEDS),
            "pairs": content,
        },
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["adabn"]:
        parser = argparse.ArgumentParser(description=score_after_adabn.__doc__)
        parser.add_argument("--out", type=Path, default=Path("runs/studies"))
        found = parser.parse_args(sys.argv[2:])
        print(f"{score_after_adabn(arms_of('vanilla') | arms_of('densemtl'), found.out)} runs adapted and scored")
    else:
        grid.run_study(__doc__, study_jobs, report)
