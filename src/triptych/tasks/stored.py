"""Tasks as JSON: what a run folder stores so that a network can be rebuilt without its dataset.

Tasks hold functions, so a file names the constructor in `triptych.tasks.TASKS` and its keyword arguments: those that
are fields of the task, and those that its constructor keeps in `options`. A task may have a name of its own; its entry
names the constructor with `"type": "semseg"`. A description is written only if it gives the same task back.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from triptych.files import write_text
from triptych.lookup import named_choice, parse_json
from triptych.tasks import TASKS, Task
from triptych.tasks.constructors import GENERIC
from triptych.types import IGNORE, MOST_CLASSES, UNUSED

_READABLE = ("classes", "channels", "weight", "unit", "limits")
"""Constructor arguments that are fields of a finished task; a task keeps others in its `options`."""


def tasks_to_json(tasks: Mapping[str, Task], options: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """Describe `tasks` by constructor name and keyword arguments.

    `options` are keyword arguments by task name (a recipe's `data.task_options`), which override what is read from
    the task. Raises `ValueError` where the description would not give the same task back: an unknown name, other
    classes, another loss, decoding or metric.

    >>> from triptych.tasks import depth, semseg
    >>> tasks = tasks_from_json(tasks_to_json({"semseg": semseg(["wall", "floor"]), "depth": depth()}))
    >>> tasks["semseg"].classes, tasks["depth"].unit
    (('wall', 'floor'), 'm')
    """
    entries = [_describe(name, task, dict((options or {}).get(name, {}))) for name, task in tasks.items()]
    return json.dumps({"format": 1, "tasks": entries}, indent=2)


def tasks_from_json(text: str) -> dict[str, Task]:
    """Build the tasks that `tasks_to_json` described, in the same order; `ValueError` for anything else."""
    try:
        entries = parse_json(text)["tasks"]
        triples = [(entry["name"], entry.get("type", entry["name"]), dict(entry["options"])) for entry in entries]
        if not all(isinstance(name, str) and isinstance(kind, str) for name, kind, _ in triples) or not triples:
            raise TypeError("no task has a name")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a description of tasks ({error}); expected what tasks_to_json writes.") from error
    return {name: _rebuild(name, kind, options) for name, kind, options in triples}


def write_tasks(path: Path, tasks: Mapping[str, Task], options: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Write `tasks_to_json` to a file."""
    write_text(path, tasks_to_json(tasks, options) + "\n")


def read_tasks(path: Path) -> dict[str, Task]:
    """Read the file that `write_tasks` wrote; the error names the file."""
    try:
        return tasks_from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def with_options(task: Task, name: str, options: Mapping[str, Any]) -> Task:
    """The task called `name` with other arguments of its constructor, such as a loss that predicts other channels.

    Raises `ValueError` for a task that no constructor gives back: what was replaced in it would be lost.

    >>> from triptych.tasks import boundary
    >>> with_options(boundary(), "boundary", {"channels": 2}).channels
    2
    """
    return _build(name, *_arguments(name, task, options))


def _describe(name: str, task: Task, options: Mapping[str, Any]) -> dict[str, Any]:
    kind, described = _arguments(name, task, options)
    return {"name": name, **({"type": kind} if kind != name else {}), "options": described}


def _arguments(name: str, task: Task, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name of the first constructor that gives the task back, and its arguments: those that can be read from the
    task, and `options`. These may be what the task was made with, or change it.
    """
    refused: list[str] = []
    for kind in _constructors(name, task):
        read = _read(kind, task)
        for described in (read | dict(options), read):
            try:
                # Through JSON and back: what the reader will build is what must be equal.
                built = _build(name, kind, json.loads(json.dumps(described)))
            except ValueError as error:
                refused.append(str(error))
                continue
            different = _difference(built, task, kind)
            if not different:
                _build(name, kind, read | dict(options))  # fails where the options cannot be
                return kind, read | dict(options)
            refused.append(
                f"task {name!r} cannot be rebuilt from {described}: its {different}; pass the keyword arguments of its "
                "constructor as options, or register a constructor of its own."
            )
    raise ValueError(refused[0])


def _difference(built: Task, task: Task, kind: str) -> str:
    """Describe the first difference between a task that `kind` built and `task`; empty where there is none."""
    for what, same in _ALIKE.items():
        try:
            if same(built, task):
                continue
        except Exception as error:  # a user's functions, which drawn maps may not suit
            return f"{what} cannot be compared, drawn maps of {SIDE} x {SIDE} pixels are an error: {error}"
        return f"{what} is {getattr(task, what)!r}, that of `{kind}` would be {getattr(built, what)!r}"
    return ""


def _constructors(name: str, task: Task) -> list[str]:
    """Names of constructors that may give the task back: its own and that of its name, the likelier one first."""
    known = [kind for kind in dict.fromkeys((task.constructor, name)) if kind in TASKS or kind in GENERIC]
    if not known:
        named_choice("task", task.constructor or name, TASKS, GENERIC)
    # One that makes tasks of any name says less than one for this name.
    return sorted(known, key=lambda kind: "name" in _parameters(kind))


def _parameters(kind: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(named_choice("task", kind, TASKS, GENERIC)).parameters


def _read(kind: str, task: Task) -> dict[str, Any]:
    """Arguments of a constructor that can be read from a task."""
    parameters = _parameters(kind)
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    told = {key: value for key, value in task.options.items() if takes_any or key in parameters}
    return {key: getattr(task, key) for key in _READABLE if key in parameters} | told


def _same_field(field: str) -> Callable[[Task, Task], bool]:
    return lambda built, task: getattr(built, field) == getattr(task, field)


def _same_values(function: str, *arguments: Callable[[Task], Any]) -> Callable[[Task, Task], bool]:
    """Whether a function of both gives the same for drawn maps, where it is not the same function."""

    def compare(built: Task, task: Task) -> bool:
        first, second = getattr(built, function), getattr(task, function)
        if first is None or second is None or _surely_same(first, second):
            return first is second or None not in (first, second)
        drawn = [draw(task) for draw in arguments]
        return _equal(*(_called(call, *drawn) for call in (first, second)))

    return compare


def _surely_same(first: Any, second: Any) -> bool:
    """Whether two are one object, equal numbers or texts, or made of such; others may do the same nevertheless."""
    if isinstance(first, partial) and isinstance(second, partial):
        parts = ((one.func, one.args, tuple(one.keywords), tuple(one.keywords.values())) for one in (first, second))
        return _surely_same(*parts)
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(_surely_same, first, second))
    return first is second or (isinstance(first, str | float | int) and first == second)


def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, which may draw random numbers, with the same seed each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return function(*arguments)


def _equal(first: Any, second: Any) -> bool:
    one, other = (torch.as_tensor(value).detach().numpy() for value in (first, second))
    return np.array_equal(one, other, equal_nan=True)


def _same_metric(built: Task, task: Task) -> bool:
    """Whether both collect the same from one prediction, and compute the same numbers of it."""
    if _surely_same(built.metric, task.metric):
        return True
    first, second = built.metric(), task.metric()
    if type(first) is not type(second) or first.primary != second.primary:
        return False
    prediction, target = task.decode(_raw(task)), _target(task)
    found = []
    for metric in (first, second):
        _called(metric.update, prediction, target)
        found.append(metric.sums() | metric.compute())
    return found[0].keys() == found[1].keys() and all(_equal(found[0][name], found[1][name]) for name in found[0])


SIDE = 64
"""Side of the maps on which functions are compared: networks in losses halve them a few times."""


def _raw(task: Task) -> Tensor:
    return torch.linspace(-3, 3, SIDE * SIDE * task.channels).view(1, task.channels, SIDE, SIDE)


def _target(task: Task) -> Tensor:
    if task.target_channels is None:
        return (torch.arange(SIDE * SIDE) % max(len(task.classes), 2)).view(1, SIDE, SIDE)
    values = torch.linspace(0.1, 4, SIDE * SIDE * task.target_channels).view(1, task.target_channels, SIDE, SIDE)
    if task.kind == "probability":
        return (values > 2).float()
    return F.normalize(values, dim=1) if task.kind == "direction" else values


def _coarse(draw: Callable[[Task], Tensor]) -> Callable[[Task], Tensor]:
    return lambda task: draw(task)[..., :8, :8]


def _decoded(task: Task) -> np.ndarray:
    return task.decode(_raw(task))[0].numpy()


_ALIKE: dict[str, Callable[[Task, Task], bool]] = {
    **{name: _same_field(name) for name in ("channels", "classes", "kind", "unit", "limits", "raw_form")},
    **{name: _same_field(name) for name in ("target_channels", "scales_with_zoom", "averages_labels")},
    **{name: _same_field(name) for name in ("interpolation", "png_range")},
    "decode": _same_values("decode", _raw),
    "loss": _same_values("loss_function", _raw, _target),
    "pair_loss": _same_values("pair_loss", _coarse(_raw), _coarse(_target)),
    "to_png": _same_values("to_png", _decoded),
    "encode": _same_values("encode", _target),
    "mirror": _same_values("mirror", _target),
    "rotate": _same_values("rotate", _target, lambda task: torch.tensor(0.3)),
    "metric": _same_metric,
}
"""Comparisons of what a stored task has to keep, by field: all but the weight and the drawing."""


def _rebuild(name: str, kind: str, options: Mapping[str, Any]) -> Task:
    """The task of a file. Older versions took class `IGNORE` as any other, though it never counted: it is named so."""
    try:
        return _build(name, kind, options)
    except ValueError:
        classes = options.get("classes")
        names = [*map(str, range(classes))] if isinstance(classes, int) and classes <= MOST_CLASSES else classes
        if not isinstance(names, list) or len(names) <= IGNORE:
            raise
        return _build(name, kind, {**options, "classes": [*names[:IGNORE], UNUSED, *names[IGNORE + 1 :]]})


def _build(name: str, kind: str, options: Mapping[str, Any]) -> Task:
    constructor = named_choice("task", kind, TASKS, GENERIC)
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    if "name" in _parameters(kind):
        values["name"] = name
    try:
        task = constructor(**values)
        return task if name == task.name else replace(task, name=name, constructor=kind)
    except TypeError as error:
        raise ValueError(
            f"task {name!r}: {error}; its arguments are {', '.join(inspect.signature(constructor).parameters)}."
        ) from error
