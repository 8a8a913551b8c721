"""Checks of a dataset as a whole, once every file was read: `SPLIT_CHECKS`."""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from triptych.data.arrays import list_entries
from triptych.data.files import walk_pipes
from triptych.data.label_files import find_other_palette
from triptych.data.splits import ALL
from triptych.datasets.folder import Folder
from triptych.doctor.findings import Finding
from triptych.doctor.inspection import ANOTHER, Inspection, Seen
from triptych.folders.descriptor import Descriptor, list_files, list_images
from triptych.folders.unnamed import find_rest
from triptych.labels.base import Encoding
from triptych.labels.classes import Labels
from triptych.labels.words import unused_marks
from triptych.lookup import grouped
from triptych.types import IGNORE


@dataclass
class ExaminedSplit:
    """The inspected samples of one split: all, or a part spread evenly."""

    split: str
    dataset: Seen
    samples: list[Inspection] = field(default_factory=list)
    is_part: bool = False


def seen_by_training(splits: Sequence[ExaminedSplit]) -> Sequence[ExaminedSplit]:
    """The split that training uses, in a list: `train`, else the first; empty without splits."""
    return [examined for examined in splits if examined.split == "train"] or splits[:1]


def _own_folders(splits: Sequence[ExaminedSplit]) -> list[Folder]:
    """The datasets of splits that are the user's own."""
    return [examined.dataset for examined in splits if isinstance(examined.dataset, Folder)]


def check_pairs(splits: list[ExaminedSplit]) -> Iterator[Finding]:
    """Find labels without an image, and images without any label."""
    folders = _own_folders(splits)
    for name, path in find_orphans(folders[0]) if folders else ():
        cure = "add the image, correct the name, or remove the label"
        yield Finding("warning", "no image", "", name, str(path), "no image has its name", cure)
    yield from find_shared_labels(folders)
    for dataset in folders:
        for key in dataset.keys:
            if not any(key in paths for paths in dataset.labels.values()):
                cure = "label it, correct the name of its label, or leave it out of the split"
                file = str(dataset.images[key])
                yield Finding("warning", "no label", dataset.split, "", file, "it has no label of any task", cure)


def find_shared_labels(folders: Sequence[Folder]) -> Iterator[Finding]:
    """Find label files that are those of several images: of equal names in folders of several splits."""
    images: dict[tuple[str, Path], dict[Path, str]] = defaultdict(dict)
    for dataset in folders:
        for name, paths in dataset.labels.items():
            for key, path in paths.items():
                if key in dataset.images:
                    images[name, path].setdefault(dataset.images[key], dataset.split)
    for (name, path), used in images.items():
        if len(used) > 1:
            (one, _), (other, split) = list(used.items())[:2]
            text = f"it is the label of {len(used)} images, such as {one} and {other}"
            cure = f"sort labels into the folders of the images, with {{split}} in files of [tasks.{name}]"
            yield Finding("error", "shared label", split, name, str(path), text, cure)


def find_orphans(dataset: Folder) -> Iterator[tuple[str, Path]]:
    """Task and path of label files that belong to no image of any split."""
    descriptor = dataset.descriptor
    images = list_images(descriptor, ALL)
    for name in dataset.labels:
        labels = list_files(descriptor, descriptor.tasks[name].files, ALL)
        used = {path for key, path in labels.items() if key in images}
        yield from ((name, path) for path in dict.fromkeys(labels.values()) if path not in used)


def check_copies(splits: list[ExaminedSplit]) -> Iterator[Finding]:
    """Find images that occur twice; in two splits they leak from training into scores."""
    seen: dict[str, list[tuple[ExaminedSplit, str]]] = defaultdict(list)
    for examined in splits:
        for sample in examined.samples:
            alike = seen[sample.digest] if sample.digest else []
            copied = next(((other, key) for other, key in alike if _is_copy(examined, sample.key, other, key)), None)
            if copied is not None:
                split, first = copied[0].split, copied[0].dataset.images[copied[1]]
                leaks = split != examined.split
                text = f"it is the same file as {first}" + (f" of split {split}" if leaks else "")
                cure = "keep it in one split only" if leaks else "remove one of them"
                path = str(examined.dataset.images[sample.key])
                yield Finding("warning", "copy", examined.split, "images", path, text, cure)
            else:
                alike.append((examined, sample.key))


def _is_copy(one: ExaminedSplit, key: str, other: ExaminedSplit, other_key: str) -> bool:
    """Whether two images of equal digest have the same pixels, in 8 bits."""
    return np.array_equal(one.dataset.stored_photo(key).bytes(), other.dataset.stored_photo(other_key).bytes())


