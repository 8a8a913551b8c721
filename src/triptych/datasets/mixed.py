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
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triptych.data.base import DenseDataset, Draw, missing_view
from triptych.data.errors import DataError
from triptych.data.lists import read_text
from triptych.folders.descriptor import build_section
from triptych.lookup import named_choice
from triptych.tasks import Task, semseg
from triptych.types import IGNORE, Camera, Sample

OTHERS = "*"


@dataclass(frozen=True)
class SourceOptions:
    """`[sources.NAME]` of a mixture."""

    dataset: Any = ""
    """Name of a dataset, or an open one; the section's own name if left out."""
    root: str = ""
    tasks: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    map: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    share: float = 0.0


@dataclass(frozen=True)
class MixtureOptions:
    """A mixture as its file describes it."""

    sources: Mapping[str, Any] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sampling: str = "tasks"


@dataclass(frozen=True)
class Source:
    """One dataset of a mixture: its tasks by their names in the mixture, their own names, and tables of class ids."""

    name: str
    dataset: DenseDataset
    tasks: dict[str, Task]
    own_names: dict[str, str]
    tables: dict[str, Tensor]
    share: float

    def read(self, sample: Sample, tasks: Mapping[str, Task]) -> Sample:
        """A sample of this source with the targets of the mixture."""
        size = (sample.image.shape[-2], sample.image.shape[-1])
        targets: dict[str, Tensor] = {}
        for name, task in tasks.items():
            target = sample.targets.get(self.own_names.get(name, ""))
            if target is None:
                target = task.invalid_target(size)
            targets[name] = self.tables[name][target] if name in self.tables else target
        views = tuple(self.read(view, tasks) for view in sample.neighbors)
        return replace(sample, targets=targets, key=f"{self.name}/{sample.key}", neighbors=views)

    def class_map(self) -> dict[str, list[int]]:
        """New number of each class, by mapped task."""
        lengths = {name: len(table) if len(table) > IGNORE + 1 else IGNORE for name, table in self.tables.items()}
        return {name: table[: lengths[name]].tolist() for name, table in self.tables.items()}


def check_classes(sources: Sequence[Source]) -> None:
    """Raise `ValueError` for the first task that does not mean the same in all sources, naming each class that
    differs.
    """
    first: dict[str, Source] = {}
    for source in sources:
        for name, task in source.tasks.items():
            other = first.setdefault(name, source)
            theirs = other.tasks[name]
            if _meaning(task) == _meaning(theirs):
                continue
            if task.classes == theirs.classes:
                raise DataError(
                    f"task '{name}' is {_describe(theirs)} in {other.name} and {_describe(task)} in {source.name}",
                    "give the task another name in one of them, or bring its files to one unit by scale and unit",
                )
            pairs = enumerate(zip_longest(theirs.classes, task.classes, fillvalue="nothing"))
            different = [f"{i} is {a} in {other.name} and {b} in {source.name}" for i, (a, b) in pairs if a != b]
            own = source.own_names[name]
            raise DataError(
                f"task '{name}' has {theirs.channels} classes in {other.name} and {task.channels} in {source.name}: "
                f"{', '.join(different)}",
                f'rename it in one of them (rename = {{ {own} = "{own}_{source.name}" }}), or map its classes '
                f"([sources.{source.name}.map.{own}])",
            )


def _meaning(task: Task) -> tuple[object, ...]:
    return task.kind, task.channels, task.classes, task.unit


def _describe(task: Task) -> str:
    """Describe the output of a task in words."""
    channels = f"{task.channels} channel{'s' * (task.channels > 1)}"
    return f"{task.kind} of {channels}" + (f" in {task.unit}" if task.unit else " without a unit")


def note_numbers(sources: Sequence[Source]) -> list[str]:
    """Notes on shared tasks whose classes are only numbered, so that equal meanings cannot be checked."""
    names = dict.fromkeys(name for source in sources for name in source.tasks)
    shared = {name: [source for source in sources if name in source.tasks] for name in names}
    return [
        f"{name}: classes have no names in {' and '.join(source.name for source in having)}: ids 0 to "
        f"{len(having[0].tasks[name].classes) - 1} are taken for the same in all of them"
        for name, having in shared.items()
        if len(having) > 1 and (classes := having[0].tasks[name].classes) and all(map(str.isdecimal, classes))
    ]


