"""`report.html`: one file about a run that opens without a network.

Curves, a table of scores, image / target / prediction / error panels and a rotatable cloud of the predicted depth.
"""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from triptych.data.cameras import intrinsics_from_field_of_view
from triptych.evaluation.reliability import Reliability
from triptych.files import write_text
from triptych.report.charts import draw_curve
from triptych.report.engine import Markup, element, join, render_page
from triptych.report.examples import show_examples
from triptych.report.tables import show_reliability, show_results
from triptych.report.values import Example, RunReport, Scores, read_run
from triptych.tasks import Task

PAGE = "report.html"
ASSUMED_FIELD_OF_VIEW = 60
"""Degrees across the image's width, where an example has no intrinsics."""
_CLOUD_WIDTH = 320


def write_report(
    run: Path,
    *,
    scores: Mapping[str, Scores] | None = None,
    scored_tasks: Mapping[str, Task] | None = None,
    images: Mapping[str, int] | None = None,
    split: str = "",
    examples: Sequence[Example] = (),
    reliability: Reliability | None = None,
    title: str = "",
    out: Path | None = None,
) -> Path:
    """Write `report.html` into a run folder, or into the folder `out`, and return its path.

    Curves, tasks and facts are read from the run. `scores` are of `split`, by the metrics of `scored_tasks` where
    these are others than the run's own; without them the table shows the evaluation that the deployed weights come
    from.
    """
    report = read_run(run)
    if scores:
        report = replace(report, scores=scores, scored_tasks=scored_tasks or {}, images=images or {}, split=split)
    changed = replace(report, examples=tuple(examples), reliability=reliability, title=title or report.title)
    path = (out or run) / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render_report(changed))
    return path


def render_report(report: RunReport) -> str:
    """The whole page as text."""
    charts = make_charts(report)
    clouds = [make_cloud(report.tasks, example) for example in report.examples]
    folded = [
        element("details", element("summary", name), element("div", element("pre", text), class_="card"))
        for name, text in report.details.items()
    ]
    return render_page(
        report.title,
        {
            "results": ("Results", show_results({**report.tasks, **report.scored_tasks}, report.scores, report.images)),
            "confidence": ("Confidence", show_reliability(report.reliability)),
            "predictions": ("Predictions", show_examples(report.tasks, report.examples, with_points=any(clouds))),
            "curves": ("Training", _show_charts(charts)),
            "run": ("The run", join(folded)),
        },
        lead=report.description,
        facts=report.facts,
        data={"charts": charts, "clouds": clouds},
    )


def make_charts(report: RunReport) -> list[dict[str, Any]]:
    """Curves with at least two points: every task's loss, the total, the learning rate; every task's first metric,
    with the second column of the scores as reference where these are by the same metric.
    """
    train = [record for record in report.records if record["kind"] == "train"]
    evaluations = [record for record in report.records if record["kind"] == "evaluation"]
    reference: Scores = list(report.scores.values())[1] if len(report.scores) > 1 else {}
    reference_title = list(report.scores)[1] if len(report.scores) > 1 else ""
    if reference_title and report.split:
        reference_title += f" on {report.split}"
    charts = []
    for name, task in report.tasks.items():
        metric = task.metric()
        points = [(record["step"], record["metrics"].get(f"{name}/{metric.primary}")) for record in evaluations]
        arrow = "↑" if metric.better[metric.primary] else "↓"
        # The curve is of the task's own metric; a protocol's numbers have the same names and other definitions.
        level = None if name in report.scored_tasks else reference.get(name, {}).get(metric.primary)
        charts.append(_chart("Validation", name, f"{metric.primary} {arrow}", points, level, reference_title))
        losses = [(record["step"], record.get("losses", {}).get(name)) for record in evaluations]
        charts.append(_chart("Validation", f"{name}: loss", "raw loss ↓", losses))
    charts.append(_chart("Losses", "total", "weighted sum", [(record["step"], record.get("loss")) for record in train]))
    for name in dict.fromkeys(name for record in train for name in record.get("losses", {})):
        charts.append(
            _chart("Losses", name, "raw loss", [(record["step"], record["losses"].get(name)) for record in train])
        )
    rates = [(record["step"], record.get("learning_rate")) for record in train]
    charts.append(_chart("Losses", "learning rate", "", rates))
    return [chart for chart in charts if len(chart["x"]) > 1]