def check_coverage(splits: list[ExaminedSplit]) -> Iterator[Finding]:
    """Find tasks without a label, classes that never occur and masks that are never set, in the training split."""
    for examined in seen_by_training(splits):
        for name, task in examined.dataset.tasks.items():
            counts = [sample.classes[name] for sample in examined.samples if name in sample.classes]
            if name in examined.dataset.labels and not examined.dataset.labels[name]:
                cure = f"correct files in [tasks.{name}], or remove the section"
                yield Finding("error", "coverage", examined.split, name, "", "no image has this label", cure)
            elif counts and not examined.is_part:
                total = np.sum(counts, axis=0)
                absent = [task.classes[i] for i in np.flatnonzero(total == 0) if i < len(task.classes)]
                if absent and total.sum() > 0:
                    text = f"{len(absent)} of {len(task.classes)} classes never occur: {', '.join(absent[:8])}"
                    cure = "correct classes, map or threshold, or label more images"
                    yield Finding("warning", "coverage", examined.split, name, "", text, cure)


def check_chosen_on(splits: list[ExaminedSplit]) -> Iterator[Finding]:
    """Find tasks with labels in training but not in `val`, so that weights are chosen without them.

    Missing labels in `test` show in the table of scores.
    """
    trained = [examined.dataset for examined in seen_by_training(splits)]
    for dataset in _own_folders(splits):
        for name, paths in dataset.labels.items() if dataset.split == "val" else ():
            if trained[0].labels.get(name) and not paths and any(dataset.labels.values()):
                text = "no image of this split has this label: weights are chosen without it"
                cure = "label some of its images, or draw the splits anew"
                yield Finding("warning", "coverage", dataset.split, name, "", text, cure)


def check_codes(splits: list[ExaminedSplit]) -> Iterator[Finding]:
    """Find masks of 0 and 1 mixed with masks of 0 and 255: in some of them the object is misread."""
    found: dict[str, list[tuple[str, str, frozenset[float | int]]]] = defaultdict(list)
    alike: dict[int, tuple[Encoding | None, bool]] = {}  # most files of a task share one encoding
    for examined in splits:
        for sample in examined.samples:
            for name, codes in sample.codes.items():
                encoding = examined.dataset.encoding(name, sample.key)
                if id(encoding) not in alike:
                    alike[id(encoding)] = encoding, _reads_alike(encoding, 1, IGNORE)
                if not alike[id(encoding)][1]:
                    found[name].append((examined.split, str(examined.dataset.labels[name][sample.key]), codes))
    for name, files in found.items():
        wide = [(split, path) for split, path, codes in files if IGNORE in codes <= {0, IGNORE}]
        low = [(split, path) for split, path, codes in files if IGNORE not in codes and codes - {0}]
        if not wide or not low or any(IGNORE in codes and codes - {0, IGNORE} for _, _, codes in files):
            continue
        split, path = min(wide, low, key=len)[0]
        text = f"{len(wide)} files hold 0 and 255 alone, {len(low)} files other classes: masks of two codes?"
        cure = f'save them alike, or map = {{ "0" = 0, "1" = 1, "255" = 1 }} in [tasks.{name}] (masks: threshold = 1)'
        yield Finding("warning", "codes", split, name, path, text, cure)


def check_palettes(splits: list[ExaminedSplit]) -> Iterator[Finding]:
    """Find pictures whose ids have other colors in the palettes of other files, where ids are read and not colors."""
    files: dict[str, list[tuple[Path, frozenset[float | int]]]] = defaultdict(list)
    split_of: dict[Path, str] = {}
    for examined in splits:
        for sample in examined.samples:
            for name, codes in sample.codes.items():
                encoding = examined.dataset.encoding(name, sample.key)
                if isinstance(encoding, Labels) and not encoding.colors:
                    path = examined.dataset.labels[name][sample.key]
                    files[name].append((path, codes))
                    split_of[path] = examined.split
    for name, pairs in files.items():
        if found := find_other_palette(pairs):
            path, text = found
            cure = f"ids are indices: save the maps with one palette, or list colors in [tasks.{name}]"
            yield Finding("warning", "palettes", split_of[path], name, str(path), text, cure)


def _reads_alike(encoding: Encoding | None, *values: int) -> bool:
    """Whether two stored values become the same label."""
    if encoding is None:
        return True
    try:
        labels = [float(encoding.decode(np.full((1, 1), value, np.uint8), None).ravel()[0]) for value in values]
    except (ValueError, IndexError):
        return False
    return labels[0] == labels[1]


