"""Looking names up in registries, with help for a misspelt one."""

import difflib
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
