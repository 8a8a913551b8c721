"""Folders in the file format of Taskonomy (Zamir et al., CVPR 2018) and Omnidata (Eftekhar et al., ICCV 2021).

One file per label, `point_P_view_V_domain_LABEL.png`, in any of the layouts in circulation. Depth counts steps
of 1/512 m, 65535 is missing; `depth_zbuffer` is z, `depth_euclidean` the length of the ray, which becomes z where the
field of view is known. Normals are 8-bit RGB in the camera frame of this library, grey where missing. Semantic color
codes differ from component to component and are not read.
"""

import csv
import hashlib
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from triptych.data.arrays import read_array
from triptych.data.cameras import focal_length
from triptych.data.errors import DataError
from triptych.data.files import walk_files
from triptych.data.lists import read_text
from triptych.data.splits import ALL
from triptych.datasets.in_files import IMAGE
from triptych.datasets.published import Published
from triptych.datasets.variants import AUTO, Variant
from triptych.labels.base import Encoding
from triptych.labels.depth import Depth
from triptych.labels.masks import BoundaryMask
from triptych.labels.normals import Normals
from triptych.lookup import named_choice, parse_json
from triptych.types import Camera, Sample

STEP = 1 / 512
"""Metres in a step of depth."""
UNSCALED = ("hm3d",)
"""Components whose step of depth is undocumented: they were written with a shorter range."""

FILE = re.compile(r"(?P<view>point_\d+_view_\d+)_domain_(?P<domain>\w+)\.(?:png|jpe?g|json)", re.IGNORECASE)
KINDS = {
    "rgb": IMAGE,
    "depth_zbuffer": "depth",
    "depth_euclidean": "distance",
    "normal": "normals",
    "edge_occlusion": "boundary",
    "mask_valid": "mask",
    "point_info": "point_info",
    "fixatedpose": "point_info",
}
"""Label, as folders and files name it, to the kind of its files."""

VIEW = "point_*_view_*_domain_rgb.png"
COMMON: dict[str, Any] = {
    "download": "components of Omnidata with omnitools.download: rgb, normal, depth_zbuffer, mask_valid, point_info",
    "tasks": ("depth", "normals", "boundary"),
    "notes": (
        "depth_euclidean is the length of the ray, not z.",
        "The step of HM3D's depth is not stated; its depth is left out unless unscaled=() is passed.",
        "Some files of Taskonomy are damaged at their source; training can skip them.",
    ),
    "licence": "Omnidata end user agreement: non-commercial research and education, no redistribution",
    "citation": "Eftekhar et al., Omnidata, ICCV 2021; Zamir et al., Taskonomy, CVPR 2018",
}
VARIANTS = (
    Variant("omnidata", "label / component / building", markers=(f"rgb/*/*/{VIEW}",), **COMMON),
    Variant("by-label", "label / building", markers=(f"rgb/*/{VIEW}",), **COMMON),
    Variant("by-building", "building / label", markers=(f"*/rgb/{VIEW}",), **COMMON),
    Variant("flat", "all labels side by side in a folder for each building", markers=(f"*/{VIEW}",), **COMMON),
)


