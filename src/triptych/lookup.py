"""Look up names in registries and in modules that are imported when needed; read untyped values."""

import dataclasses
import difflib
import functools
import importlib
import inspect
import json
import re
import sys
import types
import typing
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any, Literal, TypeVar

from triptych.plugins.loading import load_installed

KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a text"),
    tuple: ((list, tuple), "a list"),
    dict: ((Mapping,), "a table of names and values"),
}
"""Types that a value of an annotation may have, and their description in messages."""


Key = TypeVar("Key")
Value = TypeVar("Value")


class UnknownNameError(ValueError):
    """Error for a `name` that is not in a registry."""

    name: str = ""


def named_choice(kind: str, name: str, *registries: dict[str, Any]) -> Any:
    """Look up `name` in the registries, to which installed plug-ins may add; an `UnknownNameError` (a
    `ValueError`) names the nearest match and lists the options.

    >>> named_choice("decoder", "mtinet", {"mti-net": 1, "invpt": 2})
    Traceback (most recent call last):
    ...
    triptych.lookup.UnknownNameError: unknown decoder 'mtinet'; did you mean 'mti-net'? Choose from invpt, mti-net.
    """
    choices = ChainMap(*registries)
    if name not in choices:
        load_installed()
    if name in choices:
        return choices[name]
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? Choose" if near else "choose"
    error = UnknownNameError(f"unknown {kind} '{name}'; {hint} from {', '.join(sorted(choices))}.")
    error.name = name
    raise error


def grouped(pairs: Iterable[tuple[Key, Value]]) -> dict[Key, list[Value]]:
    """The values of each key, in the order in which they come.

    >>> grouped((len(word), word) for word in ("a", "bc", "d"))
    {1: ['a', 'd'], 2: ['bc']}
    """
    found: dict[Key, list[Value]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def takes_option(constructor: Callable[..., Any], name: str) -> bool:
    """Whether `constructor` takes a keyword of that name, or any keyword.

    >>> takes_option(lambda channels, *, width=8: None, "width")
    True
    """
    parameters = inspect.signature(constructor).parameters
    return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def require_options(
    what: str, constructor: Callable[..., Any], options: Mapping[str, Any], *, given: Iterable[str] = ()
) -> None:
    """Raise `ValueError` unless `constructor` takes every one of the keyword `options`.

    It lists those that it takes, without the `given` ones, which come from elsewhere, or says what a value has to be.

    A class that passes options to something other than its base class returns that from `further_options(options)`. A
    class of a plug-in that takes any keyword without this method is taken to read them itself.

    >>> require_options("decoder 'fcn'", lambda channels, *, width=8: None, {"widht": 4})
    Traceback (most recent call last):
    ...
    ValueError: decoder 'fcn' has no option 'widht'; its options are width.
    """
    known, open_ended = _keyword_options(constructor)
    if (further := getattr(constructor, "further_options", None)) is not None:
        named = _parameters(further(options))
        optional = {name: one for name, one in named.items() if one.default is not one.empty}
        known = {name: one for name, one in optional.items() if _can_be_told(one.annotation)} | known
        open_ended = False
    for name, value in options.items():
        if name in known:
            require_kind(f"option {name} of {what}", value, known[name].annotation)
        elif not open_ended:
            names = [each for each, one in known.items() if one.default is not one.empty and each not in given]
            raise ValueError(f"{what} has no option '{name}'; its options are {', '.join(names) or 'none'}.")


def option_defaults(constructor: Callable[..., Any]) -> dict[str, Any]:
    """Keyword-only options of a constructor with their defaults; those of base classes too where it passes on any
    keyword; keywords of a `partial` are defaults.

    >>> option_defaults(lambda channels, *, width=8, rates=(6, 12), tasks: None)
    {'width': 8, 'rates': (6, 12)}
    """
    found = {name: one.default for name, one in _keyword_options(constructor)[0].items()}
    told = constructor.keywords if isinstance(constructor, functools.partial) else {}
    return {name: default for name, default in found.items() if default is not inspect.Parameter.empty} | told


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Parameters of a function, with annotations evaluated where they are texts (`from __future__ import annotations`)
    and can be: some name what is there for type checkers alone.
    """
    with suppress(Exception):
        return inspect.signature(function, eval_str=True).parameters
    return inspect.signature(function).parameters


def _keyword_options(constructor: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], bool]:
    """Keyword-only parameters of a constructor (of base classes too, where it passes on any keyword), and whether any
    other keyword is accepted: where the base class has no options to pass them on to, or the class is a plug-in's.
    """
    function: Any = constructor.func if isinstance(constructor, functools.partial) else constructor
    found: dict[str, inspect.Parameter] = {}
    open_ended = own_reader = False
    for one in function.__mro__ if isinstance(function, type) else (function,):
        if isinstance(one, type) and "__init__" not in vars(one):
            continue
        parameters = _parameters(one).values()
        own = {each.name: each for each in parameters if each.kind is each.KEYWORD_ONLY}
        found = own | found
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            return found, own_reader or (open_ended and all(each.default is each.empty for each in own.values()))
        open_ended = True
        own_reader = own_reader or one.__module__.split(".")[0] != __package__
    return found, open_ended


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; text that is nested too deeply raises `JSONDecodeError`, like any other invalid JSON.

    >>> parse_json("[" * 10**5)
    Traceback (most recent call last):
    ...
    json.decoder.JSONDecodeError: nested too deeply: line 1 column 1 (char 0)
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise json.JSONDecodeError("nested too deeply", "", 0) from error


def printable(text: str) -> str:
    r"""Escape control characters of a text: those in a name of a received file may move the cursor of a terminal, set
    its title or fill its clipboard.

    >>> print(printable("a\x1b]0;title\x07 b\n"), end="")
    a\x1b]0;title\x07 b
    """
    return re.sub(r"[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", lambda mark: ascii(mark[0])[1:-1], text)


def one_line(text: str) -> str:
    r"""Escape line breaks too, after `printable`: a name of a file takes one line of a list or comment.

    >>> print(one_line("a\nb.png"))
    a\nb.png
    """
    return printable(text).replace("\n", "\\n")


def spell_out_characters() -> None:
    """Print what the encoding of the output lacks as an escape (`\\u2191`), instead of raising an error.

    On Windows a file or pipe takes Western letters alone as a rule, and nothing that is printed should end a training.
    """
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def build(cls: Any, data: Any, where: str = "") -> Any:
    """An instance of the dataclass `cls` from untyped values, those of JSON, TOML or a command line; lists become
    tuples, missing fields keep their defaults.

    Raises `ValueError` naming the field, what came and what is accepted.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{where} is {data!r}; expected an object with fields.")
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    for name in data:
        if name not in names:
            raise ValueError(f"{where} has no field {name!r}; its fields are {', '.join(names)}.")
    dot = "." if where else ""
    return cls(**{name: convert(hints[name], value, f"{where}{dot}{name}") for name, value in data.items()})


