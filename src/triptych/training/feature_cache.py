"""Features of a frozen trunk, computed once for every image and kept in memory."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from triptych.backbones.base import Backbone
from triptych.data.base import DenseDataset, Transform
from triptych.machine import available_memory
from triptych.models.multitask import MultiTaskModel
from triptych.processes import processes_here
from triptych.tasks import Task
from triptych.types import Sample


class FeatureCache:
    """Feature maps by the key of their image, in the memory of the process, not of its device.

    Images pass through the trunk one by one, so that a feature does not depend on the batch it was first seen in: a
    resumed run computes the same ones. `images` is how many there are; `MemoryError` where they will not all fit.
    """

    def __init__(self, images: int) -> None:
        self.images = images
        self.maps: dict[str, list[Tensor]] = {}

    @torch.no_grad()
    def read(self, backbone: Backbone, sample: Sample) -> list[Tensor]:
        """The maps of a batch, finest first, on the device of its images."""
        for i, key in enumerate(sample.key):
            if key not in self.maps:
                own = sample.image[i : i + 1].contiguous(memory_format=torch.contiguous_format)
                self.maps[key] = [level.cpu() for level in backbone(own)]
                if len(self.maps) == 1:
                    self._check_memory()
        levels = zip(*(self.maps[key] for key in sample.key), strict=True)
        return [torch.cat(level).to(sample.image.device, non_blocking=True) for level in levels]

    @property
    def bytes_per_image(self) -> int:
        """Bytes of the kept maps of one image; 0 before the first."""
        maps = next(iter(self.maps.values()), [])
        return sum(level.numel() * level.element_size() for level in maps)

    def _check_memory(self) -> None:
        needed = self.images * self.bytes_per_image
        free, processes = available_memory(), processes_here()
        if needed * processes > free:
            each = f" in each of {processes} processes" if processes > 1 else ""
            raise MemoryError(
                f"training.cache_features keeps {needed / 1e9:.1f} GB for {self.images} images{each}, {free / 1e9:.1f} "
                "GB of memory are free; leave it out, or train on fewer images (data.train_images)."
            )


@dataclass(frozen=True)
class Undrawn:
    """A transform that draws nothing: `ValueError` as soon as it does.

    >>> from triptych.augmentation.steps import Flip, Select
    >>> sample = Sample(torch.zeros(3, 4, 4), {})
    >>> _ = Undrawn(Select({}), "none")(sample, np.random.default_rng(0))
    >>> Undrawn(Flip({}), "default")(sample, np.random.default_rng(0))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: training.cache_features keeps one set of features per image, and data.transform 'default' changes ...
    """

    transform: Transform
    name: str

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        before = generator.bit_generator.state
        moved = self.transform(sample, generator)
        if generator.bit_generator.state != before:
            raise ValueError(
                "training.cache_features keeps one set of features per image, and data.transform "
                f"'{self.name}' changes images at random; use data.transform 'none', or leave cache_features out."
            )
        return moved


def require_cacheable(
    model: MultiTaskModel, dataset: DenseDataset, transform: Undrawn, size: tuple[int, int], tasks: Mapping[str, Task]
) -> None:
    """Raise `ValueError` where features of a network on a dataset cannot be kept."""
    if not model.takes_features:
        raise ValueError(
            f"training.cache_features needs a trunk apart from its tasks, and {type(model).__name__} shares inside its "
            "encoder; leave it out."
        )
    if model.learns_features:
        raise ValueError(
            "training.cache_features needs a trunk that stays as it is, and this one trains; set model.freeze to "
            "'backbone', or leave it out."
        )
    keys = [dataset.key(index) for index in range(len(dataset))]
    if len(set(keys)) < len(keys):
        raise ValueError(
            f"training.cache_features needs images of different names, and {len(keys) - len(set(keys))} of the "
            "training set share theirs with another; leave it out."
        )
    blank = {name: task.invalid_target(size) for name, task in tasks.items()}
    transform(Sample(torch.zeros(3, *size), blank), np.random.default_rng(0))
