"""The optimizer, its learning rates over layers and over time, and the average of the weights."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from triptych.adaptation.mean_teacher import move_average
from triptych.backbones.base import find_backbones
from triptych.lookup import named_choice
from triptych.models.multitask import MultiTaskModel
from triptych.models.parts import find_part
from triptych.recipes.config import OptimizerConfig, ScheduleConfig
from triptych.regularizers.base import Regularizer
from triptych.video.base import VideoSupervision

FUSED_ON = ("cpu", "cuda")
"""Devices whose optimizers update a parameter in one kernel."""


def learning_rate_factors(model: nn.Module, config: OptimizerConfig) -> dict[str, float]:
    """Learning rate of every trainable parameter relative to `config.lr`, by name.

    Backbones get `backbone_lr_factor`, and `layer_decay ** (n - i)` for layer i of n (from 0 at the image), so that
    the last layer has one factor of decay and everything after the backbone none. Parameters of
    the `fusion_modules` of any module get `fusion_lr_factor`, regularizers `regularizer_lr_factor`, pose networks
    `pose_lr_factor`. Each of `lr_factors` comes on top, in the network whose part it names.
    """
    factors = {name: 1.0 for name, parameter in model.named_parameters() if parameter.requires_grad}
    names = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}

    def scale(module: nn.Module, factor: float) -> None:
        for parameter in module.parameters():
            if parameter in names:
                factors[names[parameter]] = factor

    for backbone in find_backbones(model).values():
        layers = backbone.layers() if config.layer_decay != 1 else []
        # What belongs to no layer (position embeddings, tokens) sits at the image.
        scale(backbone, config.backbone_lr_factor * config.layer_decay ** len(layers))
        for i, layer in enumerate(layers):
            scale(layer, config.backbone_lr_factor * config.layer_decay ** (len(layers) - i))
    for module in model.modules():
        for fusion in getattr(module, "fusion_modules", []):
            scale(fusion, config.fusion_lr_factor)
        if isinstance(module, Regularizer):
            scale(module, config.regularizer_lr_factor)
        if isinstance(module, VideoSupervision):
            scale(module, config.pose_lr_factor)
    for network in (module for module in model.modules() if isinstance(module, MultiTaskModel)):
        for part, factor in config.lr_factors.items():
            for name in _trained_names(network, part, names):
                factors[name] *= factor
    return factors


def _trained_names(network: MultiTaskModel, part: str, names: Mapping[nn.Parameter, str]) -> list[str]:
    """Names of a part's trainable parameters; `ValueError` where there are none, unless the whole network is frozen (a
    copy).
    """
    found = [names[parameter] for parameter in find_part(network, part).parameters if parameter in names]
    if not found and any(parameter in names for parameter in network.parameters()):
        raise ValueError(f"optimizer.lr_factors names '{part}', of which nothing trains; take it out of model.freeze.")
    return found


def parameter_groups(modules: Mapping[str, nn.Module | None], config: OptimizerConfig) -> list[dict[str, Any]]:
    """One group per module, learning rate and weight decay, in order of first appearance.

    Modules with a true attribute `undecayed` get no weight decay; without `decay_norms` vectors (biases, norms, scales
    of layers), position embeddings and tokens get none either. Each group carries `base_lr`, which the schedule
    multiplies.
    """
    # By module, for a weighting is whole where others are sharded: torch takes no group of both.
    groups: dict[tuple[str, float, float], list[nn.Parameter]] = {}
    for label, module in modules.items():
        if module is None:
            continue
        parameters = dict(module.named_parameters())
        free = {p for part in module.modules() if getattr(part, "undecayed", False) for p in part.parameters()}
        if not config.decay_norms:
            free |= {p for p in parameters.values() if p.ndim < 2} | _positions_and_tokens(module)
        for name, factor in learning_rate_factors(module, config).items():
            decay = 0.0 if parameters[name] in free else config.weight_decay
            groups.setdefault((label, factor * config.lr, decay), []).append(parameters[name])
    return [
        {"params": parameters, "lr": lr, "base_lr": lr, "weight_decay": decay}
        for (_, lr, decay), parameters in groups.items()
    ]


def _positions_and_tokens(module: nn.Module) -> set[nn.Parameter]:
    """Parameters of backbone bodies outside their layers (position embeddings, tokens), and those that timm excludes
    from weight decay (tables of relative positions).
    """
    found: set[nn.Parameter] = set()
    for body in (backbone.own_body for backbone in find_backbones(module).values()):
        listed = getattr(body, "no_weight_decay", None)
        named = set(listed()) if callable(listed) else set()
        found |= {p for name, p in body.named_parameters() if "." not in name or name in named}
    return found


def build_optimizer(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD with momentum, Adam (L2 decay, as the published recipes) or AdamW (decoupled decay)."""
    parameters = [parameter for group in groups for parameter in group["params"]]
    # One pass over the memory for ten. It pairs a parameter and its gradient in the order of memory, unchecked: weights
    # in channels_last, whose gradients may come in another order (gradient balancing), are updated one by one.
    fused = all(p.is_contiguous() and p.is_floating_point() and p.device.type in FUSED_ON for p in parameters)
    whole = not any(isinstance(parameter, DTensor) for parameter in parameters)  # torch has no fused SGD of shards
    builders: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "sgd": partial(torch.optim.SGD, momentum=config.momentum, fused=(fused and whole) or None),
        "adam": partial(torch.optim.Adam, betas=config.betas, fused=fused or None),
        "adamw": partial(torch.optim.AdamW, betas=config.betas, fused=fused or None),
    }
    optimizer = named_choice("optimizer", config.name, builders)(groups, lr=config.lr, weight_decay=config.weight_decay)
    if optimizer.defaults.get("fused") and optimizer.defaults.get("momentum"):
        optimizer.register_step_pre_hook(_start_momentum)
    return optimizer


