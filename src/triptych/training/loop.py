"""The training loop: step; every so often log, evaluate, save.

One process or many, CPU or GPU: `python`, `torchrun` or `accelerate launch` start the same function.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from triptych.datasets.transforms import build_transform
from triptych.evaluation import evaluate
from triptych.prediction import Predictor
from triptych.recipes.config import Recipe, flatten
from triptych.task_files import write_tasks
from triptych.training.checkpoint import list_checkpoints, prune_checkpoints, replace_tensors
from triptych.training.initialize import initialize
from triptych.training.interruption import Interrupted, Interruption
from triptych.training.log import RunLog, cut_metrics
from triptych.training.optim import schedule_factor, set_learning_rate
from triptych.training.parts import Parts, backbone_reports, build_parts, count_parameters, make_accelerator
from triptych.training.run_folder import check_run_folder, prepare_run_folder, record_start
from triptych.training.state import Means, TrainingState, restore, save
from triptych.training.step import take_step
from triptych.training.tensors import load_tensors, whole


def train(
    recipe: Recipe,
    out: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Train `recipe` into the run folder `out`, and return it.

    An existing run is continued with `resume` (from the start where it has no checkpoint yet) or replaced with
    `overwrite`. `device` is `auto`, `cpu`, `cuda` or `mps`; of several processes each takes its own. SIGINT or
    SIGTERM saves a checkpoint and raises `Interrupted`, a `SystemExit`. A loss that is not finite raises
    `FloatingPointError` naming task, step and samples.
    """
    run = Path(out)
    check_run_folder(run, recipe, resume=resume, overwrite=overwrite)
    accelerator = make_accelerator(recipe, run, device)
    try:
        parts = build_parts(recipe, accelerator)
        state, facts = _open(run, parts, resume=resume, overwrite=overwrite)
        with _logging(run, parts, state, progress) as log, Interruption() as interruption:
            log.message(facts)
            _loop(run, parts, state, log, interruption)
    finally:
        accelerator.end_training()
        # Another run in this process may want another device or precision.
        AcceleratorState._reset_state(reset_partial_state=True)
    return run


def _open(run: Path, parts: Parts, *, resume: bool, overwrite: bool) -> tuple[TrainingState, str]:
    """Create the folder or take up its last checkpoint; returns where the run stands and a line about it."""
    accelerator, recipe, model = parts.accelerator, parts.recipe, parts.objective.model
    checkpoint = (list_checkpoints(run) or [None])[-1] if resume else None
    if checkpoint is not None:
        state = restore(checkpoint, parts)
        start: Any = {"resumed": str(checkpoint)}
        line = f"resuming {run} at step {state.step}"
    else:
        state = TrainingState()
        start = {"initialized": initialize(model, recipe.model.initialize_from)} if recipe.model.initialize_from else {}
        # Each process draws its own dropout; the weights were drawn alike before.
        torch.manual_seed(recipe.seed + accelerator.process_index)
        line = f"training {run} for {recipe.schedule.steps} steps"
    accelerator.wait_for_everyone()
    facts = {
        "device": str(accelerator.device),
        "processes": accelerator.num_processes,
        "images_per_step": parts.images_per_step,
        "parameters": {
            "model": count_parameters(model),
            "regularizer": count_parameters(parts.objective.regularizer),
            "weighting": count_parameters(parts.weighting),
        },
        "backbone_weights": backbone_reports(model),
        "data": {
            name: dataset.fingerprint()
            for name, dataset in {
                "train": parts.training_set,
                "validation": parts.validation_set,
                "target": parts.target_set,
            }.items()
            if dataset is not None
        },
    }
    if accelerator.is_main_process:
        if checkpoint is None:
            prepare_run_folder(run, recipe, overwrite=overwrite)
            write_tasks(run / "tasks.json", parts.tasks, recipe.data.task_options)
        cut_metrics(run, state.step)
        record_start(run, start | facts)
    if recipe.training.trackers:
        accelerator.init_trackers("triptych", config={name: str(value) for name, value in flatten(recipe).items()})
    accelerator.wait_for_everyone()
    images = len(parts.training_set)
    return state, (
        f"{line}: {facts['parameters']['model'] / 1e6:.2f} M parameters, {images} images, "
        f"{parts.images_per_step} per step, {accelerator.num_processes} x {accelerator.device.type}, "
        f"precision {recipe.training.precision}"
    )


