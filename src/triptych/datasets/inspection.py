"""Reading one sample of a folder dataset for the doctor: what is wrong with it, and what its statistics are."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych.datasets.checks import IMAGE_CHECKS, LABEL_CHECKS, ImageFile, LabelFile, Problem, Severity, histogram
from triptych.datasets.derived import normals_from_depth
from triptych.datasets.files import read_array, read_image, read_size
from triptych.datasets.folder import Folder
from triptych.datasets.measure_encodings import Depth, Normals
from triptych.types import valid_pixels

Checks = Iterable[Callable[[Any], Iterator[Problem]]]


@dataclass(frozen=True)
class Finding:
    """A problem of one file, or of a task or split as a whole (no file)."""

    severity: Severity
    check: str
    split: str
    task: str
    file: str
    text: str
    cure: str

    def __str__(self) -> str:
        where = self.file or " ".join(part for part in (self.split, self.task) if part)
        return f"{where}: {self.text}. Cure: {self.cure}."


@dataclass
class Inspection:
    """What reading one sample gave."""

    key: str
    digest: str = ""
    findings: list[Finding] = field(default_factory=list)
    classes: dict[str, Tensor] = field(default_factory=dict)
    depths: dict[str, float] = field(default_factory=dict)
    """Median depth in metres by task."""
    angles: list[float] = field(default_factory=list)
    """Median angle in degrees between stored normals and those of the depth."""


def inspect_sample(dataset: Folder, index: int) -> Inspection:
    """Read one image and its labels, and run the checks of files on them."""
    key, split = dataset.keys[index], dataset.split
    inspection, path = Inspection(key), dataset.images[key]
    size: tuple[int, int] | None
    try:
        inspection.digest = hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
        image = read_image(path)
        size = (image.shape[1], image.shape[2])
        _run(inspection, split, "images", path, IMAGE_CHECKS.values(), ImageFile(path, image))
    except (OSError, ValueError) as error:
        inspection.findings.append(_unreadable(split, "images", path, error, "replace it, or remove it and its labels"))
        size = _size_of_labels(dataset, key)
    targets: dict[str, Tensor | None] = {}
    for name, paths in dataset.labels.items():
        if key in paths and size is not None:
            targets[name] = _inspect_label(inspection, dataset, name, paths[key], size)
    _compare_normals(inspection, dataset, targets)
    return inspection


def _size_of_labels(dataset: Folder, key: str) -> tuple[int, int] | None:
    """The size of the labels of an unreadable image, so that they are looked at too."""
    for paths in dataset.labels.values():
        try:
            if key in paths:
                return read_size(paths[key])
        except OSError:
            continue
    return None


def _inspect_label(
    inspection: Inspection, dataset: Folder, name: str, path: Path, size: tuple[int, int]
) -> Tensor | None:
    encoding, split = dataset.descriptor.tasks[name], dataset.split
    try:
        stored = read_array(path, key=encoding.key)
    except (OSError, ValueError) as error:
        inspection.findings.append(
            _unreadable(split, name, path, error, "replace it, or remove it: a missing label is fine")
        )
        return None
    target, failure = None, ""
    try:
        target = encoding.decode(stored, dataset.camera(inspection.key, (stored.shape[0], stored.shape[1])))
    except (ValueError, IndexError) as error:
        failure = str(error)
    file = LabelFile(path, name, encoding, stored, target, failure, size)
    _run(inspection, split, name, path, LABEL_CHECKS.values(), file)
    if target is not None:
        inspection.classes[name] = histogram(encoding, target)
        values = target[valid_pixels(target)] if isinstance(encoding, Depth) else torch.zeros(0)
        if values.numel():
            inspection.depths[name] = float(values.median())
    return target


def _run(inspection: Inspection, split: str, task: str, path: Path, checks: Checks, file: object) -> None:
    for check in checks:
        for problem in check(file):
            found = Finding(problem.severity, problem.check, split, task, str(path), problem.text, problem.cure)
            inspection.findings.append(found)


def _unreadable(split: str, task: str, path: Path, error: Exception, cure: str) -> Finding:
    text = str(error).removeprefix(f"{path} ")
    return Finding("error", "unreadable", split, task, str(path), text, cure)


def _compare_normals(inspection: Inspection, dataset: Folder, targets: dict[str, Tensor | None]) -> None:
    """The angle between the normals and those of the depth, where both and a camera are there."""
    kinds = {type(dataset.descriptor.tasks[name]): target for name, target in targets.items() if target is not None}
    normals, depth = kinds.get(Normals), kinds.get(Depth)
    if normals is None or depth is None or normals.shape[-2:] != depth.shape[-2:]:
        return
    camera = dataset.camera(inspection.key, (depth.shape[-2], depth.shape[-1]))
    if camera is None:
        return
    cosine = (normals_from_depth(depth, camera, reach=3) * normals).sum(0)
    cosine = cosine[cosine.isfinite()].clamp(-1, 1)
    if cosine.numel():
        inspection.angles.append(float(cosine.acos().rad2deg().median()))
