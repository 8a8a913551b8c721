"""Group the files of a folder by their names: images and labels by task, split and pattern.

One file name proves nothing: an ending such as `_rgb` is part of a pattern only where it holds for the files of a
folder (`HOLDS`), and a number after a word counts the files, so it belongs to the key.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from pathlib import Path

from triptych.data.arrays import read_array
from triptych.data.errors import DataError
from triptych.data.files import KEY, NAME, PICTURES, SCENE, SUFFIXES, match_files, same_split, walk_files
from triptych.data.splits import SPLIT_OF
from triptych.folders.descriptor import FILE_NAME, PSEUDO
from triptych.labels.words import (
    GENERAL,
    IMAGES,
    MEASURED,
    ROLE_OF,
    VALIDITY,
    read_endings,
    read_folder,
    read_start,
    role_of,
    role_of_words,
    split_words,
)
from triptych.lookup import grouped

_SAYS_NOTHING = GENERAL.difference(VALIDITY)
_CAMERA_NAME = re.compile(r"(?i)images?_?\d+")
"""`image_02` below a folder of depth names the camera, not the task; nor does `groundtruth` there."""
HOLDS = 0.95
"""Share of the files of a folder that must have an ending for it to become part of the pattern."""


def is_utf8(name: str) -> bool:
    """Whether a name is valid UTF-8, as in a descriptor: names of files may be any bytes."""
    return name.encode(errors="ignore").decode() == name


NOT_UTF8 = "rename it: its name is no UTF-8"


@dataclass
class Place:
    """Files that one pattern describes."""

    role: str
    pattern: str
    files: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    """Files by the name that `{split}` stands for, or ""."""
    called: Mapping[str, str] = field(default_factory=dict)
    """Actual names of the folders of splits, where they differ from those in `files`."""

    def __str__(self) -> str:
        count = len(self.paths)
        return f"{self.pattern}: {count} file{'s' if count > 1 else ''}"

    @property
    def paths(self) -> list[Path]:
        """All of them, in order."""
        return list(dict.fromkeys(path for files in self.files.values() for path in files))

    def by_key(self, root: Path) -> dict[tuple[str, str], Path]:
        """Files by split folder and key."""
        return {
            (split, key): path
            for split in self.files
            for key, path in match_files(root, self.pattern, self.called.get(split, split)).items()
        }


@dataclass(frozen=True)
class _File:
    """One file with the parsed names of its folders."""

    path: Path
    role: str
    folders: tuple[str, ...]
    """Folders of the pattern, with `{split}`; consecutive ones of unknown names are joined."""
    known: tuple[bool, ...]
    """Which of these have known names."""
    split: str
    is_deeper: bool
    """Whether it lies in a folder below these."""


def find_places(root: Path, *, limit: int | None = None) -> dict[str, list[Place]]:
    """Image and label places below `root` by role; the likelier come first: more files, then the plainer pattern.

    `limit` looks at that many files only.
    """
    shown = (path for path in walk_files(root) if path.relative_to(root).parts[0] != PSEUDO)
    files = [_read_folders(root, path) for path in islice(shown, limit) if path.suffix.lower() in SUFFIXES]
    groups: dict[tuple[str, str, str], list[_File]] = defaultdict(list)
    for file, prefix in zip(files, _find_prefixes(files), strict=True):
        suffix = file.path.suffix
        groups[file.role, prefix, ".*" if suffix.lower() in PICTURES else suffix].append(file)
    places = [place for (role, prefix, suffix), group in groups.items() for place in _part(role, prefix, suffix, group)]
    places = _join_suffixes([one for place in places for one in _one_suffix(place)])
    places = [_without_folders(root, place) for place in places]
    places.sort(key=lambda place: (-len(place.paths), len(place.pattern), place.pattern))
    roles = grouped((place.role, place) for place in places)
    unnamed = [place for place in roles.pop("", []) if place.paths[0].suffix.lower() in PICTURES]
    roles.pop("other", None)
    if IMAGES not in roles and unnamed:  # as in CamVid, where train/ holds images and trainannot/ labels
        roles[IMAGES] = unnamed
        _part_by_suffix(roles, unnamed)
    return roles


def _find_prefixes(files: Sequence[_File]) -> list[str]:
    """Folders of each file's pattern: unknown names that vary become `{scene}`, as in `a/rgb/`, `b/rgb/`."""
    variants: dict[object, set[str]] = defaultdict(set)
    for file in files:
        if file.known.count(False) == 1:
            variants[_skeleton(file)].add(file.folders[file.known.index(False)])
    prefixes = []
    for file in files:
        folders = list(file.folders)
        if file.known.count(False) == 1 and len(variants[_skeleton(file)]) > 1:
            folders[file.known.index(False)] = SCENE
        prefixes.append("".join(f"{name}/" for name in folders))
    return prefixes