def _loop(run: Path, parts: Parts, state: TrainingState, log: RunLog, interruption: Interruption) -> None:
    recipe, training = parts.recipe, parts.recipe.training
    steps, first_step, stop = recipe.schedule.steps, state.step, False
    loaders = parts.loaders(first_step)
    batches = parts.batches(loaders)
    while True:
        due = partial(_due, state.step, last=steps)
        if (
            due(training.evaluate_every)
            and parts.validation_set is not None
            and state.evaluated < state.step
            and not stop
        ):
            stop = not _validate(run, parts, state, log, interruption)
        if stop or (due(training.checkpoint_every) and state.step > first_step):
            folder = _save(run, parts, state)
            if stop:
                log.message(f"stopped at step {state.step} and saved {folder}; go on with --resume")
                raise Interrupted(interruption.number or signal.SIGTERM, folder)
        if state.step == steps:
            break
        rate = set_learning_rate(parts.optimizer, schedule_factor(recipe.schedule, state.step))
        started = time.perf_counter()
        numbers = take_step(parts, batches, step=state.step, stop=interruption.asked)
        state.count(numbers, time.perf_counter() - started)
        stop = numbers.stop
        if _due(state.step, training.log_every, last=steps):
            log.training(_record(parts, state, rate))
            state.start_window()
        if _epoch(parts, state.step) > _epoch(parts, state.step - 1):
            parts.weighting.end_epoch(
                {name: mean for name, mean in state.epoch.under("losses").items() if mean is not None}
            )
            state.epoch = Means()
        log.skipped({key: reason for loader in loaders for key, reason in loader.skipped.items()})
    log.message(f"finished {steps} steps in {state.seconds:.0f} s of training{_best(state)}")


def _due(step: int, every: int, *, last: int) -> bool:
    """Whether something that happens every so many steps, and at the end, happens after `step` steps."""
    return step == last or (every > 0 and step > 0 and step % every == 0)


def _epoch(parts: Parts, step: int) -> int:
    """Whole passes over the training set after `step` steps."""
    return step * parts.images_per_step // len(parts.training_set)


def _validate(run: Path, parts: Parts, state: TrainingState, log: RunLog, interruption: Interruption) -> bool:
    """Score the validation split, and deploy the weights if they are the best so far; false if a signal came."""
    recipe, model = parts.recipe, parts.objective.model
    assert parts.validation_set is not None

    def progress(done: int, of: int) -> None:
        # Several processes finish together: one that left would keep the others waiting.
        if interruption.number and parts.accelerator.num_processes == 1:
            raise _LeaveEvaluation

    try:
        with _deployed_model(parts) as deployed:
            evaluation = evaluate(
                Predictor(deployed, tasks=model.tasks, precision=recipe.training.precision),
                parts.validation_set,
                model.tasks,
                transform=build_transform(recipe.data.transform, size=recipe.data.size, tasks=model.tasks, train=False),
                limit=recipe.training.evaluate_limit,
                num_workers=recipe.data.num_workers,
                on_bad_sample=recipe.data.on_bad_sample,
                progress=progress,
            )
    except _LeaveEvaluation:
        return False
    score = evaluation.score()
    best = state.best is None or score > state.best["score"]
    record = {
        "step": state.step,
        "split": recipe.data.val_split,
        "images": len(evaluation.keys),
        "metrics": evaluation.flat(),
        "labelled": evaluation.labelled,
        "score": score,
        "best": best,
    }
    state.evaluated = state.step
    if best:
        state.best = {"step": state.step, "score": score, "metrics": evaluation.primary()}
        _deploy(run, parts)
    log.skipped(evaluation.skipped)
    log.evaluation(record, evaluation)
    return True


