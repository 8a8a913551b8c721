"""A training step with each adapter against the supervised step, in the same run.

python benchmarks/adaptation.py                                  # the published network at 64x128, batches of 2
python benchmarks/adaptation.py --size 512 1024 --device cuda    # as published
python benchmarks/adaptation.py --size 96 128 --small            # a small network, discriminators as narrow

DenseMTL on ResNet-101 with segmentation (16 classes) and depth; random images and labels; freed memory is kept, as
training keeps it. Each adapter takes turns with the supervised step, so that a busy machine slows both alike; times are
of the processor on a CPU and of the clock on a GPU, the ratio is of medians.
"""

import argparse
import statistics
import time

import torch
from accelerate import Accelerator

from triptych.adaptation import ADAPTERS
from triptych.data.base import DenseDataset
from triptych.datasets import DATASETS
from triptych.machine import keep_freed_memory
from triptych.recipes.config import AdaptationConfig, DataConfig, ModelConfig, Recipe, ScheduleConfig, TrainingConfig
from triptych.tasks import Task, depth, semseg
from triptych.training.building import build_parts
from triptych.training.parts import Parts
from triptych.training.step import take_step
from triptych.types import Sample

PUBLISHED = ModelConfig(
    backbone="resnet101", backbone_options={"include_stem": True, "output_stride": 16}, decoder="densemtl"
)
SMALL = ModelConfig(
    backbone="resnet18_half",
    backbone_options={"include_stem": True},
    decoder="densemtl",
    decoder_options={"widths": (16, 32, 32, 64, 64)},
)
SMALL_OPTIONS = {"advent-mt": {"width": 16}}


class Noise(DenseDataset):
    """Random images, blocks of classes, random depth."""

    name = "noise"

    def __init__(self, root: str = "", *, split: str = "train", size: tuple[int, int] = (96, 128)) -> None:
        self.tasks: dict[str, Task] = {task.name: task for task in (semseg(16), depth())}
        self.split, self.size = split, size

    def __len__(self) -> int:
        return 8

    def key(self, index: int) -> str:
        return f"{self.split}-{index}"

    def fingerprint(self) -> dict[str, object]:
        return {"name": self.name, "split": self.split}

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        blocks = torch.randint(0, 16, (self.size[0] // 8, self.size[1] // 8), generator=generator)
        targets = {
            "semseg": blocks.repeat_interleave(8, 0).repeat_interleave(8, 1),
            "depth": 1 + 9 * torch.rand(1, *self.size, generator=generator),
        }
        return Sample(torch.rand(3, *self.size, generator=generator), targets, self.key(index))


def make_recipe(size: tuple[int, int], batch: int, name: str, *, small: bool) -> Recipe:
    options = {"size": size}
    return Recipe(
        data=DataConfig(dataset="noise", size=size, batch_size=batch, transform="none", options=options, val_split=""),
        model=SMALL if small else PUBLISHED,
        schedule=ScheduleConfig(steps=1000),
        adaptation=AdaptationConfig(
            name=name,
            dataset="noise",
            split="target",
            dataset_options=options,
            options=SMALL_OPTIONS.get(name, {}) if small else {},
        ),
        training=TrainingConfig(evaluate_every=0),
    )


class Runner:
    """Training steps of one recipe, and the seconds that each took."""

    def __init__(self, recipe: Recipe, accelerator: Accelerator) -> None:
        self.parts: Parts = build_parts(recipe, accelerator)
        self.batches = self.parts.batches(self.parts.loaders(0))
        self.seconds: list[float] = []
        self.clock = time.perf_counter if accelerator.device.type == "cuda" else time.process_time

    def run(self, steps: int) -> None:
        for _ in range(steps):
            started = self.clock()
            take_step(self.parts, self.batches, step=len(self.seconds), stop=lambda: False)
            if self.parts.accelerator.device.type == "cuda":
                torch.cuda.synchronize()
            self.seconds.append(self.clock() - started)

    def median(self) -> float:
        """Of all steps but the first."""
        return statistics.median(self.seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(64, 128))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="steps of each that are timed")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--adapters", nargs="*", default=list(ADAPTERS), choices=list(ADAPTERS))
    arguments = parser.parse_args()
    DATASETS["noise"] = Noise
    keep_freed_memory()  # as `triptych train` does
    accelerator = Accelerator(cpu=arguments.device == "cpu")
    size = (arguments.size[0], arguments.size[1])

    def build(name: str) -> Runner:
        return Runner(make_recipe(size, arguments.batch, name, small=arguments.small), accelerator)

    print(f"{size[0]}x{size[1]}, batch {arguments.batch}, {accelerator.device.type}")
    supervised = build("none")
    for name in arguments.adapters:
        adapted = build(name)
        supervised.seconds.clear()
        for _ in range(arguments.steps + 1):
            supervised.run(1)
            adapted.run(1)
        own, base = adapted.median(), supervised.median()
        print(f"{name:12}  {1e3 * own:7.0f} ms, supervised {1e3 * base:7.0f} ms: {own / base:.2f}x", flush=True)


if __name__ == "__main__":
    main()
