"""Label maps whose stored values are looked up in a table, as published datasets number their classes; and the tables.

NYU Depth v2: its own 894 names, the 40 of Gupta et al. (CVPR 2013), the 13 of Couprie et al. (2013). PASCAL: the 21 of
VOC, the 60 and 459 of PASCAL-Context, the person parts of PASCAL-Part.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from triptych import tasks
from triptych.data.errors import DataError
from triptych.data.lists import packaged_lines, read_lines
from triptych.labels.base import Encoding
from triptych.tasks import Task
from triptych.types import IGNORE, UNUSED, Camera

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


@dataclass(frozen=True)
class TableLabels(Encoding):
    """Class ids `lookup[stored]`; `invalid` values are unlabelled, any other value is a mistake.

    >>> TableLabels(classes=("wall", "floor"), lookup=(255, 0, 1)).decode(np.array([[0, 1, 2]])).tolist()
    [[255, 0, 1]]
    """

    classes: tuple[str, ...] = ()
    lookup: tuple[int, ...] = ()
    """Class id of each stored value from 0; `IGNORE` where it is no class."""
    source: str = "the dataset"
    """Origin of the numbers, for errors."""
    colors: Mapping[Color, int] = field(default_factory=dict)
    """Class id of each RGB color, where the map is a color picture."""

    @property
    def by_index(self) -> bool:
        return True

    def make_task(self, name: str) -> Task:
        return tasks.semseg(self.classes, name=name)

    @cached_property
    def _table(self) -> np.ndarray:
        """Stored 16-bit value to class id; -1 is a mistake."""
        table = np.full(65536, -1, np.int64)
        table[: len(self.lookup)] = self.lookup
        table[[int(value) for value in self.invalid if 0 <= value < len(table)]] = IGNORE
        return table

    @cached_property
    def _by_color(self) -> np.ndarray:
        """24-bit color to class id; -1 is a mistake."""
        table = np.full(1 << 24, -1, np.int16)
        for (red, green, blue), label in self.colors.items():
            table[red << 16 | green << 8 | blue] = label
        return table

    def decode(self, stored: np.ndarray, camera: Camera | None = None) -> Tensor:
        stored = np.ma.getdata(stored)  # transparent pixels have the label of their color there
        if stored.ndim == 3 and stored.shape[-1] in (3, 4) and self.colors:
            if stored.dtype != np.uint8:
                raise DataError(f"its colours are {stored.dtype}", "save them as 8 bits, 0 to 255")
            stored = stored[..., :3]
            red, green, blue = (stored[..., channel].astype(np.int32) for channel in range(3))
            labels = self._by_color[red << 16 | green << 8 | blue].astype(np.int64)
        else:
            stored = self.pick(stored)
            labels = self._table[stored] if stored.dtype in (np.uint8, np.uint16) else self._look_up(stored)
        if labels.min(initial=0) < 0:
            wrong = labels < 0
            values = np.unique(stored[wrong], axis=0).tolist()
            found = [str(tuple(one) if isinstance(one, list) else one) for one in values]
            raise DataError(
                f"{wrong.sum()} of its pixels have values that are none of {self.source}: {', '.join(found[:8])}"
                f"{', ...' if len(found) > 8 else ''}",
                "this file is damaged, of another variant, or was converted, resized or compressed with loss",
            )
        return torch.from_numpy(labels)

    def _look_up(self, stored: np.ndarray) -> np.ndarray:
        """Class ids of wider number types and floats."""
        unlabelled = np.isin(stored, self.invalid)
        with np.errstate(invalid="ignore"):  # NaN becomes some number, which the comparison rejects
            values = np.where(unlabelled, 0, stored).astype(np.int64)
        wrong = (values < 0) | (values >= len(self._table)) | (values != stored)
        return np.where(unlabelled, IGNORE, np.where(wrong, -1, self._table[np.where(wrong, 0, values)]))


def voc_colors(count: int) -> tuple[Color, ...]:
    """The color map of PASCAL VOC: bits of the index are dealt to red, green and blue in turn, high bits first.

    >>> voc_colors(3)
    ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    """
    bits = [
        [sum((i >> 3 * place + channel & 1) << 7 - place for place in range(3)) for channel in range(3)]
        for i in range(count)
    ]
    return tuple((red, green, blue) for red, green, blue in bits)


NAMES_40 = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture"),
    *("counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes"),
    *("ceiling", "books", "refridgerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard"),
    *("person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture"),
    "otherprop",
)
NAMES_13 = (
    *("bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall"),
    "window",
)
FROM_40_TO_13 = (
    *(11, 4, 5, 0, 3, 8, 9, 11, 12, 5, 7, 5, 12, 9, 5, 12, 5, 6, 6, 4),
    *(6, 2, 1, 5, 10, 6, 6, 6, 6, 6, 6, 5, 6, 6, 6, 6, 6, 6, 5, 6),
)
"""Class of the 13 for each of the 40, both from 0."""


def class_space(classes: int) -> tuple[str, ...]:
    """Names of the 13, 40 or 894 classes in order of their ids.

    255 marks unlabelled pixels, so the 894 classes have ids 0 to 894 without 255: 895 channels, one of them unused.

    >>> [len(class_space(classes)) for classes in (13, 40, 894)]
    [13, 40, 895]
    """
    if classes == 894:
        names = fine_names()
        return (*names[:IGNORE], UNUSED, *names[IGNORE:])
    return {13: NAMES_13, 40: NAMES_40}[classes]


def fine_names() -> list[str]:
    """The 894 names in the order of the dataset, which counts them from 1.

    >>> fine_names()[:2]
    ['book', 'bottle']
    """
    return [line.partition(" ")[2] for line in packaged_lines("nyuv2_classes")]


def labels_of_40(classes: int) -> TableLabels:
    """Encoding of files of 0 (unlabelled) and 1 to 40."""
    lookup = (IGNORE, *(range(40) if classes == 40 else FROM_40_TO_13))
    return TableLabels(classes=class_space(classes), lookup=lookup, source="the 40 classes of NYUv2")


def labels_of_13() -> TableLabels:
    """Encoding of the arrays of the MTAN line: 0 to 12, -1 unlabelled."""
    return TableLabels(classes=NAMES_13, lookup=tuple(range(13)), invalid=(-1,), source="the 13 classes of NYUv2")


def labels_of_names(names: Sequence[str], classes: int) -> TableLabels:
    """Encoding of the labels of the official file: 0 unlabelled, i the i-th of its `names`."""
    coarse = {line.partition(" ")[2]: int(line.partition(" ")[0]) - 1 for line in packaged_lines("nyuv2_classes")}
    unknown = [name for name in names if name not in coarse]
    if unknown:
        raise DataError(f"its names hold '{unknown[0]}', which is none of NYUv2's 894", "take the official file")
    if classes == 894:
        ids = {name: i for i, name in enumerate(class_space(894))}
    else:
        ids = {name: label if classes == 40 else FROM_40_TO_13[label] for name, label in coarse.items()}
    lookup = (IGNORE, *(ids[name] for name in names))
    return TableLabels(classes=class_space(classes), lookup=lookup, source="the 894 classes of NYUv2")


NAMES_21 = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
NAMES_60 = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "table"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor", "bag", "bed"),
    *("bench", "book", "building", "cabinet", "ceiling", "cloth", "computer", "cup", "door", "fence", "floor"),
    *("flower", "food", "grass", "ground", "keyboard", "light", "mountain", "mouse", "curtain", "platform", "sign"),
    *("plate", "road", "rock", "shelves", "sidewalk", "sky", "snow", "bedclothes", "track", "tree", "truck", "wall"),
    *("water", "window", "wood"),
)
"""In the order of PASCAL-Context's list of its 59 frequent classes."""
BY_ALPHABET = (0, *(NAMES_60.index(name) for name in sorted(NAMES_60[1:])))
"""Class of the 60 for each in alphabetical order, as converters that go by the 459 ids number them."""
NUM_FINE, TV, PERSON = 459, 427, 15

