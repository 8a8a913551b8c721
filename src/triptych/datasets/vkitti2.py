"""Virtual KITTI 2 (Cabon et al., 2020): five synthetic drives in ten conditions, with two cameras.

Depth is z, centimetres in 16 bits; the far plane at 655.35 m is the sky and invalid. Classes are colors, named by the
`colors.txt` of each drive. Normals are not in the archives; they are computed from depth.
"""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from triptych.data.archives import Version, file_version
from triptych.data.errors import DataError
from triptych.data.lists import packaged_lines, read_text
from triptych.data.splits import ALL
from triptych.datasets.in_files import IMAGE, INSTANCES, scale_camera
from triptych.datasets.published import Published
from triptych.datasets.splitting import PAPER_CODE, take_held_out, take_paper_code
from triptych.datasets.variants import AUTO, Variant
from triptych.labels.base import Encoding
from triptych.labels.depth import Depth
from triptych.labels.street import VKITTI2_NAMES, VKITTI2_SPACES, street_colors
from triptych.lookup import named_choice
from triptych.types import Camera

NATIVE = (375, 1242)
INTRINSICS = (725.0087, 725.0087, 620.5, 187.0)
"""fx, fy, cx, cy of both cameras, used without an `intrinsic.txt`; pixel centers counted from 0."""
CONDITIONS = (
    *("15-deg-left", "15-deg-right", "30-deg-left", "30-deg-right", "clone"),
    *("fog", "morning", "overcast", "rain", "sunset"),
)
PUBLISHED_CHOICE = (("15-deg-left",), (0,))
"""Conditions and cameras of the published loaders."""

MODALITIES = {
    "rgb": (IMAGE, "rgb"),
    "depth": ("depth", "depth"),
    "classsegmentation": ("semseg", "classgt"),
    "instancesegmentation": (INSTANCES, "instancegt"),
}
"""Folder in lower case to the kind of its files and how their names begin."""

COLORS, INTRINSIC, EXTRINSIC = "colors.txt", "intrinsic.txt", "extrinsic.txt"
COLUMNS = {INTRINSIC: 6, EXTRINSIC: 18}
TEXT = "vkitti_2.0.3_textgt.tar.gz"
COMMON: dict[str, Any] = {
    "download": f"vkitti_2.0.3_rgb.tar, vkitti_2.0.3_depth.tar, vkitti_2.0.3_classSegmentation.tar, "
    f"vkitti_2.0.3_instanceSegmentation.tar (optional) and {TEXT} from Naver Labs Europe",
    "tasks": ("semseg", "depth", "normals", "boundary"),
    "counts": {ALL: 42520},
    "sizes": (NATIVE,),
    "notes": ("Depth is in centimetres; 655.35 m is the sky.", "Frames of a drive are alike: split by scene."),
    "licence": "CC BY-NC-SA 3.0; weights trained on it inherit the question of commercial use",
    "citation": "Cabon, Murray, Humenberger, Virtual KITTI 2, arXiv:2001.10773, 2020",
}


@dataclass(frozen=True)
class VKITTI2Variant(Variant):
    """`drives` is where the folders of the drives lie below the root."""

    drives: str = ""


VARIANTS = (
    VKITTI2Variant(
        "merged",
        "all archives unpacked into one folder",
        markers=("Scene*/*/frames/rgb",),
        drives="Scene*/*",
        **COMMON,
    ),
    VKITTI2Variant(
        "by-archive",
        "a folder for each archive",
        markers=("*rgb/Scene*/*/frames/rgb",),
        drives="*/Scene*/*",
        **COMMON,
    ),
)