def _skeleton(file: _File) -> object:
    known = (name if is_known else "" for name, is_known in zip(file.folders, file.known, strict=True))
    return file.role, tuple(known)


def _without_folders(root: Path, place: Place) -> Place:
    """Replace `{key}` by `{name}` in a place where its subfolders hold files of other places."""
    try:
        found = place.by_key(root)
    except DataError:  # reported when the pattern is used
        return place
    own = set(place.paths)
    if own.issuperset(found.values()) or any("/" in key for (_, key), path in found.items() if path in own):
        return place
    return replace(place, pattern=place.pattern.replace(KEY, NAME))


def _part_by_suffix(roles: dict[str, list[Place]], places: list[Place]) -> None:
    """Take the PNG as label map where x.jpg and x.png lie in one folder, as in copies of PASCAL VOC."""
    stem = {place.pattern.rpartition(".")[0] for place in places[:2]}
    suffixes = {place.pattern.rpartition(".")[2].lower(): place for place in places[:2]}
    if len(stem) == 1 and "png" in suffixes and suffixes.keys() & {"jpg", "jpeg"}:
        roles[IMAGES] = [place for suffix, place in suffixes.items() if suffix != "png"]
        roles["semseg"] = [replace(suffixes["png"], role="semseg")]


def _one_suffix(place: Place) -> list[Place]:
    """Split a place by suffix where `a.jpg` and `a.png` lie in one folder; else return the place itself."""
    if not place.pattern.endswith(".*"):
        return [place]
    names = [path.with_suffix("") for path in place.paths]
    if len(set(names)) == len(names):
        return [place]
    parts: dict[str, Place] = {}
    for split, paths in place.files.items():
        for path in paths:
            suffix = path.suffix
            part = parts.setdefault(suffix, Place(place.role, place.pattern.removesuffix(".*") + suffix))
            part.files[split].append(path)
    return list(parts.values())


def _join_suffixes(places: Sequence[Place]) -> list[Place]:
    """Join places that differ in suffix only, as where one split is `.npy` and the other `.png`.

    Not where a split is in two of them, nor where measured quantities have two number types, which mostly means two
    units.
    """
    groups: dict[tuple[str, str], list[Place]] = defaultdict(list)
    for place in places:
        pattern = place.pattern.removesuffix(".*")
        groups[place.role, pattern if pattern != place.pattern else str(Path(pattern).with_suffix(""))].append(place)
    joined = []
    for (role, pattern), group in groups.items():
        names = [path.with_suffix("") for place in group for path in place.paths]
        if len(set(names)) < len(names):
            group = [_with_suffix(place) for place in group]
        splits = [split for place in group for split in place.files]
        if (
            len(group) > 1
            and role
            and len(set(splits)) == len(splits)
            and (role not in MEASURED or _store_alike(group))
        ):
            one = Place(role, f"{pattern}.*")
            for place in group:
                for split, paths in place.files.items():
                    one.files[split] += paths
            joined.append(one)
        else:
            joined += group
    return joined


def _with_suffix(place: Place) -> Place:
    """Replace `.*` by the common suffix of the place's files, if any, to exclude other files of the same names."""
    suffixes = {path.suffix for path in place.paths}
    if len(suffixes) > 1 or not place.pattern.endswith(".*"):
        return place
    return replace(place, pattern=place.pattern.removesuffix(".*") + suffixes.pop())


