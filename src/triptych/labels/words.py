"""Words in the names of folders and files: the task and split they name, and where the key of a file ends."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.data.splits import SPLIT_OF

IMAGES = "images"

WORDS: dict[str, tuple[str, ...]] = {
    IMAGES: (
        *("images", "image", "imgs", "img", "im", "rgb", "color", "colour", "colors", "photos", "photo", "pictures"),
        *("jpegimages", "leftimg8bit", "input", "inputs", "frames"),
    ),
    "human_parts": ("human_parts", "humanparts", "parts", "part", "body", "bodyparts"),
    "semseg": (
        *("semseg", "segmentation", "segmentations", "semantic", "semantics", "seg", "labels", "label", "labelids"),
        *("labeltrainids", "gtfine", "annotations", "annotation", "annot", "classes", "masks", "mask", "gt", "class"),
        *("groundtruth", "truth", "segmap", "segmaps", "labelmap", "labelmaps", "segmentationclass"),
    ),
    "depth": ("depth", "depths", "depthmap", "depthmaps", "invdepth", "idepth", "inversedepth"),
    "normals": ("normals", "normal", "norm", "surface_normals"),
    "boundary": ("boundary", "boundaries", "edge", "edges", "contour", "contours", "outline"),
    "saliency": ("saliency", "sal", "salient", "sod"),
}
"""Words in the names of folders and file endings, by task."""

OTHER = ("instance", "instances", "instanceids", "object", "objects", "polygons", "preview", "overlay", "vis", "viz")
"""Words of files and folders beside the labels that are not one of the tasks."""


GENERAL = frozenset(
    ("labels", "label", "annotations", "annotation", "annot", "masks", "mask", "gt", "groundtruth", "truth")
)
"""General words for label maps, ignored beside one that names the task: `edges_gt`."""
MEASURED, VALIDITY = ("depth", "normals"), ("mask", "masks")
"""A word of the second kind after one of the first names a mask of valid pixels: `depth_mask`."""


@dataclass(frozen=True)
class Need:
    """Options that the user has to complete before some labels can be used."""

    text: str
    options: dict[str, Any]


_NUMERATOR = 'disparity is depth of kind = "disparity" with numerator = baseline (m) x focal length (pixels)'
_CAMERA = 'distance along the ray is depth of kind = "distance" and needs a [camera]'
NEEDS = {
    "disparity": Need(_NUMERATOR, {"kind": "disparity", "numerator": 0.0}),
    "distance": Need(_CAMERA, {"kind": "distance"}),
}
"""Options that the user has to complete, by role."""
NEEDS_WORDS = {
    **dict.fromkeys(("disparity", "disparities", "disp"), "disparity"),
    **dict.fromkeys(("distance", "distances"), "distance"),
}

ROLE_OF = {word: role for role, words in WORDS.items() for word in words} | NEEDS_WORDS

FILLERS = {"set", "data", "split"}


def read_folder(name: str) -> tuple[str, str, str]:
    """Read (role, split, name with `{split}`) from the name of a folder: `depth`, `val`, `images_val`, `trainannot`.

    >>> read_folder("masks_val2017"), read_folder("trainannot")
    (('semseg', 'val', 'masks_{split}2017'), ('semseg', 'train', '{split}annot'))
    """
    words = list(re.finditer(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name))
    lower = [word[0].lower() for word in words]
    for i, word in enumerate(lower):
        rest = [other for other in (*lower[:i], *lower[i + 1 :]) if not other.isdigit() and other not in FILLERS]
        if word in SPLIT_OF and all(other in ROLE_OF for other in rest):
            start, end = words[i].span()
            return role_of(rest), name[start:end], f"{name[:start]}{{split}}{name[end:]}"
    for split in sorted(SPLIT_OF, key=len, reverse=True):
        if name.lower().startswith(split) and name.lower()[len(split) :] in ROLE_OF:
            return ROLE_OF[name.lower()[len(split) :]], name[: len(split)], f"{{split}}{name[len(split) :]}"
    role = role_of(split_words(name))
    return ("other" if role and set(split_words(name)) & set(OTHER) else role), "", name


def split_words(name: str) -> list[str]:
    """Split a name into words, whole and at capital letters: `GroundTruth_2` has groundtruth, ground, truth and 2."""
    words = []
    for part in re.split(r"[^A-Za-z0-9]+", name):
        humps = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", part)
        words += [part.lower(), *(hump.lower() for hump in humps if len(humps) > 1)]
    return words


def role_of_words(role: str, text: str) -> str:
    """Role of files in a folder of `role` whose names share `text`: that of a word in it where `role` is images or
    none, or where the word stands for disparity or distance."""
    words = [word for word in re.split(r"[_\-.]", text.lower()) if word]
    if set(words) & set(OTHER):
        return "other"
    found = role_of(words)
    return found or role if role in ("", IMAGES) or found in (*NEEDS, "other") else role


def read_endings(stem: str) -> list[str]:
    """Possible endings after the key in names like `000433_depth_5000`: from each known word, the longest first.

    >>> read_endings("left_image_07_mask")
    ['_image_07_mask', '_mask']
    """
    endings = []
    for match in re.finditer(r"[_\-.]", stem):
        words = re.split(r"[_\-.]", stem[match.end() :].lower())
        if role_of(words[:1]) or words[0] in ("domain", *OTHER):
            endings.append(stem[match.start() :])
    return endings


def read_start(stem: str) -> str:
    """Prefix before the key in names like `rgb_0001` or `room-depth-0001`: up to the last known word."""
    start = ""
    for match in re.finditer(r"[_\-.]", stem):
        if role_of(re.split(r"[_\-.]", stem[: match.start()].lower())[-1:]):
            start = stem[: match.end()]
    return start


def role_of(words: Iterable[str]) -> str:
    """Role of the last word that has one; a task takes precedence over images, and a specific word over a general one.

    >>> role_of(["depth", "rgb"]), role_of(["edges", "gt"]), role_of(["depth", "mask"])
    ('depth', 'boundary', 'other')
    """
    found = [(ROLE_OF.get(word) or ROLE_OF.get(word.rstrip("0123456789"), ""), word) for word in words][::-1]
    found = [(role, word) for role, word in found if role]
    role, _ = min(found, key=lambda one: (one[0] == IMAGES, one[1] in GENERAL), default=("", ""))
    return "other" if role in MEASURED and found[0][1] in VALIDITY else role


def tells_validity(path: Path) -> bool:
    """Whether a file, by its name or folder, is a mask of valid pixels of another map: `0001_depth_mask.npy`."""
    return any(role_of(split_words(name)) == "other" for name in (path.stem, path.parent.name))


MARKS = {"valid", "validity", "mask", "masks", "invalid", "confidence", "conf", "known", "holes", "missing", "ignore"}
"""Words in the names of entries of array files that mark valid pixels of another entry."""


def may_mark(entry: str) -> bool:
    """Whether an entry of an array file may mark the valid pixels of another entry, by its name."""
    return bool(MARKS & set(split_words(entry)))


def holds_where_set(entry: str) -> bool:
    """Whether an entry of an array file is set at valid pixels of another entry, rather than at invalid ones.

    >>> [holds_where_set(name) for name in ("valid", "valid_mask", "invalid", "mask")]
    [True, True, False, False]
    """
    return bool({"valid", "validity", "known"} & set(split_words(entry)))


def unused_marks(entries: Iterable[str], chosen: str, applied: str = "") -> Iterator[tuple[str, str]]:
    """Yield problem and cure for entries of an array file that seem to mark the valid pixels of the chosen one.

    >>> [text for text, _ in unused_marks(["depth", "valid_mask"], "depth")]
    ["its entry 'valid_mask' seems to mark where 'depth' holds, and is not applied"]
    """
    for entry in entries:
        if entry not in (chosen, applied) and may_mark(entry):
            text = f"its entry '{entry}' seems to mark where '{chosen}' holds, and is not applied"
            yield text, f"store what counts as no label in '{chosen}' itself, as NaN, 0 or a value listed in invalid"