class Omnidata(Published):
    """One split of a folder in the Omnidata or Taskonomy format; keys look like `taskonomy/allensville/point_0_view_1`.

    Buildings are kept whole: `split_list` is a CSV file as Taskonomy publishes (columns id, train, val, test);
    `validation` names those that are held out; with neither it is a tenth, by a hash of the name (more downloads move
    no building), or, where that is none, one building. `fov` is the horizontal field of view in degrees where no
    `point_info` file tells it. Components named in `unscaled` have no depth, because their step is unknown; `step` is
    that of the others in metres. `boundary_threshold` makes boundaries of the strengths in `edge_occlusion`; there are
    none without it, as no threshold is documented. A missing label is an all-invalid map, unless `allow_missing` is
    false.
    """

    name = "omnidata"
    sampling_unit = "buildings"
    downloads: ClassVar[dict[str, str]] = {
        "depth": "the label depth_zbuffer (or depth_euclidean)",
        "normals": "the label normal",
        "boundary": "the label edge_occlusion, and a boundary_threshold",
    }
    variants: ClassVar[dict[str, Variant]] = {one.name: one for one in VARIANTS}

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "train",
        tasks: Sequence[str] | None = None,
        variant: str = AUTO,
        split_list: str = "",
        validation: Sequence[str] = (),
        fov: float | int = 0.0,
        step: float = STEP,
        unscaled: Sequence[str] = UNSCALED,
        boundary_threshold: int = 0,
        allow_missing: bool = True,
    ) -> None:
        splits = ("train", "val", *(("test",) if split_list else ()), ALL)
        named_choice("split of omnidata", split, dict.fromkeys(splits))
        self._find(root, split, variant)
        listing = list_views(self.root)
        self.fov, self.unscaled, self.distances = fov, tuple(unscaled), listing["distance"]
        self.masks, self.infos = listing["mask"], listing["point_info"]
        listing["depth"] = {**self.distances, **listing["depth"]}
        member = _members({_building(key) for key in listing[IMAGE]}, split_list, validation)
        keys = [key for key in sorted(listing[IMAGE]) if split in (ALL, member.get(_building(key)))]
        if not keys:
            raise DataError(
                f"split '{split}' of omnidata has none of the {len(member)} buildings in {self.root}",
                "name some in validation, give a split_list, or read split 'all'",
                missing=True,
            )
        encodings: dict[str, Encoding] = {"depth": Depth(scale=step, invalid=(65535,)), "normals": Normals()}
        if boundary_threshold:
            encodings["boundary"] = BoundaryMask(threshold=boundary_threshold)
        super().__init__(
            keys,
            split=split,
            listing=listing,
            encodings={name: encoding for name, encoding in encodings.items() if listing[name]},
            tasks=tasks,
            allow_missing=allow_missing,
        )

    def group(self, index: int) -> str:
        return _building(self.keys[index])

    def camera(self, key: str, size: tuple[int, int]) -> Camera | None:
        angle = _field_of_view(self.infos[key]) if key in self.infos else math.radians(self.fov)
        if not angle:
            return None
        height, width = size
        focal = focal_length(width, angle)
        return Camera(torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]))

    def source_files(self, index: int) -> list[Path]:
        beside = (kind.get(self.keys[index]) for kind in (self.masks, self.infos))
        return [*super().source_files(index), *(path for path in beside if path)]

    def inputs(self) -> dict[str, object]:
        """Inputs with the options of cameras and depth steps."""
        return super().inputs() | {"fov": self.fov, "unscaled": self.unscaled}

    def encoding(self, name: str, key: str) -> Encoding | None:
        found = self.encodings[name]
        if not isinstance(found, Depth):
            return found
        if set(self.unscaled) & set(key.split("/")):
            return None
        if self.listing[name].get(key) != self.distances.get(key):
            return found
        # The length of a ray is no depth where the camera is unknown.
        return replace(found, kind="distance") if key in self.infos or self.fov else None

    def read(self, key: str) -> Sample:
        sample = super().read(key)
        if key not in self.masks:
            return sample
        unknown = torch.from_numpy(read_array(self.masks[key]) == 0)
        targets = {name: target.masked_fill(unknown, torch.nan) for name, target in sample.targets.items()}
        return replace(sample, targets=targets)


def list_views(root: Path) -> dict[str, dict[str, Path]]:
    """List files by kind and key; the kind is that of a folder named like a label, else of the file name."""
    listing: dict[str, dict[str, Path]] = {kind: {} for kind in KINDS.values()}
    for path in walk_files(root):
        match = FILE.fullmatch(path.name)
        if match is None:
            continue
        folders = path.relative_to(root).parts[:-1]
        labels = [folder for folder in folders if folder.lower() in KINDS]
        kind = KINDS.get((labels[-1] if labels else match["domain"]).lower())
        if kind:
            place = [folder for folder in folders if folder not in labels]
            listing[kind]["/".join([*place, match["view"].lower()])] = path
    return listing


def _building(key: str) -> str:
    return key.split("/")[-2] if "/" in key else ""


def _members(buildings: set[str], split_list: str, validation: Sequence[str]) -> dict[str, str]:
    """The split of each building."""
    if split_list:
        return dict(_read_split_list(Path(split_list)))
    for name in validation:
        named_choice("building", name, dict.fromkeys(sorted(buildings)))
    drawn = {name for name in buildings if _draw(name) < 0.1} or set(sorted(buildings, key=_draw)[:1])
    held_out = set(validation) or (drawn if len(buildings) > 1 else set())
    return {name: "val" if name in held_out else "train" for name in buildings}


def _draw(name: str) -> float:
    """Hash a name to [0, 1), so that further downloads do not move buildings to another split."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) / 2**48


def _read_split_list(path: Path) -> Iterator[tuple[str, str]]:
    rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    if not rows or not {"id", "train", "val"} <= set(rows[0]):
        raise ValueError(f"split_list {path} is not a table of buildings with the columns id, train, val and test.")
    yield from ((row["id"], split) for row in rows for split in ("train", "val", "test") if row.get(split) == "1")


def _field_of_view(path: Path) -> float:
    """Horizontal field of view in radians; raises `ValueError` naming a file without it."""
    try:
        return float(parse_json(path.read_text(encoding="utf-8"))["field_of_view_rads"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} does not tell field_of_view_rads ({error!r})", "download point_info again") from error
