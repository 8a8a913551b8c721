"""Starting from the weights of other runs: one run to fine-tune, or one per task for models that join single-task
networks.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych.backbones.base import Backbone
from triptych.files import read_tensors
from triptych.models.multitask import MultiTaskModel
from triptych.training.tensors import like


def initialize(model: MultiTaskModel, runs: tuple[str, ...]) -> dict[str, Any]:
    """Copy the weights of `runs` into `model`, and report what matched.

    From one run every tensor of the same name and shape is taken; heads of other tasks or classes, and another decoder,
    stay random. Raises `ValueError` where the backbone is another. Several runs need a model with
    `load_single_tasks(states)`, which takes their tensors by task.
    """
    if len(runs) == 1:
        return _fine_tune(model, Path(runs[0]))
    states = {}
    for run in map(Path, runs):
        names = list(read_run_tasks(run))
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


SAME_BACKBONE = 0.9
"""Share of a backbone's parameters that have to fit: position embeddings of another image size may stay random."""


@torch.no_grad()
def _fine_tune(model: MultiTaskModel, run: Path) -> dict[str, Any]:
    stored, own = _read(run), model.state_dict()
    matched = [name for name, value in own.items() if name in stored and stored[name].shape == value.shape]
    prefixes = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, Backbone))
    _check_backbone(run, own, stored, matched, prefixes)
    for name in matched:
        own[name].copy_(like(stored[name], own[name]))
    rest = [name for name in own if not name.startswith(prefixes)]
    return {
        "run": str(run),
        "matched": len(matched),
        "share_beside_backbone": _share(own, rest, matched),
        "missing": [name for name in own if name not in stored],
        "reshaped": [name for name in own if name in stored and name not in matched],
        "unexpected": [name for name in stored if name not in own],
    }


def _check_backbone(
    run: Path, own: dict[str, Tensor], stored: dict[str, Tensor], matched: list[str], prefixes: tuple[str, ...]
) -> None:
    """Fail unless the backbone is the same: its tensors have the same names, and nearly all of them the same shapes."""
    ours = {name for name in own if name.startswith(prefixes)}
    theirs = {name for name in stored if name.startswith(prefixes)}
    different = sorted(ours ^ theirs)
    if different or (ours and _share(own, ours, matched) < SAME_BACKBONE):
        reshaped = [name for name in ours if name not in matched]
        fitting, shown = len(ours.intersection(matched)), (different or sorted(reshaped))[0]
        raise ValueError(
            f"{run} was trained with another backbone: {fitting} of {len(ours)} tensors fit it, "
            f"not {shown}. Use the same model.backbone and its options, or leave model.initialize_from empty."
        )


def _share(own: Mapping[str, Tensor], names: Collection[str], matched: Collection[str]) -> float:
    """Which share of the values of `names` is in `matched`."""
    total = sum(own[name].numel() for name in names)
    return sum(own[name].numel() for name in set(names).intersection(matched)) / total if total else 1.0


def describe_initialization(report: Mapping[str, Any]) -> list[str]:
    """Lines that say what of a network came from other runs and what is still random.

    >>> report = {"run": "runs/a", "matched": 8, "share_beside_backbone": 0.5, "reshaped": []}
    >>> report |= {"missing": ["decoder.heads.normals.bias"], "unexpected": ["decoder.heads.depth.bias"]}
    >>> for line in describe_initialization(report):
    ...     print(line)
    initialized from runs/a: 8 tensors fit, with them 50 % of the values beside the backbone
    not in runs/a, so still random: 1 tensors, such as decoder.heads.normals.bias
    of runs/a and not used: 1 tensors, such as decoder.heads.depth.bias
    """
    if "runs" in report:
        return [f"initialized from {', '.join(report['runs'])}, one per task: {report['matched']} tensors"]
    run = report["run"]
    share = f"{100 * report['share_beside_backbone']:.0f} %"
    lines = [
        f"initialized from {run}: {report['matched']} tensors fit, with them {share} of the values beside the backbone"
    ]
    kinds = {
        f"not in {run}, so still random": report["missing"],
        f"of another shape in {run}, so still random": report["reshaped"],
        f"of {run} and not used": report["unexpected"],
    }
    return lines + [f"{what}: {len(names)} tensors, such as {names[0]}" for what, names in kinds.items() if names]


def _read(run: Path) -> dict[str, Tensor]:
    path = run / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"{run} has no model.safetensors; model.initialize_from takes folders of finished runs."
        )
    return read_tensors(path)
