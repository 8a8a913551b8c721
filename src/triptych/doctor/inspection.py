"""Read one sample of a dataset for the doctor: its problems and statistics."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from triptych.data.arrays import read_size
from triptych.data.base import DenseDataset
from triptych.data.label_files import StoredCounts
from triptych.data.photos import StoredPhoto
from triptych.datasets.folder import Folder
from triptych.datasets.in_files import InFiles, decode_stored
from triptych.doctor.file_checks import (
    IMAGE_CHECKS,
    LABEL_CHECKS,
    TARGET_CHECKS,
    ImageFile,
    LabelFile,
    check_camera,
    histogram,
)
from triptych.doctor.findings import Finding, Problem, text_and_cure
from triptych.labels.axes import assumed_camera
from triptych.labels.base import Encoding, without_label
from triptych.labels.classes import Labels
from triptych.labels.depth import Depth
from triptych.labels.derived import normals_from_depth
from triptych.labels.masks import Mask
from triptych.labels.normals import Normals
from triptych.labels.summaries import count_values
from triptych.types import Camera, Sample, valid_pixels

SPARSE = 4
"""Step in pixels of both axes for the digest of an image; images of equal digest are compared in full."""
MOST_CODES = 300
"""Stored values kept of a label file, to compare files."""
ANOTHER = "take it from the original archive again"
"""The cure for a file of a published dataset, whatever is wrong with it."""


Checks = Iterable[Callable[..., Iterator[Problem]]]


@dataclass
class Inspection:
    """Findings and statistics of one sample."""

    key: str
    digest: str = ""
    """Digest of some of the decoded pixels, which a copy in another file format shares."""
    size: tuple[int, int] | None = None
    findings: list[Finding] = field(default_factory=list)
    classes: dict[str, np.ndarray] = field(default_factory=dict)
    """Pixels of each class, by task that has classes."""
    codes: dict[str, frozenset[float | int]] = field(default_factory=dict)
    """The first `MOST_CODES` stored values of label files by task, without pseudo-labels."""
    types: dict[str, str] = field(default_factory=dict)
    """Number type of depth files by task, without pseudo-labels."""
    labelled: dict[str, bool] = field(default_factory=dict)
    """Whether any pixel of a label file has a label, by task."""
    depths: dict[str, float] = field(default_factory=dict)
    """Median depth in metres by task."""
    angles: list[float] = field(default_factory=list)
    """Median angle in degrees between stored normals and those of the depth."""


class Records:
    """A dataset that is not in files: samples are read as a whole, and findings name the sample instead of a file."""

    def __init__(self, dataset: DenseDataset) -> None:
        self.dataset, self.name, self.tasks = dataset, dataset.name, dataset.tasks
        self.split = str(getattr(dataset, "split", dataset.fingerprint().get("split", "")))
        self.keys = [dataset.key(index) for index in range(len(dataset))]
        self.images: Mapping[str, Path] = {key: Path(key) for key in self.keys}
        self.labels: dict[str, dict[str, Path]] = {name: {} for name in self.tasks}

    def encoding(self, name: str, key: str) -> Encoding | None:
        """Return `None`: how a label was stored is unknown."""
        return None

    def stored_photo(self, key: str) -> StoredPhoto:
        """The image of a sample, whose numbers are floats."""
        return _as_photo(self.dataset[self.keys.index(key)])

    def fingerprint(self) -> dict[str, object]:
        """Fingerprint of the dataset."""
        return self.dataset.fingerprint()


Seen = InFiles | Records
"""A dataset that can be examined."""


def _as_photo(sample: Sample) -> StoredPhoto:
    return StoredPhoto(sample.image.permute(1, 2, 0).numpy(), 1)


def inspect_sample(dataset: InFiles, index: int, *, shrunk: bool = False) -> Inspection:
    """Read one image and its labels, and run the checks of files on them.

    `shrunk` is for datasets of JPEG alone: their digests differ from those of the same pixels in other formats.
    """
    key = dataset.keys[index]
    inspection, path = Inspection(key), dataset.images[key]
    size: tuple[int, int] | None
    is_turned = False
    try:
        photo, size = dataset.sparse_photo(key, SPARSE, shrunk=shrunk)
        inspection.size, inspection.digest = size, digest(photo.bytes(), size)
        is_turned = photo.orientation != 1
        file = ImageFile(path, photo, partial(dataset.stored_photo, key))
        _run(inspection, dataset, "images", path, IMAGE_CHECKS, file)
    except Exception as error:  # damaged files raise whatever their library does
        cure = "replace it, or remove it and its labels"
        inspection.findings.append(_unreadable(dataset, "images", path, error, cure))
        size = _size_of_labels(dataset, key)
    camera = _inspect_camera(inspection, dataset, size) if size is not None else None
    targets: dict[str, Tensor] = {}
    for name, paths in dataset.labels.items():
        if key in paths and size is not None:
            target = _inspect_label(inspection, dataset, name, size, camera, is_turned)
            if target is not None:
                targets[name] = target
    _compare_normals(inspection, dataset, targets, camera)
    return inspection


def _inspect_camera(inspection: Inspection, dataset: InFiles, size: tuple[int, int]) -> Camera | None:
    path = dataset.images[inspection.key]
    try:
        camera = dataset.camera(inspection.key, size)
    except Exception as error:  # readers raise any error for a damaged camera file
        text, cure = text_and_cure(error, "correct [camera]")
        finding = Finding("error", "camera", dataset.split, "camera", str(path), text, _cure(dataset, cure))
        inspection.findings.append(finding)
        return None
    if camera is not None:
        _run(inspection, dataset, "camera", path, [check_camera], camera, size)
    return camera


def digest(pixels: np.ndarray, size: tuple[int, int]) -> str:
    """Digest of pixels in 8 bits and the size of their image; images of equal digest are compared before a finding."""
    return f"{zlib.crc32(np.ascontiguousarray(pixels).data):08x} {size}"


def _size_of_labels(dataset: InFiles, key: str) -> tuple[int, int] | None:
    """Size of a label of an unreadable image, so that its labels are checked nevertheless."""
    for paths in dataset.labels.values():
        try:
            if key in paths:
                return read_size(paths[key])
        except Exception:  # reported when the label is read
            continue
    return None


def _inspect_label(
    inspection: Inspection, dataset: InFiles, name: str, size: tuple[int, int], camera: Camera | None, is_turned: bool
) -> Tensor | None:
    key, target = inspection.key, None
    failure: Exception | None = None
    path = dataset.labels[name][key]
    try:
        encoding = dataset.encoding(name, key)
        if encoding is None:
            return None
        is_countable = _is_countable(dataset, key, encoding)
        found = dataset.counted(name, key) if is_countable else dataset.stored(name, key)
        marked: np.ma.MaskedArray | None = None
        if isinstance(found, np.ma.MaskedArray):
            marked, found = found, without_label(found)
    except Exception as error:  # damaged files raise whatever their library does
        cure = "replace it, or remove it: a missing label is fine"
        inspection.findings.append(_unreadable(dataset, name, path, error, cure))
        return None
    counts: np.ndarray | None = None
    stored: np.ndarray | None
    sides: tuple[int, int] | None
    if isinstance(found, StoredCounts):
        stored, counts, sides = found.values[None], found.counts, found.size
    else:
        stored, sides = found, None if found is None else found.shape[:2]
        if stored is not None and is_countable and _can_be_counted(stored):
            values, counts = count_values(stored)
            stored = values.astype(stored.dtype)[None]
    try:
        if stored is None:
            stored, target = np.zeros(0, np.int64), dataset.label(name, key, size)
        else:
            target = decode_stored(encoding, stored if marked is None else marked, size, camera)
    except OSError as error:
        inspection.findings.append(_unreadable(dataset, name, path, error, "replace it"))
        return None
    except Exception as error:
        failure = error
        stored = np.zeros(0, np.int64) if stored is None else stored
    reached = None if target is None else sides if counts is not None else (target.shape[-2], target.shape[-1])
    is_pseudo = _is_pseudo(dataset, name, key)
    file = LabelFile(
        path=path,
        task=name,
        encoding=encoding,
        stored=stored,
        target=target,
        failure=failure,
        image_size=size,
        size=reached,
        is_turned=is_turned,
        counts=counts,
        marked=marked,
        any_shape=dataset.any_shape,
        is_pseudo=is_pseudo,
    )
    _run(inspection, dataset, name, path, LABEL_CHECKS, file)
    if target is not None:
        checks = (check for kind, check in TARGET_CHECKS if isinstance(encoding, kind))
        _run(inspection, dataset, name, path, checks, file, encoding, target)
    if isinstance(encoding, Labels | Mask) and stored.ndim == 2 and not is_pseudo:
        codes = count_values(stored)[0] if counts is None else stored[0]
        inspection.codes[name] = frozenset(codes[:MOST_CODES].tolist())
    if isinstance(encoding, Depth) and stored.size and not is_pseudo:
        inspection.types[name] = str(file.labels.dtype)
    if target is not None:
        inspection.labelled[name] = bool(file.valid.any())
        task = dataset.tasks.get(name) or encoding.make_task(name)
        if task.classes:
            inspection.classes[name] = histogram(len(task.classes), *file.known)
        if isinstance(encoding, Depth) and inspection.labelled[name]:
            inspection.depths[name] = file.median
    return target


def _is_pseudo(dataset: InFiles, task: str, key: str) -> bool:
    """Whether a label is a network's prediction."""
    return key in dataset.pseudo_weights.get(task, {})


