"""Find photographs and label maps in folders with unknown names.

Instead of words, the content of files decides (photograph or map), and equal names of photographs and maps.
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
"""Files of a folder that are read for this."""


def find_photographs(root: Path, pictures: Sequence[Path]) -> Place | None:
    """Find the folder of photographs among folders of unknown names, by a folder of maps with the same file names.

    `None` where all folders hold photographs, all hold maps, or names differ.
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
    """Whether most of a few pictures have 3 or 4 channels and over 300 colors (or a tenth of the pixels, if fewer)."""
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
    """Files of one folder and suffix that match no pattern."""

    folder: str
    """Its path, with `{split}` for the name of a split."""
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
    """Files that match one of the patterns, in one of the split folders."""
    taken: set[Path] = set()
    for pattern in patterns:
        for split in splits if "{split}" in pattern else ("",):
            try:
                taken.update(match_files(root, pattern, split).values())
            except DataError:
                continue  # reported when the pattern is used
    return taken


def find_rest(root: Path, taken: Collection[Path], *, quiet: Container[str] = QUIET) -> list[Rest]:
    """Group files that match no pattern by folder and suffix, largest groups first."""
    groups: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in walk_files(root, besides=taken):
        names = path.relative_to(root).parts
        if names[0] == PSEUDO:
            continue  # predictions of a network are not taken for labels
        if path not in taken and path.suffix.lower() not in quiet:
            groups[_general_folder(names[:-1]), path.suffix].append(path)
    found = [Rest(folder, suffix, tuple(paths)) for (folder, suffix), paths in groups.items()]
    return sorted(found, key=lambda rest: (-len(rest.paths), rest.folder, rest.suffix))


def _general_folder(folders: Sequence[str]) -> str:
    """Path of a folder with `{split}` for a split, cut after two names."""
    names = [read_folder(name)[2] for name in folders[:2]]
    return "".join(f"{name}/" for name in names)


@dataclass(frozen=True)
class Offer:
    """A folder of unknown name whose files have the names of the images."""

    folder: str
    pattern: str
    paths: tuple[Path, ...]


def find_offers(root: Path, rest: Sequence[Rest], images: Iterable[tuple[str, str]]) -> list[Offer]:
    """Find folders of unmatched files that are named like the images."""
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
