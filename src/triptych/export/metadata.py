"""The description of an exported file: what a consumer in any language has to know, as JSON."""

import hashlib
import math
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor

import triptych
from triptych.export.program import INPUT, PROBABILITY
from triptych.export.proof import Proof
from triptych.tasks import Task

FORMAT = 1
_TYPES = {"torch.int64": "int64", "torch.float32": "float32", "torch.uint8": "uint8"}


def describe_maps(tasks: Mapping[str, Task], maps: Mapping[str, Tensor], *, outputs: str) -> list[dict[str, Any]]:
    """One entry per map: its name, task, what it holds, unit, type and layout."""
    entries = []
    for name, values in maps.items():
        task = tasks[name.removesuffix(PROBABILITY) if name not in tasks else name]
        entries.append(
            {
                "name": name,
                "task": task.name,
                "kind": "raw" if outputs == "raw" else task.kind if name in tasks else "probability",
                "holds": _meaning(task, name, outputs),
                "unit": task.unit if outputs == "maps" and name in tasks else "",
                "type": _TYPES[str(values.dtype)],
                "layout": "batch height width" if values.ndim == 3 else "batch channels height width",
                "channels": 1 if values.ndim == 3 else values.shape[1],
            }
        )
    return entries


_HOLDS = {
    "labels": "class ids",
    "direction": "unit vectors (x right, y down, z forward)",
    "length": "distance along the camera's axis",
    "values": "values",
}


def _meaning(task: Task, name: str, outputs: str) -> str:
    if outputs == "raw":
        return "raw network output"
    if name.endswith(PROBABILITY) and task.kind == "labels":
        return "probability of the class"
    return f"probability of {(task.classes or (task.name,))[-1]}" if task.kind == "probability" else _HOLDS[task.kind]


def describe_input(size: tuple[int, int], *, dynamic: bool, uint8: bool, smallest: int) -> dict[str, Any]:
    """What the network takes."""
    return {
        "name": INPUT,
        "type": "uint8" if uint8 else "float32",
        "range": [0, 255] if uint8 else [0, 1],
        "colors": "RGB",
        "layout": "batch channels height width",
        "batch": 1,
        "size": None if dynamic else list(size),
        "smallest": smallest,
    }


def describe_tasks(tasks: Mapping[str, Task]) -> list[dict[str, Any]]:
    """Name, unit and classes of each task."""
    return [{"name": name, "unit": task.unit, "classes": list(task.classes)} for name, task in tasks.items()]


def describe_proof(proof: Proof) -> dict[str, Any]:
    """What was measured, in numbers that JSON knows; not finite becomes null."""

    def pairs(numbers: Mapping[str, tuple[float, float]]) -> dict[str, dict[str, float | None]]:
        return {key: {"file": _finite(file), "torch": _finite(ours)} for key, (file, ours) in numbers.items()}

    return {
        "images": list(proof.images),
        "sizes": [list(size) for size in proof.sizes],
        "tasks": {
            name: {
                "difference": _finite(task.difference),
                "against_torch": pairs(task.agreement),
                "on_labels": pairs(task.scores),
                "loss_on_labels": _finite(task.loss),
            }
            for name, task in proof.tasks.items()
        },
    }


def versions(*packages: str) -> dict[str, str]:
    """Versions of what wrote the file; those that are not installed are left out."""
    found = {"triptych": triptych.__version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
