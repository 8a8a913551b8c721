"""What bfloat16 changes: scores of networks that are trained with it, maps of one that was not, and time.

python benchmarks/precision.py --out runs/precision [--recipe rooms-demo] [--steps 360] [--seeds 3]

Trains the recipe in float32 and in bfloat16 with the same seeds, scores all on the test split in float32, and predicts
the same images with the float32 networks in both precisions. Times of a step are the medians of the log, of runs that
took turns on the same machine; run folders that are there are not trained again.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from triptych import assemble
from triptych.evaluation.run import evaluate_run
from triptych.prediction import Predictor
from triptych.recipes import load_recipe
from triptych.recipes.config import Recipe
from triptych.training.loop import train

PRECISIONS = ("no", "bf16")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--recipe", default="rooms-demo")
    parser.add_argument("--steps", type=int, default=0, help="0: those of the recipe")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=20, help="images whose maps are compared")
    chosen = parser.parse_args()
    recipe = load_recipe(chosen.recipe)
    if chosen.steps:
        recipe = replace(recipe, schedule=replace(recipe.schedule, steps=chosen.steps))
    runs = {precision: [] for precision in PRECISIONS}
    for seed in range(chosen.seeds):
        for precision in PRECISIONS:
            runs[precision].append(trained(recipe, seed, precision, chosen.out))
    print(scores_table(runs))
    print(f"\nstep, bf16 / float32: {time_ratio(runs):.2f} (medians of the same machine, taking turns)\n")
    print(maps_table(recipe, runs["no"][0], chosen.images))


def trained(recipe: Recipe, seed: int, precision: str, out: Path) -> Path:
    """A finished and scored run."""
    run = out / f"{precision}-{seed}"
    if not (run / "evaluation-test.json").is_file():
        training = replace(recipe.training, precision=precision)  # type: ignore[arg-type]
        train(replace(recipe, seed=seed, training=training), run, resume=run.is_dir(), device="cpu", progress=False)
        evaluate_run(run, device="cpu", progress=False)
    return run


def scores_table(runs: dict[str, list[Path]]) -> str:
    """A line per number: mean and deviation over seeds, and the paired difference."""
    scores = {precision: [read_scores(run) for run in each] for precision, each in runs.items()}
    lines = ["| number | float32 | bf16 | difference |", "| --- | --- | --- | --- |"]
    for name in scores["no"][0]:
        plain, half = ([each[name] for each in scores[precision]] for precision in PRECISIONS)
        gaps = [second - first for first, second in zip(plain, half, strict=True)]
        lines.append(f"| {name} | {spread(plain)} | {spread(half)} | {spread(gaps, '+')} |")
    return "\n".join(lines)


def read_scores(run: Path) -> dict[str, float]:
    metrics = json.loads((run / "evaluation-test.json").read_text())["metrics"]
    return {f"{task} {name}": value for task, name, value in numbers(metrics)}


def numbers(metrics: dict) -> Iterator[tuple[str, str, float]]:
    for task, values in metrics.items():
        for name, value in values.items():
            if isinstance(value, int | float):
                yield task, name, float(value)


def spread(values: list[float], sign: str = "") -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):{sign}.4g} ± {deviation:.2g}"


def time_ratio(runs: dict[str, list[Path]]) -> float:
    def speed(run: Path) -> float:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return statistics.median(line["images_per_second"] for line in lines if line["kind"] == "train")

    return statistics.median(speed(a) / speed(b) for a, b in zip(runs["no"], runs["bf16"], strict=True))


def maps_table(recipe: Recipe, run: Path, count: int) -> str:
    """How far maps of one network in bfloat16 are from its own in float32, beside their spread over the images."""
    plain, half = (Predictor.load(run, device="cpu", precision=precision) for precision in PRECISIONS)
    images = assemble.build_dataset(recipe, recipe.data.test_split)
    found: dict[str, list[np.ndarray]] = {}
    values: dict[str, list[np.ndarray]] = {}
    for index in range(min(count, len(images))):
        first, second = (predictor(images[index].image) for predictor in (plain, half))
        for name, task in plain.tasks.items():
            gap = (first[name] != second[name]) if task.kind == "labels" else np.abs(first[name] - second[name])
            found.setdefault(name, []).append(gap.astype(np.float64))
            values.setdefault(name, []).append(np.asarray(first[name], np.float64))
    lines = ["| task | mean difference | standard deviation of the map |", "| --- | --- | --- |"]
    for name, task in plain.tasks.items():
        mean = np.mean([each.mean() for each in found[name]])
        whole = np.mean([each.std() for each in values[name]])
        lines.append(
            f"| {name} | {mean:.2%} of the pixels | |"
            if task.kind == "labels"
            else f"| {name} | {mean:.2g} | {whole:.2g} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
