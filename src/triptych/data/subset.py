"""Subsets of images, labels or tasks of a dataset, to study how much data training needs.

Images are spread evenly. The label settings *one label* and *random labels* are those of Li, Liu and Bilen ("Learning
multiple dense prediction tasks from partially annotated data", CVPR 2022, arXiv 2111.14893). Which labels an image
keeps follows from a hash of its key alone: every run, process and epoch sees the same ones. With *one label*, an added
task takes over its share of the images and the others keep theirs; with *random labels*, all are drawn anew.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from triptych.data.base import DenseDataset, Draw
from triptych.data.errors import DataError
from triptych.lookup import grouped, named_choice
from triptych.tasks import Task
from triptych.types import Sample, valid_pixels


class Subset(DenseDataset):
    """The samples of `dataset` at `indices`, in that order.

    >>> from triptych.datasets.rooms import Rooms
    >>> rooms = Rooms(split="val", scenes=2, views=1, size=(24, 32), progress=False)
    >>> some = Subset(rooms, [1])
    >>> len(some), some.key(0) == rooms.key(1)
    (1, True)
    """

    def __init__(self, dataset: DenseDataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, tuple(indices)
        self.name, self.tasks, self.notes = dataset.name, dataset.tasks, dataset.notes
        self.unread = dict(dataset.unread)  # a proxy cannot be sent to workers
        self.sampling_unit = dataset.sampling_unit
        keys = {dataset.key(index) for index in self.indices} if dataset.pseudo_weights else ()
        self.pseudo_weights = {
            name: {key: weight for key, weight in weights.items() if key in keys}
            for name, weights in dataset.pseudo_weights.items()
        }

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]

    def parts(self) -> tuple[DenseDataset, ...]:
        return self.dataset.parts()

    def key(self, index: int) -> str:
        return self.dataset.key(self.indices[index])

    def identity(self, index: int) -> str | None:
        return self.dataset.identity(self.indices[index])

    def group(self, index: int) -> str:
        return self.dataset.group(self.indices[index])

    def may_be_labelled(self, name: str) -> Sequence[int]:
        found = set(self.dataset.may_be_labelled(name) if name in self.tasks else ())
        return [place for place, index in enumerate(self.indices) if index in found]

    def draw_among(self, indices: Sequence[int]) -> Draw:
        return self.dataset.draw_among([self.indices[index] for index in indices])

    def fingerprint(self) -> dict[str, object]:
        """Fingerprint of the whole dataset, and which samples of it are kept."""
        chosen = hashlib.sha256(repr(self.indices).encode()).hexdigest()[:16]
        return self.dataset.fingerprint() | {"of": len(self.dataset), "samples": len(self), "chosen": chosen}

    def inputs(self) -> dict[str, object]:
        """Inputs of the whole dataset."""
        return self.dataset.inputs()

    def digest_files(self, indices: Iterable[int]) -> str:
        return self.dataset.digest_files(self.indices[index] for index in indices)


def spread(dataset: DenseDataset, count: int) -> Subset:
    """Select `count` samples spread evenly over a dataset; `ValueError` where it has fewer, or `count` is 0.

    Where consecutive samples are similar (frames of a video, views of a room), these differ the most.
    """
    if not 1 <= count <= len(dataset):
        text = f"{count} samples were asked for, and {dataset.name} has {len(dataset)}"
        raise DataError(text, "ask for 1 to that many")
    return Subset(dataset, spread_evenly(len(dataset), count))


def spread_evenly(length: int, most: int) -> list[int]:
    """Up to `most` of the numbers below `length`, spread evenly.

    >>> spread_evenly(10, 4), spread_evenly(2, 4)
    ([0, 2, 5, 7], [0, 1])
    """
    count = min(length, most)
    return [i * length // count for i in range(count)]


def find_shared(one: DenseDataset, other: DenseDataset, most: int = 64) -> tuple[list[str], int]:
    """Find images that two datasets of one kind share; returns their keys and the number of images compared.

    Compared are up to `most` images with matching keys, spread evenly.

    Images of two splits may have the same key and still differ; keys of the split `all` may start with a split folder.
    """
    places = {one.key(index): index for index in range(len(one))}
    longer = grouped((name, index) for key, index in places.items() for name in _less_a_folder(key))
    alike: dict[int, list[int]] = {}
    for index in range(len(other)):
        key = other.key(index)
        found = [*longer.get(key, ()), *(places[name] for name in (key, *_less_a_folder(key)) if name in places)]
        alike |= {index: found} if found else {}
    compared = [list(alike)[place] for place in spread_evenly(len(alike), most)]
    shared = [other.key(index) for index in compared if _is_among(other.identity(index), one, alike[index])]
    return shared, len(compared)


def _is_among(identity: str | None, dataset: DenseDataset, indices: Iterable[int]) -> bool:
    return identity is not None and any(identity == dataset.identity(index) for index in indices)


def _less_a_folder(key: str) -> list[str]:
    """Variants of a key without one of its folders: that of the split is the first, or the second in a mixture.

    >>> _less_a_folder("indoor/val/001")
    ['val/001', 'indoor/001']
    """
    parts = key.split("/")
    return ["/".join(parts[:place] + parts[place + 1 :]) for place in range(len(parts) - 1)]


def keep_one(key: str, names: Sequence[str]) -> set[str]:
    """Choose one of the tasks that an image has labels for.

    >>> len(keep_one("a.jpg", ["semseg", "depth", "normals"]))
    1
    """
    return {min(names, key=lambda name: _number(f"{key}/{name}"))} if names else set()


def keep_some(key: str, names: Sequence[str]) -> set[str]:
    """Choose some of the tasks that an image has labels for, at least one; every such choice is equally likely.

    >>> keep_some("a.jpg", ["depth"])
    {'depth'}
    """
    if not names:
        return set()
    number = 1 + _number(key) % (2 ** len(names) - 1)
    return {name for i, name in enumerate(names) if number >> i & 1}


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogateescape")).digest()[:8], "big")


LABEL_SETTINGS: dict[str, Callable[[str, Sequence[str]], set[str]]] = {"one": keep_one, "random": keep_some}
"""Functions from the key of an image and its labelled tasks to those that it keeps, by the name of the setting."""


class FewerLabels(Subset):
    """A whole dataset whose images keep only the labels of a label setting; the other targets are all invalid.

    `names` are the tasks that share the labels (those that are trained): others stay as they are. A label that an image
    never had is not chosen. Neighboring frames keep the labels that their image keeps.
    """

    def __init__(self, dataset: DenseDataset, setting: str, names: Sequence[str]) -> None:
        self.keep = named_choice("label setting", setting, LABEL_SETTINGS)
        super().__init__(dataset, range(len(dataset)))
        self.setting, self.names = setting, tuple(names)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        labelled = [name for name in self.names if valid_pixels(sample.targets[name]).any()]
        kept = self.keep(self.key(index), labelled)
        return _without({name: self.tasks[name] for name in self.names if name not in kept}, sample)

    def draw(self, seed: int, place: int) -> tuple[int, int]:
        return self.dataset.draw(seed, place)

    def fingerprint(self) -> dict[str, object]:
        """Fingerprint of the whole dataset, and the label setting."""
        return self.dataset.fingerprint() | {"label_setting": self.setting, "label_tasks": list(self.names)}


class SomeTasks(Subset):
    """A whole dataset with only the tasks of `names`, in that order."""

    def __init__(self, dataset: DenseDataset, names: Sequence[str]) -> None:
        super().__init__(dataset, range(len(dataset)))
        self.tasks = {name: named_choice(f"task of {dataset.name}", name, dict(dataset.tasks)) for name in names}
        self.pseudo_weights = {name: each for name, each in self.pseudo_weights.items() if name in self.tasks}

    def __getitem__(self, index: int) -> Sample:
        return self._selected(self.dataset[index])

    def _selected(self, sample: Sample) -> Sample:
        targets = {name: sample.targets[name] for name in self.tasks if name in sample.targets}
        return replace(sample, targets=targets, neighbors=tuple(map(self._selected, sample.neighbors)))

    def draw(self, seed: int, place: int) -> tuple[int, int]:
        return self.dataset.draw(seed, place)

    def fingerprint(self) -> dict[str, object]:
        """Fingerprint of the whole dataset, and the selected tasks."""
        return self.dataset.fingerprint() | {"selected": list(self.tasks)}


class Unread(Subset):
    """A dataset without labels: its samples are those of `images`, the same dataset opened without tasks."""

    def __init__(self, dataset: DenseDataset, images: DenseDataset) -> None:
        super().__init__(dataset, range(len(dataset)))
        self.images, self.tasks, self.pseudo_weights = images, {}, {}

    def __getitem__(self, index: int) -> Sample:
        return self.images[index]

    def draw(self, seed: int, place: int) -> tuple[int, int]:
        return self.dataset.draw(seed, place)

    def fingerprint(self) -> dict[str, object]:
        """Fingerprint of the whole dataset."""
        return self.dataset.fingerprint()


def _without(tasks: dict[str, Task], sample: Sample) -> Sample:
    size = (sample.image.shape[-2], sample.image.shape[-1])
    empty = {name: task.invalid_target(size) for name, task in tasks.items() if name in sample.targets}
    return replace(
        sample,
        targets=sample.targets | empty,
        neighbors=tuple(_without(tasks, view) for view in sample.neighbors),
    )
