"""Terms of the loss from renderings: choice of tasks, sizes and weights."""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.decoders.layers import resize, same_size
from triptych.lookup import named_choice
from triptych.tasks import Task
from triptych.types import Sample

LARGEST_BY_MATRIX = 48
"""Side of a map up to which `enlarge` multiplies with matrices."""


def _constant(progress: float) -> float:
    return 1.0


def _linear(progress: float) -> float:
    return 1.0 - progress


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


# Functions with names: regularizers are sent to other processes.
SCHEDULES = {"constant": _constant, "linear": _linear, "cosine": _cosine}
"""Factor of the weight by progress in [0, 1]; the last two anneal to 0."""


class Alpha(nn.Module):
    """alpha_t: factor, per-task factors and their schedule, applied to the terms of the rendered tasks."""

    def __init__(
        self,
        names: Sequence[str],
        *,
        weight: float,
        task_weights: Sequence[float] = (),
        schedule: str = "auto",
        schedule_steps: int = 0,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__()
        require(
            len(task_weights) in (0, len(names)),
            f"task_weights has {len(task_weights)} entries for the rendered tasks {', '.join(names)}; give one each.",
        )
        annealed = SCHEDULES["linear" if schedule_steps > 0 else "constant"]
        self.curve = named_choice("schedule", schedule, {"auto": annealed, **SCHEDULES})
        require(
            schedule_steps > 0 or self.curve is SCHEDULES["constant"],
            f"schedule '{schedule}' needs schedule_steps > 0 (such as the recipe's schedule.steps).",
        )
        self.weights = {n: weight * w for n, w in zip(names, task_weights or (1.0,) * len(names), strict=True)}
        self.steps, self.warmup_steps = max(schedule_steps, 1), warmup_steps

    def factor(self, step: int) -> float:
        """The schedule's factor at an optimizer step."""
        rise = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return rise * self.curve(min(step / self.steps, 1.0))

    def forward(self, terms: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        factor = self.factor(step)
        return {name: factor * self.weights[name] * term for name, term in terms.items()}


def choose_tasks(rendered: Sequence[str], tasks: Mapping[str, Task]) -> dict[str, Task]:
    """The tasks to render, in declaration order; `ValueError` for a name that is no task of the model, or a task that
    has no channels.
    """
    for name in rendered:
        named_choice("task in rendered", name, tasks)
    chosen = {name: task for name, task in tasks.items() if not rendered or name in rendered}
    for name, task in chosen.items():
        require(
            task.channels >= 1,
            f"task '{name}' has {task.channels} channels: nothing can be rendered; leave it out of `rendered`.",
        )
    return chosen


def enlarge(raw: Float[Tensor, "batch channels height width"], size: Sequence[int]) -> Tensor:
    """Rendered maps at the labels' size, bilinear: `decoders.layers.resize`.

    Small maps by a matrix per axis. On CPUs that takes a quarter of the time, most of which is `interpolate`'s backward
    pass; it grows with the side, and at 56 x 72 it is a tie. Values that are not finite spread over the whole map.

    >>> enlarge(torch.tensor([[[[0.0, 4.0]]]]), (1, 4)).tolist()
    [[[[0.0, 1.0, 3.0, 4.0]]]]
    """
    if max(raw.shape[-2:]) > LARGEST_BY_MATRIX or same_size(raw.shape[-2:], size):
        return resize(raw, size)
    full = torch.promote_types(raw.dtype, torch.float32)
    rows, columns = (
        F.interpolate(torch.eye(old, device=raw.device, dtype=full)[None], size=new, mode="linear")[0]
        for old, new in zip(raw.shape[-2:], size, strict=True)
    )
    with torch.autocast(raw.device.type, enabled=False):
        return (rows.T @ (raw.to(full) @ columns)).to(raw.dtype)


def thin_to(target: Tensor, size: Sequence[int]) -> Tensor:
    """Every n-th label, at pixel centres: averaging would invent values."""
    for dim, count in zip((-2, -1), size, strict=True):
        place = (torch.arange(count, device=target.device) + 0.5) * (target.shape[dim] / count)
        target = target.index_select(dim, place.long())
    return target


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(f"regularizer: {message}")


def image_size(sample: Sample) -> tuple[int, int]:
    """Height and width of a batch's images."""
    height, width = sample.image.shape[-2:]
    return height, width


def full_precision(sample: Sample) -> torch.autocast:
    """A context in which geometry is not rounded: bfloat16 has 8 bits, images have more columns."""
    return torch.autocast(sample.image.device.type, enabled=False)
