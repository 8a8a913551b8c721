"""Tasks as JSON: what a run folder stores so that a network can be rebuilt without its dataset.

Tasks hold functions, so a file names the constructor in `triptych.tasks.TASKS` and its keyword arguments. A task may
have a name of its own; its entry names the constructor with `"type": "semseg"`.
"""

import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from triptych.files import write_text
from triptych.lookup import named_choice, parse_json
from triptych.tasks import TASKS, Task
from triptych.tasks.constructors import GENERIC

_READABLE = ("classes", "channels", "weight", "unit", "limits")
"""Constructor arguments that are fields of a finished task; a task keeps others in its `options`, and what neither has
(a loss of the recipe's) comes from the recipe."""
_IDENTITY = ("channels", "classes", "kind", "unit")
"""Fields that have to be equal after a task was stored."""


def tasks_to_json(tasks: Mapping[str, Task], options: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """Describe `tasks` by constructor name and keyword arguments.

    `options` are keyword arguments by task name (a recipe's `data.task_options`), which override what is read from
    the task. Raises `ValueError` where the description would not give the same task back: an unknown name, or other
    channels or classes.

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
    return {name: _build(name, kind, options) for name, kind, options in triples}


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

    >>> from triptych.tasks import boundary
    >>> with_options(boundary(), "boundary", {"channels": 2}).channels
    2
    """
    kind, described = _arguments(name, task, options)
    return _build(name, kind, described)


def _arguments(name: str, task: Task, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The constructor's name, and its arguments: those that can be read from the task, and `options`."""
    kind = name if name in TASKS else task.constructor or name
    parameters = inspect.signature(named_choice("task", kind, TASKS, GENERIC)).parameters
    read = {key: getattr(task, key) for key in _READABLE if key in parameters}
    return kind, read | dict(task.options) | dict(options)


def _describe(name: str, task: Task, options: dict[str, Any]) -> dict[str, Any]:
    kind, described = _arguments(name, task, options)
    entry = {"name": name, **({"type": kind} if kind != name else {}), "options": described}
    # Through JSON and back: what the reader will build is what must be equal.
    built = _build(name, kind, json.loads(json.dumps(described)))
    for field in _IDENTITY:
        if getattr(built, field) != getattr(task, field):
            raise ValueError(
                f"task {name!r} cannot be rebuilt from {described}: its {field} is {getattr(task, field)!r}, that of "
                f"`{kind}` would be {getattr(built, field)!r}; pass the keyword arguments of its constructor as "
                "options, or register a constructor of its own."
            )
    return entry


def _build(name: str, kind: str, options: Mapping[str, Any]) -> Task:
    constructor = named_choice("task", kind, TASKS, GENERIC)
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    has_name = "name" in inspect.signature(constructor).parameters
    if name != kind and has_name:
        values["name"] = name
    try:
        task = constructor(**values)
        return task if name == task.name else replace(task, name=name, constructor=kind)
    except TypeError as error:
        raise ValueError(
            f"task {name!r}: {error}; its arguments are {', '.join(inspect.signature(constructor).parameters)}."
        ) from error
