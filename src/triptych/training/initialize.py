"""Starting from the weights of other runs: one run to fine-tune, or one per task for models that join single-task
networks.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from triptych.backbones.base import Backbone
from triptych.models.multitask import MultiTaskModel
from triptych.tasks.stored import read_tasks
from triptych.training.tensors import like


def initialize(model: MultiTaskModel, runs: tuple[str, ...]) -> dict[str, Any]:
    """Copy the weights of `runs` into `model`, and report what matched.

    From one run every tensor of the same name and shape is taken; heads of other tasks or classes stay random. Raises
    `ValueError` where less than half of the backbone matched: that is another network. Several runs need a model with
    `load_single_tasks(states)`, which takes their tensors by task.
    """
    if len(runs) == 1:
        return _fine_tune(model, Path(runs[0]))
    states = {}
    for run in map(Path, runs):
        names = list(read_tasks(run / "tasks.json"))
        if len(names) != 1:
            raise ValueError(f"{run} was trained on {', '.join(names)}; give one single-task run per task.")
        states[names[0]] = _read(run)
    load = getattr(model, "load_single_tasks", None)
    if load is None:
        raise ValueError(
            f"model.initialize_from names {len(runs)} runs, but {type(model).__name__} starts from one; several are "
            "for networks that join single-task ones (cross-stitch, nddr)."
        )
    return {"runs": list(runs), "matched": load(states)}


@torch.no_grad()
def _fine_tune(model: MultiTaskModel, run: Path) -> dict[str, Any]:
    stored, own = _read(run), model.state_dict()
    matched = [name for name, value in own.items() if name in stored and stored[name].shape == value.shape]
    reshaped = [name for name in own if name in stored and name not in matched]
    trunk = {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, Backbone)
        for name in module.state_dict()
    }
    found = len(trunk.intersection(matched))
    if trunk and found < len(trunk) / 2:
        raise ValueError(
            f"only {found} of {len(trunk)} backbone tensors of {run} fit: it was trained with another backbone. "
            "Use the same model.backbone, or leave model.initialize_from empty."
        )
    for name in matched:
        own[name].copy_(like(stored[name], own[name]))
    return {
        "run": str(run),
        "matched": len(matched),
        "missing": [name for name in own if name not in stored],
        "reshaped": reshaped,
        "unexpected": [name for name in stored if name not in own],
    }


def _read(run: Path) -> dict[str, Tensor]:
    path = run / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"{run} has no model.safetensors; model.initialize_from takes folders of finished runs."
        )
    return load_file(path)
