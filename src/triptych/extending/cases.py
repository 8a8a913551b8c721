"""Small tasks, maps and images for checks of custom parts, and errors of failed checks."""

from typing import Any

import torch
from torch import Tensor

from triptych.tasks import Task, depth, normals, semseg

SIZE = (37, 50)
"""A size that no stride divides."""


def require(holds: Any, otherwise: str) -> None:
    """Raise `ValueError` with a text where a property does not hold."""
    if not holds:
        raise ValueError(otherwise)


def require_finite(tensor: Tensor | None, what: str) -> None:
    """Raise `ValueError` where a value is NaN or infinite."""
    require(tensor is None or tensor.isfinite().all(), f"{what} is not finite.")


def small_tasks() -> dict[str, Task]:
    """Three tasks: classes (semseg), lengths (depth) and directions (normals)."""
    return {task.name: task for task in (semseg(4), depth(), normals())}


def labels_of(task: Task, size: tuple[int, int] = SIZE, images: int = 2) -> Tensor:
    """Random targets of a task, `(images, H, W)` or `(images, C, H, W)`, in its range of values.

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
    """Raw maps `(2, channels, H, W)` of a task, always the same, which require gradients."""
    return torch.randn(2, task.channels, *SIZE, generator=torch.Generator().manual_seed(1)).requires_grad_()


def random_images(images: int = 2) -> Tensor:
    """Images `(images, 3, H, W)` in [0, 1], always the same."""
    return torch.rand(images, 3, *SIZE, generator=torch.Generator().manual_seed(2))
