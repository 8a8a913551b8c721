"""How a run begins: a new folder, from random weights or those of other runs, or the last checkpoint of an old one."""

import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from triptych.backbones.base import find_backbones
from triptych.backbones.weights import is_update
from triptych.files import hash_file, hash_tensors, naming_damage, read_tensors, remove_partials, write_text
from triptych.machine import gather_objects
from triptych.models.lora import update_names
from triptych.models.multitask import MultiTaskModel
from triptych.models.parts import modules_of_task
from triptych.named_parts import differing_settings, resolve_options
from triptych.prediction import calibration
from triptych.prediction.pretrained import read_run_tasks
from triptych.recipes.config import Recipe, flatten, read_recipe, to_json
from triptych.recipes.resolved import read_run_recipe, write_resolved
from triptych.tasks import Task
from triptych.tasks.stored import read_tasks, tasks_to_json
from triptych.training.building import Parts, count_parameters, load_reports
from triptych.training.checkpoint import (
    FROZEN,
    STATE,
    TrainingState,
    frozen_tensors,
    incomplete_checkpoints,
    list_checkpoints,
    replace_tensors,
    restore,
)
from triptych.training.log import cut_metrics, read_lines
from triptych.training.optim import schedule_notes
from triptych.training.run_folder import (
    begin_run_folder,
    check_same_data,
    check_same_options,
    describe_code,
    finish_exchange,
    record_start,
)
from triptych.training.sharding import like


def open_run(run: Path, parts: Parts, *, resume: bool, overwrite: bool) -> tuple[TrainingState, list[str]]:
    """Create the folder or take up its last checkpoint; returns where the run stands and lines about it."""
    accelerator, recipe = parts.accelerator, parts.recipe
    checkpoints = list_checkpoints(run) if resume else []
    left_out = incomplete_checkpoints(run) if resume else []
    checkpoint = checkpoints[-1] if checkpoints else None
    options = resolve_options(recipe, parts.objective.regularizer)
    facts = _facts(parts)
    _check_one_view(run, checkpoint, facts["data"])
    if checkpoint is None:
        state, origin = TrainingState(processes=accelerator.num_processes), set_first_weights(parts)
        verb = "training"
    else:
        check_same_options(run, options, recipe.plugins)
        state, origin = restore(checkpoint, parts), {"resumed": str(checkpoint)}
        verb = f"resuming at step {state.step}"
    kept = frozen_tensors(parts) if checkpoint is None else {}
    if kept:
        parts.frozen = {"backbone": recipe.model.backbone, "sha256": hash_tensors(kept)}
    accelerator.wait_for_everyone()
    if resume and checkpoint is None:
        _check_nothing_lost(run, recipe, left_out)
    task_file, kept_as_it_is = _describe_tasks(parts, begun=checkpoint is not None)

    def write(folder: Path) -> None:
        write_text(folder / "recipe.json", to_json(recipe) + "\n")
        write_resolved(folder, options)
        write_text(folder / "tasks.json", task_file)
        if kept:
            replace_tensors(folder / FROZEN, kept)

    if checkpoint is not None:
        check_same_data(run, facts["data"])
    if accelerator.is_main_process:
        if checkpoint is None:
            begin_run_folder(run, write, overwrite=overwrite)
        else:
            if task_file:
                write_text(run / "tasks.json", task_file)  # follows from the recipe
            begun = read_recipe(run / "recipe.json")
            if begun.schedule != recipe.schedule:  # it goes on for more steps
                write_text(run / "recipe.json", to_json(replace(begun, schedule=recipe.schedule)) + "\n")
        finish_exchange(run)
        remove_partials(run)
        remove_partials(run / "checkpoints")  # of a second save, which nothing may follow
        left_to_score = parts.validation_set is not None and state.evaluated < state.step
        if state.step < recipe.schedule.steps or left_to_score:
            (run / calibration.FILE).unlink(missing_ok=True)  # of the weights before
        cut_metrics(run, trained=state.step, evaluated=state.evaluated)
        record_start(run, origin | facts)
    if recipe.training.trackers:
        config = {name: str(value) for name, value in flatten(recipe).items()}
        accelerator.init_trackers("triptych", config, {"wandb": {"name": run.name, "dir": str(run)}})
    accelerator.wait_for_everyone()
    line = (
        f"{verb}: {run}, {recipe.schedule.steps} steps of {parts.images_per_step} images, "
        f"{len(parts.training_set)} in the training set, {facts['parameters']['model'] / 1e6:.3g} M parameters"
        f"{_frozen(parts)}, "
        f"{accelerator.num_processes} x {accelerator.device.type}, precision {recipe.training.precision}"
    )
    lines = [f"checkpoint {folder} is incomplete and left out" for folder in left_out]
    return state, [
        *lines,
        line,
        *(describe_code(run) if checkpoint is not None else []),
        *kept_as_it_is,
        *schedule_notes(recipe.schedule),
        *parts.training_set.notes,
        *_unscored_lines(parts),
        *_weights_lines(parts, origin),
    ]


