"""Datasets by name."""

from collections.abc import Callable

from triptych.datasets.base import DenseDataset
from triptych.datasets.cityscapes import Cityscapes
from triptych.datasets.folder import Folder
from triptych.datasets.prepared import Prepared
from triptych.datasets.rooms import Rooms

DATASETS: dict[str, Callable[..., DenseDataset]] = {
    "cityscapes": Cityscapes,
    "folder": Folder,
    "prepared": Prepared,
    "rooms": Rooms,
}
