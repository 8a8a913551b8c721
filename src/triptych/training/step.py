"""One optimizer step: forward and backward over the accumulated batches, checks, clipping, update."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from triptych.losses.whole_batch import sum_over_processes, whole_batch
from triptych.processes import average_over_processes
from triptych.training.objective import PARTS, Losses
from triptych.training.optim import schedule_factor, set_learning_rate
from triptych.training.parts import Parts
from triptych.training.sharding import whole
from triptych.types import Sample

Row = dict[str, tuple[Tensor, Tensor]]
"""Observations of one batch by name: a value, and its weight in a mean."""


@dataclass(frozen=True)
class StepNumbers:
    """Observations of a step, summed over batches and processes: `values[i]` is a sum of `weights[i]` observations of
    `names[i]`.
    """

    names: list[str]
    values: list[float]
    weights: list[float]
    stop: bool


def take_step(
    parts: Parts, batches: Iterator[tuple[Sample, Sample | None]], *, step: int, stop: Callable[[], bool]
) -> StepNumbers:
    """Train on the next `accumulate` batches; `stop()` tells whether this process was asked to end, as any process may
    be.

    Raises `FloatingPointError` before the weights change where a loss is not finite, or the gradient though nothing
    scales it: with loss scaling such steps are skipped, and the scale is halved, until it is 1.
    """
    accelerator, accumulate = parts.accelerator, parts.recipe.training.accumulate
    parts.objective.active = parts.weighting.active()
    if parts.objective.regularizer is not None:
        parts.objective.regularizer.step = step
    if parts.objective.adapter is not None:
        parts.objective.adapter.step, parts.objective.adapter.steps = step, parts.recipe.schedule.steps
    rows: list[Row] = []
    keys: list[str] = []
    fetched = [next(batches) for _ in range(accumulate)]
    shares = _shares(parts, [sample for sample, _ in fetched])
    video = parts.objective.video.task if parts.objective.video is not None else None
    for i, (sample, target) in enumerate(fetched):
        last = i == accumulate - 1
        sample, target = parts.placed(sample), None if target is None else parts.placed(target)
        parts.objective.shares = shares[i]
        # The video loss of a task does not depend on its labels: it counts in full in every batch.
        parts.weighting.shares = {name: share for name, share in shares[i].items() if name != video}
        keys += sample.key
        # Gradients are exchanged once per step, with the last batch.
        with parts.gradient_exchange(last):
            losses: Losses = parts.wrapped(sample, target)
            rows.append(_backward(parts, losses, accumulate, last))
    # The names are those of the recipe's parts: the same in every process and every step.
    names = list(rows[0])
    numbers = torch.stack([_pack(row) for row in rows]).sum(dim=0)
    numbers = torch.cat([numbers, numbers.new_tensor([[float(stop())], [0.0]])], dim=1)
    total = accelerator.reduce(numbers, "sum") if accelerator.num_processes > 1 else numbers
    clipped = _clip(parts)
    # Everything that the host wants to know, in one transfer.
    flat = torch.cat([total.flatten(), torch.stack([norm.to(total) for norm in clipped.values()])]).tolist()
    count = total.shape[1]
    values, weights, norms = flat[:count], flat[count : 2 * count], flat[2 * count :]
    finite = all(map(math.isfinite, norms))
    if not all(map(math.isfinite, values)):
        raise FloatingPointError(_not_finite(dict(zip(names, numbers[0].tolist(), strict=False)), step, keys))
    if not finite and (accelerator.scaler is None or accelerator.scaler.get_scale() <= 1):
        raise FloatingPointError(
            f"the gradient is not finite at step {step} though every loss is (samples {', '.join(keys)}). {_ADVICE}"
        )
    parts.optimizer.step()
    parts.optimizer.zero_grad()
    step_adapter(parts, step)
    if parts.average is not None:
        parts.average.update(parts.objective.model, step + 1)
    return StepNumbers(
        [*names, *clipped, "skipped"],
        [*values[:-1], *(norm if finite else 0.0 for norm in norms), float(not finite)],
        [*weights[:-1], *(float(finite) for _ in norms), 1.0],
        stop=values[-1] > 0,
    )


def _shares(parts: Parts, samples: Sequence[Sample]) -> list[dict[str, float]]:
    """Factors of the tasks' losses in each accumulated batch, whose mean over the batches is 1: the share of a task's
    labelled pixels that lie in it, times the number of batches.

    The mean of the losses so weighted is the mean over the pixels of all batches, where otherwise a batch with few
    labels counts as much as one with many. 1 for a task whose loss is a mean over all pixels anyway; none for a single
    batch, nor for a task without a label.
    """
    if len(samples) == 1:
        return [{}]
    objective = parts.objective
    counts = torch.stack([objective.count_pixels(sample) for sample in samples])
    with whole_batch():
        [counts] = sum_over_processes(counts.to(parts.accelerator.device))
    counts = counts.cpu()
    averaged = torch.tensor([task.averages_labels for task in objective.tasks.values()])
    known = counts.sum(dim=0) > 0
    shares = torch.where(averaged, counts / counts.double().mean(dim=0).clamp(min=1 / len(samples)), 1.0)
    return [
        {name: share for name, share, labelled in zip(objective.tasks, row, known.tolist(), strict=True) if labelled}
        for row in shares.tolist()
    ]


def _clip(parts: Parts) -> dict[str, Tensor]:
    """Clip the gradients of the network and of the regularizer, each to the recipe's norm, if any; returns the norms
    before, by their names in the log.

    They are clipped separately: a regularizer whose gradient is many times the network's would set the network's step
    size. The network includes a pose network. An adapter's own parameters have no gradient here and are clipped by
    their own optimizer's norm; a weighting's few numbers are not clipped.
    """
    parts.accelerator.unscale_gradients()
    objective, regularizer = parts.objective, parts.objective.regularizer
    network = set(objective.model.parameters())
    beside = [p for p in regularizer.parameters() if p not in network] if regularizer is not None else []
    apart = set(beside)
    groups = {"gradient_norm": [p for p in objective.parameters() if p not in apart]}
    if regularizer is not None:
        groups["regularizer_gradient_norm"] = beside
    return whole({name: _clip_together(group, parts.recipe.optimizer.clip_norm) for name, group in groups.items()})


def _clip_together(parameters: list[nn.Parameter], largest: float) -> Tensor:
    """Clip the gradients of some parameters to one norm (0: not at all), and return their norm before."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    norm = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
    if largest:
        torch.nn.utils.clip_grads_with_norm_(trained, largest, norm)
    return norm