def _start_momentum(optimizer: torch.optim.Optimizer, *call: Any) -> None:
    """Set zero momentum for parameters whose first gradient comes after that of others. The update is the same as
    without, but fused SGD needs momentum for all parameters or for none.
    """
    for group in optimizer.param_groups:
        trained = [parameter for parameter in group["params"] if parameter.grad is not None]
        states = [optimizer.state[parameter] for parameter in trained]
        late = [state.get("momentum_buffer") is None for state in states]
        if all(late):
            continue
        for parameter, state, begins in zip(trained, states, late, strict=True):
            if begins:
                state["momentum_buffer"] = torch.zeros_like(parameter)


def schedule_factor(config: ScheduleConfig, step: int) -> float:
    """Learning rate of optimizer step `step` (the first is 0) relative to the start: a function, so nothing is saved.

    Warm-up rises linearly from `warmup_factor` to 1 over `warmup_steps`; `poly` and `cosine` then fall to 0 over the
    rest: `(1 - t) ** power` and `(1 + cos(pi t)) / 2`. `step` multiplies by `gamma` at each milestone, counted from
    the first step.

    >>> schedule_factor(ScheduleConfig(name="poly", power=1.0, steps=10), 5)
    0.5
    """
    if step < config.warmup_steps:
        return config.warmup_factor + (1 - config.warmup_factor) * step / config.warmup_steps
    time = min(1.0, (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps))
    factors: dict[str, Callable[[], float]] = {
        "constant": lambda: 1.0,
        "poly": lambda: (1 - time) ** config.power,
        "cosine": lambda: (1 + math.cos(math.pi * time)) / 2,
        "step": lambda: config.gamma ** sum(step >= milestone for milestone in config.milestones),
    }
    return named_choice("schedule", config.name, factors)()


def schedule_notes(config: ScheduleConfig) -> list[str]:
    """Notes on settings of a schedule that have no effect, or less than they seem to have.

    >>> schedule_notes(ScheduleConfig(steps=20, warmup_steps=50))
    ['schedule.warmup_steps is 50 and schedule.steps 20: the learning rate only rises, to 44 % of its value']
    """
    notes = []
    if config.warmup_steps >= config.steps:
        share = schedule_factor(config, config.steps - 1)
        rise = f"the learning rate only rises, to {100 * share:.0f} % of its value"
        notes.append(f"schedule.warmup_steps is {config.warmup_steps} and schedule.steps {config.steps}: {rise}")
    if config.name == "step" and not any(milestone < config.steps for milestone in config.milestones):
        steps = f"none of {config.steps} steps is among schedule.milestones {config.milestones}"
        notes.append(f"schedule.name is step and {steps}: the learning rate stays as it is")
    if config.milestones and config.name != "step":
        notes.append(f"schedule.milestones are of schedule.name step, which is {config.name}: they have no effect")
    return notes


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Scale every group's base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


class WeightAverage:
    """Exponential moving average of a model's parameters and buffers: what is evaluated and deployed where it is on.

    After step n (from 1) the average moves by `1 - min(decay, (1 + n) / (10 + n))`: the ramp forgets the random
    start, which a constant decay would keep for `1 / (1 - decay)` steps. Integer buffers are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"training.ema is {decay}; a decay between 0 and 1 is accepted, such as 0.999.")
        self.decay = decay
        self.restart(model)

    def restart(self, model: nn.Module) -> None:
        """Begin with the model's weights."""
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model after its step number `step`."""
        move_average(self.tensors, model.state_dict(), self.decay, step)

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Within this context the model has the averaged weights."""
        current = model.state_dict()
        saved: dict[str, Tensor] = {name: tensor.clone() for name, tensor in current.items()}
        _copy(self.tensors, current)
        try:
            yield
        finally:
            _copy(saved, model.state_dict())


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], destination: Mapping[str, Tensor]) -> None:
    for name, tensor in destination.items():
        tensor.copy_(source[name])