def _check_one_view(run: Path, checkpoint: Path | None, data: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `ValueError` in all processes where one, on another machine, has another last checkpoint or other data."""
    last = f"{checkpoint.name} ({hash_file(checkpoint / STATE)[:12]})" if checkpoint is not None else "none"
    (machine, first, known), *others = gather_objects((platform.node(), last, data))
    for other, theirs, found in others:
        if theirs != first:
            raise ValueError(
                f"the last checkpoint of {run} is {first} on {machine} and {theirs} on {other}; put it where all "
                "machines see it, or copy it to each of them."
            )
        changed = [f"{part}.{key}" for part in known for key, value in known[part].items() if found[part][key] != value]
        if changed:
            raise ValueError(
                f"{machine} and {other} have different data ({', '.join(changed)}); copy the same files to both."
            )


def _describe_tasks(parts: Parts, *, begun: bool) -> tuple[str, list[str]]:
    """What `tasks.json` says, and lines about it; nothing of a run that was begun before its tasks were refused."""
    try:
        return tasks_to_json(parts.tasks, parts.recipe.data.task_options) + "\n", []
    except ValueError as error:
        if not begun:
            raise
        return "", [f"tasks.json stays as it is: {error}"]


def _check_nothing_lost(run: Path, recipe: Recipe, left_out: Sequence[Path]) -> None:
    """Raise `ValueError` where a run had a checkpoint and has none: to begin anew would replace what it learned."""
    log, every = run / "metrics.jsonl", recipe.training.checkpoint_every
    with naming_damage(log):
        steps = [record["step"] for _, record in read_lines(log)] if log.is_file() else []
    # A validation deploys weights before the first checkpoint is due, where one is.
    deployed = (run / "model.safetensors").is_file() and not (every and recipe.training.evaluate_every)
    if left_out or deployed or (every and max(steps, default=0) > every):
        raise ValueError(
            f"{run} was trained to step {max(steps, default=0)}, and none of its checkpoints is there or whole; copy "
            f"{run / 'checkpoints'} again, or begin anew with --overwrite."
        )


def _frozen(parts: Parts) -> str:
    model = parts.objective.model
    kept = sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)
    return f" to train and {kept / 1e6:.3g} M frozen" if kept else ""


def _unscored_lines(parts: Parts) -> list[str]:
    """A line about tasks of which the validation split has no label."""
    if (dataset := parts.validation_set) is None:
        return []
    names = [name for name in parts.tasks if not dataset.may_be_labelled(name)]
    split = parts.recipe.data.val_split
    return [f"split {split} has no label of {', '.join(names)}: weights are chosen without it"] if names else []


def _weights_lines(parts: Parts, origin: Mapping[str, Any]) -> list[str]:
    """Which of the first weights were loaded, and which are random."""
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
    # Each process draws its own dropout; the weights were drawn alike before.
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
    """Settings of the trunk that a run had otherwise, with both values: here, and there. Raises `ValueError` where what
    is frozen would give something else than in the run: many options have no tensor that would tell.
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


def _moving_heads(parts: Parts) -> list[str]:
    """A line for each frozen head whose output training changes all the same, by what the head reads."""
    model = parts.objective.model
    tasks = model.tasks | model.auxiliary_tasks
    own = {p for task in tasks for module in modules_of_task(model, task) for p in module.parameters()}
    shared = [name for name, p in model.named_parameters() if p.requires_grad and p not in own]
    heads = [name for name in parts.recipe.model.freeze if name.removeprefix("heads.") in model.tasks and shared]
    return [f"{name} stays, but not its output: what it reads is trained, such as {shared[0]}" for name in heads]


def _facts(parts: Parts) -> dict[str, Any]:
    """Settings of a start that the recipe does not have: data, processes, packages."""
    objective, accelerator = parts.objective, parts.accelerator
    beside = objective.regularizer.fingerprint() if objective.regularizer is not None else {}
    datasets = {"train": parts.training_set, "validation": parts.validation_set, "target": parts.target_set}
    return {
        "plugins": parts.recipe.plugins,
        "device": str(accelerator.device),
        "processes": accelerator.num_processes,
        "sharded": parts.sharded,
        "images_per_step": parts.images_per_step,
        "parameters": {
            "model": count_parameters(objective.model),
            "regularizer": count_parameters(objective.regularizer),
            "video": count_parameters(objective.video),
            "weighting": count_parameters(parts.weighting),
            "adapter": count_parameters(objective.adapter),
        },
        "backbone_weights": {name: asdict(report) for name, report in load_reports(objective.model).items()},
        "data": {name: dataset.fingerprint() for name, dataset in datasets.items() if dataset is not None}
        | ({"regularizer": beside} if beside else {}),
    }


def initialize(model: MultiTaskModel, runs: tuple[str, ...]) -> dict[str, Any]:
    """Copy the weights of `runs` into `model`, and report what matched.

    From one run every tensor of the same name and shape is taken; another decoder stays random, and so does what the
    model has for a task alone that the run does not have, or whose maps say something else there (`Task.reads_like`:
    other classes or other units, the logarithm of depth). Raises `ValueError` where the backbone is another. Several
    runs need a model with `load_single_tasks(states)`, which takes their tensors by task, and are refused where a task
    says something else.
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
    stored, own = _at_own_grids(model, _read(run), run), model.state_dict()
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

    Where it had another number of channels its last layer has another shape, and the others are a start as good as any.
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
            "tuning, or start from the merged network, Predictor.load(RUN, merge=True).save_pretrained(FOLDER), with "
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
    """Which share of the values of `names` is in `matched`."""
    total = sum(own[name].numel() for name in names)
    return sum(own[name].numel() for name in set(names).intersection(matched)) / total if total else 1.0


def describe_initialization(report: Mapping[str, Any]) -> list[str]:
    """Lines that say what of a network came from other runs and what is still random.

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