def note_losses(sources: Sequence[Source]) -> list[str]:
    """Notes on tasks with different losses in several sources: that of the first is used."""
    first: dict[str, Source] = {}
    notes = []
    for source in sources:
        for name, task in source.tasks.items():
            other = first.setdefault(name, source)
            if _loss(task) != _loss(other.tasks[name]):
                notes.append(
                    f"{name}: {other.name} and {source.name} have other losses for it, and that of {other.name} is "
                    "trained; data.task_options sets one"
                )
    return notes


def _loss(task: Task) -> object:
    """Return a comparable form of a loss: two `partial` objects with equal arguments are not equal themselves."""
    loss = task.loss_function
    return (loss.func, loss.args, loss.keywords) if isinstance(loss, partial) else loss


def open_source(name: str, described: SourceOptions, place: Path, split: str) -> DenseDataset:
    """The dataset of a source, for one split; folders are relative to `place`."""
    from triptych.datasets import open_configured  # it lists this file

    found = described.dataset or name
    if isinstance(found, DenseDataset):
        return found
    tasks = {} if described.tasks is None else {"tasks": described.tasks}
    root = str(place / described.root) if described.root else ""
    return open_configured(found, root, described.splits.get(split, split), {**described.options, **tasks})


def make_source(
    name: str,
    described: SourceOptions,
    dataset: DenseDataset,
    spaces: Mapping[str, Sequence[str]],
    mapped: Mapping[str, Any],
) -> Source:
    """Make a source of a mixture; `spaces` are its classes by task, `mapped` the tasks mapped in all sources."""
    renamed, maps = dict(described.rename), dict(described.map)
    own_names: dict[str, str] = {}
    tasks: dict[str, Task] = {}
    tables: dict[str, Tensor] = {}
    for own in dataset.tasks if described.tasks is None else described.tasks:
        task = named_choice(f"task of source {name}", own, dataset.tasks)
        known = renamed.pop(own, own)
        if (own in maps or known in mapped) and task.decode is not semseg(2).decode:
            raise DataError(f"source {name} maps task {own}", "only tasks that choose a class can be mapped")
        if known in own_names:
            raise DataError(f"source {name} has two tasks {known}", "give each a name of its own in rename")
        if known != own:
            task = task.called(known)
        own_names[known] = own
        if own in maps or known in mapped:
            task, tables[known] = _map_classes(name, task, maps.pop(own, {}), spaces.get(known))
        tasks[known] = task
    for word, left in (("renames", renamed), ("maps", maps)):
        if left:
            raise ValueError(f"source {name} {word} {', '.join(left)}, which is none of its tasks {', '.join(tasks)}.")
    return Source(name, dataset, tasks, own_names, tables, described.share)


def _map_classes(
    source: str, task: Task, table: Mapping[str, str], classes: Sequence[str] | None
) -> tuple[Task, Tensor]:
    """The task with the classes of the mixture, and the new class of each old one."""
    if classes is None:
        raise DataError(f"source {source} maps task {task.name} to nothing", f"add [classes] {task.name} = [...]")
    new = {name: number for number, name in enumerate(classes)} | {"": IGNORE}
    for old in table:
        named_choice(f"class of {task.name} in source {source}", old, dict.fromkeys((*task.classes, OTHERS)))
    # The id that marks unlabelled pixels is no class, even if the list has a name at its place.
    real = {number: old for number, old in enumerate(task.classes) if number != IGNORE}
    lost = [name for name in real.values() if name not in table and name not in new]
    if lost and OTHERS not in table:
        raise DataError(
            f"classes {', '.join(lost)} of task {task.name} in source {source} have no namesake in the mixture",
            f'map each of them to a class or to "" ([sources.{source}.map.{task.name}]), or add "{OTHERS}" = ""',
        )
    numbers = torch.full((max(IGNORE + 1, len(task.classes)),), IGNORE)
    for number, old in real.items():
        goal = table[old] if old in table else old if old in new else table[OTHERS]
        numbers[number] = named_choice(f"class of {task.name} in the mixture", goal, new)
    mapped = semseg(classes, name=task.name, weight=task.weight)
    if mapped.classes == task.classes:
        return task, numbers
    if getattr(task.loss_function, "keywords", {}).get("class_weights"):
        raise DataError(
            f"source {source} has class_weights of task {task.name}, which are those of its own classes and not of the "
            "mixture's",
            f"leave them out there, and give the mixture's by data.task_options.{task.name}",
        )
    told = {name: value for name, value in task.options.items() if name == "loss"}  # for files
    return replace(mapped, loss=task.loss, options=told), numbers


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
            mixture = _read_mixture(place, sampling)
            place = place.parent
        else:
            told = {"sources": sources, "classes": classes or {}, "sampling": sampling}
            mixture = build_section(MixtureOptions, told, "the mixture")
        described = {name: _read_source(name, table) for name, table in mixture.sources.items()}
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


