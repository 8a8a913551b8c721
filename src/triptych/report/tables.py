"""Tables of scores."""

import math
from collections.abc import Mapping, Sequence

from triptych.evaluation.reliability import GROUPS, Reliability
from triptych.report.engine import Markup, element, join
from triptych.tasks import Task

_ARROWS: dict[bool | None, Markup] = {
    True: element("span", "↑", title="higher is better"),
    False: element("span", "↓", title="lower is better"),
    None: Markup(),
}


def show_results(tasks: Mapping[str, Task], scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Markup:
    """The table of each task's first metric, gains over the other columns, and a second table with every number."""
    if not scores:
        return Markup()
    ours, *others = scores
    rows: list[Markup] = []
    gains: dict[str, list[float]] = {column: [] for column in others}
    for name, task in tasks.items():
        metric = task.metric()
        value = scores[ours].get(name, {}).get(metric.primary)
        cells = [element("td", _number(value), class_="number ours")]
        for column in others:
            other = scores[column].get(name, {}).get(metric.primary)
            gain = relative_gain(value, other, metric.better[metric.primary])
            gains[column] += [gain] if gain is not None else []
            cells.append(number_cell(_number(other), _chip(gain)))
        rows.append(row(name, metric.primary, metric.better[metric.primary], cells))
    columns = list(scores)
    if not others:
        return join([table("Task", columns, rows), _all_metrics(tasks, scores)])
    means = [number_cell(_chip(_mean(gains[column]))) for column in others]
    title = element("th", "mean gain over tasks (delta_mtl)", scope="row")
    foot = element("tfoot", element("tr", title, element("td"), *means))
    return join([_GAIN_NOTE, table("Task", columns, rows, foot), _all_metrics(tasks, scores)])


def show_reliability(found: Reliability | None) -> Markup:
    """Each task's mean error from the pixels it is least sure of to those it is surest of."""
    if found is None:
        return Markup()
    rows = []
    for name, errors in found.errors.items():
        error = found.tasks[name].error
        label = f"{error.label} ({error.unit})" if error.unit else error.label
        rows.append(row(name, label, False, [number_cell(f"{value:.3g}") for value in errors]))
    note = (
        f"Mean error on {found.images} images by how sure the network is of a pixel: the entropy of classes and "
        "probabilities, and how far mirrored and resized views disagree. Errors that fall from left to right say that "
        "confidence can be used; they do not say that it is a probability."
    )
    return join([element("p", note, class_="note"), table("Task", GROUPS, rows)])


_GAIN_NOTE = element(
    "p",
    "The first metric of each task. A percentage says how much better the network is than that column, relative to it.",
    class_="note",
)


def table(first: str, columns: Sequence[str], rows: Sequence[Markup], foot: Markup | None = None) -> Markup:
    """A table that scrolls sideways where it is wider than the page."""
    titles = [element("th", column, scope="col", class_="number") for column in columns]
    head = element("thead", element("tr", element("th", first, scope="col"), *titles))
    return element("div", element("table", head, element("tbody", *rows), foot or Markup()), class_="card scroll")


def row(task: str, metric: str, better: bool | None, cells: Sequence[Markup]) -> Markup:
    """One row, headed by a task and what is measured; an arrow says which way is better."""
    measured = element("span", f"{metric} ", _ARROWS[better], class_="metric")
    return element("tr", element("th", f"{task} ", measured, scope="row"), *cells)


def number_cell(*content: str) -> Markup:
    """A cell of a number."""
    return element("td", *content, class_="number")


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


def _all_metrics(tasks: Mapping[str, Task], scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Markup:
    rows = []
    for name, task in tasks.items():
        better = task.metric().better
        for metric in dict.fromkeys(metric for column in scores.values() for metric in column.get(name, {})):
            cells = [number_cell(_number(column.get(name, {}).get(metric))) for column in scores.values()]
            rows.append(row(name, metric, better.get(metric), cells))
    return element("details", element("summary", "Every metric"), table("Metric", list(scores), rows))


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _chip(gain: float | None) -> Markup:
    if gain is None:
        return Markup()
    text = f"{gain * 100:+.0f} %" if abs(gain) < 10 else f"{gain * 100:+,.0f} %"
    return element("span", text, class_=f"gain {'up' if gain > 0 else 'down'}")
