"""A small batch with features, and regularizers built small, for tests of regularizers."""

from dataclasses import replace

import torch
import training.tiny  # noqa: F401  it names the backbone "stairs"

import triptych
from triptych.decoders.baseline import FCN
from triptych.regularizers import REGULARIZERS
from triptych.regularizers.base import Regularizer
from triptych.tasks import Task
from triptych.types import Camera, Output, Sample

SIZE = (50, 61)
"""A size that no stride divides."""
SMALL = {"width": 8, "plane_channels": 4, "hidden": 6, "bins": 5}
OTHERS: dict[str, dict[str, object]] = {
    "distill": {"teachers": ("stairs",), "teacher_weights": ("random",)},
    "mtpsl": {"widths": (6, 8)},
}
"""Small forms of regularizers that render nothing."""
FEW = {name: {"num_samples": 1} for name in ("triplane-single-sample", "triplane-depth-input")}
"""Options that a control insists on."""
RENDERING = [name for name in REGULARIZERS if name not in OTHERS]
"""Those whose terms supervise the shared features by the tasks' labels."""


def tasks_of(*names: str) -> dict[str, Task]:
    tasks = {**triptych.pascal_context_tasks(5), **triptych.nyuv2_tasks(5)}
    return {name: tasks[name] for name in names or tasks}


def batch(tasks: dict[str, Task], *, camera: bool = False, labelled: bool = True) -> tuple[Output, Sample]:
    """Features at strides 4 and 8, raw maps, and targets; without labels every target is invalid. With cameras, the
    second view is the first one again.
    """
    features = [torch.randn(2, 6, 13, 16), torch.randn(2, 10, 7, 8)]
    targets = {}
    for name, task in tasks.items():
        target = torch.stack([task.invalid_target(SIZE)] * 2)
        if labelled:
            target = torch.rand(target.shape) if target.is_floating_point() else torch.randint(0, 2, target.shape)
            target = target.round() if name == "boundary" else target
        targets[name] = target
    intrinsics = torch.tensor([[40.0, 0, 30.0], [0, 42.0, 24.0], [0, 0, 1]]).repeat(2, 1, 1)
    sample = Sample(torch.rand(2, 3, *SIZE), targets)
    if camera:
        sample = replace(sample, camera=Camera(intrinsics, torch.eye(4).repeat(2, 1, 1)))
        sample = replace(sample, neighbors=(sample,))
    raw = {name: torch.randn(2, task.channels, *SIZE).requires_grad_() for name, task in tasks.items()}
    return Output(raw, [], [feature.requires_grad_() for feature in features]), sample


def build(name: str, tasks: dict[str, Task], **options: object) -> Regularizer:
    channels, strides = (6, 10), (4, 8)
    if REGULARIZERS[name].copies_decoder:
        sizeless = {key: value for key, value in options.items() if key not in ("num_samples", *SMALL)}
        decoder = FCN(channels, strides=strides, tasks=tasks, width=4)
        return REGULARIZERS[name](channels, decoder, strides=strides, tasks=tasks, **sizeless)
    if name in OTHERS:
        return REGULARIZERS[name](channels, strides=strides, tasks=tasks, **{**OTHERS[name], **options})
    return REGULARIZERS[name](channels, strides=strides, tasks=tasks, **{**SMALL, **options})
