"""Sources of a mixture: how its file describes them, how they are opened, and how their classes become its own."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych.data.base import DenseDataset
from triptych.data.errors import DataError
from triptych.data.lists import read_text
from triptych.folders.descriptor import build_section
from triptych.lookup import named_choice
from triptych.tasks import Task, semseg
from triptych.types import IGNORE, Sample

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
    from triptych.datasets import open_configured  # it lists the mixture, which imports this file

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


def read_mixture(path: Path, sampling: str) -> MixtureOptions:
    """Read the file of a mixture; `sampling` is for one that names none."""
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


def read_source(name: str, table: Any) -> SourceOptions:
    """Read the section of a source, from a file or from Python."""
    if isinstance(table, Mapping) and isinstance(table.get("root"), Path):
        table = {**table, "root": str(table["root"])}
    return build_section(SourceOptions, table, f"[sources.{name}]")
