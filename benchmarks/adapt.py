"""What a step costs when a trunk is trained whole, frozen, frozen with its features kept, or by low-rank updates.

python benchmarks/adapt.py                  # ViT-S and Swin-T at 224x288, batch 8, four tasks, on a CPU; half an hour
python benchmarks/adapt.py --small          # tiny trunks at 64x96 with slim heads: does it run
python benchmarks/adapt.py --json out.json

A step is forward, losses, backward and AdamW, as `triptych train` takes it, without reading images. All ways of one
trunk and head take turns in one process, so that a busy machine slows them alike; times are medians, of the processor.
Two parts are timed beside them: the trunk's forward pass without gradients, and a step of the heads on given features.
Memory is the peak of a process of its own above that of one that has only imported everything; at batch 2 too, where
activations weigh least. Heads are `fcn` as published and `slim`, the same of width 16, under a tenth of the trunk.

Goals: a frozen step costs at most 1.1 times the trunk's forward pass and the heads' step together, one with kept
features 1.1 times the heads' step; with slim heads .55 and .25 of a full step; LoRA .85 of its memory at batch 2.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from regularizer_clock import forget_peak, peak_since
from torch import Tensor

from triptych.assemble import create_model
from triptych.backbones import find_backbone
from triptych.machine import keep_freed_memory
from triptych.models.multitask import MultiTaskModel
from triptych.recipes.config import OptimizerConfig
from triptych.tasks import nyuv2_tasks
from triptych.training.feature_cache import FeatureCache
from triptych.training.objective import Objective
from triptych.training.optim import build_optimizer, parameter_groups
from triptych.types import Sample

CPU = torch.device("cpu")
TRUNKS: dict[str, dict[str, Any]] = {"vit_small_patch16_384": {}, "swin_tiny": {}}
SMALL: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_384": {"taps": (1, 2)},
    "swin_tiny": {"depths": (2, 2), "embed_dim": 24, "num_heads": (2, 2)},
}
HEADS: dict[str, dict[str, Any]] = {"fcn": {}, "slim": {"width": 16}}
WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "frozen": {},
    "cached": {},
    "lora 16": {"tuning": "lora", "tuning_options": {"rank": 16}},
    "mtlora": {"tuning": "mtlora"},
}


class Step:
    """Steps of one way to train."""

    def __init__(self, trunk: str, head: str, way: str, *, batch: int, small: bool) -> None:
        torch.manual_seed(0)
        size = (64, 96) if small else (224, 288)
        given = dict((SMALL if small else TRUNKS)[trunk])
        options = WAYS[way]
        if way == "mtlora" and small:
            options = {**options, "tuning_options": {"rank": 16}}
        if trunk.startswith("vit"):
            given["image_size"] = size
        self.model: MultiTaskModel = create_model(
            "fcn",
            backbone=trunk,
            tasks=nyuv2_tasks(),
            backbone_options=given,
            decoder_options=HEADS[head],
            **options,
        )
        if way in ("frozen", "cached"):
            self.model.freeze(["backbone"])
        self.objective = Objective(self.model)
        if way == "cached":
            self.objective.features = FeatureCache(batch)
        self.sample = random_sample(batch, size)
        config = OptimizerConfig(name="adamw")
        self.optimizer = build_optimizer(parameter_groups({"objective": self.objective}, config), config)

    def __call__(self) -> None:
        self.update(torch.stack(list(self.objective(self.sample).tasks.values())).sum())

    def update(self, total: Tensor) -> None:
        """Backward pass and optimizer step."""
        total.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def run_trunk(self) -> list[Tensor]:
        """The trunk's forward pass, of which nothing is kept."""
        return self.model.backbone(self.sample.image)

    def step_heads(self, features: list[Tensor]) -> None:
        """A step of the heads on given features."""
        output = self.model(self.sample.image, features)
        self.update(torch.stack([loss for loss in self.objective.supervise(output, self.sample).values()]).sum())

    @property
    def trained(self) -> int:
        """Trainable parameters."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)


def random_sample(batch: int, size: tuple[int, int]) -> Sample:
    """Random images; every pixel labelled."""
    targets = {}
    for name, task in nyuv2_tasks().items():
        blank = torch.stack([task.invalid_target(size)] * batch)
        targets[name] = torch.ones_like(blank) if blank.is_floating_point() else torch.zeros_like(blank)
    return Sample(torch.rand(batch, 3, *size), targets, tuple(map(str, range(batch))))


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def time_ways(trunk: str, head: str, ways: list[str], *, rounds: int, batch: int, small: bool) -> dict[str, float]:
    """Median seconds of a step of every way, and of `trunk` and `heads`, in turns."""
    steps = {way: Step(trunk, head, way, batch=batch, small=small) for way in ways}
    frozen = steps["frozen"]
    features = frozen.run_trunk()
    work: dict[str, Callable[[], object]] = {
        **steps,
        "trunk": frozen.run_trunk,
        "heads": lambda: frozen.step_heads(features),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, call in work.items():
            times[name].append(seconds(call))
    return {name: statistics.median(each[1:]) for name, each in times.items()}


def measure_memory(trunk: str, head: str, way: str, *, batch: int, small: bool) -> dict[str, float]:
    """MiB of two steps in a process of their own above the idle process, and trainable parameters."""
    words = [trunk, head, way, str(batch), str(int(small))]
    done = subprocess.run(
        [sys.executable, __file__, "--one", *words], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    return json.loads(done.stdout.splitlines()[-1])


def one(trunk: str, head: str, way: str, batch: str, small: str) -> None:
    find_backbone("resnet26")  # asks timm, and so imports it
    forget_peak(CPU)
    idle = peak_since(CPU)
    step = Step(trunk, head, way, batch=int(batch), small=small == "1")
    step()
    step()
    print(json.dumps({"trained": step.trained, "peak": peak_since(CPU) - idle}))


def goals(head: str, time: dict[str, float], memory: dict[str, float]) -> dict[str, tuple[float, float]]:
    """What was reached and what is allowed, by name."""
    found = {
        "frozen / (trunk + heads)": (time["frozen"] / (time["trunk"] + time["heads"]), 1.1),
        "cached / heads": (time["cached"] / time["heads"], 1.1),
        "lora memory / full, batch 2": (memory["lora 16"] / memory["full"], 0.85),
    }
    if head == "slim":
        found["frozen / full"] = (time["frozen"] / time["full"], 0.55)
        found["cached / full"] = (time["cached"] / time["full"], 0.25)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5, help="steps of each that are timed")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    keep_freed_memory()  # as `triptych train` does
    if arguments.one:
        one(*arguments.one)
        return
    batch, small = arguments.batch, arguments.small
    rows = []
    for trunk in SMALL if small else TRUNKS:
        ways = [way for way in WAYS if way != "mtlora" or trunk.startswith("swin")]
        for head in ["slim"] if small else HEADS:
            time = time_ways(trunk, head, ways, rounds=arguments.rounds, batch=batch, small=small)
            peaks = {way: measure_memory(trunk, head, way, batch=batch, small=small) for way in ways}
            smaller = peaks if batch == 2 else {w: measure_memory(trunk, head, w, batch=2, small=small) for w in ways}
            few = {way: found["peak"] for way, found in smaller.items()}
            print(f"{trunk}, {head}: trunk forward {time['trunk']:.3f} s, heads' step {time['heads']:.3f} s")
            for way in ways:
                print(
                    f"  {way:8} {peaks[way]['trained'] / 1e6:7.3f} M trained; step {time[way]:7.3f} s, "
                    f"{time[way] / time['full']:.2f} of full; peak {peaks[way]['peak']:6.0f} MiB, "
                    f"{peaks[way]['peak'] / peaks['full']['peak']:.2f}; at batch 2 {few[way]:6.0f} MiB, "
                    f"{few[way] / few['full']:.2f}",
                    flush=True,
                )
            for name, (value, most) in goals(head, time, few).items():
                print(f"  {name}: {value:.2f}, goal {most}: {'reached' if value <= most else 'missed'}", flush=True)
            rows.append({"trunk": trunk, "head": head, "seconds": time, "peaks": peaks, "peaks_at_batch_2": few})
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
