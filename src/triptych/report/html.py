"""The pieces of `report.html`: plain values in, HTML text out."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from triptych.drawing.panels import (
    Legend,
    color_error,
    color_maps,
    describe_colors,
    describe_error,
    error_limit,
    ramp,
    with_space,
)
from triptych.report.tables import row
from triptych.report.values import Example, Rendering
from triptych.tasks import Task

_PICTURE_WIDTH = 480
_LONGEST_LEGEND = 12


def fill(template: str, **values: str) -> str:
    """Replace `{{name}}` in a template, once: values that hold such marks stay as they are.

    >>> fill("<p>{{text}}</p>", text="{{text}}")
    '<p>{{text}}</p>'
    """
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: values[mark[1]], template)


def facts(values: Mapping[str, str]) -> str:
    """A list of short facts."""
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values.items())
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def charts(values: Sequence[Mapping[str, Any]]) -> str:
    """Empty frames of the charts, in groups; JavaScript draws the lines."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for chart in values:
        groups.setdefault(chart["group"], []).append(chart)
    parts = []
    for name, members in groups.items():
        references = dict.fromkeys(chart["reference_title"] for chart in members if chart["reference_title"])
        note = f"{name}, by optimizer step" + "".join(f"; dashed: {title}" for title in references)
        parts.append(f'<p class="note">{escape(note)}</p><div class="charts">{"".join(map(_chart, members))}</div>')
    return "".join(parts)


def _chart(chart: Mapping[str, Any]) -> str:
    ends = [f"{chart['y'][i]:.4g} at step {chart['x'][i]}" for i in (0, -1)]
    label = escape(f"{chart['title']} {chart['note']}: {ends[0]}, {ends[1]}", quote=True)
    heading = f"<h3>{escape(chart['title'])} <span>{escape(chart['note'])}</span></h3>"
    return f'<figure class="chart card" data-label="{label}">{heading}<div class="plot"></div></figure>'


def details(texts: Mapping[str, str]) -> str:
    """Longer texts, folded."""
    return "".join(
        f'<details><summary>{escape(name)}</summary><div class="card"><pre>{escape(text)}</pre></div></details>'
        for name, text in texts.items()
    )


def examples(tasks: Mapping[str, Task], values: Sequence[Example], *, with_points: bool) -> str:
    """A strip to choose an image from, the 3D view, and the maps of every image."""
    if not values:
        return ""
    choices = "".join(
        f'<button type="button" aria-pressed="false"><img alt="" src="{embed(_shrink(example.image, 160))}">'
        f'<span title="{escape(example.name, quote=True)}">{escape(_ending(example.name, 13))}</span></button>'
        for example in values
    )
    strip = f'<div class="strip" role="group" aria-label="Choose an image">{choices}</div>' if len(values) > 1 else ""
    return strip + (_STAGE if with_points else "") + "".join(_article(tasks, example) for example in values)


_STAGE = """<div class="stage card">
<canvas tabindex="0" role="application"
  aria-label="Points of the depth map in space. Arrow keys rotate, plus and minus zoom, 0 resets."></canvas>
<div class="controls"><h3>In three dimensions</h3>
<label>Geometry <select name="geometry"></select></label>
<label>Coloured by <select name="color"></select></label>
<label>Point size <input type="range" name="size" min="0.4" max="3" step="0.1" value="1"></label>
<label class="check"><input type="checkbox" name="bridges" checked> Hide points between surfaces</label>
<div class="buttons"><button type="button" class="reset">Reset the view</button></div>
<p>Drag to rotate, shift and drag to move; click, then scroll to zoom.</p><p role="status"></p></div></div>"""


def _ending(name: str, length: int) -> str:
    """The end of a name, which tells images of one folder apart."""
    return name if len(name) <= length else f"…{name[1 - length :]}"


def _article(tasks: Mapping[str, Task], example: Example) -> str:
    rows = [_task_row(tasks[name], values, example) for name, values in example.predictions.items()]
    if example.rendering is not None:
        rows += _rendered_rows(tasks, example, example.rendering)
    label = escape(example.name, quote=True)
    return f'<article class="example" aria-label="{label}">{_head_row(tasks, example)}{"".join(rows)}</article>'


def _rendered_rows(tasks: Mapping[str, Task], example: Example, rendering: Rendering) -> list[str]:
    """Where the density ends the rays, then each task as it is rendered and as cameras beside would see it."""
    rows = [_geometry_row(tasks, example, rendering)]
    for name, values in rendering.maps.items():
        task, target = tasks[name], example.targets.get(name)
        titles = ["prediction", "rendered", *rendering.views]
        maps = [example.predictions[name], values, *(view[name] for view in rendering.views.values())]
        if target is not None:
            titles, maps = ["target", *titles], [target, *maps]
        pictures = zip(titles, color_maps(task, maps), strict=True)
        shown = "".join(
            # A camera beside sees other pixels, and the other maps are shown above.
            _map(f"{name} rendered" if title == "rendered" else "", picture, f"{name}, {title}", title)
            for title, picture in pictures
        )
        rows.append(_card(f"{name}, rendered", _legend(describe_colors(task, maps)), shown))
    return rows