def check_marks(splits: list[ExaminedSplit]) -> Iterator[Finding]:
    """Find array files with an unused entry that seems to mark the valid pixels of the one that is read."""
    told: set[str] = set()
    for examined in splits:
        for name, paths in examined.dataset.labels.items():
            encoding = examined.dataset.encoding(name, next(iter(paths))) if paths and name not in told else None
            if encoding is None or not encoding.key:
                continue
            told.add(name)
            path = next(iter(paths.values()))
            for text, cure in unused_marks(list_entries(path), encoding.key, encoding.valid):
                yield Finding("warning", "marks", examined.split, name, str(path), text, cure)


def check_pipes(splits: list[ExaminedSplit]) -> Iterator[Finding]:
    """Find pipes, devices and sockets among the files, which are not read, as this could wait forever."""
    folders = _own_folders(splits)
    for path in walk_pipes(folders[0].descriptor.root) if folders else ():
        text, cure = "it is a pipe or a device, and is not read", "replace it by a file, or remove it"
        yield Finding("warning", "pipe", "", "", str(path), text, cure)


FACTOR, SPREADS = 6.0, 5.0
"""Limits for the median of a depth file: factor to the median of all files, and number of median deviations."""


def check_types(splits: list[ExaminedSplit]) -> Iterator[Finding]:
    """Find depth files of different number types with different units: millimetres in 16 bits, metres in floats."""
    found = grouped(
        (name, (kind, (sample.depths[name], examined.split, str(examined.dataset.labels[name][sample.key]))))
        for examined in splits
        for sample in examined.samples
        for name, kind in sample.types.items()
        if name in sample.depths
    )
    for name, typed in found.items():
        kinds = grouped(typed)
        depths = {kind: float(np.median([depth for depth, _, _ in files])) for kind, files in kinds.items()}
        if max(depths.values()) > FACTOR * min(depths.values()):
            shown = ", ".join(f"{len(files)} {kind} of {depths[kind]:.3g} m" for kind, files in kinds.items())
            _, split, path = min(kinds.values(), key=len)[0]
            text = f"its files store different types, whose depths differ: {shown}"
            yield Finding("warning", "types", split, name, path, text, "save all files in one type and unit")


def check_cameras(splits: list[ExaminedSplit]) -> Iterator[Finding]:
    """Check that every image has its camera file, or, with one camera for all, that images have one size or `size` is
    given.
    """
    for examined in splits:
        dataset = examined.dataset
        camera = dataset.descriptor.camera if isinstance(dataset, Folder) else None
        # A picture on its side has the same camera as the others, rotated.
        sizes = {tuple(sorted(sample.size)): sample.size for sample in examined.samples if sample.size}
        if camera and camera.intrinsics and not camera.size and len(sizes) > 1:
            shown = ", ".join(f"{height}x{width}" for height, width in list(sizes.values())[:3])
            text = f"intrinsics are of one size, and its images have {len(sizes)}: {shown}{', ...' * (len(sizes) > 3)}"
            cure = "give size in [camera], (height, width) that intrinsics belong to; all others are scaled"
            yield Finding("warning", "camera", dataset.split, "camera", "", text, cure)
        if isinstance(dataset, Folder) and dataset.descriptor.camera and dataset.descriptor.camera.files:
            for key in dataset.keys:
                if key not in dataset.cameras:
                    text, cure = "it has no camera file", "add it, or correct files in [camera]"
                    yield Finding("warning", "camera", dataset.split, "camera", str(dataset.images[key]), text, cure)


def check_near_names(splits: list[ExaminedSplit]) -> Iterator[Finding]:
    """Find unmatched files in the folders of images and labels whose names equal an image's up to case or suffix."""
    folders = _own_folders(splits)
    if not folders:
        return
    descriptor = folders[0].descriptor
    patterns = {"images": descriptor.images, **{name: one.files for name, one in descriptor.tasks.items() if one.files}}
    taken = {path for files in patterns.values() for path in list_files(descriptor, files, ALL).values()}
    left = [path for rest in find_rest(descriptor.root, taken) for path in rest.paths if path.name[0] != "."]
    if not left:
        return
    places = {path.parent for path in taken}
    names = {_plain(path.stem) for path in list_images(descriptor, ALL).values()}
    for path in left:
        if path.parent in places and _plain(path.stem) in names:
            task = next((name for name, files in patterns.items() if _starts(descriptor, files, path)), "")
            text = f"it is named like an image, but files = '{patterns.get(task, '')}' does not take it"
            cure = "give it the suffix and case of the others, or remove it"
            yield Finding("warning", "not matched", "", task, str(path), text, cure)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _starts(descriptor: Descriptor, pattern: str, path: Path) -> bool:
    folder = pattern.partition("{")[0].rpartition("/")[0]
    return bool(folder) and path.is_relative_to(descriptor.root / folder)


