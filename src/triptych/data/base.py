"""Base class of datasets: a sized sequence of samples that declares the tasks it can supervise."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch

from triptych.data.errors import DataError
from triptych.tasks import Task
from triptych.types import Camera, Sample

Transform = Callable[[Sample, np.random.Generator], Sample]
"""Augmentation or preparation of a sample; all its randomness comes from the generator."""
Draw = Callable[[int, int], tuple[int, int]]
"""`DenseDataset.draw`."""


class DenseDataset:
    """One split of one dataset.

    `tasks` holds the tasks this dataset can supervise, with their class counts, in declaration order; every sample
    has a target for each of them, an all-invalid map where the label is missing. Reading happens in `__getitem__`
    only; the constructor lists the files once and names a missing one.
    """

    name: str
    """Name in messages and files; by default that of its class."""
    tasks: dict[str, Task]
    unread: Mapping[str, Task] = MappingProxyType({})
    """Tasks whose labels it has but does not read: they are learned without (`video.task`)."""
    pseudo_weights: Mapping[str, Mapping[str, float]] = MappingProxyType({})
    """Weights of pseudo-labels, by task and key: used in training, never as ground truth."""
    notes: Sequence[str] = ()
    """Notes on unused files and pseudo-labels, which training, evaluation and the doctor print."""
    sampling_unit: str = "groups"
    """Noun for the groups of `group`, in the plural, such as rooms or videos."""
    needs_root: ClassVar[bool] = False
    """Whether it needs a folder of files from the user."""
    takes_root: ClassVar[bool] = False
    """Whether its first argument describes it, and `root` says where the files lie."""
    scored_options: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    """Options by task for reading the labels that papers score against, where these differ from the training labels."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not hasattr(cls, "name"):
            cls.name = cls.__name__

    @classmethod
    def splits_at(cls, place: Path, **roots: Any) -> Sequence[str]:
        """Names of the splits that the dataset at `place` may have."""
        return ("train", "val", "test")

    @classmethod
    def video_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options that add the previous frame to each sample, for datasets with `neighbor_frames`."""
        return {**options, "neighbor_frames": (-1,)}

    def parts(self) -> "tuple[DenseDataset, ...]":
        """The datasets that it is made of: itself alone, unless it is a mixture."""
        return (self,)

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} does not define its length")

    def __getitem__(self, index: int) -> Sample:
        """The sample at `index`, at its native size, labels in the layout of docs/conventions.md."""
        raise NotImplementedError(f"{type(self).__name__} does not read samples")

    def __iter__(self) -> Iterator[Sample]:
        """Iterate over the samples; Python's default needs an `IndexError` at the end, which some readers lack."""
        return map(self.__getitem__, range(len(self)))

    def key(self, index: int) -> str:
        """The name of the sample at `index`, without reading it."""
        raise NotImplementedError(f"{type(self).__name__} does not name its samples")

    def identity(self, index: int) -> str | None:
        """Identity of the image at `index` over all splits; `None` where it is not known."""
        return None

    def group(self, index: int) -> str:
        """Name of the scene, video or other group of the sample at `index`, without reading it; by default its key.

        Samples of one group are alike, those of different groups independent: bootstrap intervals resample groups.
        """
        return self.key(index)

    def may_be_labelled(self, name: str) -> Sequence[int]:
        """Indices of the samples that may have a label of a task, without reading them; all where this is unknown."""
        return range(len(self)) if name in self.tasks else ()

    def fingerprint(self) -> dict[str, object]:
        """Identity of the data for a training run: name, split, counts and a hash of the file list."""
        raise NotImplementedError(f"{type(self).__name__} has no fingerprint")

    def inputs(self) -> dict[str, object]:
        """The reader's options, and sizes and times of all files that samples are made of, as JSON.

        A prepared copy is compared by them. Not part of the fingerprint of a run, which does not depend on paths.
        """
        return {}

    def digest_files(self, indices: Iterable[int]) -> str:
        """Hash of paths, sizes and times of all files that some samples are made of; empty where none are known."""
        return ""

    def draw(self, seed: int, place: int) -> tuple[int, int]:
        """Draw (epoch, index) at `place` of the endless stream of training samples; `epoch` counts how often that
        sample came before.

        A function of (seed, place) alone, so that a run can be resumed anywhere. By default each epoch is a
        permutation of all samples.
        """
        return self._drawing(seed, place)

    @cached_property
    def _drawing(self) -> Draw:
        return self.draw_among(range(len(self)))

    def draw_among(self, indices: Sequence[int]) -> Draw:
        """Return `draw` restricted to the samples at `indices`; the index it gives is a position in them."""
        return partial(draw_shuffled, length=len(indices))


def require_truth(dataset: DenseDataset, tasks: Iterable[str], use: str = "scored against") -> None:
    """Raise `DataError` where images of a dataset have pseudo-labels of one of the tasks: they are no ground truth."""
    for name in tasks:
        keys = dataset.pseudo_weights.get(name, {})
        if keys:
            raise DataError(
                f"{len(keys)} of {len(dataset)} images of {dataset.name} have pseudo-labels of {name}, such as "
                f"{next(iter(keys))}, which are not {use}: they are what a network predicted",
                f"move their files out of the folder of [tasks.{name}.pseudo], put real labels beside them, or take "
                "another split (`triptych data label --split train` leaves the others alone)",
            )


def draw_shuffled(seed: int, place: int, length: int) -> tuple[int, int]:
    """(epoch, index) at `place` of the permutations of `length` samples that follow one another.

    >>> sorted(index for _, index in (draw_shuffled(0, place, 5) for place in range(5)))
    [0, 1, 2, 3, 4]
    """
    epoch, rest = divmod(place, length)
    return epoch, int(_permutation(seed, epoch, length)[rest])


@lru_cache(maxsize=16)
def _permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(length)


def as_neighbor(view: Sample, offset: int) -> Sample:
    """A frame of a video as the neighbor of another: `offset` frames later, negative for earlier ones.

    >>> as_neighbor(Sample(torch.zeros(3, 2, 2), {}), -1).extras["offset"].item()
    -1
    """
    return replace(view, extras=view.extras | {"offset": torch.tensor(offset)})


def missing_view(sample: Sample, offset: int) -> Sample:
    """Placeholder for a missing neighbor: image and camera are NaN.

    >>> view = missing_view(Sample(torch.zeros(3, 2, 2), {}), 1)
    >>> bool(view.image.isnan().all())
    True
    """
    camera = sample.camera and Camera(
        torch.full((3, 3), torch.nan), None if sample.camera.pose is None else torch.full((4, 4), torch.nan)
    )
    return as_neighbor(Sample(torch.full_like(sample.image, torch.nan), {}, "", camera), offset)
