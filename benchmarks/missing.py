"""A training step with what learns from missing labels, or with CvM, against the plain step, in the same run.

python benchmarks/missing.py                    # InvPT on ViT-B at 448x576, one image; a GPU where there is one
python benchmarks/missing.py --batch 6 --device cuda
python benchmarks/missing.py --small            # FCN on half a ResNet-18 at 96x128: does it run

One label per image, as MTPSL is made for: `mtpsl` has one pair per image and maps at a stride of 4; `distill` a random
ViT-S as its teacher (its weights change no time); `one-task` the loss of one task; `cvm` sees each image with a second
view, the plain step beside it the same two as a batch of twice as many. Forward and backward passes without an
optimizer; each takes turns with the plain step, so that a busy machine slows both alike. Times are of the processor on
a CPU and of the clock on a GPU; the ratio is of medians, memory is the peak of a step.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from regularizer_clock import peak_memory

from triptych.assemble import create_model
from triptych.machine import keep_freed_memory
from triptych.models.multitask import MultiTaskModel
from triptych.regularizers import REGULARIZERS
from triptych.regularizers.base import Regularizer
from triptych.tasks import nyuv2_tasks
from triptych.training.objective import Objective
from triptych.types import Camera, Sample

TEACHER = "vit_small_patch16_224"


def one_label_each(batch: int, size: tuple[int, int]) -> Sample:
    """Random images; image i has a label of task number i alone."""
    tasks = list(nyuv2_tasks().values())
    targets = {}
    for number, task in enumerate(tasks):
        labels = [task.invalid_target(size) for _ in range(batch)]
        for i in range(number, batch, len(tasks)):
            labels[i] = torch.ones_like(labels[i]) if labels[i].is_floating_point() else torch.zeros_like(labels[i])
        targets[task.name] = torch.stack(labels)
    return Sample(torch.rand(batch, 3, *size), targets)


def as_pairs(sample: Sample) -> Sample:
    """The first half of a batch, each with an image of the second half as its neighbor, a little aside."""
    half, (height, width) = len(sample.image) // 2, sample.image.shape[-2:]
    matrix = torch.tensor([[width, 0.0, width / 2], [0.0, width, height / 2], [0.0, 0.0, 1.0]])
    pose = torch.eye(4)
    views = []
    for part in (slice(0, half), slice(half, None)):
        camera = Camera(matrix.repeat(half, 1, 1), pose.repeat(half, 1, 1))
        targets = {name: target[part] for name, target in sample.targets.items()}
        views.append(Sample(sample.image[part], targets, camera=camera))
        pose = pose + torch.tensor([[0.0, 0, 0, 0.2], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    return replace(views[0], neighbours=(views[1],)).to(sample.image.device)


def build_network(size: tuple[int, int], *, small: bool, cross_view: str = "none") -> MultiTaskModel:
    if small:
        return create_model("fcn", backbone="resnet18_half", tasks=nyuv2_tasks(), cross_view=cross_view)
    return create_model(
        "invpt",
        backbone="vit_base_patch16_384",
        tasks=nyuv2_tasks(),
        backbone_options={"image_size": size},
        cross_view=cross_view,
    )


def build_regularizer(name: str, model: MultiTaskModel, *, small: bool) -> Regularizer:
    teacher = {"teachers": ("resnet18_half" if small else TEACHER,), "teacher_weights": ("random",)}
    return REGULARIZERS[name](
        model.feature_channels,
        strides=model.feature_strides,
        tasks=model.tasks,
        **(teacher if name == "distill" else {}),
    )


def step(objective: Objective, sample: Sample) -> None:
    losses = objective(sample)
    terms = [loss for loss in losses.tasks.values() if loss.requires_grad]
    torch.stack([*terms, *losses.adaptation.values()]).sum().backward()


def timed(work: Callable[[], None], device: torch.device) -> float:
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    started = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5, help="steps of each that are timed")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    keep_freed_memory()  # as `triptych train` does
    device, size = torch.device(arguments.device), (96, 128) if arguments.small else (448, 576)
    sample = one_label_each(arguments.batch, size).to(device)
    model = build_network(size, small=arguments.small).to(device)
    plain = Objective(model)
    beside = {
        name: (Objective(model, regularizer=build_regularizer(name, model, small=arguments.small)).to(device), sample)
        for name in ("mtpsl", "distill")
    }
    one_task = Objective(model)
    one_task.active = (next(iter(model.tasks)),)
    beside["one-task"] = (one_task, sample)
    doubled = one_label_each(2 * arguments.batch, size).to(device)
    matched = build_network(size, small=arguments.small, cross_view="cvm").to(device)
    beside["cvm"] = (Objective(matched), as_pairs(doubled))
    print(f"{size[0]}x{size[1]}, batch {arguments.batch}, {device.type}, one label per image")
    for name, (objective, own_batch) in beside.items():
        base_batch = doubled if own_batch.neighbours else sample
        own_step, base_step = partial(step, objective, own_batch), partial(step, plain, base_batch)
        pairs = [(timed(base_step, device), timed(own_step, device)) for _ in range(arguments.steps + 1)][1:]
        base, own = (statistics.median(times) for times in zip(*pairs, strict=True))
        # The plain step first: a process that keeps freed memory never gets smaller.
        base_peak, peak = peak_memory(base_step, device), peak_memory(own_step, device)
        print(
            f"{name:9} {1e3 * own:7.0f} ms, plain {1e3 * base:7.0f} ms: {own / base:.2f}x; "
            f"peak {peak:.0f} MiB, plain {base_peak:.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
