"""SYNTHIA-RAND-CITYSCAPES (Ros et al., CVPR 2016): 9400 synthetic street scenes labelled in Cityscapes' classes.

Read from the original files: labels are color PNGs of 16 bits, class id in the first channel and instance in the
second; depth is z, centimetres in the first channel, where 655.35 m is the sky and invalid. Normals are not in the
archive; they are computed from depth.
"""

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from triptych.data.arrays import read_array
from triptych.data.errors import DataError
from triptych.data.lists import packaged_lines
from triptych.data.splits import ALL
from triptych.datasets.in_files import IMAGE, INSTANCES, scale_camera
from triptych.datasets.published import Published
from triptych.datasets.splitting import PAPER_CODE, take_held_out, take_paper_code
from triptych.datasets.variants import AUTO, Variant
from triptych.labels.base import Encoding
from triptych.labels.depth import Depth
from triptych.labels.street import SPACES, SYNTHIA_NAMES, street_labels
from triptych.lookup import named_choice
from triptych.types import Camera

NATIVE = (760, 1280)
FOCAL = 532.740352
"""Pixels at the native size; the principal point is the image's center."""

SYNTHIA_SPACES = {name: SPACES[name] for name in ("16", "13", "7")}
FILE = re.compile(r"\d+(?:_PIT)?\.png", re.IGNORECASE)
"""Some copies mark photographs with `_PIT` and their labels without it."""

COMMON: dict[str, Any] = {
    "download": "SYNTHIA_RAND_CITYSCAPES.rar from the SYNTHIA site (registration)",
    "tasks": ("semseg", "depth", "normals", "boundary"),
    "counts": {"train": 7520, "val": 1880, ALL: 9400},
    "sizes": (NATIVE,),
    "licence": "CC BY-NC-SA 3.0",
    "citation": "Ros et al., The SYNTHIA Dataset, CVPR 2016",
}
WIDE = "Labels have 16 bits and several channels: most readers cut them to 8 bits and read nothing but zeros."
ORIGINAL = Variant("original", "the archive, unpacked", markers=("RGB", "GT/LABELS"), notes=(WIDE,), **COMMON)


class Synthia(Published):
    """One split of SYNTHIA-RAND-CITYSCAPES; keys are the numbers of the files.

    `split_by="blocks"` holds out a block of consecutive numbers (`lists/synthia_val_numbers.txt`): the set names no
    scenes. `"paper-code"` is the shuffled split of the published loaders, which leaks and warns. `classes` is 16, 13 or
    7, named and ordered as Cityscapes' are. Samples have intrinsics; `instances` adds the extra of that name (0: none).
    Normals are derived over `reach` pixels to each side: centimetres are coarse for the nearest ones. With
    `allow_missing` a missing label is an all-invalid map.
    """

    name = "synthia"
    splits = ("train", "val", ALL)
    derived = ("normals",)
    downloads: ClassVar[dict[str, str]] = {"semseg": "the folder GT/LABELS", "depth": "the folder Depth"}
    variants: ClassVar[dict[str, Variant]] = {ORIGINAL.name: ORIGINAL}

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "train",
        tasks: Sequence[str] | None = None,
        variant: str = AUTO,
        split_by: str = "blocks",
        classes: int | str = 16,
        instances: bool = False,
        reach: int = 2,
        allow_missing: bool = False,
    ) -> None:
        take = named_choice("split_by of synthia", split_by, SPLITS)
        groups = named_choice("label space of synthia", str(classes), SYNTHIA_SPACES)
        self.split_by = split_by
        self._find(root, split, variant)
        labels = list_numbers(self.root / "GT" / "LABELS")
        listing = {
            IMAGE: list_numbers(self.root / "RGB"),
            "semseg": labels,
            "depth": list_numbers(self.root / "Depth"),
            INSTANCES: labels,
        }
        keys = take(sorted(listing[IMAGE]), split)
        encodings: dict[str, Encoding] = {
            "semseg": street_labels(groups, SYNTHIA_NAMES, "SYNTHIA's class ids, 0 to 22", channel=0),
            "depth": Depth(unit="cm", invalid=(65535,), channel=0),
        }
        super().__init__(
            keys,
            split=split,
            listing=listing,
            encodings={name: encoding for name, encoding in encodings.items() if listing[name]},
            tasks=tasks,
            reach=reach,
            instances=instances,
            allow_missing=allow_missing,
        )

    def camera(self, key: str, size: tuple[int, int]) -> Camera:
        matrix = torch.tensor([[FOCAL, 0, NATIVE[1] / 2], [0, FOCAL, NATIVE[0] / 2], [0, 0, 1]])
        return scale_camera(Camera(matrix), NATIVE, size)

    def read_instances(self, path: Path) -> Tensor:
        stored = read_array(path)
        if stored.ndim != 3:
            raise DataError(f"label {path} has one channel, no instances", "read the original 16-bit labels")
        return torch.from_numpy(stored[..., 1].astype("int64"))


def _take_blocks(keys: Sequence[str], split: str) -> list[str]:
    first, last = (int(number) for number in packaged_lines("synthia_val_numbers")[0].split())
    return take_held_out(keys, split, lambda key: first <= int(key) <= last)


SPLITS = {"blocks": _take_blocks, PAPER_CODE: partial(take_paper_code, name="synthia")}
"""Ways to divide the keys, by name."""


def list_numbers(folder: Path) -> dict[str, Path]:
    """Numbered pictures of a folder by their number; raises `ValueError` where two have the same.

    They may lie one level down in a folder of the same name, as `Depth/Depth` does.
    """
    found: dict[str, Path] = {}
    for path in (*_pictures(folder), *_pictures(folder / folder.name)):
        number = path.stem.split("_")[0]
        if number in found:
            raise DataError(f"{found[number]} and {path} have the same number", f"keep one of them in {folder}")
        found[number] = path
    return found


def _pictures(folder: Path) -> list[Path]:
    names = os.listdir(folder) if folder.is_dir() else []
    return [folder / name for name in sorted(names) if FILE.fullmatch(name)]
