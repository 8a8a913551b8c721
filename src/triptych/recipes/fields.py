"""Reading fields: dataclasses from JSON, and options from words such as `look=b`, checked against their annotations.

Nothing here knows what a recipe is; nothing heavy is imported.
"""

import ast
import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from triptych.lookup import require_kind


def build(cls: Any, data: Any, where: str) -> Any:
    """An instance of the dataclass `cls` from what JSON holds; lists become tuples, missing fields keep their defaults.

    Raises `ValueError` naming the field, what came and what is accepted.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{where} is {data!r}; expected an object with fields.")
    hints = typing.get_type_hints(cls)
    for name in data:
        if name not in hints:
            raise ValueError(f"{where} has no field {name!r}; its fields are {', '.join(hints)}.")
    return cls(**{name: convert(hints[name], value, f"{where}.{name}") for name, value in data.items()})


def convert(hint: Any, value: Any, where: str) -> Any:
    """A value of JSON as its annotation has it; `ValueError` names the place `where` it does not fit.

    >>> convert(tuple[int, int], [48, 64], "size")
    (48, 64)
    >>> convert(float, "fast", "lr")
    Traceback (most recent call last):
    ...
    ValueError: lr is 'fast'; expected a number.
    """
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in parts:
            raise ValueError(f"{where} is {value!r}; expected one of {', '.join(map(str, parts))}.")
        return value
    if origin in (types.UnionType, typing.Union):
        return _tuples(value)  # an option: the component that takes it checks it
    require_kind(where, value, hint)
    if origin is tuple:
        if parts[1:] == (...,):
            parts = (parts[0],) * len(value)
        if len(value) != len(parts):
            raise ValueError(f"{where} is {value!r}; expected {len(parts)} values.")
        return tuple(convert(part, item, where) for part, item in zip(parts, value, strict=True))
    if origin is dict:
        return {name: convert(parts[1], item, f"{where}.{name}") for name, item in value.items()}
    return hint(value)


def _tuples(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return value


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names to the values of nested mappings.

    >>> flatten({"depth": {"loss": "berhu", "weight": 2}, "seed": 0})
    {'depth.loss': 'berhu', 'depth.weight': 2, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for name, value in data.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {prefix + name: value}
    return flat


def read_options(words: Sequence[str]) -> dict[str, Any]:
    """Options from words `NAME=VALUE`; a dot goes one table down. A value is JSON, a Python literal, or text.

    >>> read_options(["neighbour_frames=[-1,1]", "look=b", "depth.loss=berhu"])
    {'neighbour_frames': (-1, 1), 'look': 'b', 'depth': {'loss': 'berhu'}}
    """
    options: dict[str, Any] = {}
    for word in words:
        path, equals, text = word.partition("=")
        *tables, name = path.split(".")
        if not (equals and name and all(tables)):
            raise ValueError(f"'{word}' is no option; write NAME=VALUE, such as look=b or 'neighbour_frames=[-1,1]'.")
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
            return _tuples(read(text))
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
