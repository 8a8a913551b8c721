"""Scoring the validation split during training, and deploying the best weights: writing them as `model.safetensors`."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from triptych import assemble
from triptych.evaluation.evaluate import EvaluationLeft, evaluate
from triptych.evaluation.scores import Evaluation
from triptych.files import checksum, read_tensors
from triptych.machine import Interruption, memory_advice
from triptych.prediction.predictor import Predictor
from triptych.processes import gather_objects
from triptych.training.checkpoint import TrainingState, deployable, list_checkpoints, replace_tensors
from triptych.training.log import RunLog
from triptych.training.parts import Parts
from triptych.training.sharding import load_tensors, whole


def validate(run: Path, parts: Parts, state: TrainingState, log: RunLog, interruption: Interruption) -> bool:
    """Score the validation split, and deploy the weights if they are the best so far; false if a signal came to any
    process.
    """
    recipe = parts.recipe

    def progress(done: int, of: int) -> None:
        log.status(f"scoring {recipe.data.val_split}: {done} of {of} images")
        if interruption.asked():
            raise EvaluationLeft

    try:
        with deployed_model(parts) as deployed:
            evaluation = score_split(parts, deployed, limit=recipe.training.evaluate_limit, progress=progress)
            _check_finite(evaluation, state.step)
            score = evaluation.score()
            best = state.best is None or score > state.best["score"]
            written = _write(run, parts, deployed.state_dict()) if best else ""
    except EvaluationLeft:
        return False
    record = {
        "step": state.step,
        "split": recipe.data.val_split,
        "images": len(evaluation.keys),
        "metrics": evaluation.flat(),
        "losses": evaluation.losses,
        "labelled": evaluation.labelled,
        "score": score,
        "best": best,
    }
    state.evaluated = state.step
    if best:
        state.best = {"step": state.step, "score": score, "metrics": evaluation.primary(), "weights": written}
    log.skipped(evaluation.skipped)
    log.evaluation(record, evaluation)
    return True


MEMORY_ADVICE = (
    "images of the validation split are scored whole: store smaller ones (data.size, where the recipe resizes), or "
    "train where there is more memory"
)


def score_split(
    parts: Parts, deployed: nn.Module, *, limit: int, progress: Callable[[int, int], None] | None = None
) -> Evaluation:
    """Score images of the validation split, at most `limit` of them (0: all), by the weights to deploy."""
    recipe, tasks = parts.recipe, parts.objective.model.tasks
    assert parts.validation_set is not None
    with memory_advice(MEMORY_ADVICE):
        return evaluate(
            Predictor(deployed, tasks=tasks),
            parts.validation_set,
            tasks,
            transform=assemble.scored_view(recipe, recipe.data.val_split, tasks),
            limit=limit,
            num_workers=recipe.data.num_workers,
            on_bad_sample=recipe.data.on_bad_sample,
            progress=progress,
        )


class ValidationNotFinite(FloatingPointError):
    """Raised where predictions of a validation are not finite: a run resumed at its step fails again."""


def _check_finite(evaluation: Evaluation, step: int) -> None:
    """Raise an error that names step and tasks where predictions are not finite: such scores select no weights."""
    if bad := [f"'{name}' ({loss})" for name, loss in evaluation.losses.items() if not math.isfinite(loss)]:
        raise ValidationNotFinite(
            f"the validation of step {step} has a loss of task {', '.join(bad)} that is not finite, though training "
            "had none: statistics of norms or the averaged weights may have run away. Nothing was deployed with it; "
            "lower optimizer.lr or set optimizer.clip_norm."
        )


@contextmanager
def deployed_model(parts: Parts) -> Iterator[nn.Module]:
    """Context with the model as it would be deployed now: averaged weights, and buffers as the adapter finishes
    them.
    """
    parts.share_buffers()
    model = parts.whole_model()
    context: AbstractContextManager = nullcontext()
    if model is not parts.objective.model:
        load_tensors(model.state_dict(), _deployed_tensors(parts), "the sharded model")
    elif parts.average is not None:
        context = parts.average.applied_to(model)
    # Images have their own sizes here: compiled code would be compiled again for each.
    eager = torch.compiler.set_stance("force_eager") if parts.recipe.training.compile else nullcontext()
    with context, eager:
        if parts.average is not None:
            parts.share_buffers(model)  # each process averaged its own statistics
        with _finished(parts, model):
            yield model


@contextmanager
def _finished(parts: Parts, model: nn.Module) -> Iterator[None]:
    """The model as the adapter finishes it; training resumes with the buffers it had."""
    adapter = parts.objective.adapter
    if adapter is None:
        yield
        return
    saved = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        adapter.finish(model, parts.target_images)
        parts.share_buffers()  # one answer in all processes, whatever their arithmetic
        yield
    finally:
        for name, buffer in model.named_buffers():
            buffer.copy_(saved[name])


def _deployed_tensors(parts: Parts) -> dict[str, Tensor]:
    return whole(parts.average.tensors if parts.average is not None else parts.objective.model.state_dict())


def deploy(run: Path, parts: Parts) -> None:
    """Write `model.safetensors`."""
    if parts.sharded:
        _write(run, parts, _deployed_tensors(parts))
        return
    with deployed_model(parts) as model:
        _write(run, parts, model.state_dict())


def redeploy(run: Path, parts: Parts, state: TrainingState) -> str:
    """Deploy the weights of a resumed run again where it was killed before, or their file was lost or damaged.

    Returns a line where the weights of the best evaluation are in no checkpoint either; then the last weights are
    deployed.
    """
    if state.best is None:
        deploy(run, parts)
        return ""
    step = state.best["step"]
    folder = run / "checkpoints" / f"{step:08d}"
    # All processes use what the first one finds, before it writes.
    found, stored = gather_objects((_checksum(run), folder in list_checkpoints(run)))[0]
    if stored and parts.objective.adapter is None:
        if parts.accelerator.is_main_process and found != checksum(tensors := deployable(folder, parts)):
            _write(run, parts, tensors)
        return ""
    if found and found == state.best.get("weights", found):  # earlier versions noted none
        return ""
    deploy(run, parts)
    state.best = None
    return (
        f"{run / 'model.safetensors'} was missing, damaged or not of step {step}, the best so far, and no checkpoint "
        f"has those weights: those of step {state.step} are deployed until an evaluation"
    )


def _checksum(run: Path) -> str:
    """Checksum of the deployed weights; empty where they cannot be read."""
    try:
        return checksum(read_tensors(run / "model.safetensors"))
    except (ValueError, OSError):
        return ""


def _write(run: Path, parts: Parts, tensors: Mapping[str, Tensor]) -> str:
    """Write the weights to deploy, and return their checksum; empty in all processes but the main one."""
    return replace_tensors(run / "model.safetensors", tensors) if parts.accelerator.is_main_process else ""
