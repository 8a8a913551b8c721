"""Class ids of street scenes: Cityscapes' ids, the usual label spaces for training, and those of the synthetic sets.

Cityscapes, SYNTHIA and Virtual KITTI 2 share names and order within a label space, so that a model trained on one is
scored on another. The 16, 13, 8 and 7 classes are those of DenseMTL's adaptation experiments (Lopes et al., 2023).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from triptych.labels.tables import Color, TableLabels
from triptych.types import IGNORE

CITYSCAPES_NAMES = (
    *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground"),
    *("road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel"),
    *("pole", "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider"),
    *("car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
)
"""Names of the ids 0 to 33 in `*_labelIds.png`; a license plate, -1, is stored as 255."""

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
"""Names of Virtual KITTI 2's classes in the order of its color tables."""

CITYSCAPES_19 = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
"""Class names in the order of `*_labelTrainIds.png`."""

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


def street_labels(groups: Groups, names: Sequence[str], source: str, **options: Any) -> TableLabels:
    """Encoding of stored ids that have `names`, grouped into the classes of a label space; other names have no label.

    >>> street_labels(SPACES["7"], ("road", "sky", "car", "fog"), "a street").lookup
    (0, 4, 6, 255)
    """
    lookup = tuple(_class_ids(groups).get(name, IGNORE) for name in names)
    return TableLabels(classes=tuple(groups), lookup=lookup, source=source, **options)


def street_colors(groups: Groups, colors: Mapping[Color, str], source: str) -> TableLabels:
    """Encoding of colors that have names, grouped as in `street_labels`."""
    ids = {color: _class_ids(groups).get(name, IGNORE) for color, name in colors.items()}
    return TableLabels(classes=tuple(groups), colors=ids, source=source)


def _class_ids(groups: Groups) -> dict[str, int]:
    return {name: index for index, names in enumerate(groups.values()) for name in names}
