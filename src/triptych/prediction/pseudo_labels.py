"""Files of pseudo-labels in the encoding of their task, and the table of their teacher's confidence."""

import csv
import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from triptych.data.errors import DataError
from triptych.datasets.folder import Folder
from triptych.files import naming_damage, written_whole
from triptych.folders.descriptor import PSEUDO, Descriptor
from triptych.labels.base import Encoding
from triptych.tasks import Task
from triptych.types import Camera, valid_pixels

CONFIDENCE = "confidence.csv"
"""Table in the folder of a task's pseudo-labels: each file, and the mean confidence of its teacher."""


def to_target(prediction: Tensor, task: Task, table: Tensor, event_from: float | None = None) -> Tensor:
    """A prediction as the target of a task: classes by `table`, a probability of at least `event_from` as the event.

    >>> from triptych.tasks import depth, semseg
    >>> from triptych.types import IGNORE
    >>> to_target(torch.tensor([[1, 0]]), semseg(2), torch.tensor([1, IGNORE])).tolist()
    [[255, 1]]
    """
    if task.kind == "labels":
        return table[prediction]
    return prediction.float() if event_from is None else task.to_target(prediction.float(), event_from)


def write_label(dataset: Folder, name: str, key: str, target: Tensor, camera: Camera | None) -> Path:
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


def note_confidence(descriptor: Descriptor, name: str, path: Path, confidence: float, labelled: float) -> None:
    """Note the teacher's mean confidence in a file, and the share of its pixels that are labelled."""
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
        file.write(line.getvalue().encode(errors="surrogateescape"))


def rank_confidence(dataset: Folder, name: str) -> list[tuple[str, Path, float]]:
    """The pseudo-labels of a task in use, of which the teacher's confidence is known, the least sure first: the key of
    the image, the file, and the mean confidence from 0 to 1.
    """
    root = dataset.descriptor.root
    table = root / PSEUDO / name / CONFIDENCE
    if not table.exists():
        return []
    sure = {}
    with naming_damage(table), table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        for row in csv.DictReader(file):
            with suppress(ValueError, TypeError):  # a row that was cut, or the header again
                float(row["labelled"])
                sure[root / row["file"]] = float(row["confidence"])
    found = [(key, path, sure[path]) for key, path in dataset.pseudo[name].items() if path in sure]
    return sorted(found, key=lambda one: one[2])