def convert(hint: Any, value: Any, where: str) -> Any:
    """Convert an untyped value to the type of an annotation; a number may be written as a fraction. `ValueError` names
    the place `where` it does not fit.

    >>> convert(tuple[int, int], [48, 64], "size"), convert(float, "1/256", "scale")
    ((48, 64), 0.00390625)
    >>> convert(float, "fast", "lr")
    Traceback (most recent call last):
    ...
    ValueError: lr is 'fast'; expected a number.
    """
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    kind, parts = _kind(hint), typing.get_args(hint)
    if kind is Any:
        return value
    if kind is Literal:
        require_kind(where, value, hint)
        return value
    kinds = parts if kind in (types.UnionType, typing.Union) else (kind,)
    if isinstance(value, str) and float in kinds and str not in kinds:
        with suppress(ValueError, ZeroDivisionError):
            value = float(Fraction(value))
    require_kind(where, value, hint)
    if kinds is parts:
        whole = isinstance(value, int) and not {bool, int} & {*kinds}
        return float(value) if whole and float in kinds else as_tuples(value)
    if kind is tuple:
        if parts[1:] == (...,):
            parts = (parts[0],) * len(value)
        if len(value) != len(parts):
            raise ValueError(f"{where} is {value!r}; expected {len(parts)} values.")
        return tuple(convert(part, item, where) for part, item in zip(parts, value, strict=True))
    if kind is dict:
        return {name: convert(parts[1], item, f"{where}.{name}") for name, item in value.items()}
    return kind(value)


def as_tuples(value: Any) -> Any:
    """A value with tuples in place of its lists, at any depth.

    >>> as_tuples({"sizes": [[48, 64]]})
    {'sizes': ((48, 64),)}
    """
    if isinstance(value, list | tuple):
        return tuple(as_tuples(item) for item in value)
    return {name: as_tuples(item) for name, item in value.items()} if isinstance(value, dict) else value


def require_kind(what: str, value: Any, annotation: Any) -> None:
    """Raise `ValueError` unless `value` has the type of a simple annotation; any other annotation accepts everything.

    >>> require_kind("lr", "fast", float)
    Traceback (most recent call last):
    ...
    ValueError: lr is 'fast'; expected a number.
    """
    kinds = _kinds(annotation)
    if kinds == [Literal] and value not in typing.get_args(annotation):
        raise ValueError(f"{what} is {value!r}; expected one of {', '.join(map(str, typing.get_args(annotation)))}.")
    if value is None and type(None) in kinds:
        return
    kinds = [kind for kind in kinds if kind is not type(None)]
    if any(kind not in KINDS for kind in kinds):
        return
    if not any(isinstance(value, KINDS[kind][0]) and (kind is bool or not isinstance(value, bool)) for kind in kinds):
        raise ValueError(f"{what} is {value!r}; expected {' or '.join(KINDS[kind][1] for kind in kinds)}.")


def _can_be_told(annotation: Any) -> bool:
    """Whether a recipe can hold values of an annotation: plain values, no Python objects."""
    return all(kind in (Literal, type(None), *KINDS) for kind in _kinds(annotation))


def _kinds(annotation: Any) -> list[Any]:
    union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    return [_kind(one) for one in (typing.get_args(annotation) if union else (annotation,))]


def _kind(annotation: Any) -> Any:
    origin = typing.get_origin(annotation) or annotation
    return {Sequence: tuple, list: tuple, Mapping: dict}.get(origin, origin)


def exports(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose public names are imported from their modules when they are first used.

    >>> exports("triptych", {"IGNORE": "types"})("IGNORE")
    255
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return find
