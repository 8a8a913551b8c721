"""The regularizer beside whole training steps: its share of their time, memory and parameters."""

import argparse
from typing import Any

import torch
from regularizer_clock import peak_memory, seconds
from torch import nn

import triptych
from triptych.regularizers.triplane import Triplane3D
from triptych.training.objective import Objective
from triptych.types import Output, Sample

STEPS = {"InvPT, ViT-B": ("invpt", "vit_base_patch16_384"), "MTI-Net, HRNet-18": ("mti-net", "hrnet_w18_small_v2")}
LARGER_STEPS = {"InvPT, ViT-L": ("invpt", "vit_large_patch16_384"), "MTI-Net, HRNet-48": ("mti-net", "hrnet_w48")}
IMAGE = (448, 576)
DEFAULT_SAMPLES = 64


def networks(device: str) -> dict[str, tuple[str, str]]:
    """Title to decoder and backbone: the larger networks where there is a GPU."""
    return STEPS if device == "cpu" else LARGER_STEPS


def labels(tasks: dict[str, triptych.Task]) -> dict[str, torch.Tensor]:
    """Valid labels of one image."""
    targets = {}
    for name, task in tasks.items():
        target = task.invalid_target(IMAGE)[None]
        targets[name] = torch.ones_like(target) if target.is_floating_point() else torch.zeros_like(target)
    return targets


def measure_steps(title: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The regularizer's time over that of the base step, for each number of samples and repeat.

    Its memory is what a step with it has more at its peak, at the default number of samples; parts of it fit where the
    base step has freed its own.
    """
    decoder, backbone = networks(arguments.device)[title]
    device, tasks = torch.device(arguments.device), triptych.nyuv2_tasks()
    sample = Sample(torch.rand(1, 3, *IMAGE), labels(tasks)).to(device)
    options = {"image_size": IMAGE} if decoder == "invpt" else {}
    model = triptych.create_model(decoder, backbone=backbone, tasks=tasks, backbone_options=options).to(device)
    base = Objective(model)

    def step(objective: nn.Module = base) -> None:
        torch.stack(list(objective(sample).tasks.values())).sum().backward()

    def branch(samples: int) -> Triplane3D:
        found = Triplane3D(model.feature_channels, strides=model.feature_strides, tasks=tasks, num_samples=samples)
        return found.to(device)

    step()
    with torch.no_grad():
        features = [feature.detach().requires_grad_() for feature in model(sample.image).features]
    output, rows = Output({}, [], features), []
    for repeat in range(1, arguments.repeats + 1):
        base_seconds = seconds(step, arguments)
        for samples in arguments.samples:
            regularizer = branch(samples)

            def work(regularizer: Triplane3D = regularizer) -> None:
                torch.stack(list(regularizer(output, sample).values())).sum().backward()

            work()
            own = min(seconds(work, arguments) for _ in range(arguments.passes))
            rows.append({"name": title, "samples": samples, "repeat": repeat, "seconds": own})
            rows[-1] |= {"step_seconds": base_seconds, "parameters": _parameters(regularizer)}
    rows = [{**row, "step_parameters": _parameters(model), "mib": "", "step_mib": ""} for row in rows]
    if DEFAULT_SAMPLES in arguments.samples:
        joint = Objective(model, regularizer=branch(DEFAULT_SAMPLES))
        peaks = [peak_memory(lambda: step(base), device), peak_memory(lambda: step(joint), device)]
        memory = {"step_mib": peaks[0], "mib": peaks[1] - peaks[0]}
        rows = [{**row, **memory} if row["samples"] == DEFAULT_SAMPLES else row for row in rows]
    return rows


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
