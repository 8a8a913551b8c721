"""Bring your own data: one folder per task, files matched by name, any label missing anywhere."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triptych.augmentation.view import Window, affine, look_through
from triptych.data.base import DenseDataset, as_neighbour, missing_view
from triptych.data.errors import DataError
from triptych.data.files import read_array
from triptych.data.frames import Videos
from triptych.data.lists import ALL
from triptych.data.photos import read_image, read_orientation
from triptych.datasets.descriptor import (
    FILE_NAME,
    Descriptor,
    list_files,
    list_images,
    read_descriptor,
    split_names,
    unlisted_images,
)
from triptych.labels.derived import boundaries_from_labels
from triptych.labels.encodings import BoundaryMask, Encoding
from triptych.lookup import named_choice
from triptych.tasks import Task
from triptych.types import Camera, Sample


class Folder(DenseDataset):
    """Images and label maps in folders, as a `dataset.toml` describes them (docs/own-data.md).

    `path` is the folder that holds a `dataset.toml`, or such a file itself, which may lie elsewhere; `root` replaces
    the folder that the file names. `tasks` selects some of its tasks, in that order. A folder without a descriptor is
    taken as it is where nothing has to be guessed; otherwise `triptych data init` writes one.

    `neighbour_frames` are offsets within a video such as `(-1, 1)`: the frames there come along as `Sample.neighbours`,
    without labels; at the ends of a video those as far the other way, views of NaN where these are missing too or have
    another size. Names tell the frames of a video (`Videos`); a split that is a list of keys may leave most out.

    Files are listed once; a missing label is an all-invalid map. Raises `ValueError` naming the folder and the cure if
    there are no images, no such split, or a task none of whose files belongs to an image.
    """

    needs_root = takes_root = True

    @classmethod
    def splits_at(cls, place: Path, **roots: Any) -> Sequence[str]:
        return split_names(find_descriptor(place, **roots))

    def __init__(
        self,
        path: str | Path,
        *,
        split: str = "train",
        tasks: Sequence[str] | None = None,
        root: str | Path = "",
        neighbour_frames: Sequence[int] = (),
    ) -> None:
        self.descriptor = find_descriptor(Path(path), root=root)
        self.name, self.split = self.descriptor.name, split
        known = self.descriptor.tasks
        self.encodings: dict[str, Encoding] = {
            name: named_choice("task of this folder", name, known) for name in (known if tasks is None else tasks)
        }
        self.tasks: dict[str, Task] = {name: encoding.make_task(name) for name, encoding in self.encodings.items()}
        self.images = list_images(self.descriptor, split)
        self.keys = list(self.images)
        self.labels = {name: self._list_labels(name) for name in self._sources()}
        self.cameras = self._list(self.descriptor.camera.files) if self.descriptor.camera else {}
        self.neighbour_frames = tuple(neighbour_frames)
        self.frames = {**unlisted_images(self.descriptor, split), **self.images} if neighbour_frames else {}
        self.videos = Videos(self.frames)
        for step in self.neighbour_frames:
            if step == 0 or not any(self.videos.shift(key, way) for key in self.keys for way in (step, -step)):
                raise DataError(
                    f"neighbour_frames has {step}, but no image of split '{split}' of {self.name} has one",
                    "frames of a video differ in the last number of their names (docs/video.md)",
                )

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, index: int) -> str:
        return self.keys[index]

    def __getitem__(self, index: int) -> Sample:
        key = self.keys[index]
        image = read_image(self.images[key])
        size = (image.shape[1], image.shape[2])
        camera = self.camera(key, size)
        targets: dict[str, Tensor] = {}
        for name in self._sources():
            path, encoding = self.labels[name].get(key), self.descriptor.tasks[name]
            targets[name] = (
                encoding.make_task(name).invalid_target(size)
                if path is None
                else read_target(path, name, encoding, size, camera)
            )
        for name, encoding in self.encodings.items():
            if isinstance(encoding, BoundaryMask) and encoding.source:
                targets[name] = boundaries_from_labels(targets[encoding.source], radius=encoding.radius)
        if self.neighbour_frames and self.descriptor.camera and camera is None:
            camera = Camera(torch.full((3, 3), torch.nan))  # not known for this one image
        sample = Sample(image, {name: targets[name] for name in self.tasks}, key, camera)
        return replace(sample, neighbours=tuple(self._neighbour(sample, step) for step in self.neighbour_frames))

    def _neighbour(self, sample: Sample, step: int) -> Sample:
        """The frame `step` later, else the one as far the other way, else a view that says nothing."""
        for offset in (step, -step):
            key = self.videos.shift(str(sample.key), offset)
            image = None if key is None else read_image(self.frames[key])
            if key is not None and image is not None and image.shape == sample.image.shape:
                camera = self.camera(key, (image.shape[1], image.shape[2])) or sample.camera
                return as_neighbour(Sample(image, {}, key, camera), offset)
        return missing_view(sample, step)

    def photo(self, key: str) -> Tensor:
        """The image alone."""
        return read_image(self.images[key])

    def encoding(self, name: str, key: str) -> Encoding:
        """What the numbers in the files of a task mean."""
        return self.descriptor.tasks[name]

    def stored(self, name: str, key: str) -> np.ndarray:
        """What a label file stores."""
        return read_array(self.labels[name][key], key=self.descriptor.tasks[name].key)

    def label(self, name: str, key: str, size: tuple[int, int]) -> Tensor:
        """The target of a stored task alone."""
        return read_target(self.labels[name][key], name, self.encoding(name, key), size, self.camera(key, size))

    def camera(self, key: str, size: tuple[int, int]) -> Camera | None:
        """The camera of an image of `size`, where the descriptor gives one."""
        if self.descriptor.camera is None:
            return None
        orientation = read_orientation(self.frames.get(key) or self.images[key])
        return self.descriptor.camera.camera(size, self.cameras.get(key), orientation=orientation)

    def fingerprint(self) -> dict[str, object]:
        """Name, split, counts, and hashes of the file list and of the descriptor."""
        listing = hashlib.sha256()
        for key in self.keys:
            present = [name for name, paths in self.labels.items() if key in paths]
            listing.update(f"{key}: {' '.join(present)}\n".encode())
        meaning = hashlib.sha256(repr(sorted(self.descriptor.tasks.items())).encode())
        return {
            "name": self.name,
            "split": self.split,
            "images": len(self),
            "labels": {name: len(set(paths) & set(self.images)) for name, paths in self.labels.items()},
            "files_sha256": listing.hexdigest(),
            "descriptor_sha256": meaning.hexdigest(),
        }

    def _sources(self) -> list[str]:
        """Names of the label files that the chosen tasks need: their own, or those they are derived from."""
        return list(dict.fromkeys(getattr(encoding, "source", "") or name for name, encoding in self.encodings.items()))

    def _list(self, pattern: str) -> dict[str, Path]:
        return list_files(self.descriptor, pattern, self.split) if pattern else {}

    def _list_labels(self, name: str) -> dict[str, Path]:
        pattern = self.descriptor.tasks[name].files
        found = self._list(pattern)
        if not found or any(key in found for key in self.images):
            return found
        if self.descriptor.has_split_folders or not any(key in found for key in list_images(self.descriptor, ALL)):
            raise ValueError(
                f"none of the {len(found)} files of [tasks.{name}] belongs to an image of {self.name}: files = "
                f"'{pattern}' gives keys like '{next(iter(found))}', images have keys like '{self.keys[0]}'."
            )
        return found


def find_descriptor(path: Path, *, root: str | Path = "") -> Descriptor:
    """The descriptor at `path`: the file itself, `dataset.toml` in a folder, or what needs no guess in a folder."""
    from triptych.datasets.guessing import describe_folder, suggest_root

    if path.suffix == ".toml":
        if not path.is_file():
            raise DataError(f"{path} does not exist", f"`triptych data init FOLDER` writes a {FILE_NAME}")
        return read_descriptor(path, root=root)
    if not path.is_dir():
        raise DataError(f"dataset folder '{path}' does not exist", "give the folder that holds the images and labels")
    if (path / FILE_NAME).is_file():
        return read_descriptor(path / FILE_NAME, root=root)
    better = suggest_root(path)
    if better is not None:
        raise DataError(f"{path} has no {FILE_NAME} and no folder of images", f"did you mean {better}?")
    guess = describe_folder(path)
    if guess.doubts:
        raise DataError(f"{path} has no {FILE_NAME}", f"`triptych data init {path}` writes one ({guess.doubts[0]})")
    return guess.descriptor()


def read_target(path: Path, name: str, encoding: Encoding, size: tuple[int, int], camera: Camera | None) -> Tensor:
    """The target of a label file, at the size of its image; raises `ValueError` naming the file and the cure."""
    stored = read_array(path, key=encoding.key)
    try:
        target = encoding.decode(stored, camera)
    except ValueError as error:
        raise DataError.about(f"label {path} of [tasks.{name}]", error) from error
    found = (target.shape[-2], target.shape[-1])
    if found == size:
        return target
    if not encoding.resize:
        raise DataError(
            f"label {path} is {found[0]}x{found[1]}, its image {size[0]}x{size[1]}",
            f"resize = true in [tasks.{name}] takes the nearest pixel",
        )
    window = Window(affine(scale=(size[1] / found[1], size[0] / found[0])), size)
    sample = Sample(image=target.new_zeros((3, *found)).float(), targets={name: target})
    return look_through(sample, window, {name: encoding.make_task(name)}).targets[name]
