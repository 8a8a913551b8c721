"""NYU Depth v2 (Silberman et al., ECCV 2012): 1449 indoor frames of a Kinect with semseg, depth, normals, boundary.

All archives come out alike: semseg of 40 (or 13, or 894) classes, depth z in metres, normals in the camera frame.
The split "val" of an archive is the official test split and is called `test` here.
Long because its archives hold the same frames in three forms: folders, arrays and the official file.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from triptych.data.errors import DataError
from triptych.data.files import match_files
from triptych.data.lists import packaged_lines
from triptych.data.nearby import NearbyFrames, check_direction, find_nearby
from triptych.data.photos import StoredPhoto
from triptych.datasets.in_files import IMAGE, scale_camera
from triptych.datasets.labelled_file import LabelledFile
from triptych.datasets.published import Published
from triptych.datasets.splitting import read_keys, take_held_out
from triptych.datasets.variants import AUTO, Variant
from triptych.labels.axes import Axes, measure_axes
from triptych.labels.base import Encoding
from triptych.labels.depth import Depth
from triptych.labels.masks import BoundaryMask
from triptych.labels.normals import Normals
from triptych.labels.tables import labels_of_13, labels_of_40, labels_of_names
from triptych.lookup import named_choice
from triptych.types import Camera, Sample

OFFICIAL = "official"
MTAN = "MTAN"
MAT = "nyu_depth_v2_labeled.mat"
LISTS = ("gt_sets/train.txt", "gt_sets/val.txt")
FULL = (480, 640)
CROPPED = (425, 560)

VAL_IS_TEST = "Its val.txt is the official test split: that is split='test' here; 'val' is held out from training."
AXES = "Nobody wrote down where the components of its normals point; the reader measures it by the depth."
EDGES = "How its edges were made is not documented."
COMMON: dict[str, Any] = {
    "counts": {"train": 715, "val": 80, "trainval": 795, "test": 654},
    "licence": "none stated beyond the request to cite the paper; research use",
    "citation": "Silberman et al., Indoor Segmentation and Support Inference from RGBD Images, ECCV 2012",
}
TASKS = ("semseg", "depth", "normals", "boundary")


@dataclass(frozen=True)
class NYUv2Variant(Variant):
    """`classes` is the default number of classes, `raw_depth` whether it has raw depth, and `counts_frames` whether its
    file names are positions in the official lists instead of frame numbers.
    """

    classes: int = 40
    raw_depth: bool = False
    counts_frames: bool = False


VARIANTS = (
    NYUv2Variant(
        name="NYUD_MT",
        title="archive of the multi-task survey and of ATRC's code: JPEG images, arrays",
        download="NYUD_MT.tgz, named in the README of the survey's repository Multi-Task-Learning-PyTorch",
        markers=("images/*.jpg", "segmentation/*.png", "depth/*.npy", "normals/*.npy", "edge/*.npy", *LISTS),
        tasks=TASKS,
        sizes=(FULL, CROPPED),
        notes=(VAL_IS_TEST, AXES, EDGES),
        **COMMON,
    ),
    NYUv2Variant(
        name="NYUDv2",
        title="archive of ATRC's server and of the InvPT line: PNG images, normals and edges",
        download="NYUDv2.tar.gz, named in the README of InvPT (Multi-Task-Transformer) and of ATRC",
        markers=("images/*.png", "segmentation/*.png", "depth/*.npy", "normals/*.png", "edge/*.png", *LISTS),
        tasks=TASKS,
        sizes=(CROPPED, FULL),
        notes=(VAL_IS_TEST, AXES, EDGES, "Normals are quantised to 8 bits."),
        **COMMON,
    ),
    NYUv2Variant(
        name="NYUD_MT_ASTMT",
        title="older archive of the name NYUD_MT: labels and depth as .mat, normals as JPEG",
        download="NYUD_MT.tgz of ASTMT's server",
        markers=("images/*.jpg", "segmentation/*.mat", "depth/*.mat", "normals/*.jpg", "edge/*.png", *LISTS),
        tasks=TASKS,
        sizes=(FULL, CROPPED),
        notes=(VAL_IS_TEST, AXES, EDGES, "Normals went through JPEG: do not compare with numbers of other archives."),
        **COMMON,
    ),
    NYUv2Variant(
        name=MTAN,
        title="288x384 arrays with 13 classes of the MTAN line",
        download="the preprocessed NYUv2 of the README of mtan (folders train and val)",
        markers=tuple(
            f"{part}/{kind}/*.npy" for part in ("train", "val") for kind in ("image", "label", "depth", "normal")
        ),
        tasks=TASKS,
        sizes=((288, 384),),
        notes=(
            VAL_IS_TEST,
            AXES,
            "Its authors lost the code that made it.",
            "Files are numbered from 0; that they follow the official lists in order is taken for granted.",
            "It has no boundaries; they are derived from the 13 classes.",
        ),
        classes=13,
        counts_frames=True,
        **COMMON,
    ),
    NYUv2Variant(
        name=OFFICIAL,
        title="the official file of the 1449 labelled frames",
        download=f"{MAT}, 'Labeled dataset' of the NYU Depth V2 page",
        markers=(MAT,),
        tasks=TASKS,
        sizes=(FULL,),
        notes=(
            "Depth has its holes filled; raw_depth=True gives the sensor's.",
            "It has no normals and no boundaries: they are derived from depth and from the chosen classes.",
            "Frames are not cropped: they have a white border.",
        ),
        raw_depth=True,
        **COMMON,
    ),
)


SPLITS = {
    "train": "official training frames without those of val: 715",
    "val": "training frames that are held out for model selection: 80",
    "trainval": "all official training frames: 795",
    "test": "official test frames: 654",
}
TRAINED = ("train", "trainval")
CLASSES = {"13": 13, "40": 40, "894": 894}
KINDS = {"images": IMAGE, "segmentation": "semseg", "depth": "depth", "normals": "normals", "edge": "boundary"}
"""Folder of an archive to the kind of its files."""
ARRAYS = {"image": IMAGE, "label": "semseg", "depth": "depth", "normal": "normals"}
"""The same for MTAN's arrays."""
ENTRIES = {"semseg": "labels", "depth": "depths"}
"""Task to the entry of the official file."""
FOCAL, CENTER = (518.8579, 519.46961), (325.58245, 253.73617)
"""Of the color camera, in pixels; the dataset's toolbox counts pixel centers from 1."""
CROP = (45, 40)
"""First row and column of 425x560 images in the full frame, to within a pixel."""

