"""Describe a folder by its names and some of its files: what `triptych data init` writes."""

import json
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from torch import Tensor

from triptych.data.cameras import CameraFiles
from triptych.data.errors import DataError
from triptych.data.files import PICTURES, SUFFIXES, match_files, read_array, read_size, walk_files
from triptych.datasets.descriptor import FILE_NAME, Descriptor, parse_descriptor
from triptych.labels.axes import FOV, guess_normals
from triptych.labels.encodings import ENCODINGS
from triptych.labels.guesses import GUESSES, Guess

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


Labelled = dict[Path, tuple[str, str]]
"""Label files, with the split and key of the image of each."""
TaskGuess = Callable[[Path, "FolderGuess", Place, Labelled], Guess]


@dataclass
class FolderGuess:
    """What a folder seems to hold."""

    root: Path
    images: str = ""
    splits: dict[str, str | float] = field(default_factory=dict)
    split_reason: str = ""
    tasks: dict[str, tuple[str, Guess]] = field(default_factory=dict)
    """Task name to its pattern and the guess about its numbers."""
    left_out: list[str] = field(default_factory=list)

    @property
    def doubts(self) -> list[str]:
        """What a person should check."""
        return [f"[tasks.{name}] {doubt}" for name, (_, guess) in self.tasks.items() for doubt in guess.doubts]

    def descriptor(self) -> Descriptor:
        """The descriptor that `to_toml` would give."""
        return parse_descriptor(tomllib.loads(self.to_toml()), self.root)

    def to_toml(self) -> str:
        """The `dataset.toml`, with the reason for each guess as a comment."""
        lines = [
            "# Written by `triptych data init`. Check the comments that say CHECK, then run `triptych data doctor`.",
            "# All options: docs/own-data.md",
            f"name = {_toml(self.root.resolve().name)}",
            'root = "."',
        ]
        if self.splits:
            lines += ["", f"[splits]  # {self.split_reason}"]
            lines += [f"{_bare(name)} = {_toml(value)}" for name, value in self.splits.items()]
        lines += ["", "[images]", f"files = {_toml(self.images)}"]
        for name, (pattern, guess) in self.tasks.items():
            lines += ["", f"[tasks.{name}]", f"files = {_toml(pattern)}"]
            doubtful = {doubt.partition(" = ")[0] for doubt in guess.doubts}
            for option, value, reason in guess.options:
                mark = "CHECK: " if option in doubtful else ""
                lines.append(f"{option} = {_toml(value)}  # {mark}{reason}")
            lines += [f"# CHECK: {doubt}" for doubt in guess.doubts if " = " not in doubt]
        if "boundary" not in self.tasks and "semseg" in self.tasks:
            lines += ["", "# [tasks.boundary]", '# from = "semseg"  # where the class changes']
        lines += ["", "# [camera]  # for point clouds and 3D-aware training", "# fov = 60.0  # horizontal, degrees"]
        lines += [f"# left out: {reason}" for reason in self.left_out]
        return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def _bare(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() else _toml(name)


def init_folder(path: str | Path, *, force: bool = False) -> tuple[Path, list[str]]:
    """Write `dataset.toml` into a folder from what it finds; returns its path and what a person should check.

    Raises `ValueError` if there is one already (`force` keeps it as dataset.toml.old), or if images or labels are not
    found, naming what was looked for and a better folder where there is one.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"folder '{root}' does not exist", "give the folder that holds the images and labels")
    target = root / FILE_NAME
    if target.exists() and not force:
        raise DataError(f"{target} exists and is not overwritten", "edit it, or use --force, which keeps the old one")
    guess = describe_folder(root)
    text = guess.to_toml()
    if target.exists():
        target.replace(target.with_name(FILE_NAME + ".old"))
    target.write_text(text, encoding="utf-8")
    return target, guess.doubts


def describe_folder(root: Path) -> FolderGuess:
    """What a folder seems to hold; raises `ValueError` if there are no images or no labels that belong to them."""
    places = find_places(root)
    if IMAGES not in places or len(places) < 2:
        better = suggest_root(root)
        hint = f" Did you mean {better}?" if better else ""
        missing = "images" if IMAGES not in places else "labels"
        names = ", ".join(WORDS[IMAGES][:6]) if IMAGES not in places else ", ".join(role for role in ENCODINGS)
        raise ValueError(f"{root} has no folder of {missing} with a usual name ({names}).{hint}")
    guess = FolderGuess(root, images=places[IMAGES][0].pattern)
    guess.left_out += [f"{place.pattern}: other images" for place in places[IMAGES][1:]]
    guess.splits, guess.split_reason = _guess_splits(root, places[IMAGES][0])
    images = _by_key(root, places[IMAGES][0])
    for name, guess_task in TASK_GUESSES.items():
        for place in places.get(name, []):
            problem = f"[tasks.{name}] has files already" if name in guess.tasks else _mismatch(root, place, images)
            if problem:
                guess.left_out.append(f"{place.pattern}: {problem}")
                continue
            labels = {path: key for key, path in _by_key(root, place).items() if key in images}
            numbers = guess_task(root, guess, place, labels)
            if not numbers.usable:
                guess.left_out.append(f"{place.pattern}: {'; '.join(numbers.doubts)}")
                continue
            guess.tasks[name] = (place.pattern, numbers)
    if not guess.tasks:
        raise ValueError(f"{root} has images ({guess.images}) but no usable labels: {'; '.join(guess.left_out)}.")
    return guess


def _by_key(root: Path, place: Place) -> dict[tuple[str, str], Path]:
    return {
        (split, key): path for split in place.files for key, path in match_files(root, place.pattern, split).items()
    }


def _mismatch(root: Path, place: Place, images: dict[tuple[str, str], Path]) -> str:
    """Why a place cannot hold labels of the images; empty if it can."""
    labels = _by_key(root, place)
    pairs = [(path, images[key]) for key, path in labels.items() if key in images]
    if not pairs:
        names = next(iter(labels))[1], next(iter(images))[1]
        return f"its names, like '{names[0]}', are not those of images, like '{names[1]}'"
    sizes = []
    for label, image in pairs[:: max(len(pairs) // 5, 1)][:5]:
        try:
            sizes.append((read_size(label), read_size(image)))
        except (OSError, ValueError):
            continue
    if sizes and all(label != image for label, image in sizes):
        (height, width), (rows, columns) = sizes[0]
        return f"{height}x{width} where the image is {rows}x{columns}"
    return ""


def _guess_splits(root: Path, images: Place) -> tuple[dict[str, str | float], str]:
    folders = [name for name in images.files if name]
    if folders:
        order = sorted(folders, key=lambda name: list(SPLITS).index(SPLIT_OF[name.lower()]))
        return {SPLIT_OF[name.lower()]: name for name in order}, "name = folder that {split} stands for"
    lists: dict[str, str | float] = {}
    for path in sorted([*root.glob("*.txt"), *root.glob("*/*.txt"), *root.glob("*/*/*.txt")]):
        if path.stem.lower() in SPLIT_OF:
            lists.setdefault(SPLIT_OF[path.stem.lower()], path.relative_to(root).as_posix())
    if lists:
        return {name: lists[name] for name in SPLITS if name in lists}, "lists of keys, one per line"
    return {"val": 0.1, "test": 0.1}, "shares of the images, drawn by a hash of their names; train is the rest"


def _guess_normals(root: Path, guess: FolderGuess, place: Place, labels: Labelled) -> Guess:
    """Axes of normals, compared with the depth of the same images where there is some."""
    if "depth" not in guess.tasks:
        return guess_normals(list(labels))
    pattern, numbers = guess.tasks["depth"]
    depth = {"files": pattern, **numbers.values}
    data = {"images": {"files": guess.images}, "camera": {"fov": FOV}, "tasks": {"depth": depth}}
    encoding, camera = parse_descriptor(data, root).tasks["depth"], CameraFiles(fov=FOV)
    files = _by_key(root, Place("depth", pattern, place.files))

    def depth_of(path: Path) -> Tensor | None:
        file = files.get(labels[path])
        if file is None:
            return None
        return encoding.decode(read_array(file), camera.camera(read_size(file), None))

    return guess_normals([path for path, key in labels.items() if key in files] or list(labels), depth_of=depth_of)


def _guess_alone(numbers: Callable[[list[Path]], Guess]) -> TaskGuess:
    """What the numbers of the labels say, whatever lies beside them."""
    return lambda root, guess, place, labels: numbers(list(labels))


TASK_GUESSES: dict[str, TaskGuess] = {
    **{name: _guess_alone(numbers) for name, numbers in GUESSES.items()},
    "normals": _guess_normals,  # after depth, which they look at
}


def suggest_root(path: Path) -> Path | None:
    """A folder near `path` that looks like a dataset where `path` itself does not: up to two levels down, or up from
    where images, labels or splits lie.
    """
    if _looks_right(path):
        return None
    path = path.resolve()
    below = [folder for folder in sorted(path.glob("*")) if folder.is_dir()]
    deeper = [folder for place in below for folder in sorted(place.glob("*")) if folder.is_dir()]
    inside = takewhile(lambda folder: folder.name.lower() in {*ROLE_OF, *SPLIT_OF}, (path, *path.parents))
    above = [folder.parent for folder in islice(inside, 2)]
    return next((folder for folder in [*below, *deeper, *above] if _looks_right(folder)), None)


def _looks_right(path: Path) -> bool:
    if (path / FILE_NAME).is_file():
        return True
    places = find_places(path, limit=5000)
    return IMAGES in places and len(places) > 1
