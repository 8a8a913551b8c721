"""Triptych: dense multi-task learning. One image in; segmentation, depth, normals, boundaries, saliency and human
parts out.

Names are imported when they are first used, so that `import triptych` costs nothing.

>>> import triptych
>>> triptych.IGNORE
255
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "IGNORE": "types",
    "Camera": "types",
    "Output": "types",
    "Sample": "types",
    "collate": "types",
    "valid_pixels": "types",
    "Task": "tasks",
    "nyuv2_tasks": "tasks",
    "pascal_context_tasks": "tasks",
    "create_model": "assemble",
    "Predictor": "prediction",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"triptych.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'triptych' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
