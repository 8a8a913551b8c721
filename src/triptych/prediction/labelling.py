"""`triptych data label`: a network's predictions as pseudo-labels of a folder, beside its labels and never over one.

Each task's `[tasks.NAME.pseudo]` in `dataset.toml` gives their files, their teacher and their weight. They have the
encoding of their task, so that a corrected one becomes a label when it is moved to the labels.
"""

import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from torch import Tensor

from triptych.data.errors import DataError
from triptych.data.lists import read_text
from triptych.data.splits import ALL
from triptych.data.subset import spread_evenly
from triptych.datasets.folder import Folder
from triptych.files import check_writable, write_text
from triptych.folders.descriptor import (
    FILE_NAME,
    PSEUDO,
    Descriptor,
    PseudoLabels,
    list_files,
    parse_descriptor,
    read_descriptor,
    split_names,
)
from triptych.folders.toml_text import append_section, drop_section, is_text_of, keep_old, place_of_old, section
from triptych.labels.base import hash_encoding, is_stored_in
from triptych.labels.encodings import ENCODINGS
from triptych.labels.masks import BoundaryMask
from triptych.lookup import named_choice
from triptych.prediction.calibration import describe_unscaled
from triptych.prediction.confidence import split_confidences
from triptych.prediction.events import event_level
from triptych.prediction.outputs import advise_size
from triptych.prediction.predictor import Predictor
from triptych.prediction.pseudo_labels import note_confidence, rank_confidence, to_target, write_label
from triptych.prediction.teachers import hash_teacher, map_classes, open_teacher, unknown_classes, with_confidence
from triptych.tasks import Task
from triptych.types import keep_labels, valid_pixels

ASKED = 50
"""Most labelled images by which the probability is chosen from which a pixel is an event."""
LEAST = 5
"""Number of least confident images that are named."""


@dataclass(frozen=True)
class Labelled:
    """Result of `label_folder`, by task: how many images got a pseudo-label, had one, or have a label of their own."""

    written: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    real: Counter[str] = field(default_factory=Counter)
    least_confident: dict[str, list[tuple[Path, float]]] = field(default_factory=dict)
    """Least confident pseudo-labels, with the teacher's mean confidence, if asked for."""
    events_from: Mapping[str, float] = field(default_factory=dict)
    """By task that predicts a probability: the threshold from which a pixel is labelled as the event."""
    replaced: tuple[Path, ...] = ()
    """Copies of what was replaced: folders of pseudo-labels, and the descriptor."""
    notes: tuple[str, ...] = ()