def _pack(row: Row) -> Tensor:
    """Values and weights of a row, `(2, names)`."""
    return torch.stack([torch.stack([value.detach().float() for value in pair]) for pair in row.values()], dim=1)


def _backward(parts: Parts, losses: Losses, accumulate: int, last: bool) -> Row:
    """Add the gradients of one batch, and return what was observed."""
    accelerator = parts.accelerator
    extra = torch.stack(list(losses.adaptation.values())).sum() if losses.adaptation else None
    slopes: dict[str, Tensor] = {}
    for name, loss in losses.tasks.items():
        if loss.requires_grad:
            # The slope of the total along this loss: its weight, whatever the weighting does.
            loss.register_hook(partial(slopes.__setitem__, name))
    total = parts.weighting.backward(
        losses.tasks,
        parts.shared_parameters,
        run_backward=lambda value: accelerator.backward(value / accumulate),
        last=last,
        extra=extra,
    )
    own = backward_adapter(parts, accumulate)
    scale = (accelerator.scaler.get_scale() if accelerator.scaler is not None else 1.0) / accumulate
    one, zero = torch.ones_like(total), torch.zeros_like(total)
    with whole_batch():
        [counts] = sum_over_processes(torch.stack([losses.labelled[name] for name in losses.tasks]))
    present = dict(zip(losses.tasks, (counts > 0).to(total), strict=True))
    adapted = [term for name, term in losses.adaptation.items() if name.startswith("adapter/")]
    penalties = [term for name, term in losses.adaptation.items() if not name.startswith("adapter/")]
    row: Row = {
        "loss": (total, one),
        "penalties": (torch.stack(penalties).sum(), one) if penalties else (zero, zero),
        "adaptation": (torch.stack(adapted).sum(), one) if adapted else (zero, zero),
        "adapter": (zero, zero) if own is None else (own, one),
    }
    for name, loss in losses.tasks.items():
        weight = present[name] * parts.objective.shares.get(name, 1.0)
        row[f"losses/{name}"] = (loss.detach() * present[name], weight)
        row[f"weighted/{name}"] = (slopes.get(name, zero) / scale * loss.detach() * present[name], weight)
        row[f"labelled/{name}"] = (losses.labelled[name].to(total), one)
        for part in PARTS:
            term = losses.parts.get(f"{name}/{part}")
            row[f"parts/{name}/{part}"] = (zero, zero) if term is None else (term * present[name], weight)
    return row | ({} if losses.video is None else losses.video.row(one))


_ADVICE = (
    "Nothing was updated with it. Lower optimizer.lr, set optimizer.clip_norm, or check these samples "
    "(`triptych data doctor`)."
)


def _not_finite(numbers: dict[str, float], step: int, keys: list[str]) -> str:
    tasks = [
        f"'{name.removeprefix('losses/')}' ({value})"
        for name, value in numbers.items()
        if name.startswith("losses/") and not math.isfinite(value)
    ]
    if not tasks and all(map(math.isfinite, numbers.values())):
        return f"the loss of another process is not finite at step {step}; its message names task and samples."
    what = f"the loss of task {', '.join(tasks)}" if tasks else "the total loss (its weighting or adaptation)"
    return f"{what} is not finite at step {step}; samples {', '.join(keys)}. {_ADVICE}"


def backward_adapter(parts: Parts, accumulate: int) -> Tensor | None:
    """Add the gradients of the adapter's own losses, in full precision, and return their sum.

    These parameters require gradients only here: the network's losses pass through them and add none.
    """
    adapter = parts.objective.adapter
    if adapter is None or parts.adapter_optimizer is None:
        return None
    own = adapter.own_parameters()
    for parameter in own:
        parameter.requires_grad_(True)
    losses = adapter.own_losses()
    if losses:
        total = torch.stack(list(losses.values())).sum()
        (total / accumulate).backward()
    for parameter in own:
        parameter.requires_grad_(False)
    return total.detach() if losses else None


def step_adapter(parts: Parts, step: int) -> None:
    """Optimizer step for the adapter's own parameters, then the adapter's hook after an update of the network."""
    adapter, optimizer, config = parts.objective.adapter, parts.adapter_optimizer, parts.recipe.adaptation
    if adapter is None:
        return
    if optimizer is not None:
        own = adapter.own_parameters()
        average_over_processes(parameter.grad for parameter in own if parameter.grad is not None)
        if config.optimizer.clip_norm:
            torch.nn.utils.clip_grad_norm_(own, config.optimizer.clip_norm)
        schedule = replace(config.schedule, steps=config.schedule.steps or parts.recipe.schedule.steps)
        set_learning_rate(optimizer, schedule_factor(schedule, step))
        optimizer.step()
        optimizer.zero_grad()
    adapter.after_step(parts.objective.model)
