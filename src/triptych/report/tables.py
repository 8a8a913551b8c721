"""The score tables of `report.html`."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from triptych.tasks import Task

_ARROWS: dict[bool | None, str] = {
    True: '<span title="higher is better">↑</span>',
    False: '<span title="lower is better">↓</span>',
}


def results(tasks: Mapping[str, Task], scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The table of each task's first metric, gains over the other columns, and a second table with every number."""
    if not scores:
        return ""
    columns = list(scores)
    ours, *others = columns
    rows: list[str] = []
    gains: dict[str, list[float]] = {column: [] for column in others}
    for name, task in tasks.items():
        metric = task.metric()
        value = scores[ours].get(name, {}).get(metric.primary)
        cells = [f'<td class="number ours">{_number(value)}</td>']
        for column in others:
            other = scores[column].get(name, {}).get(metric.primary)
            gain = relative_gain(value, other, metric.better[metric.primary])
            gains[column] += [gain] if gain is not None else []
            cells.append(f'<td class="number">{_number(other)}{_chip(gain)}</td>')
        rows.append(row(name, metric.primary, metric.better[metric.primary], cells))
    if not others:
        return table("Task", columns, rows) + _all_metrics(tasks, scores)
    means = "".join(f'<td class="number">{_chip(_mean(gains[column]))}</td>' for column in others)
    foot = f'<tfoot><tr><th scope="row">mean gain over tasks (delta_mtl)</th><td></td>{means}</tr></tfoot>'
    return _GAIN_NOTE + table("Task", columns, rows, foot) + _all_metrics(tasks, scores)


_GAIN_NOTE = (
    '<p class="note">The first metric of each task. A percentage says how much better the network is than that column, '
    "relative to it.</p>"
)


def table(first: str, columns: Sequence[str], rows: Sequence[str], foot: str = "") -> str:
    """A table that scrolls sideways where it is wider than the page."""
    titles = "".join(f'<th scope="col" class="number">{escape(column)}</th>' for column in columns)
    head = f'<thead><tr><th scope="col">{first}</th>{titles}</tr></thead>'
    return f'<div class="card scroll"><table>{head}<tbody>{"".join(rows)}</tbody>{foot}</table></div>'


def row(task: str, metric: str, better: bool | None, cells: Sequence[str]) -> str:
    """One row, headed by a task and what is measured; an arrow says which way is better."""
    label = f'{escape(task)} <span class="metric">{escape(metric)} {_ARROWS.get(better, "")}</span>'
    return f'<tr><th scope="row">{label}</th>{"".join(cells)}</tr>'


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def relative_gain(value: float | None, other: float | None, higher_is_better: bool) -> float | None:
    """How much better `value` is than `other`, relative to it; `None` where that has no meaning.

    >>> relative_gain(0.5, 1.0, higher_is_better=False)
    0.5
    """
    if value is None or other is None or not other or not math.isfinite(value) or not math.isfinite(other):
        return None
    return (value - other) / abs(other) * (1 if higher_is_better else -1)


def _all_metrics(tasks: Mapping[str, Task], scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    rows = []
    for name, task in tasks.items():
        better = task.metric().better
        for metric in dict.fromkeys(metric for column in scores.values() for metric in column.get(name, {})):
            values = (column.get(name, {}).get(metric) for column in scores.values())
            cells = [f'<td class="number">{_number(value)}</td>' for value in values]
            rows.append(row(name, metric, better.get(metric), cells))
    return f"<details><summary>Every metric</summary>{table('Metric', list(scores), rows)}</details>"


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _chip(gain: float | None) -> str:
    if gain is None:
        return ""
    text = f"{gain * 100:+.0f} %" if abs(gain) < 10 else f"{gain * 100:+,.0f} %"
    return f'<span class="gain {"up" if gain > 0 else "down"}">{text}</span>'