def _geometry_row(tasks: Mapping[str, Task], example: Example, rendering: Rendering) -> str:
    task = next((task for task in tasks.values() if task.in_metres), None)
    legend, pictures = "", []
    if task is not None:
        known = {"true depth": example.targets, "predicted depth": example.predictions}
        maps = {title: values[task.name] for title, values in known.items() if task.name in values}
        maps["expected depth of the density"] = rendering.depth
        legend = _legend(describe_colors(task, list(maps.values())))
        pictures = list(zip(maps, color_maps(task, list(maps.values())), strict=True))
    pictures.append(("opacity", color_error(rendering.opacity[0], 1.0)))
    legend += (
        f'<p class="range">opacity</p>{_legend(Legend(bar=color_error(ramp(0.0, 1.0)[0], 1.0), low="0", high="1"))}'
    )
    shown = "".join(
        _map(title if title in ("opacity", "expected depth of the density") else "", picture, title, title)
        for title, picture in pictures
    )
    notes = f'<p class="range">{escape(rendering.note)}</p>{legend}'
    return _card("What the density says", notes, shown)


def _head_row(tasks: Mapping[str, Task], example: Example) -> str:
    """The image, and the mean error of every task on it."""
    height, width = example.image.shape[:2]
    means = []
    for name, prediction in example.predictions.items():
        kind = tasks[name].error
        error = kind.measure(prediction, example.targets[name]) if name in example.targets else np.zeros(0)
        known = error[np.isfinite(error)]
        value = f"{known.mean():.3g}{with_space(kind.unit)}" if known.size else "no label"
        means.append(row(name, kind.label, None, [f'<td class="number">{value}</td>']))
    table = f"<table><caption>Mean error on this image</caption><tbody>{''.join(means)}</tbody></table>"
    maps = _map("image", example.image, f"{example.name}: image", "image", "first")
    maps += f'<div class="wide">{table}</div>' if example.targets else ""
    return _card(example.name, f'<p class="range">{width} x {height} pixels</p>', maps)


def _card(title: str, notes: str, maps: str) -> str:
    return f'<div class="task card"><div><h3>{escape(title)}</h3>{notes}</div><div class="maps">{maps}</div></div>'


def _task_row(task: Task, prediction: np.ndarray, example: Example) -> str:
    name, target = task.name, example.targets.get(task.name)
    known = [prediction] if target is None else [target, prediction]
    shown = color_maps(task, known)
    maps = _map(f"{name} prediction", shown[-1], f"{example.name}: {name}, prediction", "prediction")
    legend = _legend(describe_colors(task, known))
    if target is not None:
        kind = task.error
        error = kind.measure(prediction, target)
        limit = error_limit(kind, [error])
        maps = _map(f"{name} target", shown[0], f"{example.name}: {name}, target", "target") + maps
        maps += _map(f"{name} error", color_error(error, limit), f"{example.name}: {name}, {kind.label}", kind.label)
        legend += f'<p class="range">{escape(kind.label)}</p>{_legend(describe_error(kind, limit))}'
    return _card(name, legend, maps)


def _map(name: str, picture: np.ndarray, description: str, caption: str, place: str = "") -> str:
    small = "small" if picture.shape[1] < 240 else ""
    mark = f'data-map="{escape(name, quote=True)}" ' if name else ""
    image = (
        f'<img class="{small}" {mark}alt="{escape(description, quote=True)}" '
        f'src="{embed(_shrink(picture, _PICTURE_WIDTH))}">'
    )
    heading = f"<figcaption>{escape(caption)}</figcaption>"
    return f'<figure class="{place}">{heading}<button type="button" class="map">{image}</button></figure>'


def _legend(legend: Legend) -> str:
    if legend.bar is not None:
        ends = f"<span><b>{escape(legend.low)}</b><b>{escape(legend.high)}</b></span>"
        return f'<div class="range"><img alt="" src="{embed(legend.bar)}">{ends}</div>'
    shown = legend.swatches[:_LONGEST_LEGEND]
    rows = "".join(f'<li><i style="background:rgb{color}"></i>{escape(name)}</li>' for name, color in shown)
    more = len(legend.swatches) - len(shown)
    return f'<ul class="legend">{rows}{f"<li>and {more} more</li>" if more else ""}</ul>'


def _shrink(picture: np.ndarray, width: int) -> np.ndarray:
    """At most `width` columns, by leaving out pixels: averaging would mix class colours."""
    step = -(-picture.shape[1] // width)
    return picture[(step - 1) // 2 :: step, (step - 1) // 2 :: step]


def embed(picture: np.ndarray) -> str:
    """A picture `(H, W, 3)` uint8 as a `data:` address: PNG where it has few colours, else JPEG."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    few = image.getcolors(maxcolors=256) is not None
    kind, options = ("png", {"optimize": True}) if few else ("jpeg", {"quality": 88, "subsampling": 0})
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
