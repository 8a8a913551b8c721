"""Describe a folder by its names and some of its files: what `triptych data init` writes.

Long because all evidence that is not used is reported.
"""

import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from triptych.data.arrays import list_entries, read_array, read_size
from triptych.data.errors import DataError
from triptych.data.files import ARRAYS, SUFFIXES, composed, files_remembered, walk_files, walk_pipes
from triptych.data.lists import read_lines, read_text
from triptych.data.photos import read_image_size, read_orientation
from triptych.data.shapes import OTHER_SHAPE, TRANSPOSED, have_one_shape, have_swapped_sides
from triptych.data.shares import fit_shares
from triptych.data.splits import ALL, SPLIT_OF, SPLITS
from triptych.files import write_text
from triptych.folders.descriptor import (
    FILE_NAME,
    LISTS,
    PSEUDO,
    Descriptor,
    are_shares,
    find_listed,
    find_unlisted,
    list_images,
    parse_descriptor,
    read_descriptor,
)
from triptych.folders.file_names import align_names
from triptych.folders.folder_guess import FolderGuess
from triptych.folders.places import NOT_UTF8, Place, find_places, is_utf8, suggest_root, take_splits
from triptych.folders.toml_text import keep_old, section
from triptych.folders.unnamed import find_offers, find_photographs, find_rest, find_taken
from triptych.labels.axes import FOV, assumed_camera, guess_normals
from triptych.labels.base import hash_encoding, lies_on
from triptych.labels.depth_guesses import guess_depth
from triptych.labels.guesses import Guess, guess_labels, guess_mask
from triptych.labels.words import (
    IMAGES,
    NEEDS,
    WORDS,
    holds_where_set,
    may_mark,
    role_of,
    split_words,
    tells_validity,
    unused_marks,
)

Labelled = dict[Path, tuple[str, str]]
"""Label files, with the split and key of the image of each."""
TaskGuess = Callable[[Path, FolderGuess, Place, Labelled, str], Guess]
ANY_CAMERA: dict[str, Any] = {"camera": {"fov": FOV}}
"""Section of a folder whose camera is not known, or that has no task yet."""


