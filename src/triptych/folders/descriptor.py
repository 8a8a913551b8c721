"""`dataset.toml`: the description of a folder of the user's own data, its files and the meaning of their numbers.

The reference of all options is docs/own-data.md. Long because each possible mistake in it has its own message.
"""

import math
import re
import tomllib
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from triptych.data.errors import DataError
from triptych.data.files import composed, find_split_folder, list_split_folders, match_files
from triptych.data.lists import read_lines, read_text
from triptych.data.shares import DRAWS, GROUPS, draw_splits, fit_shares
from triptych.data.splits import ALL
from triptych.folders.camera_files import CameraFiles
from triptych.folders.toml_text import as_toml
from triptych.labels.base import LATER, Encoding
from triptych.labels.classes import Labels
from triptych.labels.encodings import ENCODINGS
from triptych.labels.masks import BoundaryMask
from triptych.lookup import build, named_choice, require_kind

FILE_NAME = "dataset.toml"
LISTS = (".txt", ".lst")
"""Suffixes of lists of keys."""
PSEUDO = "pseudo"
"""Folder of pseudo-labels, and the section of a task that says who made them."""


@dataclass(frozen=True)
class PseudoLabels:
    """Files and origin of a network's predictions that are used as labels: `[tasks.NAME.pseudo]`.

    They have the encoding of their task. A real label always takes precedence, and scores never use them as ground
    truth.
    """

    files: str
    """Pattern of the files, as of labels."""
    source: Literal["pseudo"] = "pseudo"
    teacher: str = ""
    """The run or file that predicted them."""
    sha256: str = ""
    """Hash of the teacher's weights, or of its file."""
    date: str = ""
    min_confidence: float | int | None = None
    """Pixels of lower confidence of the teacher have no label."""
    class_map: Mapping[str, str] = field(default_factory=dict)
    """The teacher's classes that have another name here, or none (empty)."""
    weight: float | int = 1.0
    """Factor of the gradient of an image's pseudo-label, 0 or more."""
    shorter_side: int | None = field(default=None, metadata=LATER)
    """Shorter side of the images in pixels that the teacher saw; `None`: their own size."""
    encoding: str = field(default="", metadata=LATER)
    """Hash of the task's encoding in which they are stored; older versions did not record it."""
    event_from: float | int | None = field(default=None, metadata=LATER)
    """Least probability of a positive pixel, for tasks of one probability; older versions used 0.5."""

    def facts(self) -> dict[str, object]:
        """Facts for a fingerprint; options of later versions only where they are set."""
        return {
            option.name: getattr(self, option.name)
            for option in fields(self)
            if not option.metadata or getattr(self, option.name) != option.default
        }

    def __post_init__(self) -> None:
        if self.source != PSEUDO:
            raise DataError(f"source is '{self.source}'", f"'{PSEUDO}' is the only one")
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise DataError(f"weight is {self.weight}", "it is 0 or more: 1 counts like a label")


def are_shares(splits: Mapping[str, str | float]) -> bool:
    """Whether splits are shares of the images, rather than folders or lists."""
    return any(not isinstance(value, str) for value in splits.values())


@dataclass(frozen=True)
class Descriptor:
    """A `dataset.toml` as values."""

    path: Path
    """The file itself, or the folder where there is no file."""
    root: Path
    name: str
    images: str
    """Pattern of the image files."""
    tasks: dict[str, Encoding]
    splits: dict[str, str | float] = field(default_factory=dict)
    """Name of a split to the folder that `{split}` stands for, a list of keys (.txt), or a share of the images."""
    group: Literal["file", "folder", "time"] = "file"
    """Images that a split by shares keeps together: single files, those of a folder, or blocks of time of a video."""
    draw: Literal["exact", "stable"] = "exact"
    """How a split by shares is drawn: with exact counts, or such that added images never move others."""
    camera: CameraFiles | None = None
    pseudo: Mapping[str, PseudoLabels] = field(default_factory=dict)
    """Pseudo-labels by task."""
    notes: tuple[str, ...] = ()
    """Notes for the user where there is no descriptor: files that match no pattern."""

    @property
    def has_shares(self) -> bool:
        """Whether splits are shares of the images."""
        return are_shares(self.splits)

    @property
    def has_split_folders(self) -> bool:
        """Whether images lie in folders by split."""
        return "{split}" in self.images


