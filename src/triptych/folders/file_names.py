"""Match names of images and labels that differ by a constant part: `img_001` and `mask_001`, `001` and `001_L`."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from triptych.data.errors import DataError
from triptych.data.files import KEY, NAME, SCENE
from triptych.folders.places import HOLDS, Place

Keys = Collection[tuple[str, str]]
"""Split folders and keys."""
TRIED = 5
"""Files whose names are compared to find the constant part."""


def align_names(root: Path, images: Place, labels: Sequence[Place]) -> tuple[Place, list[Place]]:
    """Change the patterns of places so that images and labels get the same keys, where only a constant part of their
    names differs; places that match already, or cannot match, stay as they are."""
    best, chosen = _count_matches(root, images, labels), (images, list(labels))
    for candidate in (images, *_cut_names(root, images), *_parts(root, images)):
        if best == len(labels):
            break
        keys = _keys(root, candidate)
        aligned = [_align(root, place, keys) for place in labels]
        count = _count_matches(root, candidate, aligned)
        if count > best:
            best, chosen = count, (candidate, aligned)
    return chosen


def _keys(root: Path, place: Place) -> dict[tuple[str, str], Path]:
    """Files by split folder and key; none where a pattern gives two files one key."""
    try:
        return place.by_key(root)
    except DataError:
        return {}


def _count_matches(root: Path, images: Place, labels: Sequence[Place]) -> int:
    """Count the places that have a label of at least one image."""
    keys = _keys(root, images)
    return sum(any(key in keys for key in _keys(root, place)) for place in labels)


def _align(root: Path, place: Place, images: Keys) -> Place:
    """Add constant text around the key to the pattern of a place where its keys then match the images."""
    found = _keys(root, place)
    if any(key in images for key in found):
        return place
    folders = {key.rpartition("/")[0] for _, key in found}
    if len(folders) == 1 and folders != {""} and KEY in place.pattern:
        inner = replace(place, pattern=place.pattern.replace(KEY, f"{folders.pop()}/{KEY}"))
        return _align(root, inner, images)
    for split, key in list(found)[:TRIED]:
        folder, _, name = key.rpartition("/")
        for other in (other for of, other in images if of == split):
            inside, _, image = other.rpartition("/")
            if inside == folder and image in name:
                start, _, end = name.partition(image)
                candidate = _with_affixes(root, place, start, end)
                if candidate is not None and sum(one in images for one in _keys(root, candidate)) >= HOLDS * len(found):
                    return candidate
    return place


def _with_affixes(root: Path, place: Place, start: str, end: str) -> Place | None:
    """Add constant text around the key to a place; `None` where that would cut a number."""
    if start[-1:].isdigit() or end[:1].isdigit() or not start + end:
        return None
    nested = {"/" in key for _, key in _keys(root, place)}
    if len(nested) > 1:
        return None
    key = f"{start}{NAME}{end}" if nested == {True} or NAME in place.pattern else f"{start}{KEY}{end}"
    if nested == {True} and SCENE not in place.pattern:
        key = f"{SCENE}/{key}"
    return replace(place, pattern=place.pattern.replace(NAME, KEY).replace(KEY, key))


def _cut_names(root: Path, images: Place) -> Iterator[Place]:
    """Yield the images without the common start or end of their names."""
    own = set(images.paths)
    names = [key.rpartition("/")[2] for (_, key), path in _keys(root, images).items() if path in own]
    if len(names) < 2:
        return
    start = _common_start(names).rstrip("0123456789")
    end = _common_start([name[::-1] for name in names])[::-1].lstrip("0123456789")
    if any(len(name) <= len(start) + len(end) for name in names):
        return
    for before, after in ((start, ""), ("", end), (start, end)):
        candidate = _with_affixes(root, images, before, after)
        if candidate is not None:
            yield candidate


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    return first[: next((i for i, letter in enumerate(first) if letter != last[i]), len(first))]


def _parts(root: Path, images: Place) -> Iterator[Place]:
    """Yield the images of each single folder, where pictures lie in several folders of unknown names."""
    before, marker, after = images.pattern.partition(KEY)
    if not marker or (before and before != "{split}/"):
        return
    own, parts = set(images.paths), dict[str, Place]()
    for (split, key), path in _keys(root, images).items():
        folder, inside, _ = key.partition("/")
        if inside and path in own:
            part = parts.setdefault(folder, Place(images.role, f"{before}{folder}/{KEY}{after}"))
            part.files[split].append(path)
    yield from sorted(parts.values(), key=lambda part: (-len(part.paths), part.pattern))
