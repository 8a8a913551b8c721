"""The page of a score of saved maps: numbers, curves, and the worst images."""

import math
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation
from torch import Tensor

from triptych.drawing.panels import color_error, color_maps, error_limit
from triptych.evaluation.offline import Score, TaskScore
from triptych.files import write_text
from triptych.metrics.boundary import BoundaryMetric
from triptych.metrics.boundary_protocols import prepare_target
from triptych.metrics.contours import thin
from triptych.metrics.matching import match_boundaries
from triptych.report.charts import draw_histogram, draw_precision_recall
from triptych.report.engine import Markup, element, join, render_page
from triptych.report.examples import card, show_map
from triptych.report.tables import number_cell, row, table
from triptych.tasks import TASKS, Task

WORST = 6
MATCHED, FALSE, MISSED = (64, 192, 110), (240, 84, 72), (86, 150, 255)


def write_page(score: Score, path: Path) -> None:
    """Write the page; pictures are read again from the scored files."""
    page = render_page(
        f"{score.predictions.name} under {score.protocol}",
        {"results": ("Results", _table(score))}
        | {f"task-{i}": (name, _section(name, task)) for i, (name, task) in enumerate(score.tasks.items())},
        facts={"Predictions": str(score.predictions), "Ground truth": str(score.targets)},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)


def _table(score: Score) -> Markup:
    intervals = any(task.intervals for task in score.tasks.values())
    rows = []
    for name, task in score.tasks.items():
        for number, value in task.numbers.items():
            cells = [number_cell(f"{value:.4f}")]
            if intervals:
                interval = task.intervals.get(number)
                cells.append(number_cell(f"{interval[1]:.4f} – {interval[2]:.4f}" if interval else ""))
            cells.append(number_cell(str(len(task.keys))))
            rows.append(row(name, number, task.metric.better[number], cells))
    return table("task", ["value", *(["95 % interval"] if intervals else []), "images"], rows)


def _section(name: str, task: TaskScore) -> Markup:
    facts = ", ".join(f"{fact.replace('_', ' ')} {value}" for fact, value in task.facts.items())
    note = f"{task.given.rule.definition} {facts + '. ' if facts else ''}{task.counts()}."
    charts = [draw_histogram(task.per_image[task.primary], f"{task.primary} of the image alone")]
    if isinstance(task.metric, BoundaryMetric) and len(task.metric.protocol.thresholds) > 1:
        charts.insert(0, _curve(task))
    figures = [element("figure", chart, class_="chart card") for chart in charts if chart]
    return join(
        [
            element("p", note, class_="note"),
            element("div", *figures, class_="charts wide"),
            element("h3", "Worst images"),
            *_worst(name, task),
        ]
    )


def _summed(task: TaskScore) -> BoundaryMetric:
    metric = task.given.rule.metric(task.given.settings)
    assert isinstance(metric, BoundaryMetric)
    metric.add_sums({state: value.sum(dim=0) for state, value in task.sums.items()})
    return metric


def _curve(task: TaskScore) -> Markup:
    metric = _summed(task)
    best = metric.best()
    label = f"ODS {best.f:.4f} at {best.threshold:.3g}"
    return draw_precision_recall(*metric.curve(), (best.precision, best.recall), label)


def _worst(name: str, task: TaskScore) -> list[Markup]:
    """The images with the worst main number, each with prediction, ground truth and error."""
    values = task.per_image[task.primary]
    sign = 1 if task.metric.better[task.primary] else -1
    order = sorted(
        (i for i, v in enumerate(values) if math.isfinite(v)), key=lambda i: sign * task.metric.comparable(values[i])
    )[:WORST]
    shown = [_KEY] if isinstance(task.metric, BoundaryMetric) else []
    for i in order:
        pictures = _pictures(name, task, *task.given.read(task.keys[i]))
        maps = [show_map(picture, f"{label} of {task.keys[i]}", label) for label, picture in pictures.items()]
        note = element("p", f"{task.primary} {values[i]:.4f}", class_="range")
        shown.append(element("article", card(task.keys[i], [note], maps)))
    return shown


_KEY = element(
    "p",
    "Right:",
    *(
        part
        for color, words in ((MATCHED, "matched"), (FALSE, "predicted only"), (MISSED, "missed by the prediction"))
        for part in (element("span", class_="key", style=f"background:rgb{color}"), words)
    ),
    ", at the best threshold of the set.",
    class_="note",
)


def _pictures(name: str, task: TaskScore, prediction: Tensor, target: Tensor) -> dict[str, np.ndarray]:
    if isinstance(task.metric, BoundaryMetric):
        return _boundary_pictures(task, prediction.numpy(), target.numpy())
    options = {"classes": task.facts["classes"]} if "classes" in task.facts else {}
    kind: Task = TASKS[name](**options)
    maps = [prediction.numpy(), target.numpy()]
    shown = color_maps(kind, maps)
    error = kind.error.measure(*maps)
    return {
        "prediction": shown[0],
        "ground truth": shown[1],
        kind.error.label: color_error(error, error_limit(kind.error, [error])),
    }


def _boundary_pictures(task: TaskScore, prediction: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
    """Probability, share of annotators, and the matching at the best threshold, thickened to be seen."""
    metric = _summed(task)
    protocol, recipe = metric.protocol, metric.ground_truth
    rank = protocol.rank(prediction[0])
    marked = rank > int(np.searchsorted(protocol.thresholds, metric.best().threshold))
    lines = thin(marked) if protocol.thin else marked
    annotators = np.stack([prepare_target(one, recipe) for one in np.nan_to_num(target)])
    pairs = [match_boundaries(lines, one, metric.max_dist) for one in annotators]
    explained = np.any([found for found, _ in pairs], axis=0)
    missed = np.any([one & ~found for one, (_, found) in zip(annotators, pairs, strict=True)], axis=0)
    canvas = np.full((*lines.shape, 3), 18, np.uint8)
    for mask, color in ((missed, MISSED), (lines & ~explained, FALSE), (explained, MATCHED)):
        canvas[_thicken(mask)] = color
    grey = (255 * np.stack([prediction[0], annotators.mean(axis=0)])).astype(np.uint8)[..., None].repeat(3, axis=-1)
    return {"prediction": grey[0], "ground truth": grey[1], "matching": canvas}


def _thicken(mask: np.ndarray) -> np.ndarray:
    """One pixel more to the right and below."""
    return binary_dilation(mask, [[0, 0, 0], [0, 1, 1], [0, 1, 0]])
