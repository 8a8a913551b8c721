"""A score as one HTML file that opens without a network: numbers, curves, and the worst images."""

import base64
import io
import math
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image
from torch import Tensor

from triptych.drawing.panels import color_error, color_maps, error_limit
from triptych.evaluation.offline import ARROWS, Score, TaskScore
from triptych.metrics.boundary import BoundaryMetric
from triptych.metrics.matching import match_boundaries
from triptych.metrics.protocols import prepare_target
from triptych.metrics.thinning import thin
from triptych.report.charts import histogram_chart, precision_recall_chart
from triptych.tasks import TASKS, Task

WORST = 6
LARGEST = 640
"""Pixels of the longer side of a picture."""
MATCHED, FALSE, MISSED = (64, 192, 110), (240, 84, 72), (86, 150, 255)


def write_page(score: Score, path: Path) -> None:
    """Write the page; pictures are read again from the scored files."""
    sections = "".join(_section(name, task) for name, task in score.tasks.items())
    page = Template((files("triptych.report") / "assets" / "scores.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{score.predictions.name} under {score.protocol}"),
        subtitle=escape(f"Predictions {score.predictions}, ground truth {score.targets}."),
        body=_table(score) + sections,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _table(score: Score) -> str:
    intervals = any(task.intervals for task in score.tasks.values())
    rows = []
    for name, task in score.tasks.items():
        for i, (number, value) in enumerate(task.numbers.items()):
            interval = task.intervals.get(number)
            cells = [f"<td>{escape(name) if i == 0 else ''}</td>"]
            cells.append(f"<td>{escape(number)} {ARROWS[task.metric.better[number]]}</td>")
            cells.append(f'<td class="number">{value:.4f}</td>')
            if intervals:
                cells.append(f'<td class="number">{_range(interval)}</td>')
            cells.append(f'<td class="number">{len(task.keys)}</td>')
            rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = ["task", "metric", "value", *(["95 % interval"] if intervals else []), "images"]
    kinds = ["", "", *[' class="number"'] * (len(heads) - 2)]
    head = "".join(f"<th{kind}>{title}</th>" for title, kind in zip(heads, kinds, strict=True))
    return f'<div class="card scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _range(interval: tuple[float, float, float] | None) -> str:
    return f"{interval[1]:.4f} – {interval[2]:.4f}" if interval else ""


def _section(name: str, task: TaskScore) -> str:
    facts = ", ".join(f"{fact.replace('_', ' ')} {value}" for fact, value in task.facts.items())
    note = f"{task.given.rule.definition} {facts + '. ' if facts else ''}{task.counts()}."
    charts = [histogram_chart(task.per_image[task.primary], f"{task.primary} of the image alone")]
    if isinstance(task.metric, BoundaryMetric) and len(task.metric.protocol.thresholds) > 1:
        charts.insert(0, _curve(task))
    cards = "".join(f'<div class="card">{chart}</div>' for chart in charts if chart)
    return (
        f'<h2>{escape(name)}</h2><p class="note">{escape(note)}</p><div class="row">{cards}</div>'
        f"<h3>Worst images</h3>{_worst(name, task)}"
    )


def _summed(task: TaskScore) -> BoundaryMetric:
    metric = task.given.rule.metric(task.given.settings)
    assert isinstance(metric, BoundaryMetric)
    metric.add_sums({state: value.sum(dim=0) for state, value in task.sums.items()})
    return metric


def _curve(task: TaskScore) -> str:
    metric = _summed(task)
    best = metric.best()
    label = f"ODS {best.f:.4f} at {best.threshold:.3g}"
    return precision_recall_chart(*metric.curve(), (best.precision, best.recall), label)


def _worst(name: str, task: TaskScore) -> str:
    """The images with the worst main number, each with prediction, ground truth and what is wrong."""
    values = task.per_image[task.primary]
    sign = 1 if task.metric.better[task.primary] else -1
    order = sorted((i for i, v in enumerate(values) if math.isfinite(v)), key=lambda i: sign * values[i])[:WORST]
    figures = []
    for i in order:
        prediction, target = task.given.read(task.keys[i])
        pictures = _pictures(name, task, prediction, target)
        cells = "".join(
            f'<div><img src="{_data_uri(picture)}" alt="{escape(label)} of {escape(task.keys[i])}">'
            f"<span>{escape(label)}</span></div>"
            for label, picture in pictures.items()
        )
        caption = f"<strong>{escape(task.keys[i])}</strong> {escape(task.primary)} {values[i]:.4f}"
        figures.append(
            f'<figure class="card"><figcaption>{caption}</figcaption><div class="maps">{cells}</div></figure>'
        )
    return (_KEY if isinstance(task.metric, BoundaryMetric) else "") + "".join(figures)


_KEY = '<p class="note">Right:' + "".join(
    f'<span class="key" style="background:rgb{color}"></span>{words}'
    for color, words in ((MATCHED, "matched"), (FALSE, "predicted only"), (MISSED, "missed by the prediction"))
) + ", at the best threshold of the set.</p>"  # fmt: skip


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
    thick = mask.copy()
    thick[1:] |= mask[:-1]
    thick[:, 1:] |= mask[:, :-1]
    return thick


def _data_uri(picture: np.ndarray) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
