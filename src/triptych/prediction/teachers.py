"""Networks as teachers of a folder: open them, identify them by a hash, and map their classes to the folder's."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from triptych.data.errors import DataError
from triptych.files import hash_file, hash_tensors
from triptych.folders.descriptor import Descriptor, PseudoLabels
from triptych.prediction import pretrained, transformers_models
from triptych.prediction.confidence import Confident
from triptych.prediction.exported import SUFFIX
from triptych.prediction.predictor import Predictor
from triptych.tasks import Task
from triptych.types import IGNORE


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
    """SHA-256 of an exported file, else of the weights and of the scales that `triptych calibrate` stored beside
    them.
    """
    if teacher.endswith(SUFFIX):
        return hash_file(Path(teacher))
    scales = {name: scale.content() for name, scale in predictor.calibration.items()}
    weights = hash_tensors(predictor.model.state_dict())
    return hashlib.sha256(f"{weights} {json.dumps(scales)}".encode()).hexdigest() if scales else weights


def with_confidence(predictor: Predictor, teacher: str, tasks: Sequence[str], least: float) -> Predictor:
    """The predictor with confidences; `ValueError` where `least` is not in 0 to 1, or one of `tasks` has no
    confidence.
    """
    if not 0 <= least <= 1:
        raise ValueError(f"min_confidence is {least}; confidence is between 0 and 1.")
    confident = Confident(predictor)
    if lost := [name for name in tasks if name not in confident.sure]:
        raise ValueError(
            f"{teacher} has no confidence of {', '.join(lost)}, as its values have no known spread; leave out "
            "--min-confidence, or these tasks."
        )
    return confident


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
        lost = list(theirs.classes)  # numbered classes do not correspond where their count differs
    if lost:
        raise DataError(
            f"{len(lost)} of {len(theirs.classes)} classes of {ours.name} of {asked.teacher} are none of the folder "
            f"({', '.join(ours.classes)}): {', '.join(lost)}",
            "map each (--class-map couch=sofa), to nothing where it has no counterpart (couch=)",
        )
    return torch.tensor([own[new] for new in wanted])


def unknown_classes(descriptor: Descriptor, tables: Mapping[str, Tensor]) -> list[str]:
    """Lines about classes of the folder that the teacher never predicts: their pixels get other classes."""
    lines = []
    for name, table in tables.items():
        classes = descriptor.tasks[name].make_task(name).classes
        missing = [each for number, each in enumerate(classes) if len(table) and number not in table.tolist()]
        if missing:
            lines.append(f"the teacher knows no {', '.join(missing)} of {name}: their pixels are labelled as others")
    return lines
