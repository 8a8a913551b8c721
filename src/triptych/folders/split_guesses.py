"""Guess the splits of a folder: from folders, from lists, or as shares."""

import re
from collections import defaultdict
from collections.abc import Container
from pathlib import Path

from triptych.data.files import composed, walk_files
from triptych.data.lists import read_lines
from triptych.data.splits import SPLIT_OF, SPLITS
from triptych.folders.descriptor import LISTS, find_listed
from triptych.folders.folder_guess import FolderGuess
from triptych.folders.places import NOT_UTF8, Place, is_utf8


def guess_splits(guess: FolderGuess, images: Place) -> None:
    """Set the splits of a guess, with their reason, and what the user should check about them."""
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
    guess.advice += _find_videos(guess.root, images)


def _name_missing_splits(found: Container[str], where: str) -> list[str]:
    """Advice where the split for training, or the one for choosing weights, is missing."""
    uses = {"train": "to train on", "val": "to choose weights on"}
    missing = [f"{name} ({use})" for name, use in uses.items() if name not in found]
    return [f"{where} tell no split {' and no split '.join(missing)}: add it, or name another"] if missing else []


FRAMES = {word + end for word in ("frame", "video", "clip", "sequence", "scene") for end in ("", "s")}
FRAMES |= {"seq", "scan", "drive"}
"""Words in the names of images, and of folders around them, that follow each other in time or show one place."""
MANY_FRAMES = 10


def _find_videos(root: Path, images: Place) -> list[str]:
    """Advise a split by groups for videos: neighboring frames in training and validation make scores meaningless."""
    folders = {path.parent for path in images.paths if FRAMES.intersection(_words(path.relative_to(root).as_posix()))}
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
