"""Guess the options of a task from its label files: entry, numbers, sizes."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from triptych.data.arrays import list_entries, read_array, read_size
from triptych.data.errors import DataError
from triptych.data.photos import read_image_size, read_orientation
from triptych.data.shapes import OTHER_SHAPE, TRANSPOSED, have_one_shape, have_swapped_sides
from triptych.folders.descriptor import parse_descriptor
from triptych.folders.folder_guess import ANY_CAMERA, FolderGuess
from triptych.folders.places import NOT_UTF8, Place, is_utf8
from triptych.labels.axes import assumed_camera, guess_normals
from triptych.labels.base import lies_on
from triptych.labels.depth_guesses import guess_depth
from triptych.labels.guesses import Guess, guess_labels, guess_mask
from triptych.labels.words import holds_where_set, may_mark, role_of, split_words, unused_marks

Labelled = dict[Path, tuple[str, str]]
"""Label files, with the split and key of the image of each."""
TaskGuess = Callable[[Path, FolderGuess, Place, Labelled, str], Guess]


def guess_place(
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