PARTS = {
    **dict.fromkeys(("head", "hair", "lear", "rear", "lebrow", "rebrow", "leye", "reye", "mouth", "nose"), 1),
    **dict.fromkeys(("torso", "neck"), 2),
    **dict.fromkeys(("luarm", "ruarm"), 3),
    **dict.fromkeys(("llarm", "rlarm", "lhand", "rhand"), 4),
    **dict.fromkeys(("luleg", "ruleg"), 5),
    **dict.fromkeys(("llleg", "rlleg", "lfoot", "rfoot"), 6),
}
"""Names of a person's parts in PASCAL-Part (l and r: left and right; u and l: upper and lower) to the seven classes."""


def labels_of_21() -> TableLabels:
    """Encoding of VOC's palette pictures: 0 to 20, 255 at the borders of objects."""
    return TableLabels(classes=NAMES_21, lookup=tuple(range(21)), invalid=(IGNORE,), source="the 21 classes of VOC")


def labels_of_60() -> TableLabels:
    """Encoding of pictures of 60 classes: indices in alphabetical order, colors of VOC's map in the official one."""
    return TableLabels(
        classes=NAMES_60,
        lookup=BY_ALPHABET,
        invalid=(IGNORE,),
        source="the 60 classes of PASCAL-Context",
        colors={color: index for index, color in enumerate(voc_colors(len(NAMES_60)))},
    )


