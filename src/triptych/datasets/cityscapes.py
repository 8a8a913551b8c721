"""Cityscapes (Cordts et al., CVPR 2016): street scenes with fine labels, stereo disparity, cameras and videos.

The official archives are read as they are downloaded: unpacked, in their zips, or some of each. Depth is z in metres,
baseline * fx / disparity with disparity = (p - 1) / 256, from the camera file of each image; where stereo found nothing
it is invalid. The least disparity is 121 km, so that few labels decide an rmse over all: protocol `densemtl` scores
1e-3 to 80 m. Class ids are taken from `*_labelIds.png`, or from `*_labelTrainIds.png` where only these are there.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from triptych.data.archives import list_archive, read_bytes
from triptych.data.arrays import read_array
from triptych.data.errors import DataError
from triptych.data.files import walk_files
from triptych.datasets.in_files import IMAGE, INSTANCES, scale_camera
from triptych.datasets.published import Published
from triptych.datasets.variants import AUTO, Variant
from triptych.labels.base import Encoding
from triptych.labels.depth import Depth
from triptych.labels.street import CITYSCAPES_19, CITYSCAPES_NAMES, SPACES, street_labels
from triptych.lookup import named_choice, parse_json
from triptych.types import IGNORE, Camera

NATIVE = (1024, 2048)
"""Image size that the camera files refer to."""

FILE = re.compile(
    r"(?P<split>[^/]+)/(?:[^/]+/)*(?P<key>[^/]+?_\d{6}_\d{6})_(?P<kind>[^/]+)\.(?:png|jpe?g|json)", re.IGNORECASE
)
SPLITS = ("train", "val", "test", "train_extra", "all")
LABELS = "gtFine_trainvaltest.zip"
STEREO = "disparity_trainvaltest.zip and camera_trainvaltest.zip"
COMMON: dict[str, Any] = {
    "download": f"leftImg8bit_trainvaltest.zip, {LABELS}, {STEREO} from the Cityscapes site (free account)",
    "tasks": ("semseg", "depth", "boundary", "normals"),
    "counts": {"train": 2975, "val": 500, "test": 1525},
    "licence": "Cityscapes terms of use: non-commercial research and teaching, no redistribution",
    "citation": "Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016",
}
HOLES = "Stereo leaves holes, which are invalid here; some published loaders fill them with the farthest depth."
SMALL = "Intrinsics and disparities are those of the full size; the reader scales the camera to the image."
UNPACKED, ZIPS = "leftImg8bit", "leftImg8bit_t*.zip"


@dataclass(frozen=True)
class CityscapesVariant(Variant):
    """`suffix` is that of the names of image folders; images in folders with one are smaller than their labels."""

    suffix: str = ""


WHOLE: dict[str, Any] = {**COMMON, "sizes": (NATIVE,), "notes": (HOLES,)}
VARIANTS = (
    CityscapesVariant("unpacked", "official archives, unpacked", markers=(UNPACKED,), **WHOLE),
    CityscapesVariant("zips", "official archives as zips", markers=(ZIPS,), **WHOLE),
    CityscapesVariant("unpacked-and-zips", "both", markers=(UNPACKED, ZIPS), **WHOLE),
    CityscapesVariant(
        "small",
        "shrunk images of the DenseMTL line beside labels of full size",
        markers=("leftImg8bit_small",),
        sizes=((512, 1024), (320, 640), (256, 512)),
        notes=(HOLES, SMALL),
        suffix="_small",
        **COMMON,
    ),
)


class Cityscapes(Published):
    """One split of Cityscapes: 2975 images for training, 500 for validation, 1525 for testing (without labels).

    `root` holds `leftImg8bit`, `gtFine`, `disparity` and `camera`, as folders or as the official zips. `classes` is the
    label space: 19, 16, 13, 8, 7 or `categories` (`labels/street.py`). `tasks` chooses among semseg, depth, and what is
    derived from them: boundary and normals (over `reach` pixels to each side; stereo is noisy). Without it they are
    those of semseg and depth that lie there. With `neighbor_frames`, or `every_frame` (each frame of the videos is a
    sample; one of 30 has labels), `leftImg8bit_sequence` has to be there too. `instances` adds the extra of that name:
    class id * 1000 + number, 0 where there is none. With `allow_missing` a missing label is an all-invalid map.

    Raises `ValueError` naming what to download where something that was asked for is missing.
    """

    name = "cityscapes"
    splits = SPLITS
    frames_hint = "put leftImg8bit_sequence_trainvaltest.zip beside the other archives, or unpack it there"
    downloads: ClassVar[dict[str, str]] = {"semseg": LABELS, "depth": STEREO}
    variants: ClassVar[dict[str, CityscapesVariant]] = {one.name: one for one in VARIANTS}

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "train",
        tasks: Sequence[str] | None = None,
        variant: str = AUTO,
        classes: int | str = 19,
        neighbor_frames: Sequence[int] = (),
        every_frame: bool = False,
        instances: bool = False,
        reach: int = 5,
        allow_missing: bool = False,
    ) -> None:
        groups = named_choice("label space of cityscapes", str(classes), SPACES)
        self._find(root, split, variant)
        small = self.variant.suffix
        images = list_package(self.root, f"leftImg8bit{small}", split)["leftimg8bit"]
        videos: dict[str, Path] = {}
        if neighbor_frames or every_frame:
            videos = list_package(self.root, f"leftImg8bit_sequence{small}", split)["leftimg8bit"]
        if every_frame and not videos:
            raise DataError(f"every_frame needs the videos, which are not in {self.root}", f"{self.frames_hint}")
        fine = list_package(self.root, "gtFine", split)
        self.cameras = list_package(self.root, "camera", split)["camera"]
        self.drives = {key.rpartition("_")[0]: path for key, path in sorted(self.cameras.items())}
        listing = {
            IMAGE: {**videos, **images},
            "semseg": {**fine["gtfine_labeltrainids"], **fine["gtfine_labelids"]},
            "depth": list_package(self.root, "disparity", split)["disparity"],
            INSTANCES: fine["gtfine_instanceids"],
        }
        options: dict[str, Any] = {"invalid": (IGNORE,), "resize": bool(small)}
        self.train_ids = street_labels(groups, CITYSCAPES_19, "the train ids 0 to 18 and 255", **options)
        encodings: dict[str, Encoding] = {}
        if listing["semseg"]:
            encodings["semseg"] = street_labels(groups, CITYSCAPES_NAMES, "the class ids 0 to 33 and 255", **options)
        if listing["depth"] and self.cameras:
            encodings["depth"] = Depth(resize=bool(small))
        unnamed = {member for group in groups.values() for member in group} - {*CITYSCAPES_19}
        if unnamed and fine["gtfine_labeltrainids"] and not fine["gtfine_labelids"]:
            raise ValueError(f"classes='{classes}' needs *_labelIds.png: train ids have no {min(unnamed)}.")
        super().__init__(
            sorted(listing[IMAGE] if every_frame else images),
            split=split,
            listing=listing,
            encodings=encodings,
            tasks=tasks,
            reach=reach,
            neighbor_frames=neighbor_frames,
            instances=instances,
            allow_missing=allow_missing or every_frame,
        )

    def camera(self, key: str, size: tuple[int, int]) -> Camera | None:
        path = self._camera_file(key)
        if path is None:
            return None
        found = _read_camera(path)["intrinsic"]
        # Calibrations count pixel centers from 0, cameras here from 0.5.
        matrix = [[found["fx"], 0, found["u0"] + 0.5], [0, found["fy"], found["v0"] + 0.5], [0, 0, 1]]
        return scale_camera(Camera(torch.tensor(matrix, dtype=torch.float32)), NATIVE, size)

    def source_files(self, index: int) -> list[Path]:
        paths = map(self._camera_file, (*self.frames_near(index), self.keys[index]))
        return [*super().source_files(index), *(path for path in paths if path)]

    def encoding(self, name: str, key: str) -> Encoding | None:
        return {"semseg": self._label_encoding, "depth": self._disparity}[name](key)

    def _label_encoding(self, key: str) -> Encoding:
        path = self.listing["semseg"].get(key)
        by_train_ids = path is not None and path.stem.lower().endswith("labeltrainids")
        return self.train_ids if by_train_ids else self.encodings["semseg"]

    def _disparity(self, key: str) -> Encoding | None:
        path = self._camera_file(key)
        if path is None:
            return None
        camera = _read_camera(path)
        numerator = camera["extrinsic"]["baseline"] * camera["intrinsic"]["fx"]
        resize = self.encodings["depth"].resize
        return Depth(kind="disparity", scale=1 / 256, offset=-1 / 256, numerator=numerator, resize=resize)

    def _camera_file(self, key: str) -> Path | None:
        """Camera file of an image, or of another frame of the drive: only labelled frames of videos have one."""
        return self.cameras.get(key) or self.drives.get(key.rpartition("_")[0])

    def read_instances(self, path: Path) -> Tensor:
        stored = torch.from_numpy(read_array(path).astype("int64"))
        return torch.where(stored >= 1000, stored, 0)


def _read_camera(path: Path) -> dict[str, dict[str, float]]:
    """Intrinsics and extrinsics of a camera file; raises `ValueError` naming a damaged one."""
    try:
        found = parse_json(read_bytes(path))
        return {
            "intrinsic": {name: float(found["intrinsic"][name]) for name in ("fx", "fy", "u0", "v0")},
            "extrinsic": {"baseline": float(found["extrinsic"]["baseline"])},
        }
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"camera file {path} is damaged ({error!r})", f"unpack {STEREO} again") from error


def list_package(root: Path, package: str, split: str) -> dict[str, dict[str, Path]]:
    """Files of one package by kind (lower case) and key, from its folder or else its zips."""
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for place, name in _files_of(root, package):
        match = FILE.fullmatch(name)
        if match and split in (match["split"], "all"):
            found[match["kind"].lower()].setdefault(match["key"], place / name)
    return found


def _files_of(root: Path, package: str) -> Iterator[tuple[Path, str]]:
    """(package folder, path below it) of all files: those on disk, then those in zips."""
    folder = root / package
    yield from ((folder, path.relative_to(folder).as_posix()) for path in walk_files(folder))
    for archive in sorted(root.glob(f"{package}_t*.zip")):
        names = (name for name in list_archive(archive) if name.startswith(f"{package}/"))
        yield from ((archive / package, name.removeprefix(f"{package}/")) for name in names)
