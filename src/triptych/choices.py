"""Looking names up in registries, with help for a misspelt one."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any


def named_choice(kind: str, name: str, choices: dict[str, Any]) -> Any:
    """Look `name` up in `choices`; a `ValueError` names the nearest match and lists the options.

    >>> named_choice("decoder", "mtinet", {"mti-net": 1, "invpt": 2})
    Traceback (most recent call last):
    ...
    ValueError: unknown decoder 'mtinet'; did you mean 'mti-net'? Choose from invpt, mti-net.
    """
    if name in choices:
        return choices[name]
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.4)
    hint = f" did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"unknown {kind} '{name}';{hint} Choose from {', '.join(sorted(choices))}.")


def require_options(what: str, constructor: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Fail unless `constructor` takes every one of the keyword `options`; a `ValueError` lists those it takes.

    >>> require_options("decoder 'fcn'", lambda channels, *, width=8: None, {"widht": 4})
    Traceback (most recent call last):
    ...
    ValueError: decoder 'fcn' has no option 'widht'; its options are width.
    """
    parameters = inspect.signature(constructor).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise ValueError(f"{what} has no option '{name}'; its options are {', '.join(known) or 'none'}.")