def labels_of_459(names: list[str]) -> TableLabels:
    """Encoding of `LabelMap` as 60 classes: by name, everything that is none of the 59 being background."""
    place = {name: i for i, name in enumerate(NAMES_60)}
    lookup = (0, *(place.get(name, 0) for name in names))
    return TableLabels(key="LabelMap", classes=NAMES_60, lookup=lookup, source="the 459 classes of PASCAL-Context")


def read_names(path: Path) -> list[str]:
    """The 459 class names of PASCAL-Context's `labels.txt`, lines like `427: tvmonitor`; `ValueError` for another."""
    matches = [re.fullmatch(r"(\d+)\s*:\s*(.+)", line) for line in read_lines(path)]
    found = {int(match[1]): match[2].strip() for match in matches if match}
    names = [found.get(number, "") for number in range(1, NUM_FINE + 1)]
    absent = sorted(set(NAMES_60[1:]) - set(names))
    if len(found) != NUM_FINE or names[TV - 1] != "tvmonitor" or absent:
        raise ValueError(
            f"{path} is not the labels.txt of PASCAL-Context: it has {len(found)} of 459 lines like '427: tvmonitor'"
            + (f", and no {absent[0]}." if absent else ".")
        )
    return names


def has_normals(names: list[str]) -> np.ndarray:
    """Mask over the values of `LabelMap`: where distilled normals are kept.

    The published rule: the class is also named by NYUv2 (894 names without "unknown"), or is tvmonitor.
    """
    known = {*fine_names(), "tvmonitor"} - {"unknown"}
    return np.array([False, *(name in known for name in names)])


def decode_parts(annotation: np.ndarray, size: tuple[int, int]) -> Int64[Tensor, "height width"]:
    """Person parts (0 background, 1 head, ... 6 lower leg) from `anno` of PASCAL-Part; all invalid without any part.

    Where masks overlap the later one counts. Raises `ValueError` for a mask of another size and an unknown part.
    """
    labels = np.zeros(size, np.int64)
    for item in _items(annotation, "objects"):
        if int(np.ravel(item["class_ind"])[0]) != PERSON:
            continue
        for part in _items(item, "parts"):
            name = str(np.ravel(part["part_name"])[0])
            if name not in PARTS:
                raise DataError(f"it has a part '{name}'", f"a person has {', '.join(PARTS)}")
            mask = np.asarray(part["mask"])
            if mask.shape != size:
                raise ValueError(f"the mask of its part '{name}' is {mask.shape}, the image {size}")
            labels[mask > 0] = PARTS[name]
    return torch.from_numpy(labels if labels.any() else np.full(size, IGNORE, np.int64))


def _items(record: np.ndarray | np.void, name: str) -> list[np.void]:
    """The structs of a MATLAB field; an empty field is a plain array without any."""
    if record.dtype.names is None or name not in record.dtype.names:
        raise ValueError(f"it has no '{name}': it is no annotation of PASCAL-Part")
    field = record[name]
    inner = field if isinstance(record, np.void) else np.ravel(field)[0]
    return [] if inner.dtype.names is None else list(np.ravel(inner))
