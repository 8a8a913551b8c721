"""Find and pair files of maps: task folders under the names in use, predictions and ground truth by name."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from triptych.data.base import require_truth
from triptych.data.files import ARRAYS, PICTURES, SUFFIXES, composed, walk_files
from triptych.datasets.in_files import InFiles
from triptych.evaluation.map_encodings import Encodings
from triptych.evaluation.saved_maps import TASK_MAPS, read_annotators, read_target
from triptych.folders.descriptor import FILE_NAME
from triptych.lookup import named_choice
from triptych.metrics.boundary_protocols import GroundTruth

PRODUCTS = ("arrays", "maps")
"""Folders in which `triptych predict` writes its task folders."""


def list_maps(folder: Path) -> dict[str, Path]:
    """Maps of a folder and its sub-folders by name without suffix; `ValueError` if two have one name, or there are
    none."""
    found: dict[str, Path] = {}
    for path in walk_files(folder):
        if path.suffix.lower() not in (*PICTURES, *ARRAYS):
            continue
        key = composed(path.relative_to(folder).with_suffix("").as_posix())
        if key in found:
            raise ValueError(f"{found[key]} and {path} have the same name; keep one of them in {folder}.")
        found[key] = path
    if not found:
        raise ValueError(f"{folder} has no maps; looked for {', '.join((*PICTURES, *ARRAYS))} in it and its folders.")
    return found


def task_folder(root: Path, task: str) -> Path | None:
    """The sub-folder of a task, under any name in use; `None` where there is none."""
    return next((root / name for name in TASK_MAPS[task].folders if (root / name).is_dir()), None)


def find_tasks(root: Path, tasks: Sequence[str], *, alone: bool = True) -> dict[str, Path]:
    """The folder of every task: the named `tasks`, or all that have a sub-folder.

    A single named task may lie in `root` itself, if no task has a folder there and it is `alone`: whose the maps are
    is open where others are looked for in `root`, too. Raises `ValueError` naming what was looked for.
    """
    if not root.is_dir():
        raise ValueError(f"folder {root} does not exist; give the folder of the maps.")
    for name in tasks:
        named_choice("task", name, TASK_MAPS)
    present = {name: folder for name in TASK_MAPS if (folder := task_folder(root, name)) is not None}
    if not present and alone and len(tasks) == 1:
        return {tasks[0]: root}
    found = {name: present[name] for name in tasks or present if name in present}
    missing = [name for name in tasks if name not in found]
    if missing or not found:
        looked = missing or list(TASK_MAPS)
        usual = TASK_MAPS[looked[0]].folders[0]
        inside = next((root / name for name in PRODUCTS if (root / name).is_dir()), None)
        if inside:
            hint = f"did you mean {inside}?"
        elif present:  # beside folders of other tasks, maps in the folder itself are nobody's
            hint = f"move its maps into {root / usual}/ if they lie in the folder itself."
        else:
            hint = "name one --task if the maps lie in the folder itself."
        raise ValueError(f"{root} has no folder of {', '.join(looked)} (such as {usual}/); {hint}")
    return found


def other_folders(root: Path, taken: Collection[Path]) -> list[str]:
    """Names of the sub-folders of `root` that hold maps and are not `taken`."""
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and path not in taken and path.name[0] != "."]
    return [path.name for path in folders if any(one.suffix.lower() in SUFFIXES for one in walk_files(path))]


@runtime_checkable
class Targets(Protocol):
    """Ground truth of one task."""

    def keys(self) -> list[str]:
        """Names of the images that have ground truth."""

    def read(self, key: str, size: tuple[int, int]) -> Tensor:
        """The target of an image, for a prediction of `size`."""

    def describe(self, key: str) -> str:
        """Source of the target of an image, for messages."""

    def groups(self) -> dict[str, str]:
        """By image: the group of images that are alike, such as a video; the image itself where nothing is known."""


@dataclass(frozen=True)
class FolderTargets:
    """Ground truth in files."""

    files: dict[str, Path]
    task: str
    encodings: Encodings
    recipe: GroundTruth | None
    """Preparation of stored maps of annotators; `None` for other targets."""
    stacked: bool = False
    """Read a picture of several times the height as one map per annotator, stacked vertically."""

    def keys(self) -> list[str]:
        return list(self.files)

    def read(self, key: str, size: tuple[int, int]) -> Tensor:
        if self.recipe is not None:
            return read_annotators(self.files[key], size, self.recipe, self.encodings.key, stacked=self.stacked)
        return read_target(self.files[key], self.task, self.encodings)

    def describe(self, key: str) -> str:
        return str(self.files[key])

    def groups(self) -> dict[str, str]:
        return {key: key for key in self.files}


@dataclass(frozen=True)
class DatasetTargets:
    """Ground truth of a dataset, at its native size."""

    dataset: InFiles
    task: str

    def keys(self) -> list[str]:
        return list(self.dataset.keys)

    def read(self, key: str, size: tuple[int, int]) -> Tensor:
        return self.dataset.read_targets(key)[self.task]

    def describe(self, key: str) -> str:
        return f"{key} of dataset {self.dataset.name}"

    def groups(self) -> dict[str, str]:
        return {key: self.dataset.group(index) for index, key in enumerate(self.dataset.keys)}


def is_dataset(path: Path) -> bool:
    """Whether a path is described by a `dataset.toml`."""
    return path.suffix == ".toml" or (path / FILE_NAME).is_file()


def dataset_targets(dataset: InFiles, task: str) -> DatasetTargets:
    """Ground truth of one task of a dataset, by key; pseudo-labels are refused."""
    require_truth(dataset, [task])
    return DatasetTargets(dataset, task)


@dataclass(frozen=True)
class Pairs:
    """Images of a task that can be scored: keys with a prediction and ground truth, and those with one of them only."""

    keys: tuple[str, ...]
    unpredicted: tuple[str, ...]
    untargeted: tuple[str, ...]


def pair(predictions: dict[str, Path], targets: Sequence[str], task: str, *, partial: bool) -> Pairs:
    """Match by name. Fewer predictions than targets are refused unless `partial`."""
    known = set(targets)
    found = Pairs(
        keys=tuple(key for key in targets if key in predictions),
        unpredicted=tuple(key for key in targets if key not in predictions),
        untargeted=tuple(key for key in predictions if key not in known),
    )
    if not found.keys:
        raise ValueError(
            f"{task}: no prediction has the name of a ground truth; predictions are called like "
            f"'{next(iter(predictions))}', ground truth like '{next(iter(targets), '')}'."
        )
    if found.unpredicted and not partial:
        names = ", ".join(found.unpredicted[:3]) + (", ..." if len(found.unpredicted) > 3 else "")
        raise ValueError(
            f"{task}: {len(found.unpredicted)} of {len(targets)} images have no prediction ({names}); predict them, or "
            f"score the other {len(found.keys)} with --partial."
        )
    return found