def _store_alike(places: Sequence[Place]) -> bool:
    try:
        return len({read_array(place.paths[0]).dtype for place in places}) == 1
    except (OSError, ValueError):
        return False


def take_splits(place: Place, images: Place) -> Place:
    """Give a place of labels the splits of the images: under other names (`Train`, `training`), or on one side only.

    Labels of one folder belong to images of whatever split has their name; those of several folders to images of one.
    """
    if not any(images.files):
        if not any(place.files):
            return place
        return replace(place, pattern=place.pattern.replace("{split}", "*"), files={"": place.paths})
    if not any(place.files):
        return replace(place, files=dict.fromkeys(images.files, place.paths))
    others = {name: same_split(name, place.files) for name in images.files if name not in place.files}
    called = {name: other for name, other in others.items() if other and other not in images.files}
    back = {other: name for name, other in called.items()}
    return replace(place, files={back.get(name, name): paths for name, paths in place.files.items()}, called=called)


def _read_folders(root: Path, path: Path) -> _File:
    folders, known = list[str](), list[bool]()
    role, split, last = "", "", 0
    names = path.relative_to(root).parts[:-1]
    for name in names:
        here, told, template = read_folder(name)
        is_split = bool(told) and not split
        if is_split:
            name, split = template, told
        if is_split or here or not known or known[-1]:
            folders.append(name)
            known.append(is_split or bool(here))
        else:
            folders[-1] += f"/{name}"
        if here and not (role in MEASURED and (_CAMERA_NAME.fullmatch(name) or _SAYS_NOTHING & set(split_words(name)))):
            role = here
        if is_split or here:
            last = len(folders)
    return _File(path, role, tuple(folders[:last]), tuple(known[:last]), split, len(folders) > last)


def _part(role: str, prefix: str, suffix: str, files: Sequence[_File]) -> list[Place]:
    """Divide files in folders of one kind into places: one per ending or beginning of their names (`HOLDS`), else one.

    Where all files of many folders have one name, as in `0001/mask.png`, the folder is the key.
    """
    stems = {stem: role_of([stem.lower()]) for stem in {file.path.stem for file in files}}
    is_key = len(files) > 1 and all(file.is_deeper for file in files)
    if is_key and (len(stems) == 1 if role else all(stems.values())):
        fixed: dict[str, Place] = {}
        for file in files:
            stem = file.path.stem
            place = fixed.setdefault(stem, Place(role or stems[stem], f"{prefix}{KEY}/{stem}{suffix}"))
            place.files[file.split].append(file.path)
        if all(len(place.paths) > 1 for place in fixed.values()):
            return list(fixed.values())
    endings = _common([read_endings(file.path.stem) for file in files])
    told = {ending: role_of_words(role, ending) for ending in endings}
    if role and sum(endings.values()) < HOLDS * len(files):
        told = {}
    starts = _common([[read_start(file.path.stem)] for file in files]) if not role and not told else Counter()
    places: dict[tuple[str, str], Place] = {}
    above = f"{SCENE}/" if SCENE not in prefix and all(file.is_deeper for file in files) else ""
    for file in files:
        stem = file.path.stem
        ending = next((end for end in read_endings(stem) if end in told), "")
        start = next((start for start in (read_start(stem),) if start in starts and not ending), "")
        here = told[ending] if ending else role_of_words(role, start) if start else role
        place = places.setdefault(
            (ending, start), Place(here, f"{prefix}{start and above}{start}{KEY}{ending}{suffix}")
        )
        place.files[file.split].append(file.path)
    return list(places.values())


def _common(names: Sequence[Sequence[str]]) -> Counter[str]:
    """Count the longest constant part of each name: parts whose numbers vary between files are left out."""
    numbered = defaultdict(set)
    for part in {part for parts in names for part in parts}:
        numbered[re.sub(r"\d+", "#", part)].add(part)
    words = {part for parts in numbered.values() if len(parts) == 1 for part in parts if part}
    return Counter(next((part for part in parts if part in words), "") for parts in names) - Counter({"": len(names)})


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
