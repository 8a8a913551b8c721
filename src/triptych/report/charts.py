"""Charts as inline SVG: curves over steps, precision and recall, histograms."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from triptych.report.engine import Markup, element, join

Number = int | float
Numbers = Sequence[int | float] | np.ndarray
MANY = 30
"""Points from which on a curve is drawn faintly behind its mean."""


@dataclass(frozen=True)
class Chart:
    """A drawing of `width` by `height` with margins, and the ranges of its axes."""

    x: tuple[Number, Number]
    y: tuple[Number, Number]
    width: int = 300
    height: int = 170
    left: int = 40
    right: int = 8
    top: int = 12
    bottom: int = 22

    def place_x(self, value: Number) -> float:
        share = (value - self.x[0]) / (self.x[1] - self.x[0])
        return round(self.left + share * (self.width - self.left - self.right), 1)

    def place_y(self, value: Number) -> float:
        share = (value - self.y[0]) / (self.y[1] - self.y[0])
        return round(self.height - self.bottom - share * (self.height - self.top - self.bottom), 1)

    def path(self, x: Numbers, y: Numbers, kind: str) -> Markup:
        """A line through points."""
        steps = " ".join(f"{self.place_x(a)},{self.place_y(b)}" for a, b in zip(x, y, strict=True))
        return element("path", d=f"M{steps}", class_=kind)

    def across(self, y: Number, kind: str) -> Markup:
        """A line from side to side."""
        place = self.place_y(y)
        return element("line", class_=kind, x1=self.left, x2=self.width - self.right, y1=place, y2=place)

    def up(self, x: Number, kind: str) -> Markup:
        """A line from bottom to top."""
        place = self.place_x(x)
        return element("line", class_=kind, x1=place, x2=place, y1=self.top, y2=self.height - self.bottom)

    def label_x(self, x: Number, text: str, anchor: str = "middle") -> Markup:
        return element("text", text, x=self.place_x(x), y=self.height - self.bottom + 16, text_anchor=anchor)

    def label_y(self, y: Number, text: str) -> Markup:
        return element("text", text, x=self.left - 6, y=self.place_y(y) + 3.5, text_anchor="end")

    def draw(self, label: str, parts: Sequence[str]) -> Markup:
        """The whole drawing, described by `label`."""
        return element("svg", *parts, viewBox=f"0 0 {self.width} {self.height}", role="img", aria_label=label)

    def describe(self) -> dict[str, Any]:
        """Layout and ranges, for reading values under the pointer."""
        return {"width": self.width, "left": self.left, "right": self.right, "x": self.x} | {
            "height": self.height, "top": self.top, "bottom": self.bottom, "y": self.y
        }  # fmt: skip


def draw_curve(x: Numbers, y: Numbers, *, label: str, reference: Number | None = None) -> tuple[Markup, Chart]:
    """A curve over steps with an optional dashed level, and its frame."""
    values = [*y, *([] if reference is None else [reference])]
    low, high = min(values), max(values)
    margin = ((high - low) or abs(high) or 1) * 0.06
    low, high = (max(low - margin, 0) if low >= 0 else low - margin), high + margin
    frame = Chart((x[0], max(x[-1], x[0] + 1)), (low, high))
    parts = [join([frame.across(tick, "grid"), frame.label_y(tick, write_number(tick))]) for tick in ticks(low, high)]
    parts += [frame.label_x(tick, write_number(tick)) for tick in ticks(*frame.x)]
    if reference is not None:
        parts.append(frame.across(reference, "reference"))
    if len(y) > MANY:
        parts += [frame.path(x, y, "line faint"), frame.path(x, smooth(y), "line")]
    else:
        dots = zip(x, y, strict=True)
        parts += [
            frame.path(x, y, "line"),
            *(element("circle", class_="dot", cx=frame.place_x(a), cy=frame.place_y(b), r=2.6) for a, b in dots),
        ]
    parts.append(element("line", class_="hair", y1=frame.top, y2=frame.height - frame.bottom, visibility="hidden"))
    return frame.draw(label, parts), frame


def ticks(low: Number, high: Number, count: int = 4) -> list[Number]:
    """About `count` round numbers between two.

    >>> ticks(0.0, 1.0)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    rough = ((high - low) or abs(high) or 1) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def smooth(values: Numbers) -> list[Number]:
    """An exponential mean whose memory is a twentieth of the curve: the trend among noisy batches."""
    keep = 1 - 1 / max(1.0, len(values) / 20)
    return list(accumulate(values, lambda mean, value: keep * mean + (1 - keep) * value))