def label_folder(
    folder: Path,
    teacher: str,
    tasks: Sequence[str],
    *,
    split: str = "train",
    root: str | Path = "",
    min_confidence: float | None = None,
    class_map: Mapping[str, str] | None = None,
    events_from: Mapping[str, float] | None = None,
    shorter_side: int | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> Labelled:
    """Predict labels of `tasks` for the images of a split that have none; `teacher` is a run, an exported file or
    `hf:` with a model of transformers (`open_teacher`). `root` replaces the folder of the files that the descriptor
    names; pseudo-labels are written there.

    Pixels of less than `min_confidence` (0 to 1, as of `triptych predict --confidence`) get no label. `class_map` turns
    classes of the teacher into those of the folder, or into no label (""); all others need a namesake. `events_from`
    are probabilities, by task, from which on a pixel is labelled as the event (boundaries, saliency): by default the
    one that as many pixels of labelled images reach as their labels have events (`event_level`). `shorter_side` is the
    height or width, whichever is less, that the teacher works at, as of `Predictor`; a note says where images are of
    another size than it learned from. The same call again resumes where it ended. Raises `ValueError` for pseudo-labels
    of another teacher, or made with other options or in another encoding, unless `overwrite` moves all of a task's
    aside, whatever their split, and begins anew; for classes that do not map, each named; for a teacher without the
    confidence that is asked for; and for a probability where no label has an event to choose the threshold by; and
    `OSError` where nothing can be written to the folder.
    """
    place = folder if folder.suffix == ".toml" else folder / FILE_NAME
    if not place.is_file():
        raise DataError(f"{folder} has no {FILE_NAME} to note pseudo-labels in", f"`triptych data init {folder}` first")
    if not tasks:
        raise ValueError("no task to label is named; name some (--tasks depth normals).")
    predictor = open_teacher(teacher, device, shorter_side=shorter_side)
    known = {name: named_choice(f"task of {teacher}", name, predictor.tasks) for name in tasks}
    if min_confidence is not None:
        predictor = with_confidence(predictor, teacher, tasks, min_confidence)
    asked = PseudoLabels(
        files="",
        teacher=teacher,
        sha256=hash_teacher(teacher, predictor),
        date=date.today().isoformat(),
        min_confidence=min_confidence,
        class_map=dict(class_map or {}),
        shorter_side=shorter_side,
    )
    before, text = read_descriptor(place, root=root), read_text(place)
    splits = split_names(before) if split == ALL and before.has_split_folders else [split]
    noted = {} if overwrite else {name: old.event_from for name, old in before.pseudo.items()}
    chosen = _chosen_levels(known, events_from or {})

    def find_level(name: str) -> float | None:
        if known[name].kind != "probability":
            return None
        return chosen.get(name) or noted.get(name) or _ask_labels(before, place, splits, predictor, name)

    after, wanted = _describe(before, place, text, asked, known, find_level, overwrite)
    levels = {name: level for name in known if (level := after.pseudo[name].event_from) is not None}
    tables = {name: map_classes(task, after.tasks[name].make_task(name), asked) for name, task in known.items()}
    if unknown := set(asked.class_map) - {old for task in known.values() for old in task.classes}:
        raise ValueError(f"class_map names {', '.join(sorted(unknown))}, which is no class of {teacher}.")
    # No such split: reported before anything else.
    photos = {name: Folder(place, split=name, tasks=(), root=before.root) for name in splits}
    old = {
        name: list_files(after, after.pseudo[name].files, ALL)
        for name in known
        if before.pseudo.get(name) != after.pseudo[name]
    }
    for name, paths in old.items():
        if paths and not overwrite:
            shown = next(iter(paths.values()))
            text = f"{len(paths)} files such as {shown} exist, and no [tasks.{name}.{PSEUDO}] says whose they are"
            raise DataError(text, "pass --overwrite to replace them, or move them away")
    if wanted != text:
        for dataset in photos.values():  # a teacher that fails leaves what is there
            predictor.predict(dataset.photo(dataset.keys[0])[None])
    cure = "pseudo-labels lie below the folder of the files: name one of yours, with links to them (--root)"
    check_writable(before.root / PSEUDO, cure)
    folders = [before.root / PSEUDO / name for name in old]
    aside = [folder.rename(place_of_old(folder)) for folder in folders if folder.exists()]
    if wanted != text:
        aside += [keep_old(place)] if before.pseudo.keys() & old.keys() else []
        write_text(place, wanted)
    firsts = {each.keys[0]: each.photo(each.keys[0]).shape for each in photos.values()}
    advice = (
        advise_size(predictor, key, (height, width), stretches=False) for key, (_, height, width) in firsts.items()
    )
    unscaled = describe_unscaled(predictor.recipe, predictor.calibration)
    result = Labelled(events_from=levels, replaced=tuple(aside))
    for name in splits:
        _label_split(Folder(place, split=name, tasks=tasks, root=before.root), predictor, tables, result)
    lost = (_tell_lost(after, name, paths) for name, paths in old.items())
    result = replace(result, notes=(*unknown_classes(after, tables), *filter(None, (*advice, unscaled, *lost))))
    for name in tasks if min_confidence is not None else ():
        parts = (Folder(place, split=part, tasks=[name], root=before.root) for part in splits)
        found = [pair for part in parts for pair in rank_confidence(part, name)]
        ranked = sorted(((path, value) for _, path, value in found), key=lambda pair: pair[1])
        result.least_confident[name] = ranked[:LEAST]
    return result


def _tell_lost(descriptor: Descriptor, name: str, old: Collection[str]) -> str:
    """A line about images, by key over all splits, that had a pseudo-label of a task and have no label now."""
    labels = descriptor.tasks[name].files, descriptor.pseudo[name].files
    lost = set(old).difference(*(list_files(descriptor, pattern, ALL) for pattern in labels))
    lost &= list_files(descriptor, descriptor.images, ALL).keys()
    if not lost:
        return ""
    return (
        f"{len(lost)} images that had pseudo-labels of {name} have none now, such as {min(lost)}; "
        "the same command without --overwrite labels another split (--split)"
    )


def _chosen_levels(known: Mapping[str, Task], asked: Mapping[str, float]) -> Mapping[str, float]:
    for name, level in asked.items():
        task = named_choice("task in events_from", name, dict(known))
        if task.kind != "probability":
            raise ValueError(f"events_from names {name}, which is {task.kind} and no probability; leave it out.")
        if not isinstance(level, int | float) or not 0 < level <= 1:
            raise ValueError(f"events_from of {name} is {level}; give a probability above 0, such as {name}=0.9.")
    return asked


def _ask_labels(before: Descriptor, place: Path, splits: Sequence[str], predictor: Predictor, name: str) -> float:
    """Threshold of `event_level` for a task, from labelled images spread over the splits."""
    pairs = []
    for split in splits if name in before.tasks else ():
        dataset = Folder(place, split=split, tasks=[name], root=before.root)
        pairs += [(dataset, index) for index, key in enumerate(dataset.keys) if key in dataset.real.get(name, ())]
    chosen = [pairs[i] for i in spread_evenly(len(pairs), ASKED)]
    samples = (dataset[index] for dataset, index in chosen)
    level = event_level((predictor.predict(one.image[None])[name][0].cpu(), one.targets[name]) for one in samples)
    if level is None:
        raise DataError(
            f"{name} is predicted as a probability, and {len(pairs)} labels of split {' and '.join(splits)} have no "
            "event that tells from which one on a pixel is labelled",
            f"say it (--events-from {name}=0.9; 0.5 where the teacher's loss weighs all pixels alike)",
        )
    return level


def _describe(
    before: Descriptor,
    place: Path,
    text: str,
    asked: PseudoLabels,
    tasks: Mapping[str, Task],
    find_level: Callable[[str], float | None],
    overwrite: bool,
) -> tuple[Descriptor, str]:
    """The descriptor and its text with a section of pseudo-labels for each task."""
    split = "{split}/" if before.has_split_folders else ""
    wanted = tomllib.loads(text)
    for name, task in tasks.items():
        encoding, old = before.tasks.get(name), before.pseudo.get(name)
        if isinstance(encoding, BoundaryMask) and encoding.source:
            raise DataError(f"{name} follows from {encoding.source}", f"label {encoding.source} instead")
        table = wanted.setdefault("tasks", {}).setdefault(name, {})
        if encoding is None:
            table |= _new_task(name, task, split)
            text = append_section(text, section("tasks", name), table)
            encoding = parse_descriptor(wanted, place, root=before.root).tasks[name]
        new = replace(
            asked,
            files=f"{PSEUDO}/{name}/{split}{{key}}.*",
            weight=old.weight if old else 1.0,
            encoding=hash_encoding(encoding),
            event_from=find_level(name),
        )
        theirs, ours = asdict(old or new), asdict(new)
        others = [option for option in ours if theirs[option] != ours[option] and option not in ("teacher", "date")]
        if old and is_stored_in(old.encoding, encoding):
            others = [option for option in others if option != "encoding"]
        if old and not others:
            continue
        if old and not overwrite:
            raise DataError(
                f"{name} has pseudo-labels of {old.teacher} of {old.date}, and {', '.join(others)} differ now",
                "pass --overwrite to replace them all, or go on with that teacher and its options",
            )
        options = {option: value for option, value in asdict(new).items() if value not in (None, {})}
        header = section("tasks", name, PSEUDO)
        text = append_section(drop_section(text, header), header, options)
        table[PSEUDO] = options
    if not is_text_of(text, wanted):
        raise DataError(f"{place} is written so that no section can be added", "give each task a [tasks.NAME] section")
    return parse_descriptor(wanted, place, root=before.root), text


def _new_task(name: str, task: Task, split: str) -> dict[str, Any]:
    """Options of a task that the descriptor does not have yet, and the place of labels that may come."""
    kind = next((word for word in (task.constructor, name) if word in ENCODINGS), "")
    if not kind or task.kind == "values":
        raise DataError(
            f"the descriptor has no [tasks.{name}], and how such labels are stored has no default", "describe it there"
        )
    options: dict[str, Any] = {"files": f"{name}/{split}{{key}}.*"}
    if kind != name:
        options["type"] = kind
    if task.kind == "labels":
        options["classes"] = list(task.classes)
    return options


def _label_split(dataset: Folder, predictor: Predictor, tables: Mapping[str, Tensor], result: Labelled) -> None:
    for key in dataset.keys:
        wanted = []
        for name in tables:
            known = key in dataset.real[name], key in dataset.pseudo[name]
            count = result.real if known[0] else result.kept
            if any(known):
                count[name] += 1
            else:
                wanted.append(name)
        if not wanted:
            continue
        photo = dataset.photo(key)
        camera = dataset.camera(key, (photo.shape[-2], photo.shape[-1]))
        found = {name: values[0].cpu() for name, values in predictor.predict(photo[None]).items()}
        maps, sure = split_confidences(predictor, found)
        for name in wanted:
            confidence = sure.get(name)
            noted = dataset.descriptor.pseudo[name]
            target = to_target(maps[name], dataset.tasks[name], tables[name], noted.event_from)
            least = noted.min_confidence
            if confidence is not None and least is not None:
                target = keep_labels(target, confidence >= least)
            path = write_label(dataset, name, key, target, camera)
            if confidence is not None:
                note_confidence(
                    dataset.descriptor, name, path, float(confidence.mean()), float(valid_pixels(target).float().mean())
                )
            result.written[name] += 1
