"""Bring your own data: one folder per task, files matched by name, any label missing anywhere."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from triptych.data.base import missing_view
from triptych.data.errors import DataError
from triptych.data.frames import Videos
from triptych.data.photos import read_orientation
from triptych.data.shares import GROUPS
from triptych.data.splits import ALL
from triptych.datasets.in_files import IMAGE, Derivation, InFiles, derive_boundaries
from triptych.folders.descriptor import (
    FILE_NAME,
    Descriptor,
    list_files,
    list_images,
    read_descriptor,
    split_names,
    unlisted_images,
)
from triptych.folders.guessing import describe_folder
from triptych.folders.places import suggest_root
from triptych.labels.base import describe_encoding, is_stored_in
from triptych.labels.masks import BoundaryMask
from triptych.lookup import named_choice
from triptych.types import Camera, Sample


class Folder(InFiles):
    """Images and label maps in folders, as a `dataset.toml` describes them (docs/own-data.md).

    `path` is the folder that holds a `dataset.toml`, or such a file itself, which may lie elsewhere; `root` replaces
    the folder that the file names. `tasks` selects some of its tasks, in that order. A folder without a descriptor is
    read directly where nothing has to be guessed; otherwise `triptych data init` writes one.

    `neighbor_frames` are offsets within a video such as `(-1, 1)`: these frames become `Sample.neighbors`, without
    labels. At the ends of a video the opposite offset is used; a neighbor that is missing there too, or has another
    size, is a view of NaN. Videos are recognized by file names (`Videos`); a split that is a list of keys need not list
    all frames.

    Files are listed once; a missing label is an all-invalid map. Raises `ValueError` naming the folder and the cure if
    there are no images, no such split, or if no file of a task belongs to an image.
    """

    takes_root = True
    any_shape = False
    frames_hint = "frames of a video differ in the last number of their names (docs/video.md)"

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
        neighbor_frames: Sequence[int] = (),
    ) -> None:
        self.descriptor, self.split = find_descriptor(Path(path), root=root), split
        self.name, self.root, known = self.descriptor.name, self.descriptor.root, self.descriptor.tasks
        cure = "`triptych data init` writes a descriptor to say otherwise"
        self.notes = [f"{self.name}: {note}; {cure}" for note in self.descriptor.notes]
        chosen = {
            name: named_choice("task of this folder", name, known) for name in (known if tasks is None else tasks)
        }
        derivations = {
            name: _boundaries(one) for name, one in chosen.items() if isinstance(one, BoundaryMask) and one.source
        }
        sources = [derivations[name].source if name in derivations else name for name in chosen]
        images = list_images(self.descriptor, split)
        self.real = {name: self._list_labels(name, images) for name in dict.fromkeys(sources)}
        self.pseudo = {name: self._list_pseudo(name, images) for name in self.real}
        labels = {name: {**self.pseudo[name], **paths} for name, paths in self.real.items()}
        frames = {**unlisted_images(self.descriptor, split), **images} if neighbor_frames else images
        self.cameras = self._list(self.descriptor.camera.files) if self.descriptor.camera else {}
        self.videos = Videos(frames if neighbor_frames else ())
        self.sampling_unit = {"folder": "folders", "time": "blocks of time"}.get(self.descriptor.group, "videos")
        super().__init__(
            list(images),
            split=split,
            listing={IMAGE: frames, **labels},
            encodings={name: known[name] for name in labels},
            tasks={name: encoding.make_task(name) for name, encoding in chosen.items()},
            derivations=derivations,
            neighbor_frames=neighbor_frames,
        )
        self.notes += [
            f"{name}: {len(keys)} images have pseudo-labels of {made.teacher} ({made.date}), weight {made.weight:g}"
            for name, keys in self.pseudo.items()
            if keys and (made := self.descriptor.pseudo[name])
        ]
        self.notes += [
            f"{name}: [tasks.{name}.pseudo] has no file in any split; `triptych data label` makes them"
            for name in self.pseudo.keys() & self.descriptor.pseudo.keys()
            if not list_files(self.descriptor, self.descriptor.pseudo[name].files, ALL)
        ]
        self.pseudo_weights = {
            name: dict.fromkeys(self.pseudo[source], float(self.descriptor.pseudo[source].weight))
            for name, source in zip(chosen, sources, strict=True)
            if self.pseudo[source]
        }

    def group(self, index: int) -> str:
        """The image's group by the descriptor; without one its video, where frames of videos are read."""
        return self._groups[self.keys[index]]

    @cached_property
    def _groups(self) -> dict[str, str]:
        if self.descriptor.group == "file":
            return {key: Videos.video(key) if self.neighbor_frames else key for key in self.keys}
        # Blocks of time are those that the split was drawn by.
        keys = list(list_images(self.descriptor, ALL)) if self.descriptor.has_shares else self.keys
        return dict(zip(keys, GROUPS[self.descriptor.group](keys), strict=True))

    def camera(self, key: str, size: tuple[int, int]) -> Camera | None:
        """The camera of an image of `size`, where the descriptor gives one."""
        if self.descriptor.camera is None:
            return None
        orientation = read_orientation(self.listing[IMAGE][key])
        return self.descriptor.camera.camera(size, self.cameras.get(key), orientation=orientation)

    def shift(self, key: str, step: int) -> str | None:
        return self.videos.shift(key, step)

    def read(self, key: str) -> Sample:
        sample = super().read(key)
        if self.neighbor_frames and self.descriptor.camera and sample.camera is None:
            return replace(sample, camera=Camera(torch.full((3, 3), torch.nan)))  # unknown for this image only
        return sample

    def view(self, key: str, sample: Sample) -> Sample | None:
        """The frame `key` without labels; `None` where it differs in size from the sample."""
        image = self.photo(key)
        if image.shape != sample.image.shape:
            return None
        return Sample(image, {}, key, self.camera(key, (image.shape[1], image.shape[2])) or sample.camera)

    def missing_view(self, sample: Sample, step: int) -> Sample:
        return missing_view(sample, step)

    def fingerprint(self) -> dict[str, object]:
        """Name, split, counts, hashes of the file list and of the tasks, and where images and cameras come from."""
        listing = (
            f"{key}: {' '.join(name for name, paths in self.labels.items() if key in paths)}\n" for key in self.keys
        )
        tasks = (f"({name!r}, {describe_encoding(one)})" for name, one in sorted(self.descriptor.tasks.items()))
        meaning = hashlib.sha256(f"[{', '.join(tasks)}]".encode())
        pseudo = {
            name: {"images": len(paths), **self.descriptor.pseudo[name].facts()}
            for name, paths in self.pseudo.items()
            if paths
        }
        return {
            "name": self.name,
            "split": self.split,
            "images": len(self),
            "labels": {name: len(set(paths) & set(self.images)) for name, paths in self.labels.items()},
            "files_sha256": hashlib.sha256("".join(listing).encode(errors="surrogateescape")).hexdigest(),
            "descriptor_sha256": meaning.hexdigest(),
            "image_files": self.descriptor.images,
            "camera": self.descriptor.camera and vars(self.descriptor.camera),
        } | ({"pseudo": pseudo} if pseudo else {})

    def source_files(self, index: int) -> list[Path]:
        keys = (*self.frames_near(index), self.keys[index])
        return [*super().source_files(index), *(self.cameras[key] for key in keys if key in self.cameras)]

    def inputs(self) -> dict[str, object]:
        """Inputs with the options of `[camera]`."""
        return super().inputs() | {"camera": self.descriptor.camera and vars(self.descriptor.camera)}

    def _list(self, pattern: str) -> dict[str, Path]:
        return list_files(self.descriptor, pattern, self.split) if pattern else {}

    def _list_labels(self, name: str, images: Mapping[str, Path]) -> dict[str, Path]:
        pattern = self.descriptor.tasks[name].files
        pseudo = self.descriptor.pseudo.get(name)
        made = set(self._list(pseudo.files).values()) if pseudo else ()
        found = {key: path for key, path in self._list(pattern).items() if path not in made}
        if not found or any(key in found for key in images):
            return found
        # One folder may hold the labels of all splits: then all of them may belong to other splits.
        others = list(list_images(self.descriptor, ALL)) if "{split}" not in pattern else []
        if self.descriptor.has_split_folders:
            others = [key.partition("/")[2] for key in others]
        if not any(key in found for key in others):
            raise ValueError(
                f"none of the {len(found)} files of [tasks.{name}] belongs to an image of {self.name}: files = "
                f"'{pattern}' gives keys like '{next(iter(found))}', images have keys like '{next(iter(images))}'."
            )
        return found

    def _list_pseudo(self, name: str, images: Mapping[str, Path]) -> dict[str, Path]:
        """Pseudo-labels of images that have no label of the task itself."""
        pseudo, real = self.descriptor.pseudo.get(name), self.real[name]
        if pseudo is None:
            return {}
        found = {key: path for key, path in self._list(pseudo.files).items() if key in images and key not in real}
        if found and not is_stored_in(pseudo.encoding, self.descriptor.tasks[name]):
            text = f"{len(found)} pseudo-labels of {name} were stored when its options (classes, unit, ...) were others"
            raise DataError(text, "put the options back, or `triptych data label` again with --overwrite")
        return found


