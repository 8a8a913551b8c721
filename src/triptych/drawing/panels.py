"""Predictions, targets and errors as pictures: panels, legends, contact sheets.

Nothing here depends on names of tasks: colors and errors come from the `Task`, and legends from its kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from triptych.tasks import Task
from triptych.tasks.error_maps import ErrorMap
from triptych.types import IGNORE

Picture = UInt8[np.ndarray, "height width 3"]
NO_ERROR_VALUE = (72, 76, 92)
"""Color of pixels without an error, where the target is invalid."""
# Black through purple and orange to pale yellow: brightness rises evenly, so it is readable in grey too.
_HEAT = np.array([[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]], np.float64)
_DIRECTIONS = {"right": (1, 0, 0), "left": (-1, 0, 0), "up": (0, -1, 0), "down": (0, 1, 0), "to the camera": (0, 0, -1)}


_CHANNELS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


@dataclass(frozen=True)
class Legend:
    """Meaning of colors: named swatches, or a bar `(height, width, 3)` from `low` to `high`."""

    swatches: tuple[tuple[str, tuple[int, int, int]], ...] = ()
    bar: np.ndarray | None = None
    low: str = ""
    high: str = ""


def color_maps(task: Task, maps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Draw maps of one task and one size as `(H, W, 3)` uint8 with shared colors: equal values look equal in all of
    them; `Task.drawn_like` keeps the colors of other maps.

    >>> from triptych.tasks import depth
    >>> near, far = color_maps(depth(), [np.full((1, 2, 2), 1.0), np.full((1, 2, 2), 4.0)])
    >>> bool((near == far).any())
    False
    """
    # Drawn as one wide map, so that a range that a task derives from the values is the same for all.
    comparable = _comparable(task, maps)
    return np.split(task.colorize(np.concatenate(comparable, axis=-1)), len(maps), axis=1)


