"""Which files of a folder belong together, from all of their names: images and labels by task, split and pattern.

One file name proves nothing: an ending such as `_rgb` is part of a pattern only where it holds for the files of a
folder (`HOLDS`), and a number after a word counts the files, so it belongs to the key. What no pattern takes is
counted.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from triptych.data.arrays import read_array
from triptych.data.errors import DataError
from triptych.data.files import KEY, NAME, PICTURES, SCENE, SUFFIXES, match_files, same_split, walk_files
from triptych.data.lists import SPLIT_OF
from triptych.datasets.descriptor import PSEUDO

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
        *("groundtruth", "truth", "segmap", "segmaps", "labelmap", "labelmaps", "segmentationclass"),
    ),
    "depth": ("depth", "depths", "depthmap", "depthmaps", "invdepth", "idepth", "inversedepth"),
    "normals": ("normals", "normal", "norm", "surface_normals"),
    "boundary": ("boundary", "boundaries", "edge", "edges", "contour", "contours", "outline"),
    "saliency": ("saliency", "sal", "salient", "sod"),
}
"""What folders and file endings are called, by task."""

OTHER = ("instance", "instances", "instanceids", "object", "objects", "polygons", "preview", "overlay", "vis", "viz")
"""Words of files and folders beside the labels that are not one of the tasks."""


GENERAL = frozenset(
    ("labels", "label", "annotations", "annotation", "annot", "masks", "mask", "gt", "groundtruth", "truth")
)
"""Words of label maps that say nothing of the task beside one that does: `edges_gt`."""
MEASURED, VALIDITY = ("depth", "normals"), ("mask", "masks")
"""A word of the second kind after one of the first marks where a measured map holds: `depth_mask`."""


_SAYS_NOTHING = GENERAL.difference(VALIDITY)


@dataclass(frozen=True)
class Need:
    """Labels that can be used once a person has added what no file tells."""

    text: str
    options: dict[str, Any]


_NUMERATOR = 'disparity is depth of kind = "disparity" with numerator = baseline (m) x focal length (pixels)'
_CAMERA = 'distance along the ray is depth of kind = "distance" and needs a [camera]'
NEEDS = {
    "disparity": Need(_NUMERATOR, {"kind": "disparity", "numerator": 0.0}),
    "distance": Need(_CAMERA, {"kind": "distance"}),
}
"""What a person has to add, by role."""
NEEDS_WORDS = {
    **dict.fromkeys(("disparity", "disparities", "disp"), "disparity"),
    **dict.fromkeys(("distance", "distances"), "distance"),
}

ROLE_OF = {word: role for role, words in WORDS.items() for word in words} | NEEDS_WORDS
HOLDS = 0.95
"""Share of the files of a folder that an ending has to have to be part of its pattern."""


@dataclass
class Place:
    """Files that one pattern describes."""

    role: str
    pattern: str
    files: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    """By the name that `{split}` stands for, or ""."""
    called: Mapping[str, str] = field(default_factory=dict)
    """What folders of splits are called here, where that is another name than in `files`."""

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
    """One file, by the names of its folders."""

    path: Path
    role: str
    folders: tuple[str, ...]
    """Of the pattern, with `{split}`; those between words that are known in one."""
    known: tuple[bool, ...]
    """Which of these are words that are known."""
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
    roles = defaultdict(list)
    places = [place for (role, prefix, suffix), group in groups.items() for place in _part(role, prefix, suffix, group)]
    places = _join_suffixes([one for place in places for one in _one_suffix(root, place)])
    places = [_without_folders(root, place) for place in places]
    for place in sorted(places, key=lambda place: (-len(place.paths), len(place.pattern), place.pattern)):
        roles[place.role].append(place)
    unnamed = [place for place in roles.pop("", []) if place.paths[0].suffix.lower() in PICTURES]
    roles.pop("other", None)
    if IMAGES not in roles and unnamed:  # as in CamVid, where train/ holds images and trainannot/ labels
        roles[IMAGES] = unnamed
        _part_by_suffix(roles, unnamed)
    return dict(roles)


def _find_prefixes(files: Sequence[_File]) -> list[str]:
    """The folders of each file's pattern: those between known words that differ are `{scene}`, as in `a/rgb/`,
    `b/rgb/`."""
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
    """The place with `{name}` for `{key}` where folders inside hold files of other places."""
    try:
        found = place.by_key(root)
    except DataError:  # told where the pattern is opened
        return place
    own = set(place.paths)
    if own.issuperset(found.values()) or any("/" in key for (_, key), path in found.items() if path in own):
        return place
    return replace(place, pattern=place.pattern.replace(KEY, NAME))


def _part_by_suffix(roles: dict[str, list[Place]], places: list[Place]) -> None:
    """Where x.jpg and x.png lie side by side, as people keep PASCAL VOC, the PNG is the label map."""
    stem = {place.pattern.rpartition(".")[0] for place in places[:2]}
    suffixes = {place.pattern.rpartition(".")[2].lower(): place for place in places[:2]}
    if len(stem) == 1 and "png" in suffixes and suffixes.keys() & {"jpg", "jpeg"}:
        roles[IMAGES] = [place for suffix, place in suffixes.items() if suffix != "png"]
        roles["semseg"] = [replace(suffixes["png"], role="semseg")]


def _one_suffix(root: Path, place: Place) -> list[Place]:
    """A place for each suffix where `a.jpg` and `a.png` lie side by side; else the place itself."""
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
    """One place where files of one name have other suffixes, as where one split is `.npy` and the other `.png`.

    Not where a split has two of them, nor where measured numbers have two types, which have two units as a rule.
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
    """The place with its suffix for `.*`, where it has but one: others of the same names lie beside it."""
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
    """A place of labels with the splits of the images: called otherwise (`Train`, `training`), or on one side only.

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
        if here and not (
            role in MEASURED and (_CAMERA_NAME.fullmatch(name) or _SAYS_NOTHING & set(_split_words(name)))
        ):
            role = here
        if is_split or here:
            last = len(folders)
    return _File(path, role, tuple(folders[:last]), tuple(known[:last]), split, len(folders) > last)


_CAMERA_NAME = re.compile(r"(?i)images?_?\d+")
"""`image_02` below a folder of depth says which camera saw it, as `groundtruth` there says nothing of the task."""
FILLERS = {"set", "data", "split"}


def read_folder(name: str) -> tuple[str, str, str]:
    """(role, split, name with `{split}`) that a folder's name tells: of `depth`, `val`, `images_val`, `trainannot`.

    >>> read_folder("masks_val2017"), read_folder("trainannot")
    (('semseg', 'val', 'masks_{split}2017'), ('semseg', 'train', '{split}annot'))
    """
    words = list(re.finditer(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name))
    lower = [word[0].lower() for word in words]
    for i, word in enumerate(lower):
        rest = [other for other in (*lower[:i], *lower[i + 1 :]) if not other.isdigit() and other not in FILLERS]
        if word in SPLIT_OF and all(other in ROLE_OF for other in rest):
            start, end = words[i].span()
            return _role(rest), name[start:end], f"{name[:start]}{{split}}{name[end:]}"
    for split in sorted(SPLIT_OF, key=len, reverse=True):
        if name.lower().startswith(split) and name.lower()[len(split) :] in ROLE_OF:
            return ROLE_OF[name.lower()[len(split) :]], name[: len(split)], f"{{split}}{name[len(split) :]}"
    role = _role(_split_words(name))
    return ("other" if role and set(_split_words(name)) & set(OTHER) else role), "", name


def _split_words(name: str) -> list[str]:
    """The words of a name, whole and by their humps: `GroundTruth_2` has groundtruth, ground, truth and 2."""
    words = []
    for part in re.split(r"[^A-Za-z0-9]+", name):
        humps = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", part)
        words += [part.lower(), *(hump.lower() for hump in humps if len(humps) > 1)]
    return words


def _part(role: str, prefix: str, suffix: str, files: Sequence[_File]) -> list[Place]:
    """The places of files in folders of one kind: one per ending or beginning of names where these hold, else one.

    Where all files of many folders have one name, as in `0001/mask.png`, the folder is the key.
    """
    stems = {stem: _role([stem.lower()]) for stem in {file.path.stem for file in files}}
    is_key = len(files) > 1 and all(file.is_deeper for file in files)
    if is_key and (len(stems) == 1 if role else all(stems.values())):
        fixed: dict[str, Place] = {}
        for file in files:
            stem = file.path.stem
            place = fixed.setdefault(stem, Place(role or stems[stem], f"{prefix}{KEY}/{stem}{suffix}"))
            place.files[file.split].append(file.path)
        if all(len(place.paths) > 1 for place in fixed.values()):
            return list(fixed.values())
    endings = _common([_read_endings(file.path.stem) for file in files])
    told = {ending: _role_of_words(role, ending) for ending in endings}
    if role and sum(endings.values()) < HOLDS * len(files):
        told = {}
    starts = _common([[_read_start(file.path.stem)] for file in files]) if not role and not told else Counter()
    places: dict[tuple[str, str], Place] = {}
    for file in files:
        stem = file.path.stem
        ending = next((end for end in _read_endings(stem) if end in told), "")
        start = next((start for start in (_read_start(stem),) if start in starts and not ending), "")
        here = told[ending] if ending else _role_of_words(role, start) if start else role
        place = places.setdefault((ending, start), Place(here, f"{prefix}{start}{{key}}{ending}{suffix}"))
        place.files[file.split].append(file.path)
    return list(places.values())


def _common(names: Sequence[Sequence[str]]) -> Counter[str]:
    """The parts of names that are words, the longest of each name: those whose numbers do not count the files."""
    numbered = defaultdict(set)
    for part in {part for parts in names for part in parts}:
        numbered[re.sub(r"\d+", "#", part)].add(part)
    words = {part for parts in numbered.values() if len(parts) == 1 for part in parts if part}
    return Counter(next((part for part in parts if part in words), "") for parts in names) - Counter({"": len(names)})


def _role_of_words(role: str, text: str) -> str:
    """The role of files in a folder of `role` whose names share `text`; among images, other words count."""
    words = [word for word in re.split(r"[_\-.]", text.lower()) if word]
    if set(words) & set(OTHER):
        return "other"
    found = _role(words)
    return found or role if role in ("", IMAGES) or found in (*NEEDS, "other") else role


def _read_endings(stem: str) -> list[str]:
    """What may follow the key in names like `000433_depth_5000`: from each word that is known, the longest first.

    >>> _read_endings("left_image_07_mask")
    ['_image_07_mask', '_mask']
    """
    endings = []
    for match in re.finditer(r"[_\-.]", stem):
        words = re.split(r"[_\-.]", stem[match.end() :].lower())
        if _role(words[:1]) or words[0] in ("domain", *OTHER):
            endings.append(stem[match.start() :])
    return endings


def _read_start(stem: str) -> str:
    """What precedes the key in names like `rgb_0001` or `room-depth-0001`: up to the last word that is known."""
    start = ""
    for match in re.finditer(r"[_\-.]", stem):
        if _role(re.split(r"[_\-.]", stem[: match.start()].lower())[-1:]):
            start = stem[: match.end()]
    return start


def _role(words: Iterable[str]) -> str:
    """The role of the last word that has one: of a task rather than of images, and of a word that says which.

    >>> _role(["depth", "rgb"]), _role(["edges", "gt"]), _role(["depth", "mask"])
    ('depth', 'boundary', 'other')
    """
    found = [(ROLE_OF.get(word) or ROLE_OF.get(word.rstrip("0123456789"), ""), word) for word in words][::-1]
    found = [(role, word) for role, word in found if role]
    role, _ = min(found, key=lambda one: (one[0] == IMAGES, one[1] in GENERAL), default=("", ""))
    return "other" if role in MEASURED and found[0][1] in VALIDITY else role


def tells_validity(path: Path) -> bool:
    """Whether a file's name, or its folder's, says that it marks where another map holds: `0001_depth_mask.npy`."""
    return any(_role(_split_words(name)) == "other" for name in (path.stem, path.parent.name))


MARKS = {"valid", "validity", "mask", "masks", "invalid", "confidence", "conf", "known", "holes", "missing", "ignore"}
"""Words of entries of array files that mark where the entry beside them holds."""


def unused_marks(entries: Iterable[str], chosen: str) -> Iterator[tuple[str, str]]:
    """What is wrong, and the cure, for entries of an array file that seem to mark where the one that is read holds.

    >>> [text for text, _ in unused_marks(["depth", "valid_mask"], "depth")]
    ["its entry 'valid_mask' seems to mark where 'depth' holds, and is not applied"]
    """
    for entry in entries:
        if entry != chosen and MARKS & set(_split_words(entry)):
            text = f"its entry '{entry}' seems to mark where '{chosen}' holds, and is not applied"
            yield text, f"store what counts as no label in '{chosen}' itself, as NaN, 0 or a value listed in invalid"


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
