"""Base class of datasets in files: listed once, decoded on demand, with derived tasks."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from triptych.augmentation.view import View, affine, apply_view, move_camera
from triptych.data.arrays import read_array
from triptych.data.base import DenseDataset, as_neighbor, missing_view
from triptych.data.errors import DataError
from triptych.data.label_files import StoredCounts, read_counts
from triptych.data.photos import StoredPhoto, read_image_size, read_photo, read_sparse
from triptych.data.shapes import OTHER_SHAPE, TRANSPOSED, have_one_shape, have_swapped_sides
from triptych.labels.base import Encoding, describe_encoding
from triptych.labels.derived import boundaries_from_labels, normals_from_depth
from triptych.tasks import Task
from triptych.types import Camera, Sample

IMAGE, INSTANCES = "image", "instances"

Listing = Mapping[str, Mapping[str, Path]]
"""Kind of file ("image", a task, "instances", ...) to the files by key."""


class Derivation(NamedTuple):
    """Derivation of a task that is not stored: its source task, and `compute(target, camera, reach)`, which must be a
    function of a module to be sent to worker processes.
    """

    source: str
    compute: Callable[[Tensor, Camera | None, int], Tensor]


def _normals(depth: Tensor, camera: Camera | None, reach: int) -> Tensor:
    if camera is None:
        return depth.new_full((3, *depth.shape[-2:]), torch.nan)
    return normals_from_depth(depth, camera, reach=reach)


def derive_boundaries(labels: Tensor, camera: Camera | None, reach: int, *, radius: int = 0) -> Tensor:
    """Boundaries of `radius` where labels change."""
    return boundaries_from_labels(labels, radius=radius)


DERIVED = {"normals": Derivation("depth", _normals), "boundary": Derivation("semseg", derive_boundaries)}


class InFiles(DenseDataset):
    """One split of images and label maps that lie in files.

    `keys` are the samples in order, `listing` the files, `encodings` what the numbers in a task's files mean, one for
    each task that is stored, `derivations` how the other `tasks` are computed, over `reach` pixels to each side. A
    label that is missing is an all-invalid map. `neighbor_frames` are offsets within a video such as `(-1, 1)`: these
    frames become `Sample.neighbors`. At the ends of a video the opposite offset is used; a neighbor that is missing
    there too is a view of NaN. `instances` adds the extra of that name.
    """

    needs_root = True
    root: Path
    any_shape: ClassVar[bool] = True
    """Whether labels with `resize` are stretched from any shape, as the pipelines of published datasets do."""
    frames_hint: ClassVar[str] = "it has no videos"
    """Cure for missing neighboring frames."""

    def __init__(
        self,
        keys: Sequence[str],
        *,
        split: str,
        listing: Listing,
        encodings: Mapping[str, Encoding],
        tasks: Mapping[str, Task],
        derivations: Mapping[str, Derivation],
        reach: int = 1,
        neighbor_frames: Sequence[int] = (),
        instances: bool = False,
    ) -> None:
        self.split, self.keys, self.listing, self.encodings = split, list(keys), listing, dict(encodings)
        self.tasks, self.derivations = dict(tasks), {name: derivations[name] for name in tasks if name in derivations}
        self.reach, self.instances, self.neighbor_frames = reach, instances, tuple(neighbor_frames)
        for step in self.neighbor_frames:
            if step == 0 or not self.has_frames(step):
                raise DataError(
                    f"neighbor_frames has {step}, but no image of split '{split}' of {self.name} has one",
                    self.frames_hint,
                )

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, index: int) -> str:
        return self.keys[index]

    def identity(self, index: int) -> str | None:
        """Path of the image's file, or the key below the root where all images are in one file."""
        return str(self.files(index).get(IMAGE, self.root / self.keys[index]).resolve())

    @cached_property
    def sources(self) -> list[str]:
        """Stored tasks that the chosen tasks are read or derived from."""
        named = (self.derivations[name].source if name in self.derivations else name for name in self.tasks)
        return list(dict.fromkeys(named))

    @cached_property
    def images(self) -> dict[str, Path]:
        """The image files by key."""
        return {key: self.listing[IMAGE][key] for key in self.keys}

    @cached_property
    def labels(self) -> dict[str, dict[str, Path]]:
        """The label files that are there, by stored task and key."""
        return {
            name: {key: self.listing[name][key] for key in self.keys if key in self.listing[name]}
            for name in self.sources
        }

    def may_be_labelled(self, name: str) -> Sequence[int]:
        """Indices of the samples that have a file of the task, or of the one that it is derived from."""
        if name not in self.tasks:
            return ()
        paths = self.labels[self.derivations[name].source if name in self.derivations else name]
        return [index for index, key in enumerate(self.keys) if key in paths]

    def files(self, index: int) -> dict[str, Path]:
        """Files of a sample that exist: `image`, and those of the tasks in `sources`."""
        key = self.keys[index]
        return {kind: self.listing[kind][key] for kind in (IMAGE, *self.sources) if key in self.listing[kind]}

    def frames_near(self, index: int) -> list[str]:
        """Keys of the frames that may be neighbors of a sample."""
        near = {self.shift(self.keys[index], way) for step in self.neighbor_frames for way in (step, -step)}
        return sorted(key for key in near if key)

    def source_files(self, index: int) -> list[Path]:
        """All known files that a sample is made of, those of instances, frames and cameras included."""
        kinds = {key: (IMAGE, *self.sources) for key in self.frames_near(index)}
        kinds[self.keys[index]] = (INSTANCES,) if self.instances else ()
        found = [self.listing[kind][key] for key in kinds for kind in kinds[key] if key in self.listing.get(kind, {})]
        return [*self.files(index).values(), *found]

    def inputs(self) -> dict[str, object]:
        """Options of the reader, hashes of its encodings and of the path, size and time of every file."""
        encodings = "".join(f"{name} {describe_encoding(one)}\n" for name, one in self.encodings.items())
        return {
            "files": self.digest_files(range(len(self))),
            "encodings": hashlib.sha256(encodings.encode()).hexdigest(),
            "reach": self.reach,
            "instances": self.instances,
            "neighbour_frames": self.neighbor_frames,  # the former name, which prepared sets have recorded
        }

    def digest_files(self, indices: Iterable[int]) -> str:
        digest = hashlib.sha256()
        for path in (path for index in indices for path in self.source_files(index)):
            stat = _stat(path)
            line = f"{os.path.relpath(path, self.root)} {stat.st_size} {stat.st_mtime_ns}\n"
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()

    def stored_photo(self, key: str) -> StoredPhoto:
        """Read the image alone, without converting its numbers."""
        return read_photo(self.listing[IMAGE][key])

    def sparse_photo(self, key: str, step: int, *, shrunk: bool = False) -> tuple[StoredPhoto, tuple[int, int]]:
        """Every `step`-th pixel of the image, or a `shrunk` JPEG, and (height, width) of the whole (`read_sparse`)."""
        return read_sparse(self.listing[IMAGE][key], step, shrunk=shrunk)

    def photo(self, key: str) -> Tensor:
        """The image alone."""
        return self.stored_photo(key).rows()

    def label(self, name: str, key: str, size: tuple[int, int]) -> Tensor:
        """The target of a stored task alone, for an image of `size`."""
        return self._read_target(name, key, size, self.camera(key, size))

    def stored(self, name: str, key: str) -> np.ndarray | None:
        """Read the array of a label file; `None` where more than its `encoding` is needed to decode it.

        Masked where pixels have no label regardless of their numbers (`Encoding.read`).
        """
        encoding = self.encoding(name, key)
        return None if encoding is None else encoding.read(self.listing[name][key])

    def counted(self, name: str, key: str) -> StoredCounts | np.ndarray | None:
        """As `stored`, or only the counts of its values where these can be read without an array."""
        encoding = self.encoding(name, key)
        if encoding is None or encoding.key or encoding.valid or type(self).stored is not InFiles.stored:
            return self.stored(name, key)
        return read_counts(self.listing[name][key], by_index=encoding.by_index, single=encoding.is_single)

    def camera(self, key: str, size: tuple[int, int]) -> Camera | None:
        """The camera of the image `key` of `size`, where it is known."""
        return None

    def encoding(self, name: str, key: str) -> Encoding | None:
        """Encoding of a sample's label file; `None` where it is unknown."""
        return self.encodings[name]

    def read_instances(self, path: Path) -> Tensor:
        """Instance ids `(H, W)` int64, 0 where there is none."""
        return torch.from_numpy(read_array(path).astype("int64"))

    def has_frames(self, step: int) -> bool:
        """True if any image has a frame `step` later or earlier."""
        return any(self.shift(key, way) for key in self.keys for way in (step, -step))

    def shift(self, key: str, step: int) -> str | None:
        """The key of the frame `step` later in the video; `None` where there is none."""
        found = shift_frame(key, step)
        return found if found in self.listing[IMAGE] else None

    def view(self, key: str, sample: Sample) -> Sample | None:
        """The frame `key` as a neighbor of `sample`; `None` where it cannot be one."""
        return self.read(key)

    def missing_view(self, sample: Sample, step: int) -> Sample:
        """Placeholder for a missing neighbor of `sample`: everything in it is invalid."""
        size = (sample.image.shape[1], sample.image.shape[2])
        targets = {name: task.invalid_target(size) for name, task in self.tasks.items()}
        return replace(missing_view(sample, step), targets=targets)

    def __getitem__(self, index: int) -> Sample:
        sample = self.read(self.keys[index])
        return replace(sample, neighbors=tuple(self._read_neighbor(sample, step) for step in self.neighbor_frames))

    def read(self, key: str) -> Sample:
        """The sample of an image, of whatever split, without neighbors."""
        image = self.photo(key)
        size = (image.shape[1], image.shape[2])
        camera = self.camera(key, size)
        extras = {INSTANCES: self._read_instances(key, size)} if self.instances else {}
        return Sample(image, self._read_targets(key, size, camera), key, camera, extras)

    def read_targets(self, key: str) -> dict[str, Tensor]:
        """The targets of a sample alone: its image is not decoded."""
        size = read_image_size(self.listing[IMAGE][key])
        return self._read_targets(key, size, self.camera(key, size))

    def _read_targets(self, key: str, size: tuple[int, int], camera: Camera | None) -> dict[str, Tensor]:
        targets = {name: self._read_target(name, key, size, camera) for name in self.sources}
        for name, (source, compute) in self.derivations.items():
            targets[name] = compute(targets[source], camera, self.reach)
        return {name: targets[name] for name in self.tasks}

    def _read_neighbor(self, sample: Sample, step: int) -> Sample:
        """Read the frame `step` later, else the one at `-step`, else a placeholder."""
        for offset in (step, -step):
            key = self.shift(str(sample.key), offset)
            view = None if key is None else self.view(key, sample)
            if view is not None:
                return as_neighbor(view, offset)
        return self.missing_view(sample, step)

    def _read_target(self, name: str, key: str, size: tuple[int, int], camera: Camera | None) -> Tensor:
        path, encoding = self.listing[name].get(key), self.encoding(name, key)
        if path is None or encoding is None:
            return self.encodings[name].make_task(name).invalid_target(size)
        return read_target(path, name, encoding, size, camera, any_shape=self.any_shape)

    def _read_instances(self, key: str, size: tuple[int, int]) -> Tensor:
        path = self.listing.get(INSTANCES, {}).get(key)
        if path is None:
            return torch.zeros(size, dtype=torch.int64)
        found = self.read_instances(path)
        if found.shape == size:
            return found
        # Double holds every id of up to 53 bits.
        return F.interpolate(found[None, None].double(), size=size, mode="nearest-exact")[0, 0].long()