def _chart(
    group: str,
    title: str,
    note: str,
    points: Iterable[tuple[int, float | None]],
    level: float | None = None,
    level_title: str = "",
) -> dict[str, Any]:
    known = [(step, value) for step, value in points if value is not None and math.isfinite(value)]
    reference = level if level is not None and math.isfinite(level) else None
    return {
        "group": group,
        "title": title,
        "note": note,
        "x": [step for step, _ in known],
        "y": [value for _, value in known],
        "reference": reference,
        "reference_title": level_title if reference is not None else "",
    }


def _show_charts(charts: Sequence[dict[str, Any]]) -> Markup:
    """The charts in groups; each gets the frame that its reading under the pointer needs."""
    groups: dict[str, list[Markup]] = {}
    levels: dict[str, dict[str, None]] = {}
    for number, chart in enumerate(charts):
        ends = [f"{chart['y'][i]:.4g} at step {chart['x'][i]}" for i in (0, -1)]
        label = f"{chart['title']} {chart['note']}: {ends[0]}, {ends[1]}"
        drawing, frame = draw_curve(chart["x"], chart["y"], label=label, reference=chart["reference"])
        chart["frame"] = frame.describe()
        heading = element("h3", f"{chart['title']} ", element("span", chart["note"]))
        figure = element("figure", heading, drawing, class_="chart card", data_chart=number)
        groups.setdefault(chart["group"], []).append(figure)
        levels.setdefault(chart["group"], {}).update(
            {chart["reference_title"]: None} if chart["reference_title"] else {}
        )
    parts: list[Markup] = []
    for name, figures in groups.items():
        note = f"{name}, by optimizer step" + "".join(f"; dashed: {title}" for title in levels[name] if title)
        parts += [element("p", note, class_="note"), element("div", *figures, class_="charts")]
    return join(parts)


def make_cloud(tasks: Mapping[str, Task], example: Example) -> dict[str, Any] | None:
    """Depth maps of an example for the 3D view, thinned to at most 320 columns: 16-bit multiples of `scale` metres, 0
    where invalid; `None` without a depth above 0.
    """
    name = next((name for name, task in tasks.items() if task.in_metres and name in example.predictions), None)
    if name is None:
        return None
    height, width = example.image.shape[:2]
    step = -(-width // _CLOUD_WIDTH)
    offset = (step - 1) // 2
    maps = {"predicted": example.predictions[name]} | (
        {"target": example.targets[name]} if name in example.targets else {}
    )
    thin = {
        title: values.reshape(height, width)[offset::step, offset::step].astype(np.float64)
        for title, values in maps.items()
    }
    valid = {title: np.where(np.isfinite(values) & (values > 0), values, 0) for title, values in thin.items()}
    if not any(values.any() for values in valid.values()):
        return None
    scale = max(max(values.max() for values in valid.values()), 1e-6) / 65535
    matrix = example.intrinsics
    if matrix is None:
        matrix = intrinsics_from_field_of_view((height, width), ASSUMED_FIELD_OF_VIEW)
    return {
        "width": valid["predicted"].shape[1],
        "height": valid["predicted"].shape[0],
        "step": step,
        "offset": offset,
        "scale": scale,
        "intrinsics": [float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2])],
        "assumed": ASSUMED_FIELD_OF_VIEW if example.intrinsics is None else 0,
        "depths": {title: _pack(values / scale) for title, values in valid.items() if values.any()},
    }


def _pack(values: np.ndarray) -> str:
    return base64.b64encode(np.rint(values).astype("<u2").tobytes()).decode("ascii")
