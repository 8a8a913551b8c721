"""Looking names up: in registries, with help for a misspelt one, and in modules that are imported when needed."""

import difflib
import functools
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a text"),
    tuple: ((list, tuple), "a list"),
    dict: ((Mapping,), "a table of names and values"),
}
"""What values of an annotation may be, and how people call it."""


class UnknownNameError(ValueError):
    """A name that is not in a registry; `name` is the one that was asked for."""

    name: str = ""


def named_choice(kind: str, name: str, choices: dict[str, Any]) -> Any:
    """Look `name` up in `choices`; an `UnknownNameError` (a `ValueError`) names the nearest match and lists
    the options.

    >>> named_choice("decoder", "mtinet", {"mti-net": 1, "invpt": 2})
    Traceback (most recent call last):
    ...
    triptych.lookup.UnknownNameError: unknown decoder 'mtinet'; did you mean 'mti-net'? Choose from invpt, mti-net.
    """
    if name in choices:
        return choices[name]
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? Choose" if near else "choose"
    error = UnknownNameError(f"unknown {kind} '{name}'; {hint} from {', '.join(sorted(choices))}.")
    error.name = name
    raise error


def takes_option(constructor: Callable[..., Any], name: str) -> bool:
    """Whether `constructor` takes a keyword of that name, or any keyword.

    >>> takes_option(lambda channels, *, width=8: None, "width")
    True
    """
    parameters = inspect.signature(constructor).parameters
    return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def require_options(what: str, constructor: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Fail unless `constructor` takes every one of the keyword `options`; a `ValueError` lists those it takes, or says
    what a value has to be.

    >>> require_options("decoder 'fcn'", lambda channels, *, width=8: None, {"widht": 4})
    Traceback (most recent call last):
    ...
    ValueError: decoder 'fcn' has no option 'widht'; its options are width.
    """
    parameters = inspect.signature(constructor).parameters.values()
    known = {one.name: one.annotation for one in parameters if one.kind is one.KEYWORD_ONLY}
    open_ended = any(one.kind is one.VAR_KEYWORD for one in parameters)
    for name, value in options.items():
        if name in known:
            require_kind(f"option {name} of {what}", value, known[name])
        elif not open_ended:
            raise ValueError(f"{what} has no option '{name}'; its options are {', '.join(known) or 'none'}.")


def option_defaults(constructor: Callable[..., Any]) -> dict[str, Any]:
    """Keyword-only options of a constructor with their defaults, those of base classes too where it takes any keyword
    and hands it on; a `partial`'s keywords are defaults.

    >>> option_defaults(lambda channels, *, width=8, rates=(6, 12), tasks: None)
    {'width': 8, 'rates': (6, 12)}
    """
    function: Any = constructor.func if isinstance(constructor, functools.partial) else constructor
    found: dict[str, Any] = dict(constructor.keywords) if isinstance(constructor, functools.partial) else {}
    for one in function.__mro__ if isinstance(function, type) else (function,):
        if isinstance(one, type) and "__init__" not in vars(one):
            continue
        parameters = inspect.signature(one).parameters.values()
        optional = [each for each in parameters if each.kind is each.KEYWORD_ONLY and each.default is not each.empty]
        found = {each.name: each.default for each in optional} | found
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            break
    return found


def require_kind(what: str, value: Any, annotation: Any) -> None:
    """Fail unless `value` is what a simple annotation says; any other annotation accepts everything.

    >>> require_kind("lr", "fast", float)
    Traceback (most recent call last):
    ...
    ValueError: lr is 'fast'; expected a number.
    """
    union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    kinds = [_kind(one) for one in (typing.get_args(annotation) if union else (annotation,))]
    if any(kind not in KINDS for kind in kinds):
        return
    if not any(isinstance(value, KINDS[kind][0]) and (kind is bool or not isinstance(value, bool)) for kind in kinds):
        raise ValueError(f"{what} is {value!r}; expected {' or '.join(KINDS[kind][1] for kind in kinds)}.")


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
