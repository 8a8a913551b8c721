"""Scoring of maps that any code base saved, under the protocol of the table they are compared with."""

import importlib
from typing import Any

_HOMES = {"score": "run", "Score": "run", "compare_scores": "compare"}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"triptych.scoring.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'triptych.scoring' has no attribute '{name}'")
