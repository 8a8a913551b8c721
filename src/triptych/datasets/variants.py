"""Known variants of published datasets, and their recognition in a folder.

A reader of a published dataset is a `DenseDataset` with

- `variants: ClassVar[dict[str, Variant]]`, the forms in which the dataset is distributed, by name;
- a constructor `Reader(root, *, split="train", tasks=None, variant="auto", ...)`, where `"auto"` asks `recognize`; the
  outcome is the attribute `variant: Variant`;
- `files(index) -> dict[str, Path]`: the files of sample `index` on disk by what they hold, `"image"` or the name of a
  task (also of a task that another one is derived from); labels that are missing are left out, and several tasks may
  name one file. Paths may go through a zip archive (`archives.py`).
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch, fnmatchcase
from pathlib import Path
from typing import TypeVar

from triptych.data.errors import DataError
from triptych.lookup import named_choice

AUTO = "auto"
LISTED = 8
"""Number of names listed in an error."""


@dataclass(frozen=True)
class Variant:
    """One form in which a dataset is distributed.

    `markers` are paths below the root, with `*` and `?` inside a name, that all must exist; together they distinguish
    this variant from the others. `counts` maps a split to its number of images, `sizes` are the possible (height,
    width) of images, where known. `tasks` are those that it has files for, or that a reader derives. Differences in
    reading are fields of a subclass, which is defined next to the reader.
    """

    name: str
    title: str
    download: str
    """Name and source of the download in words, without a link, as links die."""
    markers: tuple[str, ...]
    tasks: tuple[str, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()
    """Traps, one sentence each."""
    licence: str = ""
    citation: str = ""

    def missing(self, root: Path) -> list[str]:
        """The markers that `root` does not have."""
        return [one for one in self.markers if next(_find(root, one.split("/"), fnmatchcase), None) is None]


Kind = TypeVar("Kind", bound=Variant)


def recognize(root: str | Path, variants: Mapping[str, Kind], *, variant: str = AUTO) -> Kind:
    """Return the variant whose markers the folder `root` has; `variant` is a name, or `"auto"` for any.

    `root` may also be the one file that a variant consists of. Raises `ValueError` in one line that names the folder,
    what was looked for and the way out: another folder one level up or up to two levels down, missing parts of an
    archive, the actual name where case or extension differ, links that lead nowhere, several variants in one folder.
    """
    root = Path(root)
    asked = variants if variant == AUTO else {variant: named_choice("variant", variant, dict(variants))}
    if root.is_file():
        alone = [one for one in asked.values() if len(one.markers) == 1 and fnmatchcase(root.name, one.markers[0])]
        if alone:
            return alone[0]
    if not root.is_dir():
        raise DataError(*_no_folder(root, asked))
    found = [one for one in asked.values() if not one.missing(root)]
    # Where one variant has all markers of another and more, it is chosen.
    found = [one for one in found if not any(set(one.markers) < set(other.markers) for other in found)]
    if len(found) == 1:
        return found[0]
    if found:
        told = ", ".join(f"{one.name} ({_distinct(one, found)})" for one in found)
        raise DataError(
            f"{root} mixes several variants: {told}",
            f"keep each in a folder of its own, or pass variant='{found[0].name}' to read that one",
        )
    raise DataError(*_nothing_there(root, asked))


def suggest_root(root: Path, variants: Mapping[str, Variant]) -> tuple[Path, Variant] | None:
    """A folder one level above `root`, or up to two below, that has all markers of a variant."""
    below = _folders(root)
    for place in (*below, *(deeper for folder in below for deeper in _folders(folder)), root.absolute().parent):
        for one in variants.values():
            if not one.missing(place):
                return place, one
    return None


def _no_folder(root: Path, variants: Mapping[str, Variant]) -> tuple[str, str]:
    if root.is_symlink() and not root.exists():
        return f"{root} is a link that leads nowhere or in a circle", "give the folder itself"
    if root.is_file():
        text = f"{root} is a file and none of {', '.join(variants)} is this one file"
        return text, "give the folder of the dataset"
    actual = next(_find(root.parent, [root.name], _same_letters), None) if root.parent.is_dir() else None
    cure = f"did you mean {actual}?" if actual else "give the folder of the unpacked archive"
    return f"dataset folder '{root}' does not exist", cure


def _nothing_there(root: Path, variants: Mapping[str, Variant]) -> tuple[str, str]:
    """Reason why `root` is no variant, in comparison with the closest one, and the cure."""
    better = suggest_root(root, variants)
    if better is not None:
        return f"{root} is not the root of the dataset", f"{better[0]} is ({better[1].name}): give that one"
    nearest = max(variants.values(), key=lambda one: 1 - len(one.missing(root)) / len(one.markers))
    missing = nearest.missing(root)
    dead = [path for path in (_dead_link(root, marker) for marker in missing) if path]
    if dead:
        text = f"{root} lacks a part of {nearest.name}: {dead[0]} is a link that leads nowhere or in a circle"
        return text, "mend it"
    renamed = {marker: _actual_name(root, marker) for marker in missing}
    actual = {marker: name for marker, name in renamed.items() if name}
    if actual:
        told = ", ".join(f"{name} where {marker} is expected" for marker, name in actual.items())
        cure = "rename or convert it, or check which variant it is"
        return f"{root} is nearly {nearest.name}: it has {told}", cure
    if len(missing) < len(nearest.markers):
        text = f"{root} is a part of {nearest.name} ({nearest.title}): missing {_enumerate(missing)}"
        return text, f"unpack the whole archive there ({nearest.download})"
    wanted = "; ".join(f"{one.name}: {_enumerate(list(one.markers))}" for one in variants.values())
    return f"{root} is no known variant", f"looked there, one level above and two below for {wanted}"


def _distinct(one: Variant, others: list[Variant]) -> str:
    """The first marker of a variant that the others do not share."""
    shared = {marker for other in others if other is not one for marker in other.markers}
    return next((marker for marker in one.markers if marker not in shared), one.markers[0])


def _enumerate(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def _same_letters(name: str, pattern: str) -> bool:
    return fnmatch(name.lower(), pattern.lower())


def _same_stem(name: str, pattern: str) -> bool:
    """Whether names are equal up to case, and up to the extension where both have one."""
    stem, dot, _ = pattern.rpartition(".")
    return _same_letters(name, pattern) or (bool(dot) and "." in name and _same_letters(name, f"{stem}.*"))


def _actual_name(root: Path, marker: str) -> str:
    """Actual path of a marker in `root` where only case or extension differ; else empty."""
    path = next(_find(root, marker.split("/"), _same_stem), None)
    return "" if path is None else path.relative_to(root).as_posix()


def _dead_link(root: Path, marker: str) -> str:
    """First part of a marker's path that is a broken link; empty where there is none."""
    path = root
    for name in marker.split("/"):
        path = path / name
        if path.is_symlink() and not path.exists():
            return str(path)
    return ""


def _find(folder: Path, names: Sequence[str], same: Callable[[str, str], bool]) -> Iterator[Path]:
    """Paths below `folder` whose parts are the `same` as `names`; a plain name is tested without listing the folder."""
    name, rest = names[0], names[1:]
    if same is fnmatchcase and not set(name) & set("*?["):
        candidates = [name]
    else:
        try:
            candidates = sorted(found for found in os.listdir(folder) if found[0] != "." and same(found, name))
        except OSError:  # not a folder, not readable, or links in a circle: nothing to be found there
            return
    for path in (folder / candidate for candidate in candidates):
        if os.path.exists(path):
            yield from _find(path, rest, same) if rest else [path]


def _folders(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            return sorted(Path(entry.path) for entry in entries if _is_folder(entry))
    except OSError:
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return not entry.name.startswith(".") and entry.is_dir()
    except OSError:  # links in a circle
        return False
