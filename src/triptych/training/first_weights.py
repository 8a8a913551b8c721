"""First weights of a network: weights of other runs, and reports on which tensors fit."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from triptych.backbones.base import find_backbones
from triptych.backbones.weights import is_update
from triptych.files import read_tensors
from triptych.models.lora import update_names
from triptych.models.multitask import MultiTaskModel
from triptych.models.parts import modules_of_task
from triptych.named_parts import differing_settings
from triptych.prediction.pretrained import read_run_tasks
from triptych.recipes.config import Recipe
from triptych.recipes.resolved import read_run_recipe
from triptych.tasks import Task
from triptych.tasks.stored import read_tasks
from triptych.training.building import load_reports
from triptych.training.parts import Parts
from triptych.training.sharding import like


def set_first_weights(parts: Parts) -> dict[str, Any]:
    """Set weights and random numbers of a new run, and report what weights came from other runs."""
    recipe = parts.recipe
    runs = recipe.model.initialize_from
    report = {"initialized": initialize(parts.objective.model, runs)} if runs else {}
    if "missing" in report.get("initialized", {}):
        _check_frozen(parts.objective.model, report["initialized"])
        report["initialized"]["other_settings"] = _check_settings(recipe, parts.objective.model, Path(runs[0]))
    if parts.average is not None and runs:
        parts.average.restart(parts.objective.model)
    if parts.objective.adapter is not None:
        parts.objective.adapter.start(parts.objective.model)
    # Each process draws its own dropout; the weights were drawn from one seed before.
    torch.manual_seed(recipe.seed + parts.accelerator.process_index)
    return report


def _check_frozen(model: nn.Module, found: Mapping[str, Any]) -> None:
    """Raise `ValueError` where a frozen part did not come from the run that training starts from."""
    random = {*found["missing"], *found["reshaped"], *(each for names in found["differing"].values() for each in names)}
    kept = [name for name, parameter in model.named_parameters() if name in random and not parameter.requires_grad]
    if kept:
        raise ValueError(
            f"model.freeze would keep {len(kept)} tensors at random values, such as {kept[0]}, which "
            f"{found['run']} does not have in this shape and meaning; take them out of model.freeze."
        )


def _check_settings(recipe: Recipe, model: MultiTaskModel, run: Path) -> dict[str, list[Any]]:
    """Settings of the trunk that differ from those of a run, with both values: here, and there. Raises `ValueError`
    where they would change the output of a frozen part: many options do not show in any tensor.
    """
    begun = read_run_recipe(run)
    differing = differing_settings(recipe, begun)
    # Position embeddings are interpolated in any case.
    trunk = [name for name in differing if name.startswith("model.backbone") and not name.endswith(".image_size")]
    if model.pad_to != model.padding_for(begun.training_sizes):
        differing["data.size"] = [recipe.data.size, begun.data.size]
    idle = model.idle_tasks()
    changed = list(differing) if idle else [] if model.learns_features else trunk
    if changed:
        here, there = differing[changed[0]]
        raise ValueError(
            f"model.freeze keeps {', '.join(['the trunk', *(f'the head of {name}' for name in idle)])} of {run}, where "
            f"{changed[0]} is {there} and not {here}: it would give something else; leave {', '.join(changed)} as in "
            f"{run / 'recipe.json'}, or begin with the trunk's weights alone (model.weights = "
            f"{run / 'model.safetensors'})."
        )
    return {name: differing[name] for name in trunk}


def describe_first_weights(parts: Parts, origin: Mapping[str, Any]) -> list[str]:
    """Lines about the first weights: which were loaded, and which are random."""
    if "resumed" in origin:
        return []
    reports = load_reports(parts.objective.model)
    lines = [f"{name}: {report.summary}" for name, report in reports.items()]
    model = parts.objective.model
    if (
        not reports
        and "initialized" not in origin
        and any(name.startswith("backbone") for name in model.frozen_names())
    ):
        lines.append("the frozen trunk has random weights: name others in model.weights or model.initialize_from")
    lines += _moving_heads(parts)
    return lines + (describe_initialization(origin["initialized"]) if "initialized" in origin else [])


def _moving_heads(parts: Parts) -> list[str]:
    """A line for each frozen head whose output training changes all the same, by what the head reads."""
    model = parts.objective.model
    tasks = model.tasks | model.auxiliary_tasks
    own = {p for task in tasks for module in modules_of_task(model, task) for p in module.parameters()}
    shared = [name for name, p in model.named_parameters() if p.requires_grad and p not in own]
    heads = [name for name in parts.recipe.model.freeze if name.removeprefix("heads.") in model.tasks and shared]
    return [f"{name} stays, but not its output: what it reads is trained, such as {shared[0]}" for name in heads]


def initialize(model: MultiTaskModel, runs: tuple[str, ...]) -> dict[str, Any]:
    """Copy the weights of `runs` into `model`, and report what matched.

    From one run every tensor of the same name and shape is taken; another decoder stays random, and so do the modules
    of a task that the run does not have, or whose maps have another meaning there (`Task.reads_like`: other classes or
    other units, the logarithm of depth). Modules with a true attribute `starts_anew` keep what they have. Raises
    `ValueError` where the backbone is another. Several runs need a model with `load_single_tasks(states)`, which takes
    their tensors by task, and are refused where the maps of a task have another meaning.
    """
    if len(runs) == 1:
        return _fine_tune(model, Path(runs[0]))
    states = {}
    for run in map(Path, runs):
        tasks = read_run_tasks(run)
        if len(tasks) != 1:
            raise ValueError(f"{run} was trained on {', '.join(tasks)}; give one single-task run per task.")
        [(name, task)] = tasks.items()
        if name in model.tasks and not model.tasks[name].reads_like(task):
            raise ValueError(
                f"task '{name}' of {run} says something else, by other classes or units or by its loss: its head would "
                "begin wrong; train it with the classes and the loss that it has here."
            )
        states[name] = _read(run)
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
    stored, anew = _at_own_grids(model, _read(run), run), _anew(model)
    own = {name: value for name, value in model.state_dict().items() if name not in anew}
    fitting = [name for name, value in own.items() if name in stored and stored[name].shape == value.shape]
    differing = _differing_heads(model, read_tasks(run / "tasks.json"), fitting)
    left = {each for names in differing.values() for each in names}
    matched = [name for name in fitting if name not in left]
    prefixes = tuple(f"{name}." for name in find_backbones(model))
    _check_backbone(run, own, stored, matched, prefixes, update_names(model))
    for name in matched:
        own[name].copy_(like(stored[name], own[name]))
    rest = [name for name in own if not name.startswith(prefixes)]
    return {
        "run": str(run),
        "matched": len(matched),
        "share_beside_backbone": _share(own, rest, matched),
        "missing": [name for name in own if name not in stored],
        "reshaped": [name for name in own if name in stored and name not in fitting],
        "differing": differing,
        "unexpected": [name for name in stored if name not in own],
    }


def _anew(model: nn.Module) -> set[str]:
    """Tensor names of modules that keep their first values, such as the schedule of a search."""
    modules = [(path, each) for path, each in model.named_modules() if getattr(each, "starts_anew", False)]
    return {f"{path}.{name}" for path, module in modules for name in module.state_dict()}


def _at_own_grids(model: nn.Module, stored: Mapping[str, Tensor], run: Path) -> dict[str, Tensor]:
    """The tensors of a run with position embeddings as the backbones of a network need them."""
    options, found = read_run_recipe(run).model.backbone_options, dict(stored)
    for path, backbone in find_backbones(model).items():
        inside = f"{path}.{backbone.body_prefix}"
        body = {name.removeprefix(inside): value for name, value in stored.items() if name.startswith(inside)}
        found |= {inside + name: value for name, value in backbone.adapt_weights(body, options).items()}
    return found


def _differing_heads(model: MultiTaskModel, before: Mapping[str, Task], names: Sequence[str]) -> dict[str, list[str]]:
    """Tensor names, of `names`, of heads whose task changed its meaning, by task.

    With another number of channels only the last layer has another shape; the other layers are used.
    """
    tasks = model.tasks | model.auxiliary_tasks
    same = [name for name in tasks if name in before and tasks[name].channels == before[name].channels]
    found = {}
    for task in (name for name in same if not tasks[name].reads_like(before[name])):
        own = {each for module in modules_of_task(model, task) for each in module.state_dict(keep_vars=True).values()}
        state = model.state_dict(keep_vars=True)
        found[task] = [name for name in names if state[name] in own]
    return found


def _check_backbone(
    run: Path,
    own: dict[str, Tensor],
    stored: dict[str, Tensor],
    matched: list[str],
    prefixes: tuple[str, ...],
    updates: set[str],
) -> None:
    """Fail unless the backbone is the same: its tensors have the same names, and nearly all of them the same shapes.

    Low-rank `updates` may begin anew.
    """
    ours = {name for name in own if name.startswith(prefixes) and name not in updates}
    theirs = {name for name in stored if name.startswith(prefixes) and name not in updates}
    different = sorted(ours ^ theirs)
    if different and all(is_update(name) for name in different):
        raise ValueError(
            f"{run} has low-rank updates (model.tuning), and this network has none to take them; give it the same "
            "tuning, or start from the merged network: Predictor.load(RUN, merge=True).save_pretrained(FOLDER), with "
            "the tuning that its recipe.json has (of mtlora: tuning mtlora, tuning_options merged=true)."
        )
    if different or (ours and _share(own, ours, matched) < SAME_BACKBONE):
        reshaped = [name for name in ours if name not in matched]
        fitting, shown = len(ours.intersection(matched)), (different or sorted(reshaped))[0]
        raise ValueError(
            f"{run} was trained with another backbone: {fitting} of {len(ours)} tensors fit it, "
            f"not {shown}. Use the same model.backbone and its options, or leave model.initialize_from empty."
        )


def _share(own: Mapping[str, Tensor], names: Collection[str], matched: Collection[str]) -> float:
    """Share of the values of `names` that are in `matched`."""
    total = sum(own[name].numel() for name in names)
    return sum(own[name].numel() for name in set(names).intersection(matched)) / total if total else 1.0


def describe_initialization(report: Mapping[str, Any]) -> list[str]:
    """Lines about the tensors of a network that came from other runs, and those still random.

    >>> report = {"run": "runs/a", "matched": 8, "share_beside_backbone": 0.5, "reshaped": [], "differing": {}}
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
    lines += [
        f"{name} is {here}, and was {there} in {run}"
        for name, (here, there) in report.get("other_settings", {}).items()
    ]
    kinds = {
        f"not in {run}, so still random": report["missing"],
        f"of another shape in {run}, so still random": report["reshaped"],
        **{
            f"of task '{task}', whose classes, unit or form are others in {run}, so still random": names
            for task, names in report["differing"].items()
        },
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
