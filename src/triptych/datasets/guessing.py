"""`triptych data init`: describe a folder by looking at its names and at some of its files."""

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from torch import Tensor

from triptych.data.cameras import CameraFiles
from triptych.data.files import match_files, read_array, read_size
from triptych.datasets.descriptor import FILE_NAME, Descriptor, parse_descriptor
from triptych.datasets.layout import IMAGES, ROLE_OF, SPLIT_OF, SPLITS, WORDS, Place, find_places
from triptych.labels.encodings import ENCODINGS
from triptych.labels.guesses import GUESSES, Guess
from triptych.labels.guessing_normals import FOV, guess_normals

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
        raise ValueError(f"folder '{root}' does not exist; give the folder that holds the images and labels.")
    target = root / FILE_NAME
    if target.exists() and not force:
        raise ValueError(f"{target} exists and is not overwritten; edit it, or use --force, which keeps the old one.")
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
