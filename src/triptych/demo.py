"""The demo: the whole path on generated rooms."""

import time
from pathlib import Path

import numpy as np
from PIL import Image

from triptych import assemble
from triptych.data.photos import to_pixels
from triptych.evaluation.run import evaluate_run
from triptych.prediction.outputs import predict_images
from triptych.prediction.predictor import Predictor
from triptych.recipes import RECIPES
from triptych.report.run import draw_overview, report_run, spread_examples
from triptych.report.values import Example
from triptych.terminal import as_word
from triptych.training.loop import train
from triptych.types import IGNORE

PICTURES = 3


def run_demo(out: Path, *, overwrite: bool = False, device: str = "auto") -> Path:
    """Generate rooms, train, score on unseen rooms beside a constant predictor, predict, and write `report.html`.

    Returns the path of the report. Raises `FileExistsError` where `out` exists and `overwrite` is not set.
    """
    started = time.perf_counter()
    run = train(RECIPES["rooms-demo"], out, overwrite=overwrite, device=device)
    scored = evaluate_run(run, device=device)
    predictor = scored.predictor
    images = write_test_images(predictor, run / "images")
    predict_images(predictor, [run / "images"], run / "predictions", fov=60, overwrite=True)
    report = report_run(run, scored)
    example = next(iter(sorted(spread_examples(predictor, 24), key=count_labels, reverse=True)))
    draw_overview(predictor.tasks, example).save(run / "overview.png")
    minutes = (time.perf_counter() - started) / 60
    print(
        f"demo done in {minutes:.1f} minutes\n"
        f"  page to look at   {report}\n"
        f"  predictions       {run / 'predictions'} ({len(images)} images: arrays, pictures, point clouds)\n"
        f"  next              triptych predict {as_word(run)} YOUR_PHOTO.jpg   (it learned rooms, not photographs)"
    )
    return report


def count_labels(example: Example) -> tuple[int, int]:
    """Count the tasks with a label on this image, then their distinct values: the fullest picture shows most."""
    targets = example.targets.values()
    labelled = sum(bool((np.isfinite(target) & (target != IGNORE)).any()) for target in targets)
    return labelled, sum(len(np.unique(target)) for target in targets)


def write_test_images(predictor: Predictor, folder: Path) -> list[Path]:
    """Write some images of the test split as PNG files, for `predict` to read like any photograph."""
    recipe = predictor.recipe
    dataset = assemble.build_dataset(recipe, recipe.data.test_split)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in np.linspace(0, len(dataset) - 1, PICTURES).round().astype(int):
        path = folder / f"room_{index:04d}.png"
        Image.fromarray(to_pixels(dataset[int(index)].image)).save(path)
        paths.append(path)
    return paths
