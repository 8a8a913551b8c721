"""`triptych data label`: a network's predictions as pseudo-labels of a folder, beside its labels and never over one.

Each task's `[tasks.NAME.pseudo]` in `dataset.toml` says where they lie, whose they are and how much they count. They
have the encoding of their task, so that a corrected one becomes a label by being moved to the labels.
"""

import csv
import hashlib
import io
import json
import os
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from triptych.data.errors import DataError
from triptych.data.lists import read_text
from triptych.data.splits import ALL
from triptych.data.subset import spread_evenly
from triptych.datasets.folder import Folder
from triptych.files import check_writable, hash_file, hash_tensors, naming_damage, write_text, written_whole
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
from triptych.labels.encodings import ENCODINGS, BoundaryMask, Encoding, hash_encoding, is_stored_in
from triptych.lookup import named_choice
from triptych.prediction import pretrained, transformers_models
from triptych.prediction.calibration import describe_unscaled
from triptych.prediction.confidence import Confident, split_confidences
from triptych.prediction.events import event_level
from triptych.prediction.exported import SUFFIX
from triptych.prediction.outputs import advise_size
from triptych.prediction.predictor import Predictor
from triptych.tasks import Task
from triptych.types import IGNORE, Camera, keep_labels, valid_pixels

CONFIDENCE = "confidence.csv"
"""In the folder of a task's pseudo-labels: each file, and the mean confidence of its teacher."""
ASKED = 50
"""How many labelled images tell at most from which probability on a pixel is an event."""
LEAST = 5
"""How many images are named that the teacher was least sure of."""


@dataclass(frozen=True)
class Labelled:
    """Result of `label_folder`, by task: how many images got a pseudo-label, had one, or have a label of their own."""

    written: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    real: Counter[str] = field(default_factory=Counter)
    least_confident: dict[str, list[tuple[Path, float]]] = field(default_factory=dict)
    """Pseudo-labels that the teacher was least sure of, with its mean confidence, where it was asked for."""
    events_from: Mapping[str, float] = field(default_factory=dict)
    """Of tasks that predict a probability: the one from which on a pixel is labelled as the event."""
    replaced: tuple[Path, ...] = ()
    """Where what was replaced is kept: folders of pseudo-labels, and the descriptor."""
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
    one that as many pixels of labelled images reach as their labels have events (`event_level`). `shorter_side`
    is the height or width, whichever is less, that the teacher works at, as of `Predictor`; a note says where images
    are of another size than it learned from. The same call again goes on where it ended. Raises `ValueError` for
    pseudo-labels of another teacher, or made with other options or in another encoding, unless `overwrite` moves all of
    a task's aside, whatever their split, and begins anew; for classes that do not map, each named; for a teacher
    without the confidence that is asked for; and for a probability where no label tells what of it is the event; and
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
        predictor = _with_confidence(predictor, teacher, tasks, min_confidence)
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
    # No such split: said before all else.
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
    result = replace(result, notes=(*_unknown_classes(after, tables), *filter(None, (*advice, unscaled, *lost))))
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


def open_teacher(teacher: str, device: str = "auto", *, shorter_side: int | None = None) -> Predictor:
    """The network of a run folder, an exported file, a name on the hub, or `hf:` and a model of transformers."""
    if teacher.startswith(transformers_models.PREFIX):
        if shorter_side is not None:
            raise ValueError(f"{teacher} resizes images itself; leave out --shorter-side.")
        return transformers_models.open_model(teacher.removeprefix(transformers_models.PREFIX), device)
    folder = Path(teacher)
    if (folder / "config.json").is_file() and not (folder / pretrained.FILES["recipe"]).is_file():
        raise ValueError(
            f"{teacher} is a model of transformers; write --teacher {transformers_models.PREFIX}{teacher}."
        )
    return Predictor.from_pretrained(teacher, device=device, shorter_side=shorter_side)


