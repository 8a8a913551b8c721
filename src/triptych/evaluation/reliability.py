"""Reliability of confidence: mean error of a task's pixels, from the least to the most confident fifth."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from triptych import assemble
from triptych.data.base import require_truth
from triptych.evaluation.results import results_folder
from triptych.evaluation.run import open_scored_split
from triptych.files import write_json
from triptych.prediction.confidence import Confident, split_confidences
from triptych.prediction.predictor import Predictor
from triptych.tasks import Task

GROUPS = ("least sure fifth", "second", "third", "fourth", "surest fifth")
IMAGES = 50
"""Default number of images: confidence takes several passes each."""
_FINE = 2000
"""Steps in which confidence is counted before it is cut into fifths."""


@dataclass(frozen=True)
class Reliability:
    """By task: the confidence at the end of each fifth of the pixels, and the mean error in it."""

    tasks: Mapping[str, Task]
    ends: dict[str, list[float]]
    errors: dict[str, list[float]]
    images: int


class Counts:
    """Pixels and their error by confidence, in fine steps; sums are exact enough for any number of images."""

    def __init__(self) -> None:
        self.pixels, self.errors = np.zeros(_FINE), np.zeros(_FINE)

    def add(self, confidence: np.ndarray, error: np.ndarray) -> None:
        """Add the pixels `(H, W)` whose error is known."""
        known = np.isfinite(error)
        step = np.clip((confidence[known] * _FINE).astype(int), 0, _FINE - 1)
        self.pixels += np.bincount(step, minlength=_FINE)
        self.errors += np.bincount(step, weights=error[known].astype(np.float64), minlength=_FINE)

    def fifths(self) -> tuple[list[float], list[float]]:
        """Confidence at the end of each fifth of the pixels, and the mean error in it.

        A step that holds the border of two fifths is shared between them.

        >>> counts = Counts()
        >>> counts.add(np.linspace(0, 0.999, 100), np.linspace(1, 0, 100))
        >>> [round(error, 1) for error in counts.fifths()[1]]
        [0.9, 0.7, 0.5, 0.3, 0.1]
        >>> counts = Counts()
        >>> counts.add(np.linspace(0, 0.599, 100), np.zeros(100))
        >>> [round(end, 1) for end in counts.fifths()[0]]
        [0.1, 0.2, 0.4, 0.5, 0.6]
        """
        reached = np.concatenate([[0.0], np.cumsum(self.pixels)])
        summed = np.concatenate([[0.0], np.cumsum(self.errors)])
        borders = reached[-1] * np.linspace(0, 1, len(GROUPS) + 1)
        at_borders = np.interp(borders, reached, summed)
        used = slice(int(np.searchsorted(reached, reached[-1])) + 1)  # up to the surest pixel
        ends = np.interp(borders[1:], reached[used], np.linspace(0, 1, _FINE + 1)[used])
        share = reached[-1] / len(GROUPS)
        return ends.tolist(), (np.diff(at_borders) / share).tolist() if share else [float("nan")] * len(GROUPS)


def measure_reliability(predictor: Predictor, *, split: str = "", images: int = IMAGES) -> Reliability:
    """Look at `images` images spread over a split of the run's data (its test split by default)."""
    recipe = predictor.recipe
    split, dataset = open_scored_split(recipe, split)
    confident = Confident(predictor)
    require_truth(dataset, predictor.tasks)
    counts = {name: Counts() for name in confident.sure}
    seen = 0
    for sample in assemble.read_split(recipe, split, predictor.tasks, limit=images, dataset=dataset):
        predicted, sure = split_confidences(confident, confident.predict(sample.image))
        seen += 1
        for name, one in counts.items():
            if name not in sample.targets:
                continue
            maps = predicted[name][0].cpu().numpy(), sample.targets[name][0].numpy()
            one.add(sure[name][0, 0].cpu().numpy(), confident.sure[name].error.measure(*maps))
    known = {name: one.fifths() for name, one in counts.items() if one.pixels.any()}
    return Reliability(
        predictor.tasks,
        {name: ends for name, (ends, _) in known.items()},
        {name: errors for name, (_, errors) in known.items()},
        seen,
    )


def write_reliability(run: Path, split: str, found: Reliability, weights_sha256: str) -> Path:
    """Write `confidence-<split>.json` where the run's scores lie, with the SHA-256 of the weights."""
    path = results_folder(run) / f"confidence-{split}.json"
    content = {"split": split, "images": found.images, "ends": found.ends, "errors": found.errors}
    write_json(path, {**content, "weights_sha256": weights_sha256})
    return path


def reliability_table(found: Reliability) -> Table:
    """One row per task: the error of each fifth of its pixels."""
    table = Table("task", "mean", *GROUPS, title=f"Error by confidence, {found.images} images", title_justify="left")
    for name, errors in found.errors.items():
        error = found.tasks[name].error
        unit = f" ({error.unit})" if error.unit else ""
        table.add_row(name, f"{error.label}{unit}", *(f"{value:.3g}" for value in errors))
    return table
