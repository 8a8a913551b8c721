"""Class ids of PASCAL: the 21 of VOC, the 60 and 459 of PASCAL-Context, the person parts of PASCAL-Part."""

import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from triptych.data.errors import DataError
from triptych.data.lists import read_lines
from triptych.labels.nyuv2 import fine_names
from triptych.labels.tables import TableLabels, voc_colors
from triptych.types import IGNORE

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
    return TableLabels(classes=NAMES_21, lookup=tuple(range(21)), invalid=(IGNORE,), source="VOC's 21 classes")


def labels_of_60() -> TableLabels:
    """Encoding of pictures of 60 classes: indices in alphabetical order, colours of VOC's map in the official one."""
    source = "PASCAL-Context's 60 classes"
    return TableLabels(
        classes=NAMES_60, lookup=BY_ALPHABET, invalid=(IGNORE,), source=source, colors=voc_colors(len(NAMES_60))
    )


def labels_of_459(names: list[str]) -> TableLabels:
    """Encoding of `LabelMap` as 60 classes: by name, everything that is none of the 59 being background."""
    place = {name: i for i, name in enumerate(NAMES_60)}
    lookup = (0, *(place.get(name, 0) for name in names))
    return TableLabels(
        key="LabelMap", classes=NAMES_60, lookup=lookup, source="PASCAL-Context's 459 classes (0 to 459)"
    )


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
    """For each value of `LabelMap`, whether distilled normals are kept there.

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