def color_range(task: Task, maps: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """Values at the ends of the color scale of maps that are drawn together; `None` where it is fixed, or maps have
    several channels.
    """
    comparable = _comparable(task, maps)
    if (
        task.kind not in ("length", "values")
        or len(comparable[0]) > 1
        or np.issubdtype(comparable[0].dtype, np.integer)
    ):
        return None
    values = np.concatenate([values[np.isfinite(values)] for values in comparable])
    low, high = task.limits or (np.percentile(values, (2, 98)) if values.size else (0.0, 1.0))
    return float(low), float(high)


OPACITY = 0.6
"""Opacity of labels drawn over a photograph, which stays visible."""


def overlay_map(task: Task, image: Picture, values: np.ndarray) -> Picture:
    """Draw a map over its photograph, half transparent; the photograph stays unchanged at pixels without a label.

    The opacity of probabilities is proportional to them: pixels far from any boundary stay unchanged.

    >>> from triptych.tasks import semseg
    >>> drawn = overlay_map(semseg(2, colors_shown=[[0, 0, 0], [255, 0, 0]]), np.zeros((1, 2, 3), np.uint8),
    ...                     np.array([[1, 255]]))
    >>> drawn.tolist()
    [[[153, 0, 0], [0, 0, 0]]]
    """
    (comparable,) = _comparable(task, [values])
    shown = color_maps(task, [values])[0].astype(np.float64)
    is_labels = np.issubdtype(comparable.dtype, np.integer)
    known = comparable != IGNORE if is_labels else np.isfinite(comparable).all(axis=0)
    if task.kind == "probability":
        known = np.where(known, comparable.reshape(known.shape), 0.0).clip(0, 1)
    cover = OPACITY * known[..., None]
    return np.rint(image * (1 - cover) + shown * cover).astype(np.uint8)


def color_error(error: np.ndarray, limit: float) -> Picture:
    """Error map `(H, W)` to colors: black is none, pale yellow is `limit` and above, blue-grey is unknown (NaN)."""
    position = np.clip(np.nan_to_num(error) / max(limit, 1e-12), 0, 1) * (len(_HEAT) - 1)
    index = np.minimum(position.astype(int), len(_HEAT) - 2)
    fraction = (position - index)[..., None]
    heat = _HEAT[index] * (1 - fraction) + _HEAT[index + 1] * fraction
    return np.where(np.isfinite(error)[..., None], heat, NO_ERROR_VALUE).astype(np.uint8)


def error_limit(kind: ErrorMap, errors: Sequence[np.ndarray]) -> float:
    """The error drawn in full color: the task's own, or else the 98th percentile of the maps, rounded up to two
    digits.
    """
    if kind.limit is not None:
        return kind.limit
    values = np.concatenate([error[np.isfinite(error)] for error in errors] or [np.zeros(0)])
    high = float(np.percentile(values, 98)) if values.size else 0.0
    step = 10.0 ** np.floor(np.log10(max(high, 1e-3)) - 1)
    return float(max(np.ceil(high / step) * step, 1e-3))


def describe_colors(task: Task, maps: Sequence[np.ndarray]) -> Legend:
    """The legend of maps that `color_maps` draws together: the classes that occur, most frequent first, or a range."""
    comparable = _comparable(task, maps)
    if all(np.issubdtype(values.dtype, np.integer) for values in comparable):
        ids, counts = np.unique(np.concatenate([values.ravel() for values in comparable]), return_counts=True)
        names = {i: task.classes[i] for i in ids[np.argsort(-counts)].tolist() if i < len(task.classes)}
        names |= {IGNORE: "no label"} if IGNORE in ids else {}
        return Legend(swatches=tuple((name, _swatch(task, np.array([[i]]))) for i, name in names.items()))
    if task.kind == "direction":
        vectors = {name: np.array(vector, np.float64).reshape(3, 1, 1) for name, vector in _DIRECTIONS.items()}
        return Legend(swatches=tuple((name, _swatch(task, vector)) for name, vector in vectors.items()))
    if task.kind == "probability":
        return Legend(bar=task.colorize(ramp(0.0, 1.0)), low="0", high="1")
    if len(comparable[0]) > 1:
        shown = _CHANNELS[: len(comparable[0])]
        return Legend(swatches=tuple((f"channel {i}", color) for i, color in enumerate(shown, start=1)))
    low, high = color_range(task, maps) or (0.0, 1.0)
    ends = [f"{end:.2g} {task.unit}".rstrip() for end in (low, high)]
    return Legend(bar=task.colorize(ramp(low, high)), low=ends[0], high=ends[1])


def describe_error(kind: ErrorMap, limit: float) -> Legend:
    """The legend of an error map."""
    return Legend(bar=color_error(ramp(0.0, limit)[0], limit), low="0", high=f"{limit:.3g}{with_space(kind.unit)}")


def draw_panel(
    image: Picture,
    predictions: Mapping[str, np.ndarray],
    tasks: Mapping[str, Task],
    *,
    width: int = 320,
    overlay: bool = False,
) -> Image.Image:
    """The image and every prediction beside each other, or over it with `overlay`, each `width` pixels wide.

    `predictions` are decoded maps `(H, W)` or `(C, H, W)` at the image's size.
    """
    cells = [Cell("image", image)]
    for name, values in predictions.items():
        shown = overlay_map(tasks[name], image, values) if overlay else color_maps(tasks[name], [values])[0]
        cells.append(Cell(name, shown, describe_colors(tasks[name], [values])))
    return contact_sheet(cells, columns=min(len(cells), 4), width=width)


def with_space(unit: str) -> str:
    """A unit as it follows a number: 3 m, but 3°."""
    return f" {unit}" if unit.isalpha() else unit


@dataclass(frozen=True)
class Cell:
    """One captioned picture `(H, W, 3)` uint8 of a contact sheet, with an optional legend below."""

    caption: str
    picture: np.ndarray
    legend: Legend | None = None


_MARGIN, _LINE = 10, 18
_INK, _PAPER = (32, 33, 36), (255, 255, 255)


def contact_sheet(cells: Sequence[Cell], *, columns: int, width: int = 320) -> Image.Image:
    """Lay out captioned pictures in rows of `columns`, each `width` pixels wide; a row is as high as its highest cell.

    >>> cell = Cell("grey", np.full((30, 40, 3), 128, np.uint8))
    >>> contact_sheet([cell] * 3, columns=2, width=80).size
    (190, 186)
    """
    if not cells:
        raise ValueError("no pictures for a contact sheet; pass at least one cell.")
    drawn = [_draw_cell(cell, width) for cell in cells]
    rows = [drawn[start : start + columns] for start in range(0, len(drawn), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    size = (_MARGIN + columns * (width + _MARGIN), _MARGIN + sum(height + _MARGIN for height in heights))
    sheet = Image.new("RGB", size, _PAPER)
    top = _MARGIN
    for row, height in zip(rows, heights, strict=True):
        for i, cell in enumerate(row):
            sheet.paste(cell, (_MARGIN + i * (width + _MARGIN), top))
        top += height + _MARGIN
    return sheet


def _draw_cell(cell: Cell, width: int) -> Image.Image:
    height = max(1, round(cell.picture.shape[0] * width / cell.picture.shape[1]))
    # Nearest keeps class colors; shrinking photographs needs averaging, and blends colors only along edges.
    shrinks = cell.picture.shape[1] > width
    picture = Image.fromarray(cell.picture).resize(
        (width, height), Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST
    )
    legend = _draw_legend(cell.legend, width) if cell.legend else None
    canvas = Image.new("RGB", (width, _LINE + height + (legend.height if legend else 0)), _PAPER)
    ImageDraw.Draw(canvas).text((0, 0), cell.caption, fill=_INK, font=ImageFont.load_default(13))
    canvas.paste(picture, (0, _LINE))
    if legend:
        canvas.paste(legend, (0, _LINE + height))
    return canvas


def _draw_legend(legend: Legend, width: int) -> Image.Image:
    font = ImageFont.load_default(11)
    if legend.bar is not None:
        canvas = Image.new("RGB", (width, 2 * _LINE), _PAPER)
        canvas.paste(Image.fromarray(legend.bar).resize((width, 8)), (0, 5))
        draw = ImageDraw.Draw(canvas)
        draw.text((0, _LINE), legend.low, fill=_INK, font=font)
        draw.text((width, _LINE), legend.high, fill=_INK, font=font, anchor="ra")
        return canvas
    places, x, y = [], 0, 4
    for name, color in legend.swatches:
        extent = 16 + round(font.getlength(name)) + 10
        x, y = (0, y + _LINE) if x and x + extent > width else (x, y)
        places.append((x, y, name, color))
        x += extent
    canvas = Image.new("RGB", (width, y + _LINE), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for x, y, name, color in places:
        draw.rectangle((x, y + 1, x + 11, y + 12), fill=color, outline=(120, 120, 120))
        draw.text((x + 16, y), name, fill=_INK, font=font)
    return canvas


def _comparable(task: Task, maps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Bring maps of one task to one layout: all class ids `(H, W)`, or all `(C, H, W)` float with NaN.

    Labels of 0 and 1 become floats where probabilities are among the maps; several annotators become their mean.
    """
    if all(np.issubdtype(values.dtype, np.integer) for values in maps):
        return [values.reshape(values.shape[-2:]) for values in maps]
    return [_as_float(values, task.target_channels or 1) for values in maps]


def _as_float(values: np.ndarray, channels: int) -> np.ndarray:
    invalid = np.issubdtype(values.dtype, np.integer) & (values == IGNORE)
    known = np.where(invalid, np.nan, values).reshape(-1, *values.shape[-2:])
    return known if len(known) == channels else known.mean(axis=0, keepdims=True)


def _swatch(task: Task, values: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = task.colorize(values)[0, 0].tolist()
    return red, green, blue


def ramp(low: float, high: float) -> np.ndarray:
    """`(1, 8, 266)` rising from low to high; both ends are held for 8 values, so that a task's percentiles give the
    whole range.
    """
    line = np.concatenate([np.full(8, low), np.linspace(low, high, 250), np.full(8, high)])
    return np.broadcast_to(line, (1, 8, len(line)))
