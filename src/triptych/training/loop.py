"""The training loop: step; every so often log, evaluate, save.

One process or many, CPU or GPU: `python`, `torchrun` or `accelerate launch` start the same function.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from triptych.assemble import unread_tasks
from triptych.data.errors import DataError
from triptych.data.loading import has_label
from triptych.machine import Interrupted, Interruption, accelerated, memory_advice, own_random_numbers
from triptych.recipes.config import Recipe
from triptych.training.building import accelerator_options, build_parts, settle
from triptych.training.checkpoint import Means, TrainingState, list_checkpoints, prune_checkpoints, save
from triptych.training.log import RunLog
from triptych.training.opening import open_run
from triptych.training.optim import schedule_factor, set_learning_rate
from triptych.training.parts import Parts
from triptych.training.run_folder import check_run_folder
from triptych.training.run_lock import RunLock
from triptych.training.step import take_step
from triptych.training.validation import ValidationNotFinite, deploy, redeploy, validate
from triptych.video.base import count_skipped, video_record, video_warnings


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
    `overwrite`. `device` is `auto`, `cpu` or `cuda`; of several processes each takes its own. SIGINT,
    SIGTERM or SIGHUP (a terminal that closed) saves a checkpoint and raises `Interrupted`, a `SystemExit`. A loss that
    is not finite raises `FloatingPointError` naming task, step and samples; a run that another process trains, and a
    second training in this process, `BlockingIOError`.

    Random numbers of torch are the caller's again at the end. On a CPU, the process keeps and reuses memory that it
    frees from now on (`mallopt`).
    """
    run = Path(out)
    recipe, choices = settle(recipe, device, run if resume else None)
    check = partial(check_run_folder, run, recipe, resume=resume, overwrite=overwrite)
    check()
    with (
        accelerated(device, **accelerator_options(recipe, run, device)) as accelerator,
        own_random_numbers(),
        RunLock(run, main=accelerator.is_main_process) as lock,
    ):
        check()  # another training may have begun and ended before the lock
        parts = build_parts(recipe, accelerator, resumes=resume and bool(list_checkpoints(run)))
        state, lines = open_run(run, parts, resume=resume, overwrite=overwrite)
        with _logging(run, parts, state, progress) as log, Interruption() as interruption:
            for line in (*choices, *lock.lines, *lines):
                log.message(line)
            if state.step and (line := redeploy(run, parts, state)):
                log.message(line)
            _loop(run, parts, state, log, interruption)
    return run


MEMORY_ADVICE = (
    "lower data.num_workers and go on with --resume, or begin another run (from this one's weights: "
    "model.initialize_from) with a smaller data.batch_size (and training.accumulate raised by the same factor) or "
    "data.size, with training.precision = 'bf16' or training.checkpoint_gradients = true"
)


def _loop(run: Path, parts: Parts, state: TrainingState, log: RunLog, interruption: Interruption) -> None:
    recipe, training = parts.recipe, parts.recipe.training
    steps, stop, saved = recipe.schedule.steps, False, (state.step, state.evaluated)
    loaders = parts.loaders(state.step)
    batches = parts.batches(loaders)
    while True:
        due = partial(_due, state.step, last=steps)
        if (
            not stop
            and state.evaluated < state.step
            and parts.validation_set is not None
            and due(training.evaluate_every)
        ):
            # An evaluation may fail, or be killed: no step is to be lost with it, nor an older checkpoint.
            if due(training.checkpoint_every) and state.step != saved[0]:
                save(run, parts, state)
            stop = not validate(run, parts, state, log, interruption)
        # A run that was stopped during an evaluation repeats it when resumed: its checkpoint records that.
        if stop or (due(training.checkpoint_every) and (state.step, state.evaluated) != saved):
            folder = _save(run, parts, state)
            if stop:
                log.message(f"stopped at step {state.step} and saved {folder}; go on with --resume")
                raise Interrupted(interruption.number or signal.SIGTERM, folder)
        if state.step == steps:
            break
        factor = schedule_factor(recipe.schedule, state.step)
        set_learning_rate(parts.optimizer, factor)
        started = time.perf_counter()
        numbers = take_step(parts, batches, step=state.step, stop=interruption.asked)
        state.count(numbers, time.perf_counter() - started)
        stop = numbers.stop
        if _due(state.step, training.log_every, last=steps):
            log.skipped(parts.skipped(loaders))
            record = _record(parts, state, factor * recipe.optimizer.lr)
            log.training(record)
            for text in video_warnings(record["video"]) if "video" in record else []:
                log.once(text)
            state.window, state.window_seconds = Means(), 0.0
        if _epoch(parts, state.step) > _epoch(parts, state.step - 1):
            # Only the first pass is complete here: later ones begin within the last step of the one before.
            if _epoch(parts, state.step - 1) == 0 and state.step < steps:
                for line in (*_missing_labels(parts, state), *_idle_regularizer(parts, state)):
                    log.message(line)
            parts.weighting.end_epoch(
                {name: mean for name, mean in state.epoch.under("losses").items() if mean is not None}
            )
            state.epoch = Means()
    log.message(f"finished {steps} steps in {state.seconds:.0f} s of training{_best(state)}")


