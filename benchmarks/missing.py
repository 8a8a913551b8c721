"""A training step with what learns from missing labels, or with CvM, against the plain step, in the same run.

python benchmarks/missing.py                    # InvPT on ViT-B at 448x576, one image; a GPU where there is one
python benchmarks/missing.py --batch 6 --device cuda
python benchmarks/missing.py --memory           # how much memory, without times
python benchmarks/missing.py --small            # FCN on half a ResNet-18 at 96x128: does it run

One label per image, as MTPSL is made for: `mtpsl` has one pair per image and maps at a stride of 4; `distill` a random
ViT-S as its teacher (its weights change no time); `one-task` the loss of one task; `cvm` sees each image with a second
view, the plain step beside it the same two as a batch of twice as many. Forward and backward passes without an
optimizer; each takes turns with the plain step, so that a busy machine slows both alike. Times are of the processor on
a CPU and of the clock on a GPU; the ratio is of medians. Memory is the peak of two steps in a process of their own
above that of one that has only imported everything.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import torch
from regularizer_clock import forget_peak, peak_since

from triptych.assemble import create_model
from triptych.backbones import find_backbone
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
    return replace(views[0], neighbors=(views[1],)).to(sample.image.device)


@cache
def build_network(size: tuple[int, int], device: torch.device, *, small: bool, cross_view: str) -> MultiTaskModel:
    trunk = {"backbone": "vit_base_patch16_384", "backbone_options": {"image_size": size}}
    if small:
        trunk = {"backbone": "resnet18_half"}
    decoder = "fcn" if small else "invpt"
    return create_model(decoder, tasks=nyuv2_tasks(), cross_view=cross_view, **trunk).to(device)


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


BASES = {"mtpsl": "plain", "distill": "plain", "one-task": "plain", "cvm": "plain, twice as many"}
"""What is measured, and the step beside it."""


def build_step(name: str, *, batch: int, device: torch.device, small: bool) -> Callable[[], None]:
    """A step of one of `BASES` or of what stands beside them; networks that are alike are one."""
    size = (96, 128) if small else (448, 576)
    is_doubled = name in ("cvm", BASES["cvm"])
    sample = one_label_each(2 * batch if is_doubled else batch, size).to(device)
    model = build_network(size, device, small=small, cross_view="cvm" if name == "cvm" else "none")
    objective = Objective(model)
    if name in REGULARIZERS:
        objective = Objective(model, regularizer=build_regularizer(name, model, small=small)).to(device)
    if name == "one-task":
        objective.active = (next(iter(model.tasks)),)
    return partial(step, objective, as_pairs(sample) if name == "cvm" else sample)


def measure_memory(name: str, arguments: argparse.Namespace) -> float:
    """MiB of two steps in a process of their own above the idle process."""
    words = ["--one", name, "--batch", str(arguments.batch), "--device", arguments.device]
    command = [sys.executable, __file__, *words, *(["--small"] if arguments.small else [])]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5, help="steps of each that are timed")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--memory", action="store_true", help="memory alone, which others may disturb")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    keep_freed_memory()  # as `triptych train` does
    device = torch.device(arguments.device)
    build = partial(build_step, batch=arguments.batch, device=device, small=arguments.small)
    if arguments.one:
        find_backbone("resnet26")  # asks timm, and so imports it
        forget_peak(device)
        idle = peak_since(device)
        work = build(arguments.one)
        work()
        work()
        print(peak_since(device) - idle)
        return
    print(f"batch {arguments.batch}, {device.type}, one label per image", flush=True)
    for name, base_name in BASES.items():
        if not arguments.memory:
            base_step, own_step = build(base_name), build(name)
            pairs = [(timed(base_step, device), timed(own_step, device)) for _ in range(arguments.steps + 1)][1:]
            base, own = (statistics.median(times) for times in zip(*pairs, strict=True))
            print(f"{name:9} {1e3 * own:7.0f} ms, plain {1e3 * base:7.0f} ms: {own / base:.2f}x", flush=True)
        peak, plain = measure_memory(name, arguments), measure_memory(base_name, arguments)
        print(f"{name:9} {peak:7.0f} MiB, plain {plain:7.0f} MiB: {peak / plain:.2f}x", flush=True)


if __name__ == "__main__":
    main()