def write_number(value: Number) -> str:
    """Three digits, four from a thousand on.

    >>> write_number(0.12345), write_number(2500.0), write_number(1e-5)
    ('0.123', '2500', '1.0e-05')
    """
    size = abs(value)
    if size >= 1e5 or 0 < size < 1e-3:
        return f"{value:.1e}"
    return f"{float(f'{value:.{4 if size >= 1000 else 3}g}'):g}"


def draw_precision_recall(
    precision: np.ndarray, recall: np.ndarray, best: tuple[Number, Number], best_label: str
) -> Markup:
    """A precision-recall curve, lines of equal F, and the point (precision, recall) of the best F."""
    frame = Chart((0.0, 1.0), (0.0, 1.0), width=520, height=360, left=46, right=14, top=14, bottom=40)
    parts = []
    for tick in np.linspace(0, 1, 6).tolist():
        parts += [
            frame.up(tick, "grid"),
            frame.across(tick, "grid"),
            frame.label_x(tick, f"{tick:g}"),
            frame.label_y(tick, f"{tick:g}"),
        ]
    for f in (np.arange(1, 10) / 10).tolist():
        way = np.linspace(f / (2 - f), 1, 40)
        parts.append(frame.path(way, f * way / (2 * way - f), "level"))
        place = {"x": frame.place_x(1.0) - 3, "y": frame.place_y(f / (2 - f)) - 3}
        parts.append(element("text", f"{f:.1f}", text_anchor="end", **place))
    shown = (precision > 0) | (recall > 0)
    parts.append(frame.path(recall[shown], precision[shown], "line"))
    x, y = frame.place_x(best[1]), frame.place_y(best[0])
    end = x > frame.width * 0.7  # a falling curve leaves room above, to the right
    parts.append(element("circle", class_="dot", cx=x, cy=y, r=5))
    beside = {"x": x if end else x + 9, "y": y - (22 if end else 10)}
    parts.append(element("text", best_label, class_="strong", text_anchor="end" if end else "start", **beside))
    parts += _axes(frame, "recall", "precision")
    return frame.draw(f"precision-recall curve, {best_label}", parts)


def draw_histogram(values: Numbers, label: str, bins: int = 24) -> Markup:
    """Histogram of the images' values; empty where none is finite."""
    known = np.array([value for value in values if np.isfinite(value)])
    if not known.size:
        return Markup()
    counts, edges = np.histogram(known, bins=min(bins, max(int(known.size), 1)))
    top = int(counts.max())
    wide = (float(edges[0]), max(float(edges[-1]), float(edges[0]) + 1e-12))
    frame = Chart(wide, (0.0, float(top)), width=520, height=360, left=46, right=14, top=14, bottom=40)
    parts = [frame.across(0.0, "grid")]
    for count, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        x0, x1, y = frame.place_x(left), frame.place_x(right), frame.place_y(count)
        size = {"width": f"{max(x1 - x0, 1):.1f}", "height": f"{frame.place_y(0.0) - y:.1f}"}
        parts.append(element("rect", class_="column", x=x0, y=y, **size))
    for i, anchor in enumerate(("start", "middle", "middle", "middle", "end")):
        value = wide[0] + (wide[1] - wide[0]) * i / 4
        parts.append(frame.label_x(value, f"{value:.3g}", anchor))
    parts += [frame.label_y(count, str(count)) for count in sorted({0, top})]
    parts += _axes(frame, label, "images")
    return frame.draw(f"images by {label}", parts)


def _axes(frame: Chart, x_label: str, y_label: str) -> list[Markup]:
    across = (frame.left + frame.width - frame.right) / 2
    middle = (frame.top + frame.height - frame.bottom) / 2
    return [
        element("text", x_label, x=across, y=frame.height - 4, text_anchor="middle"),
        element("text", y_label, x=12, y=middle, text_anchor="middle", transform=f"rotate(-90 12 {middle})"),
    ]
