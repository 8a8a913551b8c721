"""Scores as files: a JSON to read, and the metric sums of every image beside it to compute with."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from triptych.evaluation.offline import Score, TaskScore
from triptych.evaluation.protocols import Settings, find_rule
from triptych.metrics.base import Metric

FORMAT = 1


class SavedTask(NamedTuple):
    """A task of a saved score: enough to score any of its images again."""

    metric: Metric
    names: tuple[str, ...]
    facts: dict[str, Any]
    keys: tuple[str, ...]
    sums: dict[str, Tensor]


def sums_path(path: Path) -> Path:
    """Where the sums of a saved score lie."""
    return path.with_suffix(".npz")


def write_score(score: Score, path: Path) -> None:
    """Write a score: `path` as JSON, and `.npz` beside it with arrays `task/state`, one row per image in the order of
    `per_image`. Not finite becomes null."""
    content = {
        "format": FORMAT,
        "protocol": score.protocol,
        "predictions": str(score.predictions),
        "targets": str(score.targets),
        "tasks": {name: _describe(task) for name, task in score.tasks.items()},
        "left_out": score.left_out,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    arrays: dict[str, Any] = {
        f"{name}/{state}": v.numpy() for name, task in score.tasks.items() for state, v in task.sums.items()
    }
    np.savez_compressed(sums_path(path), **arrays)


def _describe(task: TaskScore) -> dict[str, Any]:
    settings = task.given.settings
    return {
        "definition": task.given.rule.definition,
        "facts": task.facts,
        "settings": {
            "dataset": settings.dataset,
            "classes": settings.classes,
            "max_dist": settings.max_dist,
            "ground_truth": settings.ground_truth,
        },
        "images": len(task.keys),
        "primary": task.primary,
        "numbers": {name: _finite(value) for name, value in task.numbers.items()},
        "higher_is_better": {name: task.metric.better[name] for name in task.numbers},
        "intervals": {name: [_finite(v.low), _finite(v.high)] for name, v in task.intervals.items()},
        "without_prediction": list(task.pairs.unpredicted),
        "without_ground_truth": list(task.pairs.untargeted),
        "without_label": list(task.unlabelled),
        "per_image": {
            key: {name: _finite(values[i]) for name, values in task.per_image.items()}
            for i, key in enumerate(task.keys)
        },
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def read_score(path: Path) -> dict[str, SavedTask]:
    """The tasks of a saved score. Raises `ValueError` for anything that `write_score` did not write."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        protocol, tasks = content["protocol"], content["tasks"]
        with np.load(sums_path(path), allow_pickle=False) as archive:
            arrays = {name: torch.from_numpy(archive[name]) for name in archive.files}
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename} does not exist; `triptych score --out {path}` writes it.") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no score ({error}); `triptych score --out` writes one.") from error
    return {name: _restore(protocol, name, task, arrays) for name, task in tasks.items()}


def _restore(protocol: str, name: str, task: dict[str, Any], arrays: dict[str, Tensor]) -> SavedTask:
    metric = find_rule(protocol, name).metric(Settings(**task["settings"]))
    sums = {state: arrays[f"{name}/{state}"] for state in metric.sums()}
    facts = {"protocol": protocol, **task["facts"]}
    return SavedTask(metric, tuple(task["numbers"]), facts, tuple(task["per_image"]), sums)
