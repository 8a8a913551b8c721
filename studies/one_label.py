"""Generated rooms with one label per training image, pseudo-labels for the others, and MTPSL on labels of other rooms.

Which label an image keeps is `data.label_setting = "one"` over all six tasks, also where a network trains one of them:
a single-task teacher has not seen a label that the multi-task network lacks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from triptych.augmentation.steps import Transform
from triptych.data.base import DenseDataset
from triptych.data.subset import FewerLabels
from triptych.datasets.rooms import Rooms
from triptych.prediction.predictor import Predictor
from triptych.regularizers.mtpsl import MTPSL, Pair
from triptych.regularizers.terms import thin_to
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


class OtherLabels:
    """Labels of a training set by task, for images of other rooms; they are augmented as those of training are."""

    def __init__(self, dataset: DenseDataset, transform: Transform) -> None:
        self.dataset, self.transform = dataset, transform

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """The images with a label, by task."""
        found: dict[str, list[int]] = {name: [] for name in self.dataset.tasks}
        for index in range(len(self.dataset)):
            for name, target in self.dataset[index].targets.items():
                if valid_pixels(target).any():
                    found[name].append(index)
        return found

    def draw(self, name: str, key: str, seed: int, size: tuple[int, int]) -> Tensor:
        """A label of a task that a map of `size` shows, of any image but those of the room that `key` is of."""
        dice = np.random.default_rng(seed)
        places = [index for index in self.places[name] if room_of(self.dataset.key(index)) != room_of(key)]
        for index in dice.choice(places, TRIES) if places else ():
            target = self.transform(self.dataset[int(index)], dice).targets[name]
            if valid_pixels(thin_to(target, size)).any():
                return target
        raise ValueError(f"no other room than that of {key} has a label of {name} to show; take more rooms.")


TRIES = 100
"""Labels that are looked at until augmentation leaves one in view."""


def room_of(key: str) -> str:
    """The room of an image's key.

    >>> room_of("train/00012/01/000")
    'train/00012'
    """
    return key.rsplit("/", 2)[0]


class MTPSLShuffled(MTPSLOfReal):
    """The same with labels of other rooms: of as many images, of the same pairs of tasks, drawn anew in every step.

    `others`, which a study sets before it trains, has these labels.
    """

    others: ClassVar[OtherLabels]

    def embed(self, pairs: Sequence[Pair], output: Output, sample: Sample, size: tuple[int, int]) -> Any:
        targets = {name: target.clone() for name, target in sample.targets.items()}
        for image, _, name, seed in pairs:
            targets[name][image] = self.others.draw(name, sample.key[image], seed, size)
        return super().embed(pairs, output, replace(sample, targets=targets), size)


def real_targets(sample: Sample) -> dict[str, Tensor]:
    """The targets of a batch without those that were predicted."""
    targets = {}
    for name, target in sample.targets.items():
        invalid = torch.full_like(target, torch.nan if target.is_floating_point() else IGNORE)
        real = sample.extras[REAL + name].view(-1, *[1] * (target.ndim - 1)).to(target.device)
        targets[name] = torch.where(real, target, invalid)
    return targets
