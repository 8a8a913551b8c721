"""Files that no pattern takes, in folders of names that are no words of ours: which are photographs, or belong to some.

Words know a language; that a file beside a photograph has its name, and looks like a map, they need not know.
"""

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from triptych.data.arrays import read_array
from triptych.data.errors import DataError
from triptych.data.files import PICTURES, SUFFIXES, match_files, walk_files
from triptych.folders.descriptor import PSEUDO
from triptych.folders.places import Place
from triptych.labels.words import IMAGES, read_folder

LOOKED_AT = 3
"""Files of a folder that are looked at."""


def find_photographs(root: Path, pictures: Sequence[Path]) -> Place | None:
    """The folder of photographs among folders of unknown names, where files of another have the names of its own.

    `None` where all of them hold photographs, or maps, or names that differ.
    """
    places: dict[str, Place] = {}
    keys: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for path in pictures:
        if len(path.relative_to(root).parts) > 1:
            pattern, split, key = _read_unknown(path.relative_to(root))
            places.setdefault(pattern, Place(IMAGES, pattern)).files[split].append(path)
            keys[pattern].add((split, key))
    shown = {pattern: looks_like_photographs(place.paths) for pattern, place in places.items()}
    maps = [keys[pattern] for pattern, is_photo in shown.items() if not is_photo]
    found = [
        place
        for pattern, place in places.items()
        if shown[pattern] and any(2 * len(keys[pattern] & others) >= len(others) for others in maps)
    ]
    return max(found, key=lambda place: len(place.paths), default=None)


def looks_like_photographs(paths: Sequence[Path]) -> bool:
    """Whether most of some pictures have three channels that differ, and hundreds of colors or as many as fit."""
    votes = []
    for path in paths[:: max(1, len(paths) // LOOKED_AT)][:LOOKED_AT]:
        try:
            stored = read_array(path)
        except (OSError, ValueError):
            continue
        if stored.ndim != 3 or stored.shape[-1] not in (3, 4):
            votes.append(False)
            continue
        colors = stored[..., :3].reshape(-1, 3)[:: max(1, stored.size // 300_000)]
        votes.append(len(np.unique(colors, axis=0)) > min(300, len(colors) / 10))
    return 2 * sum(votes) > len(votes)


@dataclass(frozen=True)
class Rest:
    """Files of one folder and suffix that no pattern takes."""

    folder: str
    """With `{split}` where its name tells one."""
    suffix: str
    paths: tuple[Path, ...]

    def __str__(self) -> str:
        count = len(self.paths)
        return f"{self.folder}*{self.suffix}: {count} file{'s' if count > 1 else ''}"


QUIET = {
    "",
    ".txt",
    ".lst",
    ".md",
    ".toml",
    ".old",
    ".json",
    ".csv",
    ".py",
    ".yaml",
    ".yml",
    ".xml",
    ".html",
    ".pdf",
    ".zip",
}
"""Suffixes of files beside a dataset that are no maps."""


def find_taken(root: Path, patterns: Iterable[str], splits: Sequence[str]) -> set[Path]:
    """Files that one of the patterns takes, in one of the split folders."""
    taken: set[Path] = set()
    for pattern in patterns:
        for split in splits if "{split}" in pattern else ("",):
            try:
                taken.update(match_files(root, pattern, split).values())
            except DataError:
                continue  # told where the pattern is opened
    return taken


def find_rest(root: Path, taken: Collection[Path], *, quiet: Container[str] = QUIET) -> list[Rest]:
    """Files that no pattern takes, by folder and suffix, the most first."""
    groups: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in walk_files(root, besides=taken):
        names = path.relative_to(root).parts
        if names[0] == PSEUDO:
            continue  # what a network predicted is no label that a folder may be guessed to have
        if path not in taken and path.suffix.lower() not in quiet:
            groups[_general_folder(names[:-1]), path.suffix].append(path)
    found = [Rest(folder, suffix, tuple(paths)) for (folder, suffix), paths in groups.items()]
    return sorted(found, key=lambda rest: (-len(rest.paths), rest.folder, rest.suffix))


def _general_folder(folders: Sequence[str]) -> str:
    """The folder with `{split}` for a split, cut after two names."""
    names = [read_folder(name)[2] for name in folders[:2]]
    return "".join(f"{name}/" for name in names)


@dataclass(frozen=True)
class Offer:
    """A folder of a name that is not known, whose files have the names of the images."""

    folder: str
    pattern: str
    paths: tuple[Path, ...]


def find_offers(root: Path, rest: Sequence[Rest], images: Iterable[tuple[str, str]]) -> list[Offer]:
    """Folders among the files that no pattern takes whose files are named like the images."""
    known, keys = set(images), {key for _, key in images}
    groups: dict[str, list[tuple[Path, tuple[str, str]]]] = defaultdict(list)
    for one in rest:
        for path in one.paths:
            if path.suffix.lower() in SUFFIXES and len(path.relative_to(root).parts) > 1:
                pattern, split, key = _read_unknown(path.relative_to(root))
                groups[pattern].append((path, (split, key)))
    offers = []
    for pattern, files in groups.items():
        matching = [path for path, key in files if key in known or (not key[0] and key[1] in keys)]
        if len(matching) >= max(1, len(files) // 2):
            folder = "/".join(part for part in pattern.partition("{key}")[0].split("/") if part and part != "{split}")
            offers.append(Offer(f"{folder}/", pattern, tuple(matching)))
    return offers


def _read_unknown(path: Path) -> tuple[str, str, str]:
    """(pattern, split, key) of a file in a folder of an unknown name: the folder, the split and then the key."""
    folders, split, last = list(path.parts[:-1]), "", 1
    for i, name in enumerate(folders[:3]):
        _, told, template = read_folder(name)
        if told and not split:
            folders[i], split, last = template, told, i + 1
    if folders[0] == "{split}" and len(folders) > 1:
        last = max(last, 2)
    key = "/".join([*folders[last:], path.stem])
    suffix = ".*" if path.suffix.lower() in PICTURES else path.suffix
    return "".join(f"{name}/" for name in folders[:last]) + "{key}" + suffix, split, key
