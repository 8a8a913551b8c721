"""The small tasks, maps and images on which parts of one's own are checked, and how a check fails."""

from typing import Any

import torch
from torch import Tensor

from triptych.tasks import Task, depth, normals, semseg

SIZE = (37, 50)
"""A size that no stride divides."""


def require(holds: Any, otherwise: str) -> None:
    """`ValueError` saying what does not hold."""
    if not holds:
        raise ValueError(otherwise)


def require_finite(tensor: Tensor | None, what: str) -> None:
    """`ValueError` where a value is NaN or infinite."""
    require(tensor is None or tensor.isfinite().all(), f"{what} is not finite.")


def small_tasks() -> dict[str, Task]:
    """Classes, lengths and directions."""
    return {task.name: task for task in (semseg(4), depth(), normals())}


def labels_of(task: Task, size: tuple[int, int] = SIZE, images: int = 2) -> Tensor:
    """Random targets of a task, `(images, H, W)` or `(images, C, H, W)`, of its kind of values.

    >>> labels_of(semseg(3), (2, 2), 1).shape
    torch.Size([1, 2, 2])
    """
    if task.target_channels is None:
        return torch.randint(0, max(2, len(task.classes)), (images, *size))
    values = torch.rand(images, task.target_channels, *size)
    if task.kind == "probability":
        return values.round()
    if task.kind == "direction":
        return torch.nn.functional.normalize(values - 0.5, dim=1)
    low, high = task.limits or (0.5, 5.0)
    return low + values * (high - low)


def raw_of(task: Task) -> Tensor:
    """Raw maps `(2, channels, H, W)` of a task, always the same, that gradients are taken of."""
    return torch.randn(2, task.channels, *SIZE, generator=torch.Generator().manual_seed(1)).requires_grad_()


def random_images(images: int = 2) -> Tensor:
    """Images `(images, 3, H, W)` in [0, 1], always the same."""
    return torch.rand(images, 3, *SIZE, generator=torch.Generator().manual_seed(2))