def read_target(
    path: Path,
    name: str,
    encoding: Encoding,
    size: tuple[int, int],
    camera: Camera | None,
    *,
    any_shape: bool = False,
) -> Tensor:
    """The target of a label file, at the size of its image; raises `ValueError` naming the file and the cure."""
    stored = encoding.read(path)
    try:
        target = decode_stored(encoding, stored, size, camera)
    except ValueError as error:
        raise DataError.about(f"label {path} of [tasks.{name}]", error) from error
    found = (target.shape[-2], target.shape[-1])
    if found == size:
        return target
    if not (encoding.resize and (any_shape or (have_one_shape(found, size) and not have_swapped_sides(found, size)))):
        cure = f"resize = true in [tasks.{name}] takes the nearest pixel"
        if have_swapped_sides(found, size):
            cure = f"{TRANSPOSED}; if EXIF turns the image upright, drop its orientation or turn the label too"
        elif not have_one_shape(found, size):
            cure = OTHER_SHAPE
        raise DataError(f"label {path} is {found[0]}x{found[1]}, its image {size[0]}x{size[1]}", cure)
    view = View(affine(scale=(size[1] / found[1], size[0] / found[0])), size)
    sample = Sample(image=target.new_zeros((3, *found)).float(), targets={name: target})
    return apply_view(sample, view, {name: encoding.make_task(name)}).targets[name]


