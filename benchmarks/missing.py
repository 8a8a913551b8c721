"""A training step with what learns from missing labels against the plain step, in the same run.

python benchmarks/missing.py                    # InvPT on ViT-B at 448x576, one image; a GPU where there is one
python benchmarks/missing.py --batch 6 --device cuda
python benchmarks/missing.py --small            # FCN on half a ResNet-18 at 96x128: does it run

One label per image, as MTPSL is made for: `mtpsl` has one pair per image and maps at a stride of 4; `distill` a random
ViT-S as its teacher (its weights change no time); `one-task` the loss of one task. Forward and backward passes without
an optimizer; each takes turns with the plain step, so that a busy machine slows both alike. Times are of the processor
on a CPU and of the clock on a GPU; the ratio is of medians, memory is the peak of a step.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from regularizer_clock import peak_memory

from triptych.assemble import create_model
from triptych.machine import keep_freed_memory
from triptych.models.multitask import MultiTaskModel
from triptych.regularizers import REGULARIZERS
from triptych.regularizers.base import Regularizer
from triptych.tasks import nyuv2_tasks
from triptych.training.objective import Objective
from triptych.types import Sample

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


def build_network(size: tuple[int, int], *, small: bool) -> MultiTaskModel:
    if small:
        return create_model("fcn", backbone="resnet18_half", tasks=nyuv2_tasks())
    return create_model(
        "invpt", backbone="vit_base_patch16_384", tasks=nyuv2_tasks(), backbone_options={"image_size": size}
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
        name: Objective(model, regularizer=build_regularizer(name, model, small=arguments.small)).to(device)
        for name in ("mtpsl", "distill")
    }
    beside["one-task"] = Objective(model)
    beside["one-task"].active = (next(iter(model.tasks)),)
    print(f"{size[0]}x{size[1]}, batch {arguments.batch}, {device.type}, one label per image")
    base_peak = peak_memory(lambda: step(plain, sample), device)
    for name, objective in beside.items():
        pairs = [
            (timed(lambda: step(plain, sample), device), timed(lambda one=objective: step(one, sample), device))
            for _ in range(arguments.steps + 1)
        ][1:]
        base, own = (statistics.median(times) for times in zip(*pairs, strict=True))
        peak = peak_memory(lambda one=objective: step(one, sample), device)
        print(
            f"{name:9} {1e3 * own:7.0f} ms, plain {1e3 * base:7.0f} ms: {own / base:.2f}x; "
            f"peak {peak:.0f} MiB, plain {base_peak:.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
