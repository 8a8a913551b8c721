"""The old path of `triptych.evaluation`'s scoring of saved maps, for one release."""

import importlib
import warnings
from typing import Any

_HOMES = {"score": "offline", "Score": "offline", "compare_scores": "compare"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'triptych.scoring' has no attribute '{name}'")
    home = f"triptych.evaluation.{_HOMES[name]}"
    warnings.warn(f"triptych.scoring.{name} is {home}.{name} now.", DeprecationWarning, stacklevel=2)
    return getattr(importlib.import_module(home), name)