def write_descriptor(path: str | Path, *, force: bool = False) -> tuple[Path, FolderGuess]:
    """Write `dataset.toml` into a folder from what it finds; returns its path and the guess it was written from.

    Raises `ValueError` if there is one already (`force` keeps it as dataset.toml.old), or if images or labels are not
    found, naming what was looked for and a better folder where there is one.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"folder '{root}' does not exist", "give the folder that holds the images and labels")
    target = root / FILE_NAME
    if target.exists() and not target.is_file():
        raise DataError(f"{target} is no file, but a folder, a pipe or a device", "remove or rename it")
    if target.exists() and not force:
        raise DataError(f"{target} exists and is not overwritten", "edit it, or use --force, which keeps the old one")
    with files_remembered():
        guess = describe_folder(root)
        old = _read_old(target)
        if are_shares(guess.splits):
            _keep_splits(guess, old)
        _keep_pseudo_labels(guess, old)
    text = guess.to_toml()
    if target.exists():
        keep_old(target)
    write_text(target, text)
    return target, guess


def _read_old(path: Path) -> Descriptor | None:
    """Read the descriptor that a new one replaces; `None` where it is unreadable or describes another folder."""
    try:
        old = read_descriptor(path)
    except (OSError, ValueError):
        return None
    return old if old.root.resolve() == path.parent.resolve() else None


def _keep_splits(guess: FolderGuess, old: Descriptor | None) -> None:
    """Draw splits such that no image changes its split, neither now nor when others are added."""
    if old and old.has_shares:
        guess.splits, guess.group = dict(old.splits), old.group
    if not old or old.draw != "stable":
        images = list_images(guess.descriptor(**ANY_CAMERA), ALL)
        shares = {name: float(share) for name, share in guess.splits.items()}
        guess.splits = dict(fit_shares(list(images), shares, guess.group))
    guess.draw = "stable"


def _keep_pseudo_labels(guess: FolderGuess, old: Descriptor | None) -> None:
    """Keep the sections of pseudo-labels whose task has the same encoding as before, and report the others."""
    new = guess.descriptor(**ANY_CAMERA)
    if old and old.has_split_folders == new.has_split_folders:
        tables = tomllib.loads(read_text(old.path))["tasks"]
        for name in old.pseudo:
            pseudo = tables[name].pop(PSEUDO)
            if name not in new.tasks:  # it has pseudo-labels only
                guess.kept[section("tasks", name)] = tables[name]
            if name not in new.tasks or hash_encoding(new.tasks[name]) == hash_encoding(old.tasks[name]):
                guess.kept[section("tasks", name, PSEUDO)] = pseudo
    for folder in sorted(path for path in (guess.root / PSEUDO).glob("*") if path.is_dir() and not path.suffix):
        count = sum(path.suffix.lower() in SUFFIXES for path in walk_files(folder))
        if count and section("tasks", folder.name, PSEUDO) not in guess.kept:
            text = f"{PSEUDO}/{folder.name}: {count} pseudo-labels that no section describes are not used"
            cure = "set the task's options as they were, and copy its sections from the old descriptor"
            guess.notes.append(f"{text}: {cure if old else 'label anew (`triptych data label --overwrite`)'}")


def describe_folder(root: Path) -> FolderGuess:
    """Guess the content of a folder; raises `ValueError` if there are no images or no labels."""
    places = find_places(root)
    if IMAGES not in places:
        raise _nothing_found(root, "images", ", ".join(WORDS[IMAGES][:6]))
    first, *others = sorted(places.pop(IMAGES), key=lambda place: not is_utf8(place.pattern))
    pictures = first.paths
    if not places:
        first = find_photographs(root, first.paths) or first
    beside = [place for group in places.values() for place in group]
    names = {name for place in beside for name in place.files}
    chosen, labels = align_names(root, first, [take_splits(place, first) for place in beside])
    if not is_utf8(chosen.pattern):
        raise DataError(f"no folder of images can be described, as of {chosen}", NOT_UTF8)
    guess = FolderGuess(root, images=chosen.pattern)
    guess.left_out += [f"{place}, other images" for place in others]
    if len(chosen.paths) < len(pictures):
        guess.notes.append(f"of {len(pictures)} pictures in folders of no usual name, those of {chosen} are images")
    _guess_splits(guess, chosen)
    if are_shares(guess.splits) and any(names):
        shown = ", ".join(sorted(names - {""}))
        guess.notes.append(f"splits are drawn, but folders of labels are called {shown}: {LIST_THEM}")
    images = chosen.by_key(root)
    used, unused = [place.pattern for place in others], list[tuple[Place, str]]()
    for name, guess_task in TASK_GUESSES.items():
        for place in (place for place in labels if place.role == name):
            problem = f"[tasks.{name}] has files already" if name in guess.tasks else ""
            problem = problem or _guess_place(guess, name, place, guess_task, images)
            if problem:
                unused.append((place, problem))
                used.append(place.pattern)
    for place, problem in unused:
        if place.role in guess.tasks:
            guess.left_out.append(f"{place}; {problem}")
            taken = guess.tasks[place.role][0]
            if place.pattern != taken and 2 * _count_matches(root, place, images) >= len(images):
                guess.notes.append(
                    f"{place} match the images too, and [tasks.{place.role}] has {taken}: the right ones?"
                )
        else:
            guess.offers[f"{place}; {problem}"] = place.role, {"files": place.pattern}
    _narrow_images(guess, chosen, used)
    used += _offer_needs(guess, [place for place in labels if place.role in NEEDS], images)
    _look_at_the_rest(guess, [*chosen.files, *names], images, used)
    guess.notes += _find_class_names(guess)
    guess.notes += [f"{path.relative_to(root).as_posix()} is {PIPE}" for path in walk_pipes(root)]
    if not guess.tasks and not guess.offers:
        raise _nothing_found(root, "labels", ", ".join(TASK_GUESSES))
    if guess.tasks and (unlisted := find_unlisted(guess.descriptor())):
        guess.left_out.append(str(unlisted))
    return guess


def _count_matches(root: Path, place: Place, images: Container[tuple[str, str]]) -> int:
    try:
        return sum(key in images for key in place.by_key(root))
    except DataError:  # reported when the pattern is used
        return 0


def _narrow_images(guess: FolderGuess, chosen: Place, used: Sequence[str]) -> None:
    """Put the images' suffix into their pattern where it matches files that are neither images nor labels."""
    labels, splits = [*(pattern for pattern, _ in guess.tasks.values()), *used], list(chosen.files)
    others = find_taken(guess.root, labels, splits).union(chosen.paths)
    suffixes = {path.suffix for path in chosen.paths}
    if find_taken(guess.root, [guess.images], splits) - others and len(suffixes) == 1:
        guess.images = guess.images.replace(".*", suffixes.pop())
    extra = sorted(find_taken(guess.root, [guess.images], splits) - others)
    if extra:
        text = f"{guess.images} takes {len(extra)} other files too, such as {extra[0].relative_to(guess.root)}"
        guess.notes.append(f"{text}: move or rename them")