def _stat(path: Path) -> os.stat_result:
    """Status of a file, or of the archive that it lies in."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if path.parent == path:
            raise
        return _stat(path.parent)


def decode_stored(encoding: Encoding, stored: np.ndarray, size: tuple[int, int], camera: Camera | None) -> Tensor:
    """The target at the size at which a label is stored; `camera` is that of its image of `size`."""
    sides = [side for side in stored.shape if side > 1] if stored.ndim > 2 else list(stored.shape)
    if len(sides) == 3:  # channels, first or last
        sides.remove(min(sides))
    if camera is not None and not encoding.is_pointwise and len(sides) == 2 and tuple(sides) != size:
        camera = scale_camera(camera, size, (sides[0], sides[1]))
    return encoding.decode(stored, camera)


def scale_camera(camera: Camera, native: tuple[int, int], size: tuple[int, int]) -> Camera:
    """The camera of an image that was resized from `native` (height, width) to `size`."""
    return move_camera(camera, View(affine(scale=(size[1] / native[1], size[0] / native[0])), size))


def shift_frame(key: str, step: int) -> str:
    """Key of the frame `step` later: the last number of the key plus `step`, with as many digits; "" before frame 0.

    >>> shift_frame("aachen_000000_000019", -1)
    'aachen_000000_000018'
    """
    match = re.search(r"\d+$", key)
    if match is None or int(match[0]) + step < 0:
        return ""
    return f"{key[: match.start()]}{int(match[0]) + step:0{len(match[0])}d}"