POSES_CHECKED = 6
"""Images by which the direction of poses is checked when a split is opened."""


class NYUv2(Published):
    """One split of NYU Depth v2, from any of its archives (`NYUv2.variants`); `root` is the folder or the `.mat` file.

    `split` is `train` (715 frames), `val` (80 training frames held out for model selection, whole scenes),
    `trainval` (all 795) or `test` (654). `classes` is 40, 13 (made from the 40; the only ones of the MTAN arrays) or
    894 (official file only; 255 means unlabelled, so ids are 0 to 894 without 255).

    Normals are stored in all archives but the official one; their axes are measured against depth on a few frames,
    unless `normals_axes` gives them. The official file's normals are derived over `reach` pixels to each side, from
    depth with filled holes, or with `raw_depth` from that of the sensor; its and MTAN's boundaries from semseg.

    `neighbor_frames` are offsets of frames around the labelled ones, such as `(-5, 5)`, which become
    `Sample.neighbors`: `frames` is their folder, from the root (layout: `data/nearby.py`), with `pose_direction` and
    `pose_scale` of their poses. Frames of 480x640 are cropped like images of 425x560. An image without a frame or a
    pose has a neighbor of NaN. On `POSES_CHECKED` images the direction of the poses is checked.
    `frames_as_samples` appends the frames that have a depth to the images of `train` and `trainval`.

    Raises `ValueError` in one line naming missing files and the way out; `allow_missing` reads what is there.
    """

    name = "nyuv2"
    frames_hint = "put the frames around an image KEY into frames/KEY/OFFSET.jpg (docs/datasets.md)"
    splits = tuple(SPLITS)
    sampling_unit = "scenes"
    variants: ClassVar[dict[str, NYUv2Variant]] = {one.name: one for one in VARIANTS}

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "train",
        tasks: Sequence[str] | None = None,
        variant: str = AUTO,
        classes: int = 0,
        normals_axes: Axes | None = None,
        raw_depth: bool = False,
        reach: int = 8,
        allow_missing: bool = False,
        neighbor_frames: Sequence[int] = (),
        frames: str = "frames",
        pose_direction: str = "camera-to-world",
        pose_scale: float = 1.0,
        frames_as_samples: bool = False,
    ) -> None:
        self._find(root, split, variant)
        folder = self.root.parent if self.root.is_file() else self.root
        self.nearby = (
            find_nearby(folder / frames, pose_direction=pose_direction, pose_scale=pose_scale)
            if neighbor_frames or frames_as_samples
            else NearbyFrames()
        )
        kind = self.variant.name
        if raw_depth and not self.variant.raw_depth:
            raise DataError(f"raw_depth needs {MAT}", f"the depth of {kind} has its holes filled already")
        classes = named_choice("number of classes of nyuv2", str(classes or self.variant.classes), CLASSES)
        self.classes, self.entries = classes, {**ENTRIES, "depth": "rawDepths"} if raw_depth else ENTRIES
        self.official: LabelledFile | None = None
        open_variant = {MTAN: self._open_arrays, OFFICIAL: self._open_official}.get(kind, self._open_folders)
        listing, lists, encodings = open_variant()
        chosen = TASKS if tasks is None else tuple(tasks)
        self.normals_axes = normals_axes
        if "normals" in chosen and "normals" in encodings:
            self.normals_axes = normals_axes or measure_axes(
                listing["normals"], listing["depth"], encodings["depth"], camera=self.camera
            )
            encodings["normals"] = Normals(axes=self.normals_axes)
        for name, paths in ((IMAGE, self.nearby.images), ("depth", self.nearby.depths)):
            listing[name] = {**listing[name], **paths}
        held_out = set(packaged_lines("nyuv2_val"))
        numbers = dict(zip(lists["trainval"], self._frame_numbers(lists["trainval"]), strict=True))
        for part in ("train", "val"):
            lists[part] = take_held_out(lists["trainval"], part, lambda key: numbers[key] in held_out)
        super().__init__(
            lists[split],
            split=split,
            listing=listing,
            encodings=encodings,
            tasks=chosen,
            reach=reach,
            allow_missing=allow_missing,
            neighbor_frames=neighbor_frames,
        )
        if self.nearby.poses:
            check_direction(folder / frames, islice(self._with_frames(), POSES_CHECKED))
        if frames_as_samples and split in TRAINED:
            self.keys += self.nearby.with_depth(self.keys, f"split '{split}' of {self.name}")

    @property
    def archive_keys(self) -> Sequence[str]:
        return [key for key in self.keys if key not in self.nearby.images]

    def group(self, index: int) -> str:
        """The scene, which only the official file tells."""
        key = self.keys[index]
        return self.scenes[int(key) - 1] if self.scenes and key not in self.nearby.images else key

    @cached_property
    def scenes(self) -> list[str]:
        """Scenes of the frames of the official file; empty for other archives."""
        return self.official.scenes() if self.official else []

    def camera(self, key: str, size: tuple[int, int]) -> Camera | None:
        """The Kinect's color camera for the full frame at any scale and for 425x560 crops; `None` for other sizes."""
        top, left = CROP if size == CROPPED else (0, 0)
        matrix = [[FOCAL[0], 0, CENTER[0] - 0.5 - left], [0, FOCAL[1], CENTER[1] - 0.5 - top], [0, 0, 1]]
        pose = torch.from_numpy(self.nearby.poses.get(key, np.eye(4))).float() if self.nearby.poses else None
        camera = Camera(torch.tensor(matrix, dtype=torch.float32), pose)
        if size == CROPPED:
            return camera
        return scale_camera(camera, FULL, size) if size[0] * FULL[1] == size[1] * FULL[0] else None

    def stored(self, name: str, key: str) -> np.ndarray | None:
        return super().stored(name, key) if self.official is None else None

    def inputs(self) -> dict[str, object]:
        """Inputs with the entries of the official file, and a hash of the poses of frames."""
        poses = hashlib.sha256()
        for key, pose in sorted(self.nearby.poses.items()):
            poses.update(f"{key} {pose.tolist()}\n".encode(errors="surrogateescape"))
        return super().inputs() | {"entries": self.entries, "poses": poses.hexdigest()}

    def fingerprint(self) -> dict[str, object]:
        """Fingerprint with the variant, the axes of its normals, and the numbers of nearby frames and poses."""
        own: dict[str, object] = {"variant": self.variant.name, "normals_axes": self.normals_axes}
        if self.neighbor_frames:
            own["nearby"] = {"frames": len(self.nearby.images), "poses": len(self.nearby.poses)}
        return super().fingerprint() | own

    def has_frames(self, step: int) -> bool:
        """Whether any image has a frame `step` later or earlier; outside training, images of other splits suffice."""
        others = (f"/{step:+d}", f"/{-step:+d}") if self.split not in TRAINED else ()
        return super().has_frames(step) or any(name.endswith(others) for name in self.nearby.images)

    def shift(self, key: str, step: int) -> str | None:
        name = self.nearby.shift(key, step)
        return name if name in self.listing[IMAGE] else None

    def read(self, key: str) -> Sample:
        """Read an image, or a frame cropped to the size of the images."""
        sample = super().read(key)
        native = (sample.image.shape[1], sample.image.shape[2])
        if key not in self.nearby.images or native == self._size:
            return sample
        if (self._size, native) != (CROPPED, FULL):
            raise DataError(
                f"frame {self.nearby.images[key]} is {native[0]}x{native[1]}, its image "
                f"{self._size[0]}x{self._size[1]}",
                "give frames of the image's size, or of 480x640",
            )
        window = (..., slice(CROP[0], CROP[0] + CROPPED[0]), slice(CROP[1], CROP[1] + CROPPED[1]))
        targets = {name: target[window] for name, target in sample.targets.items()}
        return Sample(sample.image[window], targets, key, self.camera(key, CROPPED), sample.extras)

    @cached_property
    def _size(self) -> tuple[int, int]:
        """(height, width) of the images, the same in a whole archive."""
        image = self.photo(self.keys[0])
        return image.shape[1], image.shape[2]

    def view(self, key: str, sample: Sample) -> Sample | None:
        """Read the frame `key`; `None` where poses exist but the frame or the sample has none."""
        if self.nearby.poses and not {key, sample.key} <= set(self.nearby.poses):
            return None
        return self.read(key)

    def _with_frames(self) -> Iterator[tuple[Sample, Tensor]]:
        """Samples with neighbors, and their depth."""
        for index, key in enumerate(self.keys):
            if any(self.shift(key, step) for step in self.neighbor_frames):
                sample = self[index]
                yield sample, self.label("depth", key, (sample.image.shape[1], sample.image.shape[2]))

    def _frame_numbers(self, keys: Sequence[str]) -> list[str]:
        """Official numbers of training samples: their names, or their place in the official list."""
        if not self.variant.counts_frames:
            return [Path(key).stem for key in keys]
        official: Mapping[int, str] = dict(enumerate(packaged_lines("nyuv2_train")))
        return [official.get(int(Path(key).name), "") if Path(key).name.isdigit() else "" for key in keys]

    def _open_folders(self) -> "_Opened":
        listing: dict[str, dict[str, Path]] = {}
        suffixes: dict[str, str] = {}
        for marker in self.variant.markers:
            folder, _, pattern = marker.partition("/")
            if folder in KINDS:
                suffixes[KINDS[folder]] = pattern.removeprefix("*")
                listing[KINDS[folder]] = match_files(self.root, f"{folder}/{{key}}{pattern.removeprefix('*')}")
        lists = {
            "trainval": read_keys(self.root / "gt_sets/train.txt"),
            "test": read_keys(self.root / "gt_sets/val.txt"),
        }
        if set(lists["trainval"]) & set(lists["test"]):
            both = min(set(lists["trainval"]) & set(lists["test"]))
            raise DataError(
                f"'{both}' is in both lists of {self.root / 'gt_sets'}", "take those of the original archive"
            )
        self._check_classes(40, (13, 40))
        threshold = 128 if suffixes["boundary"] == ".png" else 0.5
        encodings = {"semseg": labels_of_40(self.classes), "depth": Depth(), "normals": Normals()}
        return listing, lists, {**encodings, "boundary": BoundaryMask(threshold=threshold)}

    def _open_arrays(self) -> "_Opened":
        self._check_classes(13, (13,))
        listing: dict[str, dict[str, Path]] = {kind: {} for kind in ARRAYS.values()}
        lists: dict[str, list[str]] = {}
        for part, split in (("train", "trainval"), ("val", "test")):
            for folder, kind in ARRAYS.items():
                found = match_files(self.root, f"{part}/{folder}/{{key}}.npy")
                listing[kind] |= {f"{part}/{key}": path for key, path in found.items()}
            keys = [key for key in listing[IMAGE] if key.startswith(f"{part}/")]
            lists[split] = sorted(keys, key=lambda key: (len(key), key))
        return listing, lists, {"semseg": labels_of_13(), "depth": Depth(), "normals": Normals()}

    def _open_official(self) -> "_Opened":
        path = self.root if self.root.is_file() else self.root / MAT
        self.official = LabelledFile(path)
        there = {f"{number:04d}": path for number in range(1, self.official.length + 1)}
        lists = {"trainval": packaged_lines("nyuv2_train"), "test": packaged_lines("nyuv2_test")}
        listing = {IMAGE: there, "semseg": there, "depth": there}
        try:
            labels = labels_of_names(self.official.names(), self.classes)
        except ValueError as error:
            raise DataError.about(str(path), error) from error
        return listing, lists, {"semseg": labels, "depth": Depth()}

    def _check_classes(self, stored: int, possible: Sequence[int]) -> None:
        if self.classes not in possible:
            raise DataError(
                f"classes is {self.classes}, but {self.variant.name} has {stored} classes",
                f"pass classes={stored}, or give the folder of {MAT}, which has all 894",
            )

    def sparse_photo(self, key: str, step: int, *, shrunk: bool = False) -> tuple[StoredPhoto, tuple[int, int]]:
        return (
            super().sparse_photo(key, step, shrunk=shrunk)
            if self.official is None
            else self.stored_photo(key).thinned(step)
        )

    def stored_photo(self, key: str) -> StoredPhoto:
        if self.official is None or key in self.nearby.images:
            return super().stored_photo(key)
        return StoredPhoto.checked(self.official.read("images", int(key) - 1))

    def _read_target(self, name: str, key: str, size: tuple[int, int], camera: Camera | None) -> Tensor:
        if key in self.nearby.images and key not in self.listing[name]:
            return self.encodings[name].make_task(name).invalid_target(size)
        if self.official is None or key in self.nearby.images:
            return super()._read_target(name, key, size, camera)
        stored = self.official.read(self.entries[name], int(key) - 1)
        try:
            return self.encodings[name].decode(stored, camera)
        except ValueError as error:
            raise DataError.about(f"{name} of frame {key} in {self.official.path}", error) from error


_Opened = tuple[dict[str, dict[str, Path]], dict[str, list[str]], dict[str, Encoding]]
"""Files by kind and key, keys of the official splits, encodings of what is stored."""