class VKITTI2(Published):
    """One split of Virtual KITTI 2; keys are like `Scene01/clone/Camera_0/00000`.

    `split_by="scene"` holds out whole drives (`lists/vkitti2_val_scenes.txt`); `"paper-code"` is the shuffled split of
    the published loaders, which leaks and warns, of their condition and camera unless others are named. `conditions`
    and `cameras` choose some; none named: all. `classes` is 14, or the 8 shared with Cityscapes. Samples have
    intrinsics and, with `extrinsic.txt`, the pose; `instances` adds track ids + 1 (0: none). Normals are derived over
    `reach` pixels to each side: centimetres are coarse for the nearest ones. With `allow_missing` a missing label is an
    all-invalid map.
    """

    name = "vkitti2"
    splits = ("train", "val", ALL)
    empty_hint = "unpack more of the archives, or choose other conditions and cameras"
    frames_hint = "the drive is shorter"
    derived = ("normals",)
    sampling_unit = "drives"
    downloads: ClassVar[dict[str, str]] = {
        "semseg": f"vkitti_2.0.3_classSegmentation.tar and {TEXT}",
        "depth": "vkitti_2.0.3_depth.tar",
    }
    variants: ClassVar[dict[str, VKITTI2Variant]] = {one.name: one for one in VARIANTS}

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "train",
        tasks: Sequence[str] | None = None,
        variant: str = AUTO,
        split_by: str = "scene",
        classes: int | str = 14,
        conditions: Sequence[str] = (),
        cameras: Sequence[int] = (),
        neighbor_frames: Sequence[int] = (),
        instances: bool = False,
        reach: int = 2,
        allow_missing: bool = False,
    ) -> None:
        take = named_choice("split_by of vkitti2", split_by, SPLITS)
        groups = named_choice("label space of vkitti2", str(classes), VKITTI2_SPACES)
        for condition in conditions:
            named_choice("condition of vkitti2", condition, dict.fromkeys(CONDITIONS))
        if split_by == PAPER_CODE:
            conditions, cameras = conditions or PUBLISHED_CHOICE[0], cameras or PUBLISHED_CHOICE[1]
        self.split_by = split_by
        self._find(root, split, variant)
        drives = sorted(drive for drive in self.root.glob(self.variant.drives) if drive.is_dir())
        listing, self.texts = list_drives(drives, conditions, [f"Camera_{number}" for number in cameras])
        keys = take(sorted(listing[IMAGE]), split)
        table = next((texts[COLORS] for texts in self.texts.values() if COLORS in texts), None)
        encodings: dict[str, Encoding] = {}
        if listing["semseg"] and table is not None:
            encodings["semseg"] = street_colors(groups, read_colors(table), table.name)
        if listing["depth"]:
            encodings["depth"] = Depth(unit="cm", invalid=(65535,))
        super().__init__(
            keys,
            split=split,
            listing=listing,
            encodings=encodings,
            tasks=tasks,
            reach=reach,
            neighbor_frames=neighbor_frames,
            instances=instances,
            allow_missing=allow_missing,
        )

    def group(self, index: int) -> str:
        """The drive, which conditions and cameras show again."""
        return self.keys[index].split("/")[0]

    def camera(self, key: str, size: tuple[int, int]) -> Camera:
        drive, camera, frame = key.rsplit("/", 2)
        texts, place = self.texts[drive], (int(frame), int(camera[-1]))
        fx, fy, cx, cy = _row(texts, INTRINSIC, place, INTRINSICS)
        # The files count pixel centers from 0, cameras here from 0.5.
        matrix = torch.tensor([[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1]], dtype=torch.float32)
        to_camera = _row(texts, EXTRINSIC, place, ())
        pose = np.linalg.inv(np.array(to_camera).reshape(4, 4)).astype(np.float32) if to_camera else None
        known = Camera(matrix, None if pose is None else torch.from_numpy(pose))
        return scale_camera(known, NATIVE, size)

    def source_files(self, index: int) -> list[Path]:
        return [*super().source_files(index), *self.texts[self.keys[index].rsplit("/", 2)[0]].values()]


def _take_scenes(keys: Sequence[str], split: str) -> list[str]:
    held_out = set(packaged_lines("vkitti2_val_scenes"))
    return take_held_out(keys, split, lambda key: key.split("/")[0] in held_out)


SPLITS = {"scene": _take_scenes, PAPER_CODE: partial(take_paper_code, name="vkitti2")}
"""Ways to divide the keys, by name."""


def list_drives(
    drives: Sequence[Path], conditions: Sequence[str], cameras: Sequence[str]
) -> tuple[dict[str, dict[str, Path]], dict[str, dict[str, Path]]]:
    """Files by kind and key, and the text files of each drive by name; none chosen: all conditions and cameras."""
    listing: dict[str, dict[str, Path]] = {kind: {} for kind, _ in MODALITIES.values()}
    texts: dict[str, dict[str, Path]] = defaultdict(dict)
    for drive in drives:
        if conditions and drive.name not in conditions:
            continue
        name = f"{drive.parent.name}/{drive.name}"
        texts[name].update({file: drive / file for file in (COLORS, INTRINSIC, EXTRINSIC) if (drive / file).is_file()})
        for folder in sorted(drive.glob("frames/*/Camera_*")):
            if folder.parent.name.lower() in MODALITIES and folder.name in (cameras or [folder.name]):
                kind, start = MODALITIES[folder.parent.name.lower()]
                expression = re.compile(rf"{start}_(\d+)\.(?:png|jpe?g)", re.IGNORECASE)
                for file in sorted(os.listdir(folder)):
                    if match := expression.fullmatch(file):
                        listing[kind][f"{name}/{folder.name}/{match[1]}"] = folder / file
    return listing, texts


def read_colors(path: Path) -> dict[tuple[int, int, int], str]:
    """Names of the colors in a `colors.txt`, written as `VKITTI2_NAMES` are; raises `ValueError` naming a bad line."""
    colors = {}
    for line in read_text(path).splitlines()[1:]:
        match = re.fullmatch(r"(\w+)\s+(\d+)\s+(\d+)\s+(\d+)", line.strip())
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", match[1]).lower() if match else ""
        if match is None or name not in (*VKITTI2_NAMES, "undefined"):
            raise DataError(f"{path} has the line '{line}'", "expected a class of Virtual KITTI 2 and its colour")
        colors[int(match[2]), int(match[3]), int(match[4])] = name
    return colors


def _row(texts: Mapping[str, Path], name: str, place: tuple[int, int], default: tuple[float, ...]) -> tuple[float, ...]:
    """The row of a frame and camera in a text file, where the drive has that file."""
    if name not in texts:
        return default
    rows = _read_rows(texts[name], file_version(texts[name]))
    if place not in rows:
        raise DataError(f"{texts[name]} has no row for frame {place[0]} of camera {place[1]}", f"unpack {TEXT} again")
    return rows[place]


@lru_cache(maxsize=128)
def _read_rows(path: Path, version: Version) -> dict[tuple[int, int], tuple[float, ...]]:
    """(frame, camera) to the numbers that follow, of a text file with a header."""
    try:
        table = np.loadtxt(path, skiprows=1, ndmin=2)
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}", f"unpack {TEXT} again") from error
    if table.shape[1] != COLUMNS[path.name]:
        raise DataError(f"{path} has {table.shape[1]} columns, expected {COLUMNS[path.name]}", f"unpack {TEXT} again")
    return {(int(row[0]), int(row[1])): tuple(row[2:].tolist()) for row in table}
