"""Metrics, usable without the rest of the library.

>>> import torch
>>> from triptych.metrics.depth import DepthMetric
>>> metric = DepthMetric()
>>> metric.update(torch.full((1, 1, 2, 2), 2.0), torch.full((1, 1, 2, 2), 1.5))
>>> metric.compute()["rmse"]
0.5
"""

import importlib
from typing import Any

_HOMES = {
    "BoundaryMetric": "boundary",
    "match_boundaries": "matching",
    "thin": "thinning",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used: compiled loops and torchmetrics take a moment to load."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"triptych.metrics.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'triptych.metrics' has no attribute '{name}'")