def check_labels(splits: list[ExaminedSplit]) -> Iterator[Finding]:
    """Find tasks without any valid pixel, which would be trained with a loss of 0."""
    for examined in seen_by_training(splits):
        for name, paths in examined.dataset.labels.items():
            read = [sample for sample in examined.samples if sample.key in paths and name in sample.labelled]
            if read and not any(sample.labelled[name] for sample in read):
                text = f"none of its {len(read)} label files has a valid pixel"
                cure = f"correct unit, invalid and the encoding in [tasks.{name}]"
                yield Finding("error", "coverage", examined.split, name, "", text, cure)


def check_outliers(splits: list[ExaminedSplit]) -> Iterator[Finding]:
    """Find single depth files in another unit than the rest."""
    medians = grouped(
        (name, (examined.split, str(examined.dataset.labels[name][sample.key]), median))
        for examined in splits
        for sample in examined.samples
        for name, median in sample.depths.items()
    )
    for name, found in medians.items():
        logs = np.log([median for _, _, median in found])
        typical = float(np.exp(np.median(logs)))
        limit = max(np.log(FACTOR), SPREADS * float(np.median(np.abs(logs - np.median(logs)))))
        for split, path, median in found:
            if len(found) >= 5 and abs(np.log(median / typical)) > limit:
                text = f"its median depth is {median:.3g} m, that of the others {typical:.3g} m"
                yield Finding("warning", "depth unit", split, name, path, text, "save it in the unit of the others")


def check_normals_against_depth(splits: list[ExaminedSplit]) -> Iterator[Finding]:
    """Check that normals agree with those of the depth, as they do in the right frame."""
    for examined in splits:
        angles = [angle for sample in examined.samples for angle in sample.angles]
        if angles and float(np.median(angles)) > 45:
            yield Finding(
                "warning",
                "normals axes",
                examined.split,
                "normals",
                "",
                f"normals are {np.median(angles):.0f} degrees (median) from those of the depth",
                "correct axes in [tasks.normals], or the camera",
            )


def check_variant(splits: list[ExaminedSplit]) -> Iterator[Finding]:
    """Check that a published dataset has the images of its archive, in their sizes, and all their labels."""
    for examined in splits:
        dataset, variant = examined.dataset, getattr(examined.dataset, "variant", None)
        if variant is None:
            continue
        keys = getattr(dataset, "archive_keys", dataset.keys)
        expected = variant.counts.get(examined.split, len(keys))
        if len(keys) != expected:
            text = f"it has {len(keys)} images, {variant.name} has {expected}"
            yield Finding("error", "count", examined.split, "images", "", text, f"unpack all of {variant.download}")
        for sample in examined.samples:
            if variant.sizes and sample.size is not None and sample.size not in variant.sizes:
                sizes = " or ".join(f"{height}x{width}" for height, width in variant.sizes)
                text = f"it is {sample.size[0]}x{sample.size[1]}, images of {variant.name} are {sizes}"
                file = str(dataset.images[sample.key])
                yield Finding("error", "size", examined.split, "images", file, text, ANOTHER)
        for name in splits[0].dataset.labels if examined.split != "test" else ():
            if splits[0].dataset.labels[name] and not dataset.labels.get(name):
                text = f"split {splits[0].split} has {name} files, this one has none"
                yield Finding("error", "missing", examined.split, name, "", text, f"unpack all of {variant.download}")
        for name, paths in dataset.labels.items():
            for key in keys if paths else ():
                if key not in paths:
                    file, text = str(dataset.images[key]), f"it has no {name} file"
                    cure = f"unpack all of {variant.download}"
                    yield Finding("error", "missing", examined.split, name, file, text, cure)


SPLIT_CHECKS: dict[str, Callable[[list[ExaminedSplit]], Iterator[Finding]]] = {
    "pairs": check_pairs,
    "copies": check_copies,
    "coverage": check_coverage,
    "chosen on": check_chosen_on,
    "labels": check_labels,
    "codes": check_codes,
    "palettes": check_palettes,
    "marks": check_marks,
    "pipes": check_pipes,
    "types": check_types,
    "cameras": check_cameras,
    "near names": check_near_names,
    "outliers": check_outliers,
    "normals against depth": check_normals_against_depth,
    "variant": check_variant,
}
"""Checks of all splits together, after every file was read."""