def _offer_needs(guess: FolderGuess, places: Sequence[Place], images: Mapping[tuple[str, str], Path]) -> list[str]:
    """Offer labels that need more options from the user; returns the patterns of those that match the images."""
    offered = []
    for place in places:
        count, need = sum(key in images for key in place.by_key(guess.root)), NEEDS[place.role]
        if count:
            taken = "depth" in guess.tasks
            name = place.role if taken else "depth"
            options = {"files": place.pattern, **({"type": "depth"} if taken else {}), **need.options}
            guess.offers[f"{place.pattern}: {count} files match the images; {need.text}"] = name, options
            offered.append(place.pattern)
    return offered


def _nothing_found(root: Path, what: str, names: str) -> DataError:
    text, better = f"{root} has no folder of {what} with a usual name ({names})", suggest_root(root)
    if better:
        return DataError(f"{text}. Did you mean {better}?")
    rest = find_rest(root, (), quiet=())
    others = ", ".join(map(str, [one for one in rest if one.suffix.lower() not in SUFFIXES][:3]))
    arrays = ", ".join(map(str, [one for one in rest if one.suffix.lower() in ARRAYS][:3]))
    cure = "call folders, or endings of names, by what they hold, as in images/1.jpg and depth/1.png or 1_depth.png"
    if arrays and not others:
        cure = f"{cure}; there are {arrays}: photographs and labels are files of their own, one each per sample"
    return DataError(text, f"there are {others}, and read are {' '.join(SUFFIXES)}" if others else cure)


def _guess_place(
    guess: FolderGuess, name: str, place: Place, guess_task: TaskGuess, images: Mapping[tuple[str, str], Path]
) -> str:
    """Use a place as the files of a task; returns the problem where that is not possible."""
    if not is_utf8(place.pattern):
        return NOT_UTF8
    try:
        found = place.by_key(guess.root)
    except DataError as error:
        return error.text
    labels = {path: key for key, path in found.items() if key in images}
    if not labels:
        if not found or not images:
            return "its names, or those of the images, hold characters of patterns: rename * and { }"
        (split, name), (of, other) = next(iter(found)), next(iter(images))
        if {key for _, key in found} & {key for _, key in images}:
            return f"its files lie in '{split}', those of images of the same names in '{of}': {{split}} is one name"
        text = f"its names, like '{name}', are not those of images, like '{other}'"
        return f"{text}: {_compare_times(found, images) or 'rename or link them so that they are'}"
    uses = Counter(path for key, path in found.items() if key in images)
    twice = next((path for path, count in uses.items() if count > 1), None)
    if twice:
        return f"{twice} has the name of images of several splits: sort labels into the folders of these"
    entry, entries = _guess_entry(name, next(iter(labels)))
    numbers = guess_task(guess.root, guess, place, labels, entry)
    if not numbers.usable:
        return "; ".join(numbers.doubts)
    if entry:
        numbers.say("key", entry, f"one of the entries {', '.join(entries)}", doubt=True)
        mask = _find_validity(next(iter(labels)), entry, entries)
        if mask:
            numbers.say("valid", mask, f"'{entry}' holds where this entry is not 0", doubt=True)
        numbers.doubts += [f"{text}: {cure}" for text, cure in unused_marks(entries, entry, mask)]
        for other in entries:
            task = role_of(split_words(other))
            if other != entry and task in TASK_GUESSES and task != name and task not in guess.tasks:
                text = f"entry '{other}' of {place.pattern} is not read"
                guess.offers[text] = task, {"files": place.pattern, "key": other}
    _say_size(numbers, [(path, images[key]) for path, key in labels.items()])
    if name == "human_parts" and not {"human", "humanparts", "body", "bodyparts"} & {*split_words(place.pattern)}:
        guess.advice.append(f"[tasks.human_parts] {place.pattern}: parts of people, or of things (a task of your own)?")
    guess.tasks[name] = (place.pattern, numbers)
    return ""


