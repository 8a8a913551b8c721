"""Examples of a page: maps of an image beside each other, with legends, errors and what a regularizer renders."""

import base64
import io
from collections.abc import Mapping, Sequence

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
from triptych.report.engine import Markup, element, join
from triptych.report.tables import row
from triptych.report.values import Example, Rendering
from triptych.tasks import Task

_PICTURE_WIDTH = 480
_LONGEST_LEGEND = 12


def show_examples(tasks: Mapping[str, Task], values: Sequence[Example], *, with_points: bool) -> Markup:
    """A strip to choose an image from, the 3D view, and the maps of every image."""
    if not values:
        return Markup()
    strip = show_strip([show_choice(example) for example in values])
    return join(
        [
            strip if len(values) > 1 else "",
            STAGE if with_points else "",
            *(show_example(tasks, example) for example in values),
        ]
    )


def show_strip(choices: Sequence[Markup]) -> Markup:
    """The strip of pictures to choose an image from."""
    return element("div", *choices, class_="strip", role="group", aria_label="Choose an image")


def show_choice(example: Example) -> Markup:
    """One picture of the strip."""
    return element(
        "button",
        element("img", alt="", src=embed(_shrink(example.image, 160))),
        # The end of a name tells images of one folder apart.
        element("span", example.name if len(example.name) <= 13 else f"…{example.name[-12:]}", title=example.name),
        type="button",
        aria_pressed="false",
    )


STAGE = Markup("""<div class="stage card">
<canvas tabindex="0" role="application"
  aria-label="Points of the depth map in space. Arrow keys rotate, plus and minus zoom, 0 resets."></canvas>
<div class="controls"><h3>In three dimensions</h3>
<label>Geometry <select name="geometry"></select></label>
<label>Colored by <select name="color"></select></label>
<label>Point size <input type="range" name="size" min="0.4" max="3" step="0.1" value="1"></label>
<label class="check"><input type="checkbox" name="bridges" checked> Hide points between surfaces</label>
<div class="buttons"><button type="button" class="reset">Reset the view</button></div>
<p>Drag to rotate, shift and drag to move; click, then scroll to zoom.</p><p role="status"></p></div></div>""")


def show_example(tasks: Mapping[str, Task], example: Example) -> Markup:
    """The image and its maps, a card a task."""
    rows = [
        _head_row(tasks, example),
        *(_task_row(tasks[name], values, example) for name, values in example.predictions.items()),
    ]
    if example.rendering is not None:
        rows += _rendered_rows(tasks, example, example.rendering)
    return element("article", *rows, class_="example", aria_label=example.name)


def _rendered_rows(tasks: Mapping[str, Task], example: Example, rendering: Rendering) -> list[Markup]:
    """Rows of renderings: depth and opacity of the density, then each task from the image's camera and shifted ones."""
    rows = [_geometry_row(tasks, example, rendering)]
    for name, values in rendering.maps.items():
        task, target = tasks[name], example.targets.get(name)
        titles = ["prediction", "rendered", *rendering.views]
        maps = [example.predictions[name], values, *(view[name] for view in rendering.views.values())]
        if target is not None:
            titles, maps = ["target", *titles], [target, *maps]
        shown = [
            # A shifted camera sees other pixels, and the other maps are shown above.
            show_map(picture, f"{name}, {title}", title, name=f"{name} rendered" if title == "rendered" else "")
            for title, picture in zip(titles, color_maps(task, maps), strict=True)
        ]
        rows.append(card(f"{name}, rendered", [show_legend(describe_colors(task, maps))], shown))
    return rows


def _geometry_row(tasks: Mapping[str, Task], example: Example, rendering: Rendering) -> Markup:
    task = next((task for task in tasks.values() if task.in_metres), None)
    notes, pictures = [_range(rendering.note)], []
    if task is not None:
        known = {"true depth": example.targets, "predicted depth": example.predictions}
        maps = {title: values[task.name] for title, values in known.items() if task.name in values}
        maps["expected depth of the density"] = rendering.depth
        notes.append(show_legend(describe_colors(task, list(maps.values()))))
        pictures = list(zip(maps, color_maps(task, list(maps.values())), strict=True))
    pictures.append(("opacity", color_error(rendering.opacity[0], 1.0)))
    notes += [_range("opacity"), show_legend(Legend(bar=color_error(ramp(0.0, 1.0)[0], 1.0), low="0", high="1"))]
    named = ("opacity", "expected depth of the density")
    shown = [show_map(picture, title, title, name=title if title in named else "") for title, picture in pictures]
    return card("What the density says", notes, shown)


