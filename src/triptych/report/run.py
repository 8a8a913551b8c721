"""The report of a run folder: its scores on a split beside the constant predictor's, and example images."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from triptych import assemble
from triptych.drawing.panels import Cell, color_maps, contact_sheet
from triptych.evaluation.evaluate import RunEvaluation, name_columns
from triptych.evaluation.protocols import Scoring
from triptych.evaluation.reliability import Reliability
from triptych.evaluation.scores import read_run_scores
from triptych.prediction.exported import results_folder
from triptych.prediction.predictor import Predictor
from triptych.recipes.config import split_domain
from triptych.report.page import write_report
from triptych.report.values import Example, Scores
from triptych.tasks import Task
from triptych.types import Sample


def report_run(
    run: Path,
    *,
    split: str = "",
    examples: int = 6,
    device: str = "auto",
    scored: RunEvaluation | None = None,
    reliability: Reliability | None = None,
) -> Path:
    """Write `report.html` of a run that `evaluate_run` scored on `split` (the recipe's test split by default).

    `scored` is what that returned; without it the files that it wrote are read and the network is loaded. `examples`
    images are spread evenly over the split; `reliability` adds a table of errors by confidence. Raises
    `FileNotFoundError` where the split was not scored.
    """
    if scored is None:
        predictor = Predictor.load(run, device=device, calibrated=False)
        split = split or predictor.recipe.data.test_split
        columns = read_columns(Path(run), split)
        content = read_run_scores(Path(run), split).content
        images, tasks = content.get("labelled", {}), Scoring.of_scores(content).apply(predictor.tasks)
    else:
        predictor, split, columns = scored.predictor, scored.split, scored.columns()
        images, tasks = scored.labelled, dict(scored.tasks)
    return write_report(
        results_folder(Path(run)),
        scores=columns,
        scored_tasks=tasks,
        images=images,
        split=split,
        examples=spread_examples(predictor, examples, split),
        reliability=reliability,
        title=f"{run.resolve().name}: {split_domain(predictor.recipe, split)[0].data.dataset}, {split} split",
    )


def spread_examples(predictor: Predictor, count: int, split: str = "") -> list[Example]:
    """`count` images spread evenly over a split (the test split by default), predicted, with their targets."""
    recipe, tasks = predictor.recipe, predictor.tasks
    loader = assemble.read_split(recipe, split or recipe.data.test_split, tasks, limit=count)
    return [make_example(predictor, sample) for sample in loader] if count else []


def draw_overview(tasks: Mapping[str, Task], example: Example, width: int = 240) -> Image.Image:
    """One image and all its maps: targets above, predictions below."""
    above, below = [Cell("image", example.image)], [Cell("image", example.image)]
    for name, prediction in example.predictions.items():
        target, drawn = color_maps(tasks[name], [example.targets[name], prediction])
        above.append(Cell(f"{name}: target", target))
        below.append(Cell(f"{name}: prediction", drawn))
    return contact_sheet(above + below, columns=len(above), width=width)


def read_columns(run: Path, split: str) -> dict[str, Scores]:
    """The columns of the table: the network; single-task networks and the constant predictor where they were scored."""
    content = read_run_scores(run, split).content
    by = Scoring.of_scores(content).protocol
    return name_columns(split, by, content["metrics"], content.get("single_task_metrics"), content["constant"])


def make_example(predictor: Predictor, sample: Sample) -> Example:
    """Predict a batch of one for the report; tasks without a label on this image have no target."""
    predictions = predictor.predict(sample.image)
    image = (sample.image[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().cpu().numpy()
    return Example(
        name=sample.image_keys[0],
        image=image,
        predictions={name: _array(value) for name, value in predictions.items()},
        targets={name: _array(sample.targets[name]) for name in predictions if name in sample.targets},
        intrinsics=None if sample.camera is None else _array(sample.camera.intrinsics),
    )


def _array(batch: Tensor) -> np.ndarray:
    return batch[0].cpu().numpy()
