"""A tiny dataset, network and recipe for tests of training: coloured rectangles with exact labels, seconds on a CPU.

Run as a script it trains the recipe it is given, so that tests can do it in other processes.
"""

import argparse
import dataclasses
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from triptych.backbones import BACKBONES
from triptych.backbones.base import Backbone
from triptych.data.base import DenseDataset
from triptych.datasets import DATASETS
from triptych.decoders import DECODERS
from triptych.decoders.base import Decoder
from triptych.recipes.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    TrainingConfig,
    from_json,
)
from triptych.tasks import Task, depth, normals, semseg
from triptych.types import Sample

SIZE = (32, 48)
OPENED: list[str] = []
"""The splits that were opened, in order."""


class Rectangles(DenseDataset):
    """Rectangles of four colours at distances that go with the colour."""

    name = "rectangles"

    def __init__(
        self,
        root: str = "",
        *,
        split: str = "train",
        length: int = 12,
        unlabelled: tuple[str, ...] = (),
        every: int = 1,
        bad: tuple[int, ...] = (),
        nan: tuple[int, ...] = (),
        slow: float = 0.0,
        fatal: tuple[int, ...] = (),
    ) -> None:
        OPENED.append(split)
        self.split, self.length = split, length if split == "train" else 5
        self.tasks: dict[str, Task] = {"semseg": semseg(4), "depth": depth(), "normals": normals()}
        self.unlabelled, self.every, self.bad, self.nan, self.slow = unlabelled, every, bad, nan, slow
        self.fatal = fatal

    def __len__(self) -> int:
        return self.length

    def key(self, index: int) -> str:
        return f"{self.split}-{index}"

    def fingerprint(self) -> dict[str, object]:
        return {"name": self.name, "split": self.split, "images": self.length}

    def __getitem__(self, index: int) -> Sample:
        time.sleep(self.slow)
        if self.split == "train" and index in self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.split == "train" and index in self.bad:
            raise OSError(f"{self.key(index)}.png is truncated")
        generator = np.random.default_rng((len(self.split), index))
        labels = np.zeros(SIZE, np.int64)
        for label in (1, 2, 3):
            top, left = generator.integers(0, (20, 30))
            labels[top : top + 12, left : left + 18] = label
        labels = torch.from_numpy(labels)
        colors = torch.tensor([[0.2, 0.2, 0.2], [0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]])
        noise = torch.from_numpy(generator.normal(0, 0.02, (3, *SIZE)).astype(np.float32))
        facing = torch.nn.functional.normalize(colors - 0.5, dim=1)
        targets = {
            "semseg": labels,
            "depth": (1.0 + labels.float())[None],
            "normals": facing[labels].permute(2, 0, 1).contiguous(),
        }
        for name in self.unlabelled:
            if self.split == "train" and index % self.every == 0:
                targets[name] = self.tasks[name].invalid_target(SIZE)
        image = (colors[labels].permute(2, 0, 1) + noise).clamp(0, 1)
        if self.split == "train" and index in self.nan:
            image = image * torch.inf
        return Sample(image, targets, self.key(index))


class Stairs(Backbone):
    """Two convolutions; batch norm unless told otherwise."""

    def __init__(self, *, image_size: tuple[int, int] | None = None, norm: bool = True) -> None:
        super().__init__()
        self.channels, self.strides = (8, 16), (2, 4)
        width = (3, *self.channels)
        self.body = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width[i], width[i + 1], 3, stride=2, padding=1),
                nn.BatchNorm2d(width[i + 1]) if norm else nn.Identity(),
                nn.ReLU(),
            )
            for i in range(2)
        )

    def layers(self) -> list[nn.Module]:
        return list(self.body)

    def forward(self, image: Tensor) -> list[Tensor]:
        first = self.run(self.body[0], self.normalize(image))
        return [first, self.run(self.body[1], first)]


class Heads(Decoder):
    """A final prediction from the finer map and, if asked, an intermediate one from the coarser."""

    def __init__(
        self,
        channels: tuple[int, ...],
        *,
        strides: tuple[int, ...],
        tasks: dict[str, Task],
        auxiliary_tasks: dict[str, Task] | None = None,
        intermediate: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(channels, strides=strides, tasks=tasks)
        self.extra = dict(auxiliary_tasks or {})
        self.dropout = nn.Dropout2d(dropout)
        self.heads = nn.ModuleDict({name: nn.Conv2d(channels[0], task.channels, 1) for name, task in tasks.items()})
        stage = {**tasks, **self.extra} if intermediate else {}
        self.early = nn.ModuleDict({name: nn.Conv2d(channels[1], task.channels, 1) for name, task in stage.items()})

    @property
    def auxiliary_tasks(self) -> dict[str, Task]:
        return self.extra

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        final = {name: head(self.dropout(features[0])) for name, head in self.heads.items()}
        early = {name: head(features[1]) for name, head in self.early.items()}
        return [early, final] if early else [final]


DATASETS["rectangles"] = Rectangles
BACKBONES["stairs"] = Stairs
DECODERS["heads"] = Heads

RECIPE = Recipe(
    data=DataConfig(dataset="rectangles", tasks=("semseg", "depth"), size=SIZE, batch_size=4),
    model=ModelConfig(backbone="stairs", decoder="heads", decoder_options={"dropout": 0.2}),
    optimizer=OptimizerConfig(lr=1e-3, clip_norm=5.0),
    schedule=ScheduleConfig(steps=6, name="cosine", warmup_steps=2),
    training=TrainingConfig(evaluate_every=3, checkpoint_every=2, log_every=4, keep_checkpoints=2),
)


def change(recipe: Recipe, **changes: object) -> Recipe:
    """`change(recipe, training__ema=0.9)`: the recipe with some fields replaced."""
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            value = dataclasses.replace(getattr(recipe, section), **{key: value})
        recipe = dataclasses.replace(recipe, **{section: value})
    return recipe


if __name__ == "__main__":
    from triptych.evaluation.run import evaluate_run
    from triptych.training.loop import train

    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--evaluate", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.evaluate:
        evaluate_run(arguments.out, device="cpu")
    else:
        train(from_json(arguments.recipe.read_text()), arguments.out, resume=arguments.resume, device="cpu")
