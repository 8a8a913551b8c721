"""One source of a mixture: a dataset with names and classes that the mixture gives to its tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych.data.base import DenseDataset
from triptych.tasks import Task, semseg
from triptych.types import IGNORE, Sample, named_choice

OTHERS = "*"
Table = Mapping[str, Any]
OPTIONS = ("dataset", "root", "tasks", "options", "rename", "splits", "map", "share")


@dataclass(frozen=True)
class Source:
    """One dataset of a mixture: its tasks as the mixture calls them, their own names, and what its classes become."""

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
        views = tuple(self.read(view, tasks) for view in sample.neighbours)
        return replace(sample, targets=targets, key=f"{self.name}/{sample.key}", neighbours=views)


def check_classes(sources: Sequence[Source]) -> None:
    """Raise `ValueError` for the first task that does not mean the same in all sources, naming each class that
    differs.
    """
    first: dict[str, Source] = {}
    for source in sources:
        for name, task in source.tasks.items():
            other = first.setdefault(name, source)
            theirs = other.tasks[name]
            if (task.channels, task.classes) == (theirs.channels, theirs.classes):
                continue
            pairs = enumerate(zip_longest(theirs.classes, task.classes, fillvalue="nothing"))
            different = [f"{i} is {a} in {other.name} and {b} in {source.name}" for i, (a, b) in pairs if a != b]
            own = source.own_names[name]
            raise ValueError(
                f"task '{name}' has {theirs.channels} classes in {other.name} and {task.channels} in {source.name}: "
                f'{"; ".join(different)}. Rename it in one of them (rename = {{ {own} = "{own}_{source.name}" }}), or '
                f"map its classes ([sources.{source.name}.map.{own}])."
            )


def open_source(name: str, table: Table, place: Path, split: str) -> DenseDataset:
    """The dataset that the table of a source describes, for one split; folders are relative to `place`."""
    from triptych.datasets import open_dataset  # it lists this file

    for option in table:
        named_choice(f"option of source {name}", option, dict.fromkeys(OPTIONS))
    found = table.get("dataset", name)
    if isinstance(found, DenseDataset):
        return found
    options = dict(table.get("options", {}))
    if "tasks" in table:
        options["tasks"] = tuple(table["tasks"])
    root = str(place / table["root"]) if "root" in table else ""
    return open_dataset(found, root, split=table.get("splits", {}).get(split, split), **options)


def make_source(
    name: str, table: Table, dataset: DenseDataset, spaces: Mapping[str, Sequence[str]], mapped: Mapping[str, Any]
) -> Source:
    """`spaces` are the classes of the mixture by task; those of `mapped` hold for every source."""
    renamed, maps = dict(table.get("rename", {})), dict(table.get("map", {}))
    own_names, tasks, tables = {}, {}, {}
    for own in table.get("tasks", dataset.tasks):
        task = named_choice(f"task of source {name}", own, dataset.tasks)
        known = renamed.pop(own, own)
        if (known != own or own in maps) and task.decode is not semseg(2).decode:
            raise ValueError(f"source {name} renames or maps task {own}; only tasks that choose a class can be.")
        own_names[known], task = own, replace(task, name=known)
        if own in maps or known in mapped:
            task, tables[known] = _map_classes(name, task, maps.pop(own, {}), spaces.get(known))
        tasks[known] = task
    for word, left in (("renames", renamed), ("maps", maps)):
        if left:
            raise ValueError(f"source {name} {word} {', '.join(left)}, which is none of its tasks {', '.join(tasks)}.")
    return Source(name, dataset, tasks, own_names, tables, float(table.get("share", 0)))


def _map_classes(source: str, task: Task, table: Table, classes: Sequence[str] | None) -> tuple[Task, Tensor]:
    """The task with the classes of the mixture, and the new class of each old one."""
    if classes is None:
        raise ValueError(f"source {source} maps task {task.name} to nothing; add [classes] {task.name} = [...].")
    new = {name: number for number, name in enumerate(classes)} | {"": IGNORE}
    for old in table:
        named_choice(f"class of {task.name} in source {source}", old, dict.fromkeys((*task.classes, OTHERS)))
    lost = [name for name in task.classes if name not in table and name not in new]
    if lost and OTHERS not in table:
        raise ValueError(
            f"classes {', '.join(lost)} of task {task.name} in source {source} have no namesake in the mixture; map "
            f'each of them to a class or to "" ([sources.{source}.map.{task.name}]), or add "{OTHERS}" = "".'
        )
    numbers = torch.full((IGNORE + 1,), IGNORE)
    for number, old in enumerate(task.classes):
        goal = table[old] if old in table else old if old in new else table[OTHERS]
        numbers[number] = named_choice(f"class of {task.name} in the mixture", goal, new)
    return semseg(classes, name=task.name, weight=task.weight), numbers
