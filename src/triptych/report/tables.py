"""Tables of scores in a page: HTML of numbers, gains and confidence."""

import math
from collections.abc import Callable, Mapping, Sequence

from triptych.evaluation.reliability import GROUPS, Reliability
from triptych.evaluation.run import CONSTANT, SINGLE_TASK
from triptych.metrics.base import Metric
from triptych.report.engine import Markup, element, join
from triptych.tasks import Task

_ARROWS: dict[bool | None, Markup] = {
    True: element("span", "↑", title="higher is better"),
    False: element("span", "↓", title="lower is better"),
    None: Markup(),
}


def show_results(
    tasks: Mapping[str, Task],
    scores: Mapping[str, Mapping[str, Mapping[str, float]]],
    images: Mapping[str, int] | None = None,
) -> Markup:
    """The table of each task's first metric and its comparison with the other columns; a second table with every
    number. `images` are the images with a label, by task.
    """
    if not scores:
        return Markup()
    ours, *others = scores
    rows: list[Markup] = []
    gains: list[float] = []
    for name, task in tasks.items():
        metric = task.metric()
        value = scores[ours].get(name, {}).get(metric.primary)
        cells = [element("td", _number(value), class_="number ours")]
        for column in others:
            other = scores[column].get(name, {}).get(metric.primary)
            said = _COMPARED[column](metric, value, other) if column in _COMPARED else ""
            cells.append(number_cell(_number(other), element("span", said, class_="gain") if said else Markup()))
        better = metric.better[metric.primary]
        gain = _gain(metric, value, scores.get(SINGLE_TASK, {}).get(name, {}).get(metric.primary))
        gains += [gain] if gain is not None else []
        rows.append(row(name, metric.primary, better, cells, images=(images or {}).get(name)))
    notes = [element("p", _NOTES[column], class_="note") for column in others if column in _NOTES]
    foot = None
    if gains and len(gains) == sum(bool(scores[ours].get(name)) for name in tasks):  # auxiliary ones have none
        mean = f"{100 * sum(gains) / len(gains):+.1f} %"
        title = element("th", "delta_mtl: mean gain over single-task networks", scope="row")
        means = [number_cell(element("span", mean if column == SINGLE_TASK else "")) for column in others]
        foot = element("tfoot", element("tr", title, element("td"), *means))
    return join([*notes, table("Task", list(scores), rows, foot), _all_metrics(tasks, scores)])


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


def _way_from_constant(metric: Metric, value: float | None, constant: float | None) -> str:
    """Say which share of the way from a constant prediction to a perfect one the network closes.

    >>> from triptych.tasks import depth
    >>> _way_from_constant(depth().metric(), 0.75, 1.0)
    'the network closes 25 % of the way'
    """
    numbers = [number for number in (value, constant, metric.perfect) if number is not None and math.isfinite(number)]
    known = [metric.comparable(number) for number in numbers]
    if len(known) < 3 or known[1] == known[2]:
        return ""
    share = (known[0] - known[1]) / (known[2] - known[1])
    return f"the network closes {f'{100 * share:.0f} %' if share >= 0.005 else 'none'} of the way"


def _gain(metric: Metric, value: float | None, other: float | None) -> float | None:
    one, two = (None if number is None else metric.comparable(number) for number in (value, other))
    return relative_gain(one, two, metric.better[metric.primary])


def _gain_over_single(metric: Metric, value: float | None, other: float | None) -> str:
    gain = _gain(metric, value, other)
    return "" if gain is None else f"{100 * gain:+.1f} %"


_COMPARED: dict[str, Callable[[Metric, float | None, float | None], str]] = {
    CONSTANT: _way_from_constant,
    SINGLE_TASK: _gain_over_single,
}
"""Text beside the number of a column, by its title."""
_NOTES = {
    CONSTANT: "Beside the constant predictor: how much of the way from it to a perfect score the network closes.",
    SINGLE_TASK: "Beside single-task networks: the gain in percent of theirs.",
}


def table(first: str, columns: Sequence[str], rows: Sequence[Markup], foot: Markup | None = None) -> Markup:
    """A table that scrolls sideways where it is wider than the page."""
    titles = [element("th", column, scope="col", class_="number") for column in columns]
    head = element("thead", element("tr", element("th", first, scope="col"), *titles))
    return element("div", element("table", head, element("tbody", *rows), foot or Markup()), class_="card scroll")


def row(task: str, metric: str, better: bool | None, cells: Sequence[Markup], *, images: int | None = None) -> Markup:
    """One row, headed by a task and what is measured: an arrow says which way is better, a count on how many images."""
    count = "" if images is None else f" {images} image{'' if images == 1 else 's'}"
    measured = element("span", f"{metric} ", _ARROWS[better], count, class_="metric")
    return element("tr", element("th", f"{task} ", measured, scope="row"), *cells)


def number_cell(*content: str) -> Markup:
    """A cell of a number."""
    return element("td", *content, class_="number")


def relative_gain(value: float | None, other: float | None, higher_is_better: bool) -> float | None:
    """Gain of `value` over `other`, relative to it; `None` where that has no meaning.

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
