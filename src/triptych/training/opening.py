"""Open a run: create its folder, or resume from its last checkpoint."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from triptych.evaluation.run_log import read_lines
from triptych.files import hash_file, hash_tensors, naming_damage, remove_partials, write_text
from triptych.named_parts import resolve_options
from triptych.prediction import calibration
from triptych.processes import gather_objects
from triptych.recipes.config import Recipe, flatten, read_recipe, to_json
from triptych.recipes.resolved import write_resolved
from triptych.tasks.stored import tasks_to_json
from triptych.training.building import count_parameters, load_reports
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
from triptych.training.first_weights import describe_first_weights, set_first_weights
from triptych.training.log import cut_metrics
from triptych.training.optim import schedule_notes
from triptych.training.parts import Parts
from triptych.training.run_folder import (
    begin_run_folder,
    check_same_data,
    check_same_options,
    describe_code,
    finish_exchange,
    record_start,
)


def open_run(run: Path, parts: Parts, *, resume: bool, overwrite: bool) -> tuple[TrainingState, list[str]]:
    """Create the folder or restore its last checkpoint; return the state of the run and lines for its log."""
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
            if begun.schedule != recipe.schedule:  # resumed for more steps
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
        *_choice_lines(parts),
        *describe_first_weights(parts, origin),
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
    """Content of `tasks.json`, and lines for the log. For tasks that cannot be stored, raise `ValueError` in a new run;
    in a resumed one keep the file: return no content and a line.
    """
    try:
        return tasks_to_json(parts.tasks, parts.recipe.data.task_options) + "\n", []
    except ValueError as error:
        if not begun:
            raise
        return "", [f"tasks.json stays as it is: {error}"]


def _check_nothing_lost(run: Path, recipe: Recipe, left_out: Sequence[Path]) -> None:
    """Raise `ValueError` where a run had a checkpoint and has none: starting again would overwrite its weights."""
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


def _choice_lines(parts: Parts) -> list[str]:
    """Lines about the tasks by which weights are chosen: those without a label in the validation split, and depth that
    has no scale.
    """
    if (dataset := parts.validation_set) is None:
        return []
    names = [name for name in parts.tasks if not dataset.may_be_labelled(name)]
    split = parts.recipe.data.val_split
    lines = [f"split {split} has no label of {', '.join(names)}: weights are chosen without it"] if names else []
    scored = {name: task for name, task in parts.objective.model.tasks.items() if name not in names}
    return [*lines, *filter(None, [calibration.describe_metric_score(parts.recipe, scored)])]


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