def _can_be_counted(stored: np.ndarray) -> bool:
    return bool(stored.size) and stored.ndim == 2 and stored.dtype in (np.uint8, np.uint16)


def _is_countable(dataset: InFiles, key: str, encoding: Encoding) -> bool:
    """Whether the counts of the values of a label file are enough for all its checks."""
    if not encoding.is_pointwise:
        return False
    others = (dataset.encoding(name, key) for name, paths in dataset.labels.items() if key in paths)
    return not (isinstance(encoding, Depth) and any(isinstance(other, Normals) for other in others))


def _run(inspection: Inspection, dataset: InFiles, task: str, path: Path, checks: Checks, *what: object) -> None:
    for check in checks:
        try:
            problems = list(check(*what))
        except Exception as error:  # the other checks still run
            text = f"{check.__name__} failed: {type(error).__name__}: {error}"
            problems = [Problem("error", "unreadable", " ".join(text.split()), "look at this file")]
        for problem in problems:
            text, cure = problem.text, _cure(dataset, problem.cure)
            is_pseudo = _is_pseudo(dataset, task, inspection.key)  # follows from the descriptor
            edit = problem.edit if isinstance(dataset, Folder) and not is_pseudo else None
            found = Finding(problem.severity, problem.check, dataset.split, task, str(path), text, cure, edit)
            inspection.findings.append(found)