def _head_row(tasks: Mapping[str, Task], example: Example) -> Markup:
    """The image, and the mean error of every task on it."""
    height, width = example.image.shape[:2]
    means = []
    for name, prediction in example.predictions.items():
        kind = tasks[name].error
        error = kind.measure(prediction, example.targets[name]) if name in example.targets else np.zeros(0)
        known = error[np.isfinite(error)]
        value = f"{known.mean():.3g}{with_space(kind.unit)}" if known.size else "no label"
        means.append(row(name, kind.label, None, [element("td", value, class_="number")]))
    table = element("table", element("caption", "Mean error on this image"), element("tbody", *means))
    maps = [show_map(example.image, f"{example.name}: image", "image", name="image", place="first")]
    maps += [element("div", table, class_="wide")] if example.targets else []
    return card(example.name, [_range(f"{width} x {height} pixels")], maps)


def _task_row(task: Task, prediction: np.ndarray, example: Example) -> Markup:
    name, target, kind = task.name, example.targets.get(task.name), task.error
    error = np.zeros(0) if target is None else kind.measure(prediction, target)
    labelled = target is not None and np.isfinite(error).any()
    # A target without any label would look like one of a single value.
    known = [prediction] if target is None or not labelled else [target, prediction]
    shown = color_maps(task, known)
    maps = [show_map(shown[-1], f"{example.name}: {name}, prediction", "prediction", name=f"{name} prediction")]
    notes = [show_legend(describe_colors(task, known))]
    if target is not None and not labelled:
        notes.append(_range("no label in this image"))
    if labelled:
        limit = error_limit(kind, [error])
        maps.insert(0, show_map(shown[0], f"{example.name}: {name}, target", "target", name=f"{name} target"))
        drawn = color_error(error, limit)
        maps.append(show_map(drawn, f"{example.name}: {name}, {kind.label}", kind.label, name=f"{name} error"))
        notes += [_range(kind.label), show_legend(describe_error(kind, limit))]
    return card(name, notes, maps)


def card(title: str, notes: Sequence[Markup], maps: Sequence[Markup]) -> Markup:
    """A row of maps with a title and notes at its left."""
    side = element("div", element("h3", title), *notes)
    return element("div", side, element("div", *maps, class_="maps"), class_="task card")


def show_map(picture: np.ndarray, description: str, caption: str, *, name: str = "", place: str = "") -> Markup:
    """A picture that a click enlarges; its `name` makes it one that points in space may take their colors from."""
    image = element(
        "img",
        class_="small" if picture.shape[1] < 240 else "",
        data_map=name or None,
        alt=description,
        src=embed(_shrink(picture, _PICTURE_WIDTH)),
    )
    button = element("button", image, type="button", class_="map")
    return element("figure", element("figcaption", caption), button, class_=place or None)


def show_legend(legend: Legend) -> Markup:
    """The legend of colors, as a list of swatches or a bar."""
    if legend.bar is not None:
        ends = element("span", element("b", legend.low), element("b", legend.high))
        return element("div", element("img", alt="", src=embed(legend.bar)), ends, class_="range")
    shown = legend.swatches[:_LONGEST_LEGEND]
    rows = [element("li", element("i", style=f"background:rgb{color}"), name) for name, color in shown]
    if len(legend.swatches) > len(shown):
        rows.append(element("li", f"and {len(legend.swatches) - len(shown)} more"))
    return element("ul", *rows, class_="legend")


def _range(text: str) -> Markup:
    return element("p", text, class_="range")


def _shrink(picture: np.ndarray, width: int) -> np.ndarray:
    """At most `width` columns, by leaving out pixels: averaging would mix class colors."""
    step = -(-picture.shape[1] // width)
    return picture[(step - 1) // 2 :: step, (step - 1) // 2 :: step]


def embed(picture: np.ndarray) -> str:
    """A picture `(H, W, 3)` uint8 as a `data:` address: PNG where it has few colors, else JPEG."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    few = image.getcolors(maxcolors=256) is not None
    kind, options = ("png", {"optimize": True}) if few else ("jpeg", {"quality": 88, "subsampling": 0})
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
