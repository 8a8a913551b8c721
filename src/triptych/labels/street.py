"""Class ids of street scenes: Cityscapes' ids, the label spaces people train in, and those of the synthetic sets.

Cityscapes, SYNTHIA and Virtual KITTI 2 share names and order within a label space, so that a model trained on one is
scored on another. The 16, 13, 8 and 7 classes are those of DenseMTL's adaptation experiments (Lopes et al., 2023).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from triptych import tasks
from triptych.data.errors import DataError
from triptych.labels.encodings import Encoding
from triptych.tasks import Task
from triptych.types import IGNORE, Camera

CITYSCAPES_NAMES = (
    *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground"),
    *("road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel"),
    *("pole", "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider"),
    *("car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
)
"""Names of the ids 0 to 33 in `*_labelIds.png`; a licence plate, -1, is stored as 255."""

SYNTHIA_NAMES = (
    *("void", "sky", "building", "road", "sidewalk", "fence", "vegetation", "pole", "car", "traffic sign"),
    *("person", "bicycle", "motorcycle", "parking-slot", "road-work", "traffic light", "terrain", "rider"),
    *("truck", "bus", "train", "wall", "lanemarking"),
)
"""Names of the ids 0 to 22 in SYNTHIA's labels, written as Cityscapes writes them."""

VKITTI2_NAMES = (
    *("terrain", "sky", "tree", "vegetation", "building", "road", "guard rail", "traffic sign", "traffic light"),
    *("pole", "misc", "truck", "car", "van"),
)
"""Names of Virtual KITTI 2's classes in the order of its colour tables."""

CITYSCAPES_19 = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
"""Class names in the order of `*_labelTrainIds.png`."""

UNKNOWN = 254
"""Colours that are no class, while they are looked up."""

Groups = Mapping[str, tuple[str, ...]]
"""Class of a label space to the names that it joins, in order of the class ids."""


def _alone(names: Iterable[str]) -> Groups:
    return {name: (name,) for name in names}


_SIXTEEN = _alone(name for name in CITYSCAPES_19 if name not in ("terrain", "truck", "train"))

SPACES: dict[str, Groups] = {
    "19": _alone(CITYSCAPES_19),
    "16": _SIXTEEN,
    "13": _alone(name for name in _SIXTEEN if name not in ("wall", "fence", "pole")),
    "8": {
        **_alone(("road", "building", "pole", "traffic light", "traffic sign", "vegetation", "sky")),
        "vehicle": ("car", "bus"),
    },
    "7": {
        "flat": ("road", "sidewalk"),
        "construction": ("building", "fence"),
        "object": ("pole", "traffic light", "traffic sign"),
        "nature": ("vegetation",),
        "sky": ("sky",),
        "human": ("person",),
        "vehicle": ("car", "bicycle"),
    },
    "categories": {
        "flat": ("road", "sidewalk", "parking", "rail track"),
        "construction": ("building", "wall", "fence", "guard rail", "bridge", "tunnel"),
        "object": ("pole", "polegroup", "traffic light", "traffic sign"),
        "nature": ("vegetation", "terrain"),
        "sky": ("sky",),
        "human": ("person", "rider"),
        "vehicle": ("car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
    },
}
"""Label spaces of Cityscapes. `categories` are the groups of the Cityscapes benchmark, seven too, and not `7`."""

VKITTI2_SPACES: dict[str, Groups] = {
    "14": _alone(VKITTI2_NAMES),
    "8": {
        **_alone(("road", "building", "pole", "traffic light", "traffic sign")),
        "vegetation": ("tree", "vegetation"),
        "sky": ("sky",),
        "vehicle": ("truck", "car", "van"),
    },
}
"""Label spaces of Virtual KITTI 2; the 8 classes are those of Cityscapes' `8`, which leaves out trucks."""


@dataclass(frozen=True)
class StreetLabels(Encoding):
    """Stored ids that have names, grouped into the classes of a label space; other names have no label."""

    groups: Groups = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    """Name of every value that a file may hold; another value is an error."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.groups)

    def make_task(self, name: str) -> Task:
        return tasks.semseg(self.classes, name=name)

    @cached_property
    def _table(self) -> np.ndarray:
        """Stored 16-bit value to class id; -1 is a mistake."""
        label = {member: index for index, members in enumerate(self.groups.values()) for member in members}
        table = np.full(65536, -1, np.int64)
        for value, name in self.names.items():
            table[value] = label.get(name, IGNORE)
        return table

    def decode(self, stored: np.ndarray, camera: Camera | None = None) -> Tensor:
        stored = self.pick(stored)
        if stored.dtype.kind not in "iu" or stored.min() < 0 or stored.max() > 65535:
            raise DataError(
                f"it stores {stored.dtype} from {stored.min()} to {stored.max()}", "class ids are 0 to 65535"
            )
        labels = self._table[stored]
        if labels.min() < 0:
            wrong = np.unique(stored[labels < 0])
            shown = ", ".join(str(value) for value in wrong[:8]) + (", ..." if len(wrong) > 8 else "")
            known = sorted(value for value in self.names if value != IGNORE)
            raise DataError(
                f"it has values that are no class ids: {shown}",
                f"known are {known[0]} to {known[-1]}; the file is damaged, or of another label set",
            )
        return torch.from_numpy(labels)


@dataclass(frozen=True)
class ColorLabels(StreetLabels):
    """Classes stored as RGB colours that have names; `names` is not used."""

    colors: Mapping[tuple[int, int, int], str] = field(default_factory=dict)
    """Name of every colour that a file may hold; another colour is an error."""

    @cached_property
    def _by_code(self) -> np.ndarray:
        """24-bit colour to class id, `IGNORE`, or `UNKNOWN`."""
        label = {member: index for index, members in enumerate(self.groups.values()) for member in members}
        table = np.full(1 << 24, UNKNOWN, np.uint8)
        for (red, green, blue), name in self.colors.items():
            table[red << 16 | green << 8 | blue] = label.get(name, IGNORE)
        return table

    def decode(self, stored: np.ndarray, camera: Camera | None = None) -> Tensor:
        stored = self.pick(stored, 3)
        red, green, blue = (stored[..., channel].astype(np.int32) for channel in range(3))
        labels = self._by_code[red << 16 | green << 8 | blue]
        wrong = labels == UNKNOWN
        if wrong.any():
            shown = ", ".join(str(tuple(color.tolist())) for color in np.unique(stored[wrong], axis=0)[:4])
            raise DataError(
                f"{wrong.sum()} of its pixels have colours that are no classes: {shown}",
                "the file was resized or compressed with loss, or the colour table is that of another set",
            )
        return torch.from_numpy(labels.astype(np.int64))


def cityscapes_ids() -> dict[int, str]:
    """Names of the values in `*_labelIds.png`."""
    return {**dict(enumerate(CITYSCAPES_NAMES)), IGNORE: "license plate"}


def cityscapes_train_ids() -> dict[int, str]:
    """Names of the values in `*_labelTrainIds.png`."""
    return {**dict(enumerate(CITYSCAPES_19)), IGNORE: "unlabeled"}