def _missing_labels(parts: Parts, state: TrainingState) -> Iterator[str]:
    """Lines about tasks that had no label in the first pass; `DataError` where no image has one, or no frame taught a
    task that learns from video alone: such a task would train to the end with a loss of 0.

    Crops miss small labels, and a pass of a mixture shows a part of a large source: then files decide.
    """
    data, unread = parts.recipe.data, unread_tasks(parts.recipe)
    for name in parts.tasks:
        if state.epoch.sums.get(f"labelled/{name}"):
            continue
        if name in unread:
            skipped = count_skipped(video_record(state.epoch.sums, None))
            raise DataError(
                f"video: no image of the first pass could teach '{name}' ({skipped})",
                "ask the dataset for neighboring frames that it has, of one size (data.options neighbor_frames), and "
                "for the camera's intrinsics (a folder names them in the [camera] section of its dataset.toml)",
            )
        if not has_label(parts.training_set, name, num_workers=data.num_workers, on_bad_sample=data.on_bad_sample):
            raise DataError(
                f"no training image has a label of task '{name}'",
                "correct its files (`triptych data doctor`), or leave it out of data.tasks",
            )
        yield f"task '{name}': what the first pass showed had no label of it, though there are some"


def _idle_regularizer(parts: Parts, state: TrainingState) -> Iterator[str]:
    """A line where every term of the regularizer was 0 in the whole first pass."""
    names = [f"parts/{name}/regularizer" for name in parts.tasks]
    if any(state.epoch.counts.get(name) for name in names) and not any(state.epoch.sums.get(name) for name in names):
        yield (
            f"regularizer '{parts.recipe.regularizer.name}': all its terms were 0 in the first pass; no image had what "
            "it reads (labels, neighbors), or its weight has not risen yet"
        )


def _due(step: int, every: int, *, last: int) -> bool:
    """Whether an action that is due every `every` steps, and at the end, is due after `step` steps."""
    return step == last or (every > 0 and step > 0 and step % every == 0)


def _epoch(parts: Parts, step: int) -> int:
    """Whole passes over the training set after `step` steps."""
    return step * parts.images_per_step // len(parts.training_set)


def _save(run: Path, parts: Parts, state: TrainingState) -> Path:
    """Write a checkpoint and delete older ones; without an evaluation the last weights are the ones to deploy."""
    folder = save(run, parts, state)
    if state.best is None:
        deploy(run, parts)
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
    if skipped := int(window.sums.get("skipped", 0)):  # not in the state of earlier versions
        record["skipped_steps"] = skipped
    if parts.objective.regularizer is not None:
        record["regularizer_gradient_norm"] = window.mean("regularizer_gradient_norm")
        if found := parts.objective.regularizer.counts() | parts.objective.regularizer.measures():
            record["regularizer"] = found
    if (penalties := window.mean("penalties")) is not None:
        record["penalties"] = penalties
    if parts.objective.adapter is not None:
        record["adaptation"] = window.mean("adaptation")
        record["adapter"] = window.mean("adapter")
    if parts.objective.video is not None:
        record["video"] = video_record(window.sums, window.mean("video/static"))
    return record


def _best(state: TrainingState) -> str:
    if state.best is None:
        return "; the last weights are deployed"
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in state.best["metrics"].items())
    return f"; deployed are the weights of step {state.best['step']} ({numbers})"


def _way_on(run: Path, *, again: bool) -> str:
    """Advice where numbers are not finite; `again`: a resumed run would fail at the same step."""
    saved = list_checkpoints(run)
    if again:
        text = "With --resume it ends here again"
    elif saved:
        text = f"The last checkpoint is {saved[-1]}, for --resume once samples are mended"
    else:
        text = "No checkpoint was written yet"
    if (run / "model.safetensors").is_file():
        return f"{text}; with other settings start another run from the deployed weights (model.initialize_from {run})."
    return f"{text}; with other settings begin anew (--overwrite)."


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
        with memory_advice(MEMORY_ADVICE):
            yield log
    except FloatingPointError as error:
        text = f"{error} {_way_on(run, again=isinstance(error, ValidationNotFinite))}"
        log.note(text)
        raise FloatingPointError(text) from None
    except Exception as error:
        log.note(f"stopped by {type(error).__name__}: {error}")
        raise
    finally:
        log.close()
