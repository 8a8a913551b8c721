"""The report of a run folder: its scores on a split beside the constant predictor's, and example images."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from triptych import assemble
from triptych.data.photos import to_pixels
from triptych.drawing.panels import Cell, color_maps, contact_sheet
from triptych.evaluation.protocols import Scoring
from triptych.evaluation.reliability import Reliability
from triptych.evaluation.results import results_folder
from triptych.evaluation.run import RunEvaluation
from triptych.prediction.predictor import Predictor
from triptych.recipes.config import split_domain
from triptych.report.page import write_report
from triptych.report.values import Example
from triptych.tasks import Task
from triptych.types import Sample

EXAMPLES = 6
"""Images that a report shows."""
WIDTH = 240
"""Width of a picture in an overview, in pixels."""


def report_run(run: Path, scored: RunEvaluation, reliability: Reliability | None = None) -> Path:
    """Write `report.html` of a run, of what `evaluate_run` returned.

    `EXAMPLES` images are spread evenly over the split; `reliability` adds a table of errors by confidence.
    """
    predictor, split = scored.predictor, scored.split
    rules = Scoring(scored.protocol).rules
    return write_report(
        results_folder(Path(run)),
        scores=scored.columns(),
        scored_tasks={name: task for name, task in scored.tasks.items() if name in rules},
        images=scored.labelled,
        split=split,
        examples=spread_examples(predictor, EXAMPLES, split),
        reliability=reliability,
        title=f"{run.resolve().name}: {split_domain(predictor.recipe, split)[0].data.dataset}, {split} split",
    )


def spread_examples(predictor: Predictor, count: int, split: str = "") -> list[Example]:
    """`count` images spread evenly over a split (the test split by default), predicted, with their targets."""
    recipe, tasks = predictor.recipe, predictor.tasks
    loader = assemble.read_split(recipe, split or recipe.data.test_split, tasks, limit=count)
    return [make_example(predictor, sample) for sample in loader] if count else []


def draw_overview(tasks: Mapping[str, Task], example: Example) -> Image.Image:
    """One image and all its maps: targets above, predictions below."""
    above, below = [Cell("image", example.image)], [Cell("image", example.image)]
    for name, prediction in example.predictions.items():
        target, drawn = color_maps(tasks[name], [example.targets[name], prediction])
        above.append(Cell(f"{name}: target", target))
        below.append(Cell(f"{name}: prediction", drawn))
    return contact_sheet(above + below, columns=len(above), width=WIDTH)


def make_example(predictor: Predictor, sample: Sample) -> Example:
    """Predict a batch of one for the report; tasks without a label on this image have no target."""
    predictions = predictor.predict(sample.image)
    camera = sample.camera
    if camera is not None and not bool(camera.intrinsics.isfinite().all()):
        camera = None  # of this image not known
    return Example(
        name=sample.image_keys[0],
        image=to_pixels(sample.image[0]),
        predictions={name: _array(value) for name, value in predictions.items()},
        targets={name: _array(sample.targets[name]) for name in predictions if name in sample.targets},
        intrinsics=None if camera is None else _array(camera.intrinsics),
    )


def _array(batch: Tensor) -> np.ndarray:
    return batch[0].cpu().numpy()