class _LeaveEvaluation(Exception):
    """A signal came during an evaluation."""


@contextmanager
def _deployed_model(parts: Parts) -> Iterator[nn.Module]:
    """The model with the weights that would be deployed now."""
    parts.share_buffers()
    model = parts.whole_model()
    context = nullcontext()
    if model is not parts.objective.model:
        load_tensors(model.state_dict(), _deployed_tensors(parts), "the sharded model")
    elif parts.average is not None:
        context = parts.average.applied_to(model)
    # Images have their own sizes here: compiled code would be compiled again for each.
    eager = torch.compiler.set_stance("force_eager") if parts.recipe.training.compile else nullcontext()
    with context, eager:
        yield model


def _deployed_tensors(parts: Parts) -> dict[str, Tensor]:
    model = parts.objective.model
    return whole(parts.average.tensors if parts.average is not None else model.state_dict())


def _deploy(run: Path, parts: Parts) -> None:
    """Write `model.safetensors`."""
    tensors = _deployed_tensors(parts)
    if parts.accelerator.is_main_process:
        replace_tensors(run / "model.safetensors", tensors)


def _save(run: Path, parts: Parts, state: TrainingState) -> Path:
    """Write a checkpoint and delete older ones; without an evaluation the last weights are the ones to deploy."""
    folder = save(run, parts, state)
    if state.best is None:
        _deploy(run, parts)
    if parts.accelerator.is_main_process:
        best_step = state.best["step"] if state.best else -1
        prune_checkpoints(run, keep=parts.recipe.training.keep_checkpoints, protect=best_step)
    return folder


def _record(parts: Parts, state: TrainingState, rate: float) -> dict[str, Any]:
    """A `train` line of `metrics.jsonl`: means over the steps since the last one."""
    window = state.window
    images = window.counts["loss"] * parts.recipe.data.batch_size
    record = {
        "step": state.step,
        "epoch": state.step * parts.images_per_step / len(parts.training_set),
        "loss": window.mean("loss"),
        "losses": window.under("losses"),
        "weighted": window.under("weighted"),
        "parts": {name: mean for name, mean in window.under("parts").items() if mean is not None},
        "labelled": {name: int(window.sums[f"labelled/{name}"]) for name in parts.tasks},
        "learning_rate": rate,
        "gradient_norm": window.mean("gradient_norm"),
        "images_per_second": images / max(state.window_seconds, 1e-9),
        "seconds": state.seconds,
    }
    if parts.objective.adapter is not None:
        record["adaptation"] = window.mean("adaptation")
    return record


def _best(state: TrainingState) -> str:
    if state.best is None:
        return "; the last weights are deployed"
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in state.best["metrics"].items())
    return f"; deployed are the weights of step {state.best['step']} ({numbers})"


@contextmanager
def _logging(run: Path, parts: Parts, state: TrainingState, progress: bool) -> Iterator[RunLog]:
    """The run's log, which also gets the line of an error that ends the run."""
    log = RunLog(
        run,
        steps=parts.recipe.schedule.steps,
        first_step=state.step,
        enabled=parts.accelerator.is_main_process,
        progress=progress,
        tracker=parts.accelerator if parts.recipe.training.trackers else None,
    )
    try:
        yield log
    except FloatingPointError as error:
        saved = list_checkpoints(run)
        rest = f" The last checkpoint is {saved[-1]}." if saved else " No checkpoint was written yet."
        log.note(f"{error}{rest}")
        raise FloatingPointError(f"{error}{rest}") from None
    except Exception as error:
        log.note(f"stopped by {type(error).__name__}: {error}")
        raise
    finally:
        log.close()