def take_turns(shares: np.ndarray, length: int) -> np.ndarray:
    """Order of sources in an epoch of `length` samples; a row per place: source, its turns before, its turns in all.

    Turns in all are the shares rounded by the largest remainder, at least one, and spread evenly.

    >>> take_turns(np.array([0.25, 0.75]), 4).tolist()
    [[1, 0, 3], [0, 0, 1], [1, 1, 3], [1, 2, 3]]
    >>> take_turns(np.array([0.01, 0.99]), 4).tolist() == take_turns(np.array([0.25, 0.75]), 4).tolist()
    True
    """
    exact = shares * length
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: length - counts.sum()]] += 1
    for number in np.flatnonzero((counts == 0) & (shares > 0)):
        counts[counts.argmax()] -= 1
        counts[number] = 1
    numbers = np.repeat(np.arange(len(counts)), counts)
    turns = np.concatenate([np.arange(count) for count in counts])
    order = np.argsort((turns + 0.5) / counts[numbers], kind="stable")
    return np.stack([numbers[order], turns[order], counts[numbers[order]]], axis=1)


def draw_in_turns(
    turns: np.ndarray, draws: Sequence[Draw], places: Sequence[np.ndarray], seed: int, place: int
) -> tuple[int, int]:
    """Draw a sample (`DenseDataset.draw`) by `take_turns`: `places` are indices of each source's samples, `draws` their
    streams.
    """
    epoch, rest = divmod(place, len(turns))
    number, turn, count = turns[rest].tolist()
    # The source's own stream continues over the epochs of the mixture.
    own_epoch, own = draws[number](seed * 31 + number, epoch * count + turn)
    return own_epoch, int(places[number][own])


def share_out(sources: Sequence[Source], sampling: str, tasks: Mapping[str, Task]) -> np.ndarray:
    """Share of each source in the training samples."""
    weights = {"tasks": _by_tasks, "images": _by_images}
    shares = np.array([source.share for source in sources])
    if not shares.any():
        shares = named_choice("sampling of the mixture", sampling, weights)(sources, tasks)
    elif not (shares > 0).all():
        missing = ", ".join(source.name for source in sources if source.share <= 0)
        raise DataError(f"some sources have a share and {missing} not", "give all of them one, or none")
    return shares / shares.sum()


def _by_images(sources: Sequence[Source], tasks: Mapping[str, Task]) -> np.ndarray:
    return np.array([float(len(source.dataset)) for source in sources])


def _by_tasks(sources: Sequence[Source], tasks: Mapping[str, Task]) -> np.ndarray:
    """Each task has one vote, divided among the sources that have it in proportion to their sizes."""
    votes = np.zeros(len(sources)) if tasks else _by_images(sources, tasks)
    for name in tasks:
        images = np.array([len(source.dataset) if name in source.tasks else 0 for source in sources])
        votes += images / images.sum()
    return votes


def _read_mixture(path: Path, sampling: str) -> MixtureOptions:
    if not path.is_file():
        raise DataError(f"'{path}' is no TOML file that describes a mixture", "give one, or sources as options")
    try:
        table = tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError.about(f"{path} is not a TOML file", error) from error
    for section in table:
        named_choice(f"section of {path}", section, {one.name: None for one in fields(MixtureOptions)})
    mixture = build_section(MixtureOptions, {"sampling": sampling, **table}, str(path))
    if not mixture.sources:
        raise DataError(f"{path} has no sources", "add sections such as [sources.nyuv2]")
    return mixture


def _read_source(name: str, table: Any) -> SourceOptions:
    if isinstance(table, Mapping) and isinstance(table.get("root"), Path):
        table = {**table, "root": str(table["root"])}
    return build_section(SourceOptions, table, f"[sources.{name}]")