def read_descriptor(path: Path, *, root: str | Path = "") -> Descriptor:
    """Read a `dataset.toml`; `root` replaces the folder that it names.

    Raises `ValueError` for anything that is not understood, naming the section, the option and what is accepted.
    """
    try:
        data = tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, DataError, RecursionError) as error:
        raise DataError.about(f"{path} is not a TOML file", error) from error
    try:
        return parse_descriptor(data, path, root=root)
    except ValueError as error:
        raise DataError.about(str(path), error) from error


def parse_descriptor(data: Mapping[str, Any], path: Path, *, root: str | Path = "") -> Descriptor:
    """The descriptor that a TOML document `data` describes; relative folders start at the file's own."""
    if "sources" in data:
        raise DataError("it describes a mixture of datasets ([sources])", "say so: the dataset is 'mixed'")
    words = {field.name for field in fields(Top)}
    for section in data:
        named_choice("section", section, dict.fromkeys((*words, "images", "splits", "camera", "tasks")))
    top = build(Top, {word: data[word] for word in words & data.keys()})
    splits = _as_section(data.get("splits", {}), "[splits]")
    # Beside folders and lists it is the name of a split.
    is_option = isinstance(splits.get("draw"), str) and any(map(_is_share, splits.values()))
    draw: Any = splits.pop("draw") if is_option else "exact"
    named_choice("draw of [splits]", draw, DRAWS)
    images = build_section(Images, data.get("images", {}), "[images]").files
    if not images:
        raise DataError("[images] names no files", 'add files = "images/{split}/{key}.*"')
    tables = {name: _as_section(table, f"[tasks.{name}]") for name, table in _as_section(data.get("tasks", {})).items()}
    pseudo = {
        name: build_section(PseudoLabels, table.pop(PSEUDO), f"[tasks.{name}.{PSEUDO}]")
        for name, table in tables.items()
        if PSEUDO in table
    }
    encodings = {name: _build_task(name, table) for name, table in tables.items()}
    if not encodings and "camera" not in data:
        raise DataError("no task is described", "add a section such as [tasks.depth], or [camera] for frames of videos")
    for name, encoding in encodings.items():
        source = getattr(encoding, "source", "")
        if source and not isinstance(encodings.get(source), Labels):
            raise ValueError(f"[tasks.{name}]: from = '{source}' is no label task of this file.")
    base = path.parent if path.suffix == ".toml" else path
    place = Path(root) if root else base / top.root
    camera = build_section(CameraFiles, data["camera"], "[camera]") if data.get("camera") else None
    named_choice("group", top.group, GROUPS)
    described = Descriptor(
        path=path,
        root=place,
        name=str(top.name or place.resolve().name),
        images=images,
        tasks=encodings,
        splits=_check_splits(splits, images),
        group=top.group,
        draw=draw,
        camera=camera,
        pseudo=pseudo,
    )
    _check_patterns(described)
    return described


@dataclass(frozen=True)
class Top:
    """Options above the sections of a descriptor."""

    name: str | int = ""
    root: str = "."
    group: str = "file"


@dataclass(frozen=True)
class Images:
    """`[images]`."""

    files: str = ""


def _as_section(value: Any, where: str = "[tasks]") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise DataError(f"{where} is {value!r}", "write a section of this name with options below it, such as files")
    return dict(value)


def build_section(cls: Any, value: Any, where: str) -> Any:
    """An instance of the dataclass `cls` from a section of a TOML file; errors name the section and the option."""
    table = _as_section(value, where)
    try:
        for option in table:
            named_choice("option", option, {field.name: None for field in fields(cls)})
        return build(cls, table)
    except (ValueError, TypeError) as error:
        raise DataError.about(where, error) from error


