"""Datasets by name."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triptych.data.base import DenseDataset
from triptych.data.subset import SomeTasks
from triptych.datasets.cityscapes import Cityscapes
from triptych.datasets.folder import Folder
from triptych.datasets.images import Images
from triptych.datasets.mixed import Mixed
from triptych.datasets.nyuv2 import NYUv2
from triptych.datasets.omnidata import Omnidata
from triptych.datasets.pascal_context import PascalContext
from triptych.datasets.rooms import Rooms
from triptych.datasets.synthia import Synthia
from triptych.datasets.vkitti2 import VKITTI2
from triptych.lookup import named_choice, require_options
from triptych.prepared.reader import Prepared

DATASETS: dict[str, type[DenseDataset]] = {
    "cityscapes": Cityscapes,
    "folder": Folder,
    "images": Images,
    "mixed": Mixed,
    "nyuv2": NYUv2,
    "omnidata": Omnidata,
    "pascal-context": PascalContext,
    "prepared": Prepared,
    "rooms": Rooms,
    "synthia": Synthia,
    "vkitti2": VKITTI2,
}


def open_dataset(name: str, root: str | Path = "", *, split: str = "train", **options: Any) -> DenseDataset:
    """Open one split of a dataset by name; `root` is its folder, or the file that describes it.

    Raises `ValueError` for an unknown name, an option that the dataset does not have, and a folder that is left out.

    >>> open_dataset("nyuv2")
    Traceback (most recent call last):
    ...
    ValueError: dataset 'nyuv2' needs its folder; give root (`--recipe.data.root` in training, `--root` in convert).
    """
    return open_configured(name, root, split, options)


def open_configured(name: str, root: str | Path, split: str, options: Mapping[str, Any]) -> DenseDataset:
    """As `open_dataset`; among the options of a described dataset, `root` is the folder of the files that its
    description names. `tasks` selects some of any dataset; one whose constructor takes it does not read the others.
    """
    reader = named_choice("dataset", name, DATASETS)
    given = dict(options)
    tasks = None if "tasks" in inspect.signature(reader).parameters else given.pop("tasks", None)
    require_options(f"dataset '{name}'", reader, given, given=("split",))
    if reader.needs_root and not str(root):
        raise ValueError(
            f"dataset '{name}' needs its folder; give root (`--recipe.data.root` in training, `--root` in convert)."
        )
    dataset = reader(root, split=split, **given)  # type: ignore[call-arg]  # every reader takes these
    return dataset if tasks is None else SomeTasks(dataset, tasks)
