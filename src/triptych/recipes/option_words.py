"""Options as words such as `look=b`, and fields of recipes under others.

Nothing here knows what a recipe is; nothing heavy is imported.
"""

import ast
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from triptych.lookup import as_tuples, require_kind


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names to the values of nested mappings.

    >>> flatten({"depth": {"loss": "berhu", "weight": 2}, "seed": 0})
    {'depth.loss': 'berhu', 'depth.weight': 2, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for name, value in data.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {prefix + name: value}
    return flat


def read_options(words: Sequence[str], *, tables_allowed: bool = True) -> dict[str, Any]:
    """Options from words `NAME=VALUE`; a dot goes one table down, or is part of the name where no table is allowed. A
    value is JSON, a Python literal, or text.

    >>> read_options(["neighbor_frames=[-1,1]", "look=b", "depth.loss=berhu"])
    {'neighbor_frames': (-1, 1), 'look': 'b', 'depth': {'loss': 'berhu'}}
    >>> read_options(["heads.depth=3"], tables_allowed=False)
    {'heads.depth': 3}
    """
    options: dict[str, Any] = {}
    for word in words:
        path, equals, text = word.partition("=")
        *tables, name = path.split(".") if tables_allowed else [path]
        if not (equals and name and all(tables)):
            raise ValueError(f"'{word}' is no option; write NAME=VALUE, such as look=b or 'neighbor_frames=[-1,1]'.")
        place = options
        for table in tables:
            place = place.setdefault(table, {})
            require_kind(table, place, dict)
        place[name] = _read_value(text, word)
    return options


def _read_value(text: str, word: str) -> Any:
    readers: tuple[Callable[[str], Any], ...] = (json.loads, ast.literal_eval)
    for read in readers[: 1 if text[:1].isdigit() else 2]:  # Python would read 2020_01 as a number
        try:
            return as_tuples(read(text))
        except (ValueError, SyntaxError):
            continue
    if text[:1] in ("[", "(", "{"):
        raise ValueError(f"{word} is neither JSON nor Python; write lists like NAME=[1,2], in quotes for the shell.")
    return text


def write_options(options: Mapping[str, Any]) -> list[str]:
    """Words that `read_options` reads the same options from.

    >>> write_options({"look": "b", "views": (1, 2)})
    ['look=b', 'views=[1,2]']
    """
    return [
        f"{name}={value if _is_plain(value) else json.dumps(value, separators=(',', ':'))}"
        for name, value in flatten(options).items()
    ]


def _is_plain(value: Any) -> bool:
    """Whether a value is text that reads as itself."""
    try:
        return isinstance(value, str) and _read_value(value, "") == value
    except ValueError:
        return False


def override(fields: Any, given: Any) -> Any:
    """`fields` with the options of `given` beside their own ones; an option that is given as `null` is left out.

    Both are the same dataclass, whose other fields are those of `given`; or dicts.
    """
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        names = [field.name for field in dataclasses.fields(given)]
        return dataclasses.replace(
            given, **{name: override(getattr(fields, name), getattr(given, name)) for name in names}
        )
    if isinstance(given, dict) and isinstance(fields, dict):
        merged = {**fields, **{name: override(fields.get(name), value) for name, value in given.items()}}
        return {name: value for name, value in merged.items() if value is not None}
    return given