def _check_splits(splits: Mapping[str, Any], images: str) -> dict[str, str | float]:
    shares = {name: value for name, value in splits.items() if _is_share(value)}
    wrong = [value for value in splits.values() if not (isinstance(value, str) or _is_share(value))]
    if wrong or (shares and len(shares) < len(splits)):
        raise ValueError("[splits] gives folders or .txt lists for all splits, or shares such as 0.1 for all of them.")
    if shares and not (min(shares.values()) >= 0 and sum(shares.values()) <= 1 and "train" not in shares):
        raise DataError("[splits] gives shares of the other splits that sum to at most 1", "train is the rest")
    for name, value in splits.items():
        if isinstance(value, str) and not value.endswith(LISTS) and "{split}" not in images:
            raise ValueError(
                f"[splits] {name} = '{value}' is a folder, but [images] files = '{images}' has no {{split}} for it."
            )
    return dict(splits)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_patterns(descriptor: Descriptor) -> None:
    """Raise `DataError` for `{split}` in patterns where images are not in folders by split, but in shares or lists."""
    drawn = [
        f"[splits] {name} = {as_toml(value)} is no folder"
        for name, value in descriptor.splits.items()
        if not isinstance(value, str) or value.endswith(LISTS)
    ]
    flat = [] if descriptor.has_split_folders else [f"[images] files = '{descriptor.images}' has none"]
    places = {"[images]": descriptor.images, "[camera]": descriptor.camera.files if descriptor.camera else ""}
    places |= {f"[tasks.{name}]": one.files for name, one in descriptor.tasks.items()}
    places |= {f"[tasks.{name}.{PSEUDO}]": one.files for name, one in descriptor.pseudo.items()}
    for where, pattern in places.items():
        if "{split}" in pattern and (drawn or flat):
            cure = "write * in its place, or let {key} stand for the folder too where that of images does"
            if where == "[images]":
                cure = "drop [splits], so that each folder is a split, or let {key} stand for the folder too"
            if where == "[images]" and "{split}/{key}" in pattern:
                cure += f" ('{pattern.replace('{split}/{key}', '{key}')}', keys like train/001), in labels alike"
            raise DataError(f"{where} files = '{pattern}' has {{split}}, but {(drawn + flat)[0]}", cure)


def _build_task(name: str, table: dict[str, Any]) -> Encoding:
    kind = table.pop("type", name)
    where = f"[tasks.{name}]"
    try:
        require_kind("type", kind, str)
        encoding = named_choice("kind of task", kind, ENCODINGS)
    except ValueError as error:
        cure = "set type to one of these for a task of your own name"
        raise DataError(f"{where}: {str(error).rstrip('.')}", cure) from error
    if name != kind and name in ENCODINGS:
        raise DataError(f"{where} has type = '{kind}'", f"{name} is a kind of task: give this one a name of its own")
    if "from" in table:
        table["source"] = table.pop("from")
    task = build_section(encoding, table, where)
    if not task.files and not (isinstance(task, BoundaryMask) and task.source):
        raise DataError(f"{where} names no files", f'add files = "{name}/{{split}}/{{key}}.*"')
    return task


def split_names(descriptor: Descriptor) -> list[str]:
    """The splits that can be asked for, besides `all`."""
    if descriptor.has_shares:
        return ["train", *descriptor.splits]
    root, pattern = descriptor.root, descriptor.images
    return list(descriptor.splits) or [
        name for name in list_split_folders(root, pattern) if match_files(root, pattern, name)
    ]


def list_files(descriptor: Descriptor, pattern: str, split: str) -> dict[str, Path]:
    """Files of a pattern by key: those in the folder of `split`, or in those of all splits.

    The folder may have another name than that of the images (`Train`, `training`) unless that names another split.

    Over all splits, keys start with the split where images lie in folders by split.
    """
    if split != ALL:
        name = str(descriptor.splits.get(split, split))
        other = find_split_folder(descriptor.root, pattern, name)
        is_taken = other != name and other in (*split_names(descriptor), *descriptor.splits.values())
        return match_files(descriptor.root, pattern, name if is_taken else other)
    if not descriptor.has_split_folders:
        return match_files(descriptor.root, pattern)
    return {
        f"{name}/{key}": path
        for name in split_names(descriptor)
        for key, path in list_files(descriptor, pattern, name).items()
    }


def list_images(descriptor: Descriptor, split: str) -> dict[str, Path]:
    """The image files of a split by key, in order; raises `ValueError` if there are none or no such split."""
    if not descriptor.root.is_dir():
        raise DataError(
            f"dataset folder '{descriptor.root}' does not exist", f"set root in {descriptor.path}, or pass root"
        )
    names = [*split_names(descriptor), ALL]
    named_choice(f"split of dataset {descriptor.name}", split, dict.fromkeys(names))
    found = _without_labels(list_files(descriptor, descriptor.images, split), descriptor, split)
    value = descriptor.splits.get(split, "")
    if descriptor.has_shares and split != ALL:
        shares = {name: float(share) for name, share in descriptor.splits.items()}
        member = draw_splits(list(found), shares, descriptor.group, descriptor.draw)
        chosen = {key: path for key, path in found.items() if member[key] == split}
        if found and not chosen:
            text = f"split '{split}' of dataset {descriptor.name} is empty: all {len(found)} images are in other splits"
            cure = "lower the shares in [splits], or add images"
            fitted = fit_shares(list(found), shares, descriptor.group)
            if descriptor.draw == "stable" and fitted != shares:
                wanted = ", ".join(f"{name} = {share}" for name, share in fitted.items())
                cure = f"write {wanted} in [splits], which give each some, or add images"
            raise DataError(text, cure, missing=True)
        found = chosen
    elif str(value).endswith(LISTS):
        found = _listed(found, descriptor, descriptor.root / str(value))
    if not found:
        raise DataError(
            f"split '{split}' of dataset {descriptor.name} has no images: nothing in "
            f"{descriptor.root} matches '{descriptor.images}'",
            f"set files in [images] of {descriptor.path}, or run `triptych data init` there",
            missing=True,
        )
    return found


