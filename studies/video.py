"""Depth from video against depth from labels, on the same frames of generated camera paths.

python studies/video.py run --out runs       # trains and scores; goes on where it stopped
python studies/video.py report --out runs    # the table of docs/study-adaptation.md, and results/study-video.json
"""

import json
from dataclasses import replace
from pathlib import Path

import grid
import torch
from arms import SIZE

from triptych import assemble
from triptych.evaluation.evaluate import evaluate
from triptych.recipes import RECIPES
from triptych.recipes.config import Recipe, Value, VideoConfig

ROOT = Path(__file__).resolve().parents[1]
SEEDS = range(3)
STEPS = 400
NUMBERS = ("absrel_aligned", "rmse_aligned", "delta1_aligned", "rmse")


def arms() -> dict[str, Recipe]:
    """The recipe `rooms-video` at the size of the studies, the last weights are kept.

    `self-supervised` finds motions by alignment, `known poses` is told them (depth is then metric, hence other bounds),
    `pose network` learns to see them; `supervised` has labels of depth and no neighbors.
    """
    recipe = RECIPES["rooms-video"]
    video = replace(
        recipe,
        data=replace(recipe.data, size=SIZE, val_split="", options={**recipe.data.options, "size": SIZE}),
        schedule=replace(recipe.schedule, steps=STEPS),
        training=replace(recipe.training, evaluate_every=0, checkpoint_every=STEPS // 2),
    )

    def with_poses(**options: Value) -> Recipe:
        return replace(video, video=replace(video.video, options={**video.video.options, **options}))

    return {
        "video/self-supervised": video,
        "video/known poses": with_poses(poses="known", near=0.3, far=12.0),
        "video/supervised": replace(video, video=VideoConfig()),
        "video/pose network": with_poses(poses="network", pose_backbone="resnet18_half"),
    }


def study_jobs() -> list[grid.Job]:
    """Every arm, seed by seed."""
    return grid.jobs_of(arms(), SEEDS, ["test"])


def read(out: Path, arm: str) -> dict[str, list[float]]:
    """Numbers of the scored runs, and those of the best constant."""
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        path = grid.folder(out, arm, seed) / "evaluation-test.json"
        if path.is_file():
            metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
            for name in NUMBERS:
                found.setdefault(name, []).append(metrics["depth"][name])
            found.setdefault("semseg mIoU", []).append(metrics["semseg"]["mIoU"])
    return found


class Constant:
    """The same depth everywhere: what scaling by the median alone achieves."""

    def predict(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"depth": torch.ones_like(image[:, :1])}


def constant_numbers() -> dict[str, list[float]]:
    """The aligned numbers of a constant depth."""
    recipe = arms()["video/supervised"]
    dataset = assemble.build_dataset(recipe, "test")
    task = assemble.build_tasks(recipe, dataset)[0]["depth"]
    found = evaluate(Constant(), dataset, {"depth": task}).metrics["depth"]
    return {name: [found[name]] if name.endswith("_aligned") else [] for name in NUMBERS} | {"semseg mIoU": []}


def report(out: Path) -> None:
    """Write the table and the JSON from the runs that are there."""
    content = {arm.removeprefix("video/"): read(out, arm) for arm in arms()} | {"a constant": constant_numbers()}
    rows = [
        [arm, str(len(found["rmse"]) or "–"), *(grid.mean_and_deviation(values, digits=3) for values in found.values())]
        for arm, found in content.items()
        if found
    ]
    header = [
        "depth from",
        "seeds",
        *(f"{name} {'↑' if 'delta' in name else '↓'}" for name in NUMBERS),
        "semseg mIoU ↑",
    ]
    grid.replace_section(ROOT / "docs" / "study-adaptation.md", "video", grid.markdown_table(header, rows))
    grid.write_results(
        ROOT / "results" / "study-video.json",
        {
            "command": "python studies/video.py run && python studies/video.py report",
            "data": "camera paths of generated rooms, 64 x 80, test split",
            "commits": grid.commits(out, arms(), SEEDS),
            "arms": content,
        },
    )


if __name__ == "__main__":
    grid.run_study(__doc__, study_jobs, report)
