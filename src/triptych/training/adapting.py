"""Backward pass and optimizer step for an adapter's own parameters (discriminators)."""

from dataclasses import replace

import torch
from torch import Tensor

from triptych.training.optim import schedule_factor, set_learning_rate
from triptych.training.parts import Parts
from triptych.weighting.base import average_over_processes


def backward_adapter(parts: Parts, accumulate: int) -> Tensor | None:
    """Add the gradients of the adapter's own losses, in full precision, and return their sum.

    Own parameters ask for gradients here alone: the losses of the network pass through them and leave none.
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
    """Update what the adapter trains by itself, and tell it that the network was updated."""
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