def _without_labels(found: dict[str, Path], descriptor: Descriptor, split: str) -> dict[str, Path]:
    """Remove label files in subfolders from the images; keep all where this would leave none."""
    folder = "".join(descriptor.images.partition("{")[0].rpartition("/")[:2])
    described = [task.files for task in descriptor.tasks.values()] + [one.files for one in descriptor.pseudo.values()]
    patterns = [pattern for pattern in described if pattern and pattern.startswith(folder)]
    labels = {path for pattern in patterns for path in list_files(descriptor, pattern, split).values()}
    return {key: path for key, path in found.items() if path not in labels} or found


def unlisted_images(descriptor: Descriptor, split: str) -> dict[str, Path]:
    """Images in no split, where `split` is a list of keys: the frames between labelled ones."""
    if not str(descriptor.splits.get(split, "")).endswith(LISTS):
        return {}
    found = _without_labels(list_files(descriptor, descriptor.images, split), descriptor, split)
    lists = [descriptor.root / str(value) for value in descriptor.splits.values()]
    taken = {key for path in lists if path.is_file() for _, key in _match_lines(found, descriptor, read_lines(path))}
    return {key: path for key, path in found.items() if key not in taken}


class Unlisted(NamedTuple):
    """Images that no list of a descriptor names, out of `total`, and how many of them have a label."""

    images: dict[str, Path]
    total: int
    labelled: int

    def __str__(self) -> str:
        first = next(iter(self.images.values())).name
        labelled = f"{self.labelled or 'none'} of them with a label"
        return f"{len(self.images)} of {self.total} images are in no list of [splits], such as {first}; {labelled}"


def find_unlisted(descriptor: Descriptor) -> Unlisted | None:
    """The first unlisted images of any split (`unlisted_images`); `None` where there are none."""
    left = next(filter(None, (unlisted_images(descriptor, split) for split in descriptor.splits)), {})
    if not left:
        return None
    patterns = [task.files for task in descriptor.tasks.values() if task.files]
    labelled = {key for pattern in patterns for key in list_files(descriptor, pattern, ALL)}
    return Unlisted(left, len(list_images(descriptor, ALL)), len(labelled & left.keys()))


def _listed(found: dict[str, Path], descriptor: Descriptor, path: Path) -> dict[str, Path]:
    if not path.exists():
        raise DataError(f"split list {path} does not exist", f"[splits] of {descriptor.path} names it")
    chosen = {}
    words = read_lines(path)
    if not words:
        raise DataError(f"split list {path} is empty", "name one image per line, without its folder and suffix")
    for listed, key in _match_lines(found, descriptor, words):
        if key is None:
            text = f"{path} names '{listed}', but {descriptor.root} has no such image ('{descriptor.images}')"
            raise DataError(text, "name one image per line")
        chosen[key] = found[key]
    return chosen


def _match_lines(
    found: dict[str, Path], descriptor: Descriptor, lines: Iterable[str]
) -> Iterator[tuple[str, str | None]]:
    """Each line of a list with the key of the image that it names, if any."""
    by_path = {composed(place.relative_to(descriptor.root).as_posix()): key for key, place in found.items()}
    for line in lines:
        yield line, find_listed(composed(line), found, by_path)


def find_listed(line: str, found: Container[str], by_path: Mapping[str, str]) -> str | None:
    """The key that a line of a list names: itself, with a suffix, by a path, or first of several words."""
    line = line.replace("\\", "/")  # as Windows writes paths
    for word in (line, *re.split(r"[\s,;]+", line)[:1]):
        for key in (word, word.rpartition(".")[0]):
            if key in found:
                return key
        parts = word.split("/")
        for start in range(len(parts)):  # the path on another machine ends like the one here
            if "/".join(parts[start:]) in by_path:
                return by_path["/".join(parts[start:])]
    return None
