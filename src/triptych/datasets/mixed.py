"""Several datasets in one run, each with labels of its own.

A mixture is described in a TOML file, which is the `root` of the dataset `mixed` (`--recipe.data.dataset mixed
--recipe.data.root mixture.toml`), or in Python by the same tables as keyword arguments:

    sampling = "tasks"                        # or "images"
    [sources.nyuv2]
    root = "NYUD_MT"                          # from the folder of this file
    tasks = ["depth", "normals"]
    [sources.people]
    dataset = "pascal-context"                # the section's own name if left out
    root = "PASCAL_MT"
    options = { classes = 60 }
    rename = { semseg = "semseg_pascal" }     # a task of its own
    splits = { test = "val" }                 # "" leaves this source out of a split
    [sources.people.map.human_parts]          # classes of this source to those of the mixture
    "lower arm" = "arm"
    "*" = ""                                  # all others, where they have no namesake: no label

    [classes]                                 # the mixture's, where no source has a task unmapped
    human_parts = ["head", "torso", "arm", "leg"]

A task that a source does not have is invalid in its samples. A task that several have must mean the same in all of
them: the same classes in the same order. Its loss is that of the first source that has it.

Where any source has neighbors, all samples have as many, and cameras and poses where any source has them: NaN stands
for what a source lacks.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triptych.data.base import DenseDataset, Draw, missing_view
from triptych.data.errors import DataError
from triptych.datasets.mixed_sources import (
    MixtureOptions,
    Source,
    check_classes,
    make_source,
    note_losses,
    note_numbers,
    open_source,
    read_mixture,
    read_source,
)
from triptych.datasets.mixed_turns import draw_in_turns, share_out, take_turns
from triptych.folders.descriptor import build_section
from triptych.lookup import named_choice
from triptych.tasks import Task
from triptych.types import Camera, Sample


class Mixed(DenseDataset):
    """Several datasets as one: its samples are those of all sources, one source after the other.

    `root` is a TOML file as above; or `sources`, `classes` and `sampling` are its tables. `tasks` selects some tasks of
    the mixture. In training every task is drawn equally often, from its sources in proportion to their sizes
    (`sampling="tasks"`), or every image equally often (`"images"`), or sources by their `share`; the sources alternate
    within a batch. An epoch has as many samples as the mixture; small sources may repeat in it, and each is drawn at
    least once.

    Raises `ValueError` for unknown names, and for a task whose classes differ between sources, class by class.
    """

    def __init__(
        self,
        root: str | Path = "",
        *,
        split: str = "train",
        tasks: Sequence[str] | None = None,
        sources: Mapping[str, Mapping[str, Any]] | None = None,
        classes: Mapping[str, Sequence[str]] | None = None,
        sampling: str = "tasks",
    ) -> None:
        place = Path(root)
        if sources is None:
            mixture = read_mixture(place, sampling)
            place = place.parent
        else:
            told = {"sources": sources, "classes": classes or {}, "sampling": sampling}
            mixture = build_section(MixtureOptions, told, "the mixture")
        described = {name: read_source(name, table) for name, table in mixture.sources.items()}
        chosen = {name: source for name, source in described.items() if source.splits.get(split) != ""}
        if not chosen:
            raise DataError(f"split '{split}' of the mixture has no source", f"its sources are {', '.join(described)}")
        opened = {name: open_source(name, source, place, split) for name, source in chosen.items()}
        spaces: dict[str, Sequence[str]] = {
            source.rename.get(own, own): task.classes
            for name, source in chosen.items()
            for own, task in opened[name].tasks.items()
            if own not in source.map
        }
        spaces |= mixture.classes
        self.sources = [
            make_source(name, source, opened[name], spaces, mapped=mixture.classes) for name, source in chosen.items()
        ]
        check_classes(self.sources)
        self.notes = [
            *(f"{source.name}: {note}" for source in self.sources for note in source.dataset.notes),
            *note_numbers(self.sources),
            *note_losses(self.sources),
        ]
        known = {name: task for source in reversed(self.sources) for name, task in source.tasks.items()}
        known = {name: known[name] for source in self.sources for name in source.tasks}
        for name in mixture.classes:
            named_choice("task in [classes]", name, known)
        names = known if tasks is None else tasks
        self.tasks: dict[str, Task] = {name: named_choice("task of the mixture", name, known) for name in names}
        self.name, self.split = "+".join(chosen), split
        units = {source.dataset.sampling_unit for source in self.sources}
        self.sampling_unit = units.pop() if len(units) == 1 else "groups"
        sizes = [len(source.dataset) for source in self.sources]
        self.ends = np.cumsum(sizes)
        self.shares = share_out(self.sources, mixture.sampling, self.tasks)
        self.pseudo_weights = {
            name: {
                f"{source.name}/{key}": weight
                for source in self.sources
                for key, weight in source.dataset.pseudo_weights.get(source.own_names.get(name, ""), {}).items()
            }
            for name in self.tasks
        }

    def parts(self) -> tuple[DenseDataset, ...]:
        return tuple(part for source in self.sources for part in source.dataset.parts())

    def __len__(self) -> int:
        return int(self.ends[-1])

    def locate(self, index: int) -> tuple[Source, int]:
        """The source of a sample, and its index there."""
        if not 0 <= index < len(self):
            raise IndexError(f"the mixture has {len(self)} samples, none at {index}")
        number = int(np.searchsorted(self.ends, index, side="right"))
        source = self.sources[number]
        return source, index - int(self.ends[number]) + len(source.dataset)

    def key(self, index: int) -> str:
        source, own = self.locate(index)
        return f"{source.name}/{source.dataset.key(own)}"

    def group(self, index: int) -> str:
        source, own = self.locate(index)
        return f"{source.name}/{source.dataset.group(own)}"

    def identity(self, index: int) -> str | None:
        source, own = self.locate(index)
        return source.dataset.identity(own)

    def may_be_labelled(self, name: str) -> Sequence[int]:
        return [
            int(end) - len(source.dataset) + own
            for source, end in zip(self.sources, self.ends, strict=True)
            if name in self.tasks and name in source.own_names
            for own in source.dataset.may_be_labelled(source.own_names[name])
        ]

    def __getitem__(self, index: int) -> Sample:
        source, own = self.locate(index)
        return source.read(self._views.complete(source.dataset[own]), self.tasks)

    @cached_property
    def _views(self) -> "MostViews":
        return MostViews.of(filter(None, (_first_readable(source.dataset) for source in self.sources)))

    def fingerprint(self) -> dict[str, object]:
        """Fingerprints of the sources, with their shares and how classes are renamed."""
        return {
            "name": self.name,
            "split": self.split,
            "images": len(self),
            "sources": {
                source.name: {
                    "share": round(float(share), 6),
                    "tasks": source.own_names,
                    "classes": source.class_map(),  # for older runs; a source's own fingerprint may override it
                    **source.dataset.fingerprint(),
                    "class_map": source.class_map(),
                }
                for source, share in zip(self.sources, self.shares, strict=True)
            },
        }

    def inputs(self) -> dict[str, object]:
        """Inputs of the sources, by name."""
        return {source.name: source.dataset.inputs() for source in self.sources}

    def digest_files(self, indices: Iterable[int]) -> str:
        digests = (source.dataset.digest_files([own]) for source, own in map(self.locate, indices))
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def draw_among(self, indices: Sequence[int]) -> Draw:
        """Return `draw` restricted to some samples; sources keep their shares. `DataError` for one without samples."""
        numbers = np.searchsorted(self.ends, indices, side="right")
        places = [np.flatnonzero(numbers == number) for number in range(len(self.sources))]
        draws: list[Draw] = []
        for source, own, share, end in zip(self.sources, places, self.shares, self.ends, strict=True):
            if share and not len(own):
                text = f"none of the {len(indices)} samples drawn is of source '{source.name}' of the mixture"
                raise DataError(text, "raise data.train_images")
            dataset = source.dataset
            left = [int(indices[place]) - int(end) + len(dataset) for place in own.tolist()]
            draws.append(dataset.draw if len(own) == len(dataset) else dataset.draw_among(left))
        return partial(draw_in_turns, take_turns(self.shares, len(indices)), draws, places)


@dataclass(frozen=True)
class MostViews:
    """The most neighbors that samples of any source have, and whether any of their views has a camera, or a pose."""

    neighbors: int
    cameras: bool
    poses: bool

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "MostViews":
        """Those of some samples, such as one of each source."""
        known = list(samples)
        cameras = [view.camera for sample in known for view in (sample, *sample.neighbors) if view.camera is not None]
        most = max((len(sample.neighbors) for sample in known), default=0)
        return cls(most, bool(cameras), any(camera.pose is not None for camera in cameras))

    def complete(self, sample: Sample) -> Sample:
        """The sample with NaN for neighbors, cameras and poses that it lacks, where any source has neighbors."""
        if not self.neighbors:
            return sample
        views = [replace(view, camera=self._camera(view.camera)) for view in (sample, *sample.neighbors)]
        missing = [missing_view(views[0], 1)] * (self.neighbors - len(sample.neighbors))
        return replace(views[0], neighbors=(*views[1:], *missing))

    def _camera(self, known: Camera | None) -> Camera | None:
        camera = Camera(torch.full((3, 3), torch.nan)) if known is None and self.cameras else known
        if camera is None or camera.pose is not None or not self.poses:
            return camera
        return replace(camera, pose=torch.full((4, 4), torch.nan))


def _first_readable(dataset: DenseDataset) -> Sample | None:
    """The first sample without a damaged file."""
    for index in range(len(dataset)):
        with suppress(Exception):  # readers raise whatever their file formats do
            return dataset[index]
    return None