def hash_teacher(teacher: str, predictor: Predictor) -> str:
    """SHA-256 of an exported file, else of the weights and of what `triptych calibrate` stored beside them."""
    if teacher.endswith(SUFFIX):
        return hash_file(Path(teacher))
    scales = {name: scale.content() for name, scale in predictor.calibration.items()}
    weights = hash_tensors(predictor.model.state_dict())
    return hashlib.sha256(f"{weights} {json.dumps(scales)}".encode()).hexdigest() if scales else weights


def _with_confidence(predictor: Predictor, teacher: str, tasks: Sequence[str], least: float) -> Predictor:
    if not 0 <= least <= 1:
        raise ValueError(f"min_confidence is {least}; confidence is between 0 and 1.")
    confident = Confident(predictor)
    if lost := [name for name in tasks if name not in confident.sure]:
        raise ValueError(
            f"{teacher} has no confidence of {', '.join(lost)}, as its values have no known spread; leave out "
            "--min-confidence, or these tasks."
        )
    return confident


def _chosen_levels(known: Mapping[str, Task], asked: Mapping[str, float]) -> Mapping[str, float]:
    for name, level in asked.items():
        task = named_choice("task in events_from", name, dict(known))
        if task.kind != "probability":
            raise ValueError(f"events_from names {name}, which is {task.kind} and no probability; leave it out.")
        if not isinstance(level, int | float) or not 0 < level <= 1:
            raise ValueError(f"events_from of {name} is {level}; give a probability above 0, such as {name}=0.9.")
    return asked


def _ask_labels(before: Descriptor, place: Path, splits: Sequence[str], predictor: Predictor, name: str) -> float:
    """What `event_level` says of the labels of a task, spread over the images of the splits that have one."""
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


def map_classes(theirs: Task, ours: Task, asked: PseudoLabels) -> Tensor:
    """The folder's class of each class of the teacher, `IGNORE` for none; empty where a task has no classes to choose.

    Raises `DataError` naming every class that has no counterpart, and where the two tasks measure different things.
    """
    if (theirs.kind, theirs.unit) != (ours.kind, ours.unit) or (
        ours.kind == "values" and theirs.target_channels != ours.target_channels
    ):
        text = f"{ours.name} of {asked.teacher} is {theirs.kind} ({theirs.unit or 'no unit'})"
        raise DataError(f"{text}, that of the folder {ours.kind} ({ours.unit or 'no unit'})", "take another teacher")
    if ours.kind != "labels":
        return torch.empty(0, dtype=torch.int64)
    own = {name: number for number, name in enumerate(ours.classes)} | {"": IGNORE}
    wanted = [asked.class_map.get(old, old) for old in theirs.classes]
    pairs = dict.fromkeys(zip(theirs.classes, wanted, strict=True))
    lost = [old if old == new else f"{old} (to {new})" for old, new in pairs if new not in own]
    if twice := [name for name in dict.fromkeys(wanted) if name in own and ours.classes.count(name) > 1]:
        raise DataError(
            f"{ours.name} of the folder has several classes called {', '.join(twice)}", "give each class its own name"
        )
    numbered = all(name.isdecimal() for name in (*theirs.classes, *ours.classes))
    if numbered and not asked.class_map and len(theirs.classes) != len(ours.classes):
        lost = list(theirs.classes)  # numbers are names of nothing where their count differs
    if lost:
        raise DataError(
            f"{len(lost)} of {len(theirs.classes)} classes of {ours.name} of {asked.teacher} are none of the folder "
            f"({', '.join(ours.classes)}): {', '.join(lost)}",
            "map each (--class-map couch=sofa), to nothing where it has no counterpart (couch=)",
        )
    return torch.tensor([own[new] for new in wanted])


def _unknown_classes(descriptor: Descriptor, tables: Mapping[str, Tensor]) -> list[str]:
    """Lines about classes of the folder that the teacher never predicts: their pixels get other classes."""
    lines = []
    for name, table in tables.items():
        classes = descriptor.tasks[name].make_task(name).classes
        missing = [each for number, each in enumerate(classes) if len(table) and number not in table.tolist()]
        if missing:
            lines.append(f"the teacher knows no {', '.join(missing)} of {name}: their pixels are labelled as others")
    return lines


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
            path = _write_label(dataset, name, key, target, camera)
            if confidence is not None:
                _note(
                    dataset.descriptor, name, path, float(confidence.mean()), float(valid_pixels(target).float().mean())
                )
            result.written[name] += 1


