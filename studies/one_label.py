"""Generated rooms with one label per training image, pseudo-labels for the others, and MTPSL with labels shuffled.

Which label an image keeps is `data.label_setting = "one"` over all six tasks, also where a network trains one of them:
a single-task teacher has not seen a label that the multi-task network lacks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych.data.subset import FewerLabels
from triptych.datasets.rooms import Rooms
from triptych.prediction.predictor import Predictor
from triptych.regularizers.mtpsl import MTPSL, Pair
from triptych.tasks import Task
from triptych.types import IGNORE, Output, Sample, valid_pixels

REAL = "real_"
"""What the extra of a task begins with that says whether its label is one."""


class RoomsOneLabel(Rooms):
    """`rooms` whose training images keep one label; with `teachers`, a folder of single-task runs by task, the labels
    that an image lost are their predictions. Other splits keep all.
    """

    def __init__(
        self,
        root: str | Path = "",
        *,
        split: str = "train",
        tasks: Sequence[str] | None = None,
        teachers: str = "",
        **options: Any,
    ) -> None:
        super().__init__(root, split=split, **options)
        self.known, self.teachers = dict(self.tasks), Path(teachers) if teachers else None
        self.fewer = FewerLabels(Rooms(root, split=split, **options), "one", list(self.known))
        self.fewer_here = split == "train"
        self.taught: dict[tuple[int, str], Tensor] = {}
        names = self.known if tasks is None else tasks
        self.tasks = {name: self.known[name] for name in names}

    def __getitem__(self, index: int) -> Sample:
        if not self.fewer_here:
            return self._of_tasks(super().__getitem__(index), {})
        sample = self.fewer[index % len(self)]
        real = {name: valid_pixels(target).any() for name, target in sample.targets.items()}
        if self.teachers is not None:
            lost = [name for name in self.tasks if not real[name] and had_label(self, index, name)]
            for name in lost:
                if (index, name) not in self.taught:
                    self.taught[index, name] = teach(self.teachers / name, sample, self.known[name])
            sample = replace(sample, targets=sample.targets | {name: self.taught[index, name] for name in lost})
        return self._of_tasks(sample, {REAL + name: real[name] for name in self.tasks})

    def _of_tasks(self, sample: Sample, extras: Mapping[str, Tensor]) -> Sample:
        targets = {name: sample.targets[name] for name in self.tasks}
        return replace(sample, targets=targets, extras={**sample.extras, **extras})


def had_label(rooms: RoomsOneLabel, index: int, name: str) -> bool:
    """Whether the image had a label of the task before: none is made up where no figure is in view."""
    return bool(valid_pixels(rooms.fewer.dataset[index].targets[name]).any())


@lru_cache(maxsize=8)
def _teacher(run: Path) -> Predictor:
    return Predictor.load(run, device="cpu")


def teach(run: Path, sample: Sample, task: Task) -> Tensor:
    """A teacher's prediction in the form of a target."""
    if not (run / "model.safetensors").is_file():
        raise ValueError(f"{run} has no trained teacher yet; its job comes first.")
    found = _teacher(run).predict(sample.image[None])[task.name][0]
    blank = task.invalid_target((sample.image.shape[-2], sample.image.shape[-1]))
    if task.kind == "probability":
        found = (found > 0.5).to(found)
    return found.reshape(blank.shape).to(blank.dtype)


class MTPSLOfReal(MTPSL):
    """MTPSL that takes pseudo-labels for missing: predictions agree with labels alone."""

    def penalties(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        return super().penalties(output, replace(sample, targets=real_targets(sample)))


class MTPSLShuffled(MTPSLOfReal):
    """The same with the label of another image: each pair meets the next label of its task in the batch."""

    def embed(self, pairs: Sequence[Pair], output: Output, sample: Sample, size: tuple[int, int]) -> Any:
        targets = {name: shuffled(target) for name, target in sample.targets.items()}
        return super().embed(pairs, output, replace(sample, targets=targets), size)


def real_targets(sample: Sample) -> dict[str, Tensor]:
    """The targets of a batch without those that were predicted."""
    targets = {}
    for name, target in sample.targets.items():
        invalid = torch.full_like(target, torch.nan if target.is_floating_point() else IGNORE)
        real = sample.extras[REAL + name].view(-1, *[1] * (target.ndim - 1)).to(target.device)
        targets[name] = torch.where(real, target, invalid)
    return targets


def shuffled(target: Tensor) -> Tensor:
    """Labels of a batch, each image's replaced by that of the next image that has one.

    >>> shuffled(torch.tensor([[[1]], [[255]], [[2]]])).flatten().tolist()
    [2, 255, 1]
    """
    there = valid_pixels(target).flatten(1).any(dim=1).nonzero()[:, 0]
    moved = target.clone()
    moved[there] = target[there.roll(-1)]
    return moved