def _boundaries(encoding: BoundaryMask) -> Derivation:
    """Boundaries where the labels of another task change."""
    return Derivation(encoding.source, partial(derive_boundaries, radius=encoding.radius))


def find_descriptor(path: Path, *, root: str | Path = "") -> Descriptor:
    """Find the descriptor of `path`: a file, `dataset.toml` in a folder, or derived from a folder without guesses."""
    if path.suffix == ".toml":
        if not path.exists():
            raise DataError(f"{path} does not exist", f"`triptych data init FOLDER` writes a {FILE_NAME}")
        return read_descriptor(path, root=root)
    if not path.is_dir():
        raise DataError(
            f"dataset folder '{path}' does not exist",
            "give the folder that holds the images and labels (data.root, --root)",
        )
    if os.path.lexists(path / FILE_NAME):  # an unreadable file is an error, not ignored
        return read_descriptor(path / FILE_NAME, root=root)
    if root:
        raise DataError(f"root is {root}, but {path} has no {FILE_NAME} whose files could lie there", "leave root out")
    better = suggest_root(path)
    if better is not None:
        raise DataError(f"{path} has no {FILE_NAME} and no folder of images", f"did you mean {better}?")
    guess = describe_folder(path)
    if guess.doubts:
        raise DataError(f"{path} has no {FILE_NAME}", f"`triptych data init {path}` writes one ({guess.doubts[0]})")
    return guess.descriptor()