def to_target(prediction: Tensor, task: Task, table: Tensor, event_from: float | None = None) -> Tensor:
    """A prediction as the target of a task: classes by `table`, a probability of at least `event_from` as the event.

    >>> from triptych.tasks import depth, semseg
    >>> to_target(torch.tensor([[1, 0]]), semseg(2), torch.tensor([1, IGNORE])).tolist()
    [[255, 1]]
    """
    if task.kind == "labels":
        return table[prediction]
    return prediction.float() if event_from is None else task.to_target(prediction.float(), event_from)


def _write_label(dataset: Folder, name: str, key: str, target: Tensor, camera: Camera | None) -> Path:
    """Write a pseudo-label in its task's encoding, with its mark where that has one, after decoding it again."""
    encoding, described = dataset.descriptor.tasks[name], dataset.descriptor
    stored = encoding.encode(target, camera)
    if not _means(encoding, stored, target, camera):
        raise DataError(
            f"the encoding of [tasks.{name}] cannot store what the teacher predicts of {key}",
            "check its options (invalid, map, threshold) with `triptych data doctor`",
        )
    split = str(described.splits.get(dataset.split, dataset.split))
    pattern = described.pseudo[name].files.replace("{split}", split).removesuffix(".*")
    ending = ".npz" if encoding.valid else ".npy" if stored.dtype.kind == "f" else ".png"
    path = described.root / (pattern.replace("{key}", key) + ending)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial, partial.open("wb") as file:
        if encoding.valid:
            entries: dict[str, Any] = {encoding.key: stored, encoding.valid: valid_pixels(target).numpy()}
            np.savez_compressed(file, **entries)
        elif stored.dtype.kind == "f":
            np.save(file, stored)
        else:
            Image.fromarray(stored).save(file, format="PNG")
    return path


def _means(encoding: Encoding, stored: np.ndarray, target: Tensor, camera: Camera | None) -> bool:
    """Whether an array decodes to a target; a measure beyond the encoding's limits has no label."""
    again = encoding.decode(stored, camera)
    if not target.is_floating_point():
        return torch.equal(again, target)
    known = valid_pixels(again)
    is_known = bool((valid_pixels(target) | ~known).all())
    return is_known and torch.allclose(again.where(known, 0), target.where(known, 0), rtol=1e-4, atol=1e-4)


def _note(descriptor: Descriptor, name: str, path: Path, confidence: float, labelled: float) -> None:
    table = descriptor.root / PSEUDO / name / CONFIDENCE
    line = io.StringIO()
    rows = csv.writer(line)
    with table.open("ab+") as file:
        if not file.tell():
            rows.writerow(("file", "confidence", "labelled"))
        else:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a full disk cut the row before
                line.write("\r\n")
        rows.writerow((path.relative_to(descriptor.root).as_posix(), f"{confidence:.4f}", f"{labelled:.4f}"))
        file.write(line.getvalue().encode())


def rank_confidence(dataset: Folder, name: str) -> list[tuple[str, Path, float]]:
    """The pseudo-labels of a task in use, of which the teacher's confidence is known, the least sure first: the key of
    the image, the file, and the mean confidence from 0 to 1.
    """
    root = dataset.descriptor.root
    table = root / PSEUDO / name / CONFIDENCE
    if not table.exists():
        return []
    sure = {}
    with naming_damage(table), table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            with suppress(ValueError, TypeError):  # a row that was cut, or the header again
                float(row["labelled"])
                sure[root / row["file"]] = float(row["confidence"])
    found = [(key, path, sure[path]) for key, path in dataset.pseudo[name].items() if path in sure]
    return sorted(found, key=lambda one: one[2])
