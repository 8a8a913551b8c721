"""Class ids of NYU Depth v2: its own 894 names, the 40 of Gupta et al. (CVPR 2013), the 13 of Couprie et al. (2013)."""

from collections.abc import Sequence

from triptych.data.errors import DataError
from triptych.data.lists import packaged_lines
from triptych.labels.tables import TableLabels
from triptych.types import IGNORE

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
UNUSED = "(no class: 255 means unlabelled)"


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
    return TableLabels(classes=class_space(classes), lookup=lookup, source="NYUv2's 40 classes")


def labels_of_13() -> TableLabels:
    """Encoding of the arrays of the MTAN line: 0 to 12, -1 unlabelled."""
    return TableLabels(classes=NAMES_13, lookup=tuple(range(13)), invalid=(-1,), source="NYUv2's 13 classes")


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
    return TableLabels(classes=class_space(classes), lookup=lookup, source="NYUv2's 894 classes")
