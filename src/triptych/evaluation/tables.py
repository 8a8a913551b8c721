"""Tables of scores on the terminal, and the bar while images are scored."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from triptych.evaluation.scores import Evaluation
from triptych.terminal import terminal

SHOWN = 3
"""Numbers per task in a summary."""
NO_LABELS = "no labels"
ARROWS = {True: "↑", False: "↓"}


Row = tuple[str, str, bool, Sequence[str], int | str]
"""A task, a number's name, whether higher is better, its cells, and how many images count."""


def number_table(title: str, columns: Sequence[str], rows: Sequence[Row]) -> Table:
    """One row per number, its cells under `columns`; the task and its images stand in its first row."""
    table = Table("task", "metric", *columns, "images", title=title, title_justify="left")
    last = None
    for task, name, better, cells, images in rows:
        first = task != last
        table.add_row(task if first else "", f"{name} {ARROWS[better]}", *cells, str(images) if first else "")
        last = task
    return table


def score_table(title: str, evaluation: Evaluation, reference: Evaluation | None = None) -> Table:
    """The numbers whose better direction is known, or that a task has no labels; `reference` fills a column to compare
    with.
    """
    rows: list[Row] = []
    for name, task in evaluation.tasks.items():
        better, primary = task.metric().better, task.metric().primary
        if not evaluation.metrics[name]:
            cells = [NO_LABELS, *(["-"] if reference is not None else [])]
            rows.append((name, primary, better[primary], cells, evaluation.labelled[name]))
        for metric, value in evaluation.metrics[name].items():
            if metric in better:
                other = [_cell(reference.metrics[name], metric)] if reference is not None else []
                rows.append((name, metric, better[metric], [f"{value:.4g}", *other], evaluation.labelled[name]))
    return number_table(title, ["value", *(["constant"] if reference is not None else [])], rows)


def _cell(numbers: Mapping[str, float], metric: str) -> str:
    return f"{numbers[metric]:.4g}" if metric in numbers else "-"


def summary_table(title: str, evaluation: Evaluation) -> Table:
    """An evaluation as a table: one row per task, its primary number first, each with the direction that is better."""
    table = Table("task", "metrics", "loss", "images", title=title, title_justify="left")
    for name, task in evaluation.tasks.items():
        metric = task.metric()
        shown = dict(sorted(evaluation.metrics[name].items(), key=lambda item: item[0] != metric.primary))
        numbers = [
            f"{key} {value:.4g}{ARROWS[metric.better[key]]}" for key, value in shown.items() if key in metric.better
        ]
        loss = f"{evaluation.losses[name]:.4g}" if name in evaluation.losses else ""
        table.add_row(name, "  ".join(numbers[:SHOWN]) or NO_LABELS, loss, str(evaluation.labelled[name]))
    return table


@contextmanager
def shown_progress(title: str, enabled: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, otherwise nothing."""
    console = terminal()
    if not (enabled and console.is_terminal):
        yield None
        return
    with Progress(*Progress.get_default_columns(), console=console, transient=True) as bar:
        row = bar.add_task(escape(title), total=None)
        yield lambda done, of: bar.update(row, completed=done, total=of)
