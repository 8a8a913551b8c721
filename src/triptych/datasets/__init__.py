"""Datasets by name."""

from collections.abc import Callable

from triptych.datasets.base import DenseDataset
from triptych.datasets.cityscapes import Cityscapes
from triptych.datasets.folder import Folder
from triptych.datasets.mixed import Mixed
from triptych.datasets.nyuv2 import NYUv2
from triptych.datasets.omnidata import Omnidata
from triptych.datasets.pascal_context import PascalContext
from triptych.datasets.prepared import Prepared
from triptych.datasets.rooms import Rooms
from triptych.datasets.synthia import Synthia
from triptych.datasets.vkitti2 import VKITTI2

DATASETS: dict[str, Callable[..., DenseDataset]] = {
    "cityscapes": Cityscapes,
    "folder": Folder,
    "mixed": Mixed,
    "nyuv2": NYUv2,
    "omnidata": Omnidata,
    "pascal-context": PascalContext,
    "prepared": Prepared,
    "rooms": Rooms,
    "synthia": Synthia,
    "vkitti2": VKITTI2,
}