APART = 0.02
"""Largest difference in seconds between timestamps in the names of pictures of two cameras of one device."""


def _compare_times(labels: Iterable[tuple[str, str]], images: Iterable[tuple[str, str]]) -> str:
    """Advice where names are timestamps, as in TUM's data: each file belongs to the image that is nearest in time."""
    try:
        own, others = (np.sort([float(key.rpartition("/")[2]) for _, key in keys]) for keys in (labels, images))
    except ValueError:
        return ""
    if not all("." in key for _, key in labels):
        return ""
    after = np.searchsorted(others, own)
    sides = [others[place.clip(0, len(others) - 1)] for place in (after - 1, after)]
    near = int((np.abs(own - sides).min(axis=0) <= APART).sum())
    text = f"names are times, and {near} of {len(own)} lie within {APART:g} s of an image"
    return f"{text}; link or rename each to the name of the nearest one"


def _guess_entry(name: str, path: Path) -> tuple[str, list[str]]:
    """Choose the entry of an array file for a task, and list all: the one named after the task, else the first; entries
    that may mark valid pixels of others come last."""
    entries = list_entries(path)
    if len(entries) < 2:
        return "", entries
    named = [entry for entry in entries if role_of(split_words(entry)) == name] or entries
    return min(named, key=may_mark), entries


def _find_validity(path: Path, entry: str, entries: Sequence[str]) -> str:
    """Find the entry that marks the valid pixels of another, by its name and shape; empty where there is none."""
    named = [other for other in entries if other != entry and holds_where_set(other)]
    if not named:
        return ""
    stored = read_array(path, key=entry)
    return next((other for other in named if lies_on(read_array(path, key=other).squeeze(), stored)), "")


