"""Describe a folder by its names and some of its files, and report all evidence that is not used."""

import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.data.errors import DataError
from triptych.data.files import ARRAYS, SUFFIXES, walk_pipes
from triptych.data.lists import read_lines
from triptych.data.splits import SPLIT_OF
from triptych.folders.descriptor import LISTS, are_shares, find_unlisted
from triptych.folders.file_names import align_names
from triptych.folders.folder_guess import FolderGuess
from triptych.folders.places import NOT_UTF8, Place, find_places, is_utf8, suggest_root, take_splits
from triptych.folders.split_guesses import LIST_THEM, guess_splits
from triptych.folders.task_guesses import TASK_GUESSES, guess_place
from triptych.folders.unnamed import find_offers, find_photographs, find_rest, find_taken
from triptych.labels.words import IMAGES, NEEDS, WORDS, tells_validity


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
    guess_splits(guess, chosen)
    if are_shares(guess.splits) and any(names):
        shown = ", ".join(sorted(names - {""}))
        guess.notes.append(f"splits are drawn, but folders of labels are called {shown}: {LIST_THEM}")
    images = chosen.by_key(root)
    used, unused = [place.pattern for place in others], list[tuple[Place, str]]()
    for name, guess_task in TASK_GUESSES.items():
        for place in (place for place in labels if place.role == name):
            problem = f"[tasks.{name}] has files already" if name in guess.tasks else ""
            problem = problem or guess_place(guess, name, place, guess_task, images)
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
