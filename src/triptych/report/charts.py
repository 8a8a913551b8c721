"""Small charts as inline SVG."""

from collections.abc import Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 520, 360, 46, 14, 14, 40


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _path(points: Sequence[tuple[float, float]], kind: str) -> str:
    steps = " ".join(f"{_x(x)},{_y(y)}" for x, y in points)
    return f'<polyline class="{kind}" points="{steps}"/>'


def _frame(content: str, x_label: str, y_label: str, label: str) -> str:
    middle = _y(0.5)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{content}'
        f'<text x="{_x(0.5)}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(y_label)}</text>'
        "</svg>"
    )


def precision_recall_chart(
    precision: np.ndarray, recall: np.ndarray, best: tuple[float, float], best_label: str
) -> str:
    """A precision-recall curve, lines of equal F, and the point (precision, recall) of the best F."""
    parts = []
    for i in range(6):
        tick = i / 5
        parts.append(f'<line class="axis" x1="{_x(tick)}" y1="{_y(0.0)}" x2="{_x(tick)}" y2="{_y(1.0)}"/>')
        parts.append(f'<line class="axis" x1="{_x(0.0)}" y1="{_y(tick)}" x2="{_x(1.0)}" y2="{_y(tick)}"/>')
        parts.append(f'<text x="{_x(tick)}" y="{_y(0.0) + 17}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{_x(0.0) - 7}" y="{_y(tick) + 4}" text-anchor="end">{tick:g}</text>')
    for f in np.arange(1, 10) / 10:
        reach = np.linspace(f / (2 - f), 1, 40)
        parts.append(_path([(float(r), float(f * r / (2 * r - f))) for r in reach], "level"))
        parts.append(f'<text x="{_x(1.0) - 3}" y="{_y(f / (2 - f)) - 3}" text-anchor="end">{f:.1f}</text>')
    shown = (precision > 0) | (recall > 0)
    parts.append(_path([(float(r), float(p)) for p, r in zip(precision[shown], recall[shown], strict=True)], "curve"))
    x, y = _x(best[1]), _y(best[0])
    end = x > WIDTH * 0.7  # a falling curve leaves room above, to the right
    parts.append(f'<circle class="point" cx="{x}" cy="{y}" r="5"/>')
    place = f'x="{x if end else x + 9}" y="{y - (22 if end else 10)}" text-anchor="{"end" if end else "start"}"'
    parts.append(f'<text class="strong" {place}>{escape(best_label)}</text>')
    return _frame("".join(parts), "recall", "precision", f"precision-recall curve, {best_label}")


def histogram_chart(values: Sequence[float], label: str, bins: int = 24) -> str:
    """How many images have which value."""
    known = np.array([value for value in values if np.isfinite(value)])
    if not known.size:
        return ""
    counts, edges = np.histogram(known, bins=min(bins, max(int(known.size), 1)))
    span, top = max(float(edges[-1] - edges[0]), 1e-12), int(counts.max())
    parts = [f'<line class="axis" x1="{_x(0.0)}" y1="{_y(0.0)}" x2="{_x(1.0)}" y2="{_y(0.0)}"/>']
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        x0, x1, y = _x((left - edges[0]) / span), _x((right - edges[0]) / span), _y(count / top)
        parts.append(f'<rect class="bar" x="{x0}" y="{y}" width="{max(x1 - x0, 1):.1f}" height="{_y(0.0) - y:.1f}"/>')
    for i in range(5):
        value, anchor = edges[0] + span * i / 4, ("start", "middle", "middle", "middle", "end")[i]
        parts.append(f'<text x="{_x(i / 4)}" y="{_y(0.0) + 17}" text-anchor="{anchor}">{value:.3g}</text>')
    for count in sorted({0, top}):
        parts.append(f'<text x="{_x(0.0) - 7}" y="{_y(count / top) + 4}" text-anchor="end">{count}</text>')
    return _frame("".join(parts), label, "images", f"images by {label}")