def _say_size(numbers: Guess, pairs: Sequence[tuple[Path, Path]]) -> None:
    """Compare the sizes of labels and images: propose `resize` for equal aspect ratios, else a doubt."""
    sizes, turned = [], list[bool]()
    key = numbers.values.get("key", "")
    for label, image in pairs[:: max(len(pairs) // 5, 1)][:5]:
        try:
            sizes.append((read_size(label, key=key), read_image_size(image)))
            turned.append(read_orientation(image) != 1)
        except (OSError, ValueError):
            continue  # reported by the doctor
    differing = [(label, image) for label, image in sizes if label != image]
    if any(turned):
        text = "images are read upright, as their EXIF orientation says"
        numbers.doubts.append(f"{text}: were labels drawn on upright images? Else turn them too, or drop the tag")
    if not differing:
        return
    found, size = differing[0]
    text = f"{found[0]}x{found[1]} where the image is {size[0]}x{size[1]}"
    if have_swapped_sides(found, size):
        if not any(turned):
            numbers.doubts.append(f"{text}, its sides swapped: {TRANSPOSED}")
    elif have_one_shape(found, size):
        numbers.say("resize", True, f"{text}: the nearest pixel is taken", doubt=True)
    else:
        numbers.doubts.append(f"{text}: {OTHER_SHAPE}")


def _look_at_the_rest(
    guess: FolderGuess, splits: Sequence[str], images: Mapping[tuple[str, str], Path], told: Sequence[str]
) -> None:
    """Count files that match no pattern, and offer folders whose names match the images."""
    root = guess.root
    patterns = [guess.images, *(pattern for pattern, _ in guess.tasks.values()), *told]
    known = set(splits) | {value for value in guess.splits.values() if isinstance(value, str)}
    rest = find_rest(root, find_taken(root, patterns, sorted(known | {*SPLIT_OF})))
    offered: set[Path] = set()
    for offer in find_offers(root, rest, images):
        offered.update(offer.paths)
        count = f"{offer.folder}: {len(offer.paths)} files match the images"
        name = re.sub(r"\W", "_", offer.folder.strip("/").rpartition("/")[2].lower())
        guess.offers[f"{count}; name its task"] = name, {"type": "semseg", "files": offer.pattern}
    for one in rest:
        marking = next((path for path in one.paths if tells_validity(path)), None)
        if marking:
            text = f"files like {marking.relative_to(root)} seem to mark where depth or normals hold, and are not read"
            guess.notes.append(f"{text}: give the pixels that they exclude 0 or NaN in the maps themselves")
        if not offered.issuperset(one.paths):
            guess.left_out.append(f"{one} match no pattern, such as {one.paths[0].name}")


PIPE = "a pipe or a device, and is not read: replace it by a file, or remove it"

NAMES = ("classes", "class_names", "classnames", "label_names", "labels", "labelmap", "names", "obj")
"""Names of files with lists of class names."""


def _find_class_names(guess: FolderGuess) -> list[str]:
    """Lists of class names beside label maps, which are not read: their number may be another than that of ids."""
    count: Any = guess.tasks["semseg"][1].values.get("classes") if "semseg" in guess.tasks else 0
    notes = []
    for path in sorted(guess.root.iterdir()) if count else ():
        if path.suffix.lower() not in (*LISTS, ".names") or path.stem.lower().strip("_") not in NAMES:
            continue
        try:
            lines = read_lines(path)
        except OSError as error:
            notes.append(str(error))
            continue
        maps = f"the maps of semseg have {count if isinstance(count, int) else len(count)} classes"
        cure = "list its names in classes, that of id 0 first; offset = -1 where 0 is unlabelled"
        notes.append(f"{path.name} of {len(lines)} lines is not read, and {maps}: {cure}")
    return notes


def _guess_splits(guess: FolderGuess, images: Place) -> None:
    folders = [name for name in images.files if name]
    if folders:
        order = sorted(folders, key=lambda name: (list(SPLITS).index(SPLIT_OF[name.lower()]), -len(images.files[name])))
        guess.split_reason = "name = folder that {split} stands for"
        for name in order:
            known = SPLIT_OF[name.lower()]
            guess.splits[name if known in guess.splits else known] = name
            if guess.splits[known] != name:
                counts = f"{len(images.files[str(guess.splits[known])])} and {len(images.files[name])} images"
                guess.notes.append(f"folders {guess.splits[known]} and {name} ({counts}) are both taken for {known}")
        guess.advice += _name_missing_splits(guess.splits, "folders of images")
        return
    lists = _find_lists(guess, images)
    if lists:
        guess.splits = {name: lists[name] for name in SPLITS if name in lists}
        guess.split_reason = "lists of keys, one per line"
        guess.advice += _name_missing_splits(guess.splits, "lists")
        return
    guess.splits = {"val": 0.1, "test": 0.1}
    guess.split_reason = "shares of the images, drawn by a hash of their names; train is the rest"
    guess.notes += _find_unused_splits(guess.root, images)
    guess.advice += _find_videos(images)


def _name_missing_splits(found: Container[str], where: str) -> list[str]:
    """Advice where the split for training, or the one for choosing weights, is missing."""
    uses = {"train": "to train on", "val": "to choose weights on"}
    missing = [f"{name} ({use})" for name, use in uses.items() if name not in found]
    return [f"{where} tell no split {' and no split '.join(missing)}: add it, or name another"] if missing else []


FRAMES = {"frame", "frames", "video", "videos", "clip", "clips", "sequence", "sequences", "seq", "scan", "drive"}
"""Words in the names of images that follow each other in time."""
MANY_FRAMES = 10


def _find_videos(images: Place) -> list[str]:
    """Advise a split by groups for videos: neighboring frames in training and validation make scores meaningless."""
    folders = {path.parent for path in images.paths if FRAMES.intersection(_words(f"{path.parent.name} {path.stem}"))}
    if not folders or len(images.paths) < MANY_FRAMES * len(folders):
        return []
    group = "folder" if len(folders) > len(SPLITS) else "time"
    return [f"splits are drawn image by image, and names tell of videos: group = '{group}' keeps frames together"]


TABLES = (".json", ".csv", ".tsv", ".yaml", ".yml", ".xml", ".pkl", ".mat")
"""Suffixes of files that may list the images of splits, in formats that are not read."""


LIST_THEM = f"list the names of each split in a {LISTS[0]} file, such as train.txt, one per line"


def _find_unused_splits(root: Path, images: Place) -> list[str]:
    """Notes on names of images and on tables that seem to define splits, which the drawn splits ignore."""
    cure = LIST_THEM
    told = {path: SPLIT_OF[word] for path in images.paths for word in _words(path.stem) if word in SPLIT_OF}
    splits, notes = [name for name in SPLITS if name in told.values()], list[str]()
    if len(splits) > 1:
        shown = ", ".join(f"{list(told.values()).count(name)} of {name}" for name in splits)
        notes.append(f"splits are drawn, but names of images, such as {next(iter(told)).name}, tell {shown}: {cure}")
    for path in walk_files(root):
        known = {"split", "splits", "fold", "folds"} | ({*SPLIT_OF} if path.suffix.lower() != ".mat" else set())
        if path.suffix.lower() in TABLES and known.intersection(_words(path.stem)):
            notes.append(f"splits are drawn, but {path.relative_to(root).as_posix()} may name them: {cure}")
            break
    return notes


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z]+", name.lower())


BOTH = "trainval"
"""Name of a list of the images of two splits, used for training where neither has its own list."""


def _find_lists(guess: FolderGuess, images: Place) -> dict[str, str]:
    """Find the lists of images by split, by name and content; the longest where there are several."""
    keys = {key: path for (_, key), path in images.by_key(guess.root).items()}
    by_path = {composed(path.relative_to(guess.root).as_posix()): key for key, path in keys.items()}
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    unread: dict[str, str] = {}
    for path in walk_files(guess.root):
        name = path.relative_to(guess.root).as_posix()
        splits = {SPLIT_OF[word] for word in _words(path.stem) if word in SPLIT_OF}
        splits = splits or {word for word in _words(path.stem) if word == BOTH}
        if path.suffix.lower() not in LISTS or len(splits) != 1 or name.count("/") > 2:
            continue
        if not is_utf8(name):
            guess.left_out.append(f"{name}; {NOT_UTF8}")
            continue
        try:
            lines = read_lines(path)
        except OSError as error:
            guess.notes.append(str(error))
            continue
        known = sum(find_listed(composed(line), keys, by_path) is not None for line in lines)
        if 2 * known >= len(lines):
            found[splits.pop()].append((len(lines), name))
        else:
            guess.left_out.append(f"{name}: {known} of {len(lines)} lines name an image")
            unread[name] = (
                f"{name} is no list of splits: {known} of {len(lines)} lines name an image, such as '{lines[0]}'"
            )
    guess.notes += [] if found else list(unread.values())
    both = found.pop(BOTH, [])
    if both and not {"train", "val"} & set(found):
        guess.notes.append(f"{both[0][1]} is taken for train: list images to choose weights on apart, as val")
        found["train"] = both
    for split, lists in found.items():
        lists.sort(key=lambda one: (-one[0], one[1]))
        if len(lists) > 1:
            shown = " and ".join(f"{name} ({count} lines)" for count, name in lists)
            guess.notes.append(f"{shown} are lists for {split}: the first is taken")
    return {split: lists[0][1] for split, lists in found.items()}


def _guess_normals(root: Path, guess: FolderGuess, place: Place, labels: Labelled, key: str) -> Guess:
    """Guess the axes of normals, by the depth of the same images where available."""
    if "depth" not in guess.tasks:
        return guess_normals(list(labels), key=key)
    pattern, numbers = guess.tasks["depth"]
    depth = {"files": pattern, **numbers.values}
    data = {"images": {"files": guess.images}, "tasks": {"depth": depth}, **ANY_CAMERA}
    encoding = parse_descriptor(data, root).tasks["depth"]
    files = Place("depth", pattern, place.files).by_key(root)

    def depth_of(path: Path) -> Tensor | None:
        file = files.get(labels[path])
        if file is None:
            return None
        return encoding.decode(encoding.read(file), assumed_camera(read_size(file)))

    both = [path for path, name in labels.items() if name in files]
    return guess_normals(both or list(labels), key=key, depth_of=depth_of)


def _guess_alone(numbers: Callable[..., Guess], **options: bool) -> TaskGuess:
    """Make a guess that uses the label files of the task alone."""
    return lambda root, guess, place, labels, key: numbers(list(labels), key=key, **options)


TASK_GUESSES: dict[str, TaskGuess] = {
    "semseg": _guess_alone(guess_labels),
    "human_parts": _guess_alone(guess_labels, parts=True),
    "saliency": _guess_alone(guess_mask),
    "boundary": _guess_alone(guess_mask, votes=True),
    "depth": _guess_alone(guess_depth),
    "normals": _guess_normals,  # after depth, which they are compared with
}
