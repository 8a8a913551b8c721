"""Description of an exported file, in the JSON beside it and, where its format allows it, inside."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

import triptych
from triptych.export.program import INPUT, PROBABILITY
from triptych.export.proof import Proof
from triptych.recipes.resolved import package_version
from triptych.tasks import Task

_TYPES = {"torch.int64": "int64", "torch.float32": "float32", "torch.uint8": "uint8"}


def describe_input(size: tuple[int, int] | None, smallest: int, uint8: bool) -> dict[str, Any]:
    """Input of the file: `size` is `None` where it is free, from `smallest` pixels on."""
    return {
        "name": INPUT,
        "type": "uint8" if uint8 else "float32",
        "range": [0, 255] if uint8 else [0, 1],
        "colors": "RGB",
        "layout": "batch channels height width",
        "batch": 1,
        "size": None if size is None else list(size),
        "smallest": smallest,
    }


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
                "interpolation": task.interpolation if name in tasks else "bilinear",
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
    if name != task.name:
        return "probability of the class"
    return f"probability of {(task.classes or (task.name,))[-1]}" if task.kind == "probability" else _HOLDS[task.kind]


def describe_proof(proof: Proof) -> dict[str, Any]:
    """Measurements of a proof as plain data."""

    def pairs(numbers: Mapping[str, tuple[float, float]]) -> dict[str, dict[str, float]]:
        return {key: {"file": file, "torch": ours} for key, (file, ours) in numbers.items()}

    return {
        "images": list(proof.images),
        "sizes": [list(size) for size in proof.sizes],
        "tasks": {
            name: {
                "difference": task.difference,
                "against_torch": pairs(task.agreement),
                "on_labels": pairs(task.scores),
                "loss_on_labels": task.loss,
                "without_labels": task.unlabelled,
            }
            for name, task in proof.tasks.items()
        },
    }


def versions(*packages: str) -> dict[str, str]:
    """Versions of the packages that wrote the file; those that are not installed are left out."""
    found = {"triptych": triptych.__version__} | {package: package_version(package) for package in packages}
    return {package: version for package, version in found.items() if version is not None}