def _cure(dataset: InFiles, cure: str) -> str:
    """Replace the cure for published datasets: their files should be taken from the archive again, not edited."""
    return cure if isinstance(dataset, Folder) else ANOTHER


def _unreadable(dataset: InFiles, task: str, path: Path, error: Exception, cure: str) -> Finding:
    text, cure = text_and_cure(error, cure)
    return Finding(
        "error", "unreadable", dataset.split, task, str(path), text.removeprefix(f"{path} "), _cure(dataset, cure)
    )


def _compare_normals(
    inspection: Inspection, dataset: InFiles, targets: Mapping[str, Tensor], camera: Camera | None
) -> None:
    """Note the angle between normals and those of the depth; without a camera one is assumed, as it hardly matters."""
    kinds = {type(dataset.encoding(name, inspection.key)): target for name, target in targets.items()}
    normals, depth = kinds.get(Normals), kinds.get(Depth)
    if normals is None or depth is None or normals.shape[-2:] != depth.shape[-2:]:
        return
    if camera is None or depth.shape[-2:] != inspection.size:
        camera = assumed_camera((depth.shape[-2], depth.shape[-1]))
    cosine = (normals_from_depth(depth, camera, reach=3) * normals).sum(0)
    cosine = cosine[cosine.isfinite()].clamp(-1, 1)
    if cosine.numel():
        inspection.angles.append(float(cosine.acos().rad2deg().median()))


def inspect_record(records: Records, index: int) -> Inspection:
    """Read one sample: whether it can be read, and what its statistics are."""
    key = records.keys[index]
    inspection = Inspection(key)
    try:
        sample = records.dataset[index]
    except Exception as error:  # readers raise whatever their file formats do
        text, cure = text_and_cure(error, "make it again")
        inspection.findings.append(Finding("error", "unreadable", records.split, "", key, text, cure))
        return inspection
    photo, inspection.size = _as_photo(sample).thinned(SPARSE)
    inspection.digest = digest(photo.bytes(), inspection.size)
    for name, task in records.tasks.items():
        target = sample.targets[name]
        known = valid_pixels(target)
        if not known.any():
            continue
        records.labels[name][key] = Path(key)
        if task.classes:
            inspection.classes[name] = histogram(len(task.classes), target[known].numpy())
        if task.in_metres:
            inspection.depths[name] = float(target[known].median())
    return inspection
