"""Recognising what lies where in a folder: images, splits and label folders, by the names people give them."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from triptych.data.files import PICTURES, SUFFIXES, walk_files

IMAGES = "images"

WORDS: dict[str, tuple[str, ...]] = {
    IMAGES: (
        *("images", "image", "imgs", "img", "rgb", "color", "colour", "colors", "photos", "photo", "pictures"),
        *("jpegimages", "leftimg8bit", "input", "inputs", "frames"),
    ),
    "human_parts": ("human_parts", "humanparts", "parts", "part", "body", "bodyparts"),
    "semseg": (
        *("semseg", "segmentation", "segmentations", "semantic", "semantics", "seg", "labels", "label", "labelids"),
        *("labeltrainids", "gtfine", "annotations", "annotation", "annot", "classes", "masks", "mask", "gt", "class"),
    ),
    "depth": ("depth", "depths", "depthmap", "depthmaps"),
    "normals": ("normals", "normal", "norm", "surface_normals"),
    "boundary": ("boundary", "boundaries", "edge", "edges", "contour", "contours", "outline"),
    "saliency": ("saliency", "sal", "salient", "sod"),
}
"""What folders and file endings are called, by task."""

SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "tst"),
}

OTHER = ("instance", "instances", "instanceids", "polygons", "preview", "overlay", "vis", "viz")
"""Endings of files beside the labels that are not one of the tasks."""

ROLE_OF = {word: role for role, words in WORDS.items() for word in words}
SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words}


@dataclass
class Place:
    """Files that one pattern describes."""

    role: str
    pattern: str
    files: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    """By the name that `{split}` stands for, or ""."""

    @property
    def paths(self) -> list[Path]:
        """All of them, in order."""
        return [path for files in self.files.values() for path in files]


def find_places(root: Path, *, limit: int | None = None) -> dict[str, list[Place]]:
    """Image and label places below `root` by role; the likelier come first: more files, then the plainer pattern.

    `limit` looks at that many files only.
    """
    places: dict[tuple[str, str], Place] = {}
    for path in islice(walk_files(root), limit):
        if path.suffix.lower() in SUFFIXES:
            role, pattern, split = classify(path.relative_to(root))
            places.setdefault((role, pattern), Place(role, pattern)).files[split].append(path)
    roles = defaultdict(list)
    for place in sorted(places.values(), key=lambda place: (-len(place.paths), len(place.pattern), place.pattern)):
        roles[place.role].append(place)
    unnamed = [place for place in roles.pop("", []) if place.paths[0].suffix.lower() in PICTURES]
    roles.pop("other", None)
    if IMAGES not in roles and unnamed:  # as in CamVid, where train/ holds images and trainannot/ labels
        roles[IMAGES] = unnamed
        _part_by_suffix(roles, unnamed[0])
    return dict(roles)


def _part_by_suffix(roles: dict[str, list[Place]], place: Place) -> None:
    """Where x.jpg and x.png lie side by side, as people keep PASCAL VOC, the PNG is the label map."""
    photos = {path.stem for path in place.paths if path.suffix.lower() in (".jpg", ".jpeg")}
    if not photos & {path.stem for path in place.paths if path.suffix.lower() == ".png"}:
        return
    for role, suffixes in ((IMAGES, (".jpg", ".jpeg")), ("semseg", (".png",))):
        part = Place(role, place.pattern.removesuffix(".*") + suffixes[0])
        for split, paths in place.files.items():
            part.files[split] = [path for path in paths if path.suffix.lower() in suffixes]
        roles[role] = [part]


def classify(path: Path) -> tuple[str, str, str]:
    """(role, pattern, split folder) of one file, from the names of its folders and the ending of its own.

    >>> classify(Path("depth/val/0001.npy"))
    ('depth', 'depth/{split}/{key}.npy', 'val')
    >>> classify(Path("trainannot/0001.png"))
    ('semseg', '{split}annot/{key}.*', 'train')
    >>> classify(Path("room/000433_depth_5000.png"))
    ('depth', '{key}_depth_5000.*', '')
    """
    folders, role, split, last = list(path.parts[:-1]), "", "", 0
    for i, name in enumerate(folders):
        here, told = _read_folder(name)
        if told and not split:
            folders[i], split, last = name.replace(told, "{split}", 1), told, i + 1
        if here:
            role, last = here, i + 1
    ending, told = _read_ending(path.stem)
    suffix = ".*" if path.suffix.lower() in PICTURES else path.suffix
    role = "other" if told == "other" else role or told
    return role, "/".join([*folders[:last], "{key}" + ending + suffix]), split


def _read_folder(name: str) -> tuple[str, str]:
    """(role, split) that a folder's name tells: `depth`, `val`, or both as in `trainannot`."""
    lower = name.lower()
    if lower in SPLIT_OF:
        return "", name
    for split in sorted(SPLIT_OF, key=len, reverse=True):
        if lower.startswith(split) and lower[len(split) :].strip("_- ") in ROLE_OF:
            return ROLE_OF[lower[len(split) :].strip("_- ")], name[: len(split)]
    return _role(re.split(r"[^a-z0-9]+", lower)), ""


def _read_ending(stem: str) -> tuple[str, str]:
    """(ending, role) of names like `000433_depth_5000`: what follows the key, from the first word that is known."""
    for match in re.finditer(r"[_\-.]", stem):
        words = re.split(r"[_\-.]", stem[match.end() :].lower())
        if _role(words[:1]) or words[0] == "domain":
            return stem[match.start() :], "other" if set(words) & set(OTHER) else _role(words)
    return "", ""


def _role(words: Iterable[str]) -> str:
    """The role of the last word that has one: in `rgb_to_depth` it is depth."""
    roles = [ROLE_OF.get(word) or ROLE_OF.get(word.rstrip("0123456789"), "") for word in words]
    return next((role for role in reversed(roles) if role), "")
