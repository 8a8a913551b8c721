"""`dataset.toml`: what lies where in a folder of the user's own data, and what its numbers mean.

The reference of all options is docs/own-data.md.
"""

import dataclasses
import json
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from triptych.choices import named_choice
from triptych.datasets.class_encodings import BoundaryMask, Labels
from triptych.datasets.encoding import Encoding
from triptych.datasets.encodings import ENCODINGS
from triptych.types import Camera

FILE_NAME = "dataset.toml"


@dataclass(frozen=True)
class CameraFiles:
    """`[camera]`: one camera for all images, a field of view, or a file per image."""

    intrinsics: tuple[float | int, ...] = ()
    """fx, fy, cx, cy in pixels."""
    size: tuple[int, ...] = ()
    """(height, width) of the images that `intrinsics` belong to; others are scaled. Empty: those of the dataset."""
    fov: float = 0.0
    """Horizontal field of view in degrees; square pixels, principal point in the middle."""
    files: str = ""
    """Pattern of a file per image: fx fy cx cy or a 3x3 matrix as text, .npy or .json."""
    pixel_centers: Literal["half", "integer"] = "half"
    """Where the centre of the first pixel lies: 0.5, or 0 as OpenCV's calibration has it."""

    def __post_init__(self) -> None:
        given = [name for name in ("intrinsics", "fov", "files") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"give exactly one of intrinsics, fov and files, not {given or 'none'}.")
        if self.intrinsics and len(self.intrinsics) != 4:
            raise ValueError(f"intrinsics is {list(self.intrinsics)}; give fx, fy, cx, cy in pixels.")
        if self.size and len(self.size) != 2:
            raise ValueError(f"size is {list(self.size)}; give (height, width).")
        named_choice("pixel_centers", self.pixel_centers, {"half": 0, "integer": 0})

    def camera(self, size: tuple[int, int], path: Path | None) -> Camera | None:
        """The camera of an image of `size`; `path` is its own file, where there are files."""
        height, width = size
        if self.fov:
            focal = width / 2 / math.tan(math.radians(self.fov) / 2)
            return _pinhole(focal, focal, width / 2, height / 2)
        if self.files:
            if path is None:
                return None
            fx, fy, cx, cy = _read_intrinsics(path)
        else:
            fx, fy, cx, cy = self.intrinsics
        shift = {"half": 0.0, "integer": 0.5}[self.pixel_centers]
        y, x = (height / self.size[0], width / self.size[1]) if self.size else (1.0, 1.0)
        return _pinhole(fx * x, fy * y, (cx + shift) * x, (cy + shift) * y)


def _pinhole(fx: float, fy: float, cx: float, cy: float) -> Camera:
    return Camera(torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], dtype=torch.float32))


def _read_intrinsics(path: Path) -> tuple[float, float, float, float]:
    try:
        if path.suffix.lower() == ".json":
            values = json.loads(path.read_text())
            if isinstance(values, dict):
                values = [values[name] for name in ("fx", "fy", "cx", "cy")]
        else:
            values = np.load(path, allow_pickle=False) if path.suffix.lower() == ".npy" else np.loadtxt(path)
        values = np.asarray(values, np.float64)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"camera file {path} cannot be read: {error}; expected fx fy cx cy or a 3x3 matrix."
        ) from error
    if values.size == 4:
        fx, fy, cx, cy = values.ravel()
    elif values.size in (9, 16):
        matrix = values.reshape(math.isqrt(values.size), -1)
        fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    else:
        raise ValueError(f"camera file {path} holds {values.size} numbers; expected fx fy cx cy or a 3x3 matrix.")
    return float(fx), float(fy), float(cx), float(cy)


@dataclass(frozen=True)
class Descriptor:
    """A `dataset.toml` as values."""

    path: Path
    """The file itself, or the folder that was looked at without one."""
    root: Path
    name: str
    images: str
    """Pattern of the image files."""
    tasks: dict[str, Encoding]
    splits: dict[str, str | float] = field(default_factory=dict)
    """Name of a split to the folder that `{split}` stands for, a list of keys (.txt), or a share of the images."""
    group: Literal["file", "folder"] = "file"
    """What a split by shares keeps together: nothing, or the images of one folder (frames of one video)."""
    camera: CameraFiles | None = None

    @property
    def has_shares(self) -> bool:
        """Whether splits are shares of the images."""
        return any(not isinstance(value, str) for value in self.splits.values())

    @property
    def has_split_folders(self) -> bool:
        """Whether images lie in folders by split."""
        return "{split}" in self.images


def read_descriptor(path: Path, *, root: str | Path = "") -> Descriptor:
    """Read a `dataset.toml`; `root` replaces the folder that it names.

    Raises `ValueError` for anything that is not understood, naming the section, the option and what is accepted.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}.") from error
    try:
        return parse_descriptor(data, path, root=root)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_descriptor(data: Mapping[str, Any], path: Path, *, root: str | Path = "") -> Descriptor:
    """The descriptor that a TOML document `data` describes; relative folders start at the file's own."""
    known = dict.fromkeys(("name", "root", "group", "images", "splits", "camera", "tasks"))
    for section in data:
        named_choice("section", section, known)
    images = data.get("images", {}).get("files", "")
    if not images:
        raise ValueError('[images] names no files; add files = "images/{split}/{key}.*".')
    encodings = {name: _build_task(name, dict(table)) for name, table in data.get("tasks", {}).items()}
    if not encodings and "camera" not in data:
        raise ValueError("no task is described; add a section such as [tasks.depth], or [camera] for frames of videos.")
    for name, encoding in encodings.items():
        source = getattr(encoding, "source", "")
        if source and not isinstance(encodings.get(source), Labels):
            raise ValueError(f"[tasks.{name}]: from = '{source}' is no label task of this file.")
    base = path.parent if path.suffix == ".toml" else path
    place = Path(root) if root else base / data.get("root", ".")
    camera = data.get("camera")
    group = data.get("group", "file")
    named_choice("group", group, {"file": 0, "folder": 0})
    return Descriptor(
        path=path,
        root=place,
        name=str(data.get("name", place.resolve().name)),
        images=images,
        tasks=encodings,
        splits=_check_splits(data.get("splits", {}), images),
        group=group,
        camera=_build(CameraFiles, camera, "[camera]") if camera else None,
    )


def _check_splits(splits: Mapping[str, Any], images: str) -> dict[str, str | float]:
    shares = {name: value for name, value in splits.items() if isinstance(value, int | float)}
    wrong = [value for value in splits.values() if not isinstance(value, str | int | float)]
    if wrong or (shares and len(shares) < len(splits)):
        raise ValueError("[splits] gives folders or .txt lists for all splits, or shares such as 0.1 for all of them.")
    if shares and (min(shares.values()) < 0 or sum(shares.values()) > 1 or "train" in shares):
        raise ValueError("[splits] gives shares of the other splits that sum to at most 1; train is the rest.")
    for name, value in splits.items():
        if isinstance(value, str) and not value.endswith(".txt") and "{split}" not in images:
            raise ValueError(
                f"[splits] {name} = '{value}' is a folder, but [images] files = '{images}' has no {{split}} for it."
            )
    if shares and "{split}" in images:
        raise ValueError(f"[splits] gives shares, but [images] files = '{images}' has folders by split already.")
    return dict(splits)


def _build_task(name: str, table: dict[str, Any]) -> Encoding:
    kind = table.pop("type", name)
    where = f"[tasks.{name}]"
    try:
        encoding = named_choice("kind of task", kind, ENCODINGS)
    except ValueError as error:
        raise ValueError(f"{where}: {error} Set type to one of these for a task of your own name.") from error
    if name != kind and kind != "semseg":
        raise ValueError(f"{where}: only tasks of type semseg can have a name of their own; call it {kind}.")
    if "from" in table:
        table["source"] = table.pop("from")
    task = _build(encoding, table, where)
    if not task.files and not (isinstance(task, BoundaryMask) and task.source):
        raise ValueError(f'{where} names no files; add files = "{name}/{{split}}/{{key}}.*".')
    return task


def _build(cls: Any, table: Mapping[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(cls)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    try:
        for option in table:
            named_choice("option", option, fields)
        return cls(**{option: _convert(option, value, fields[option]) for option, value in table.items()})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error


def _convert(option: str, value: Any, hint: Any) -> Any:
    """A TOML value as the type of its option; numbers may be written as fractions, "1/256"."""
    accepted = _types(hint)
    if isinstance(value, list) and tuple in accepted:
        return tuple(tuple(item) if isinstance(item, list) else item for item in value)
    if isinstance(value, str) and float in accepted and str not in accepted:
        try:
            return float(Fraction(value))
        except (ValueError, ZeroDivisionError):
            pass
    if isinstance(value, int) and float in accepted and not isinstance(value, bool):
        return value if int in accepted else float(value)
    if not isinstance(value, tuple(accepted)) or (isinstance(value, bool) and bool not in accepted):
        names = sorted(_TOML_NAMES.get(kind, kind.__name__) for kind in accepted)
        raise ValueError(f"{option} is {value!r}; expected {' or '.join(names)}.")
    return value


_TOML_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
    dict: "a table",
}


def _types(hint: Any) -> set[type]:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return set().union(*(_types(part) for part in typing.get_args(hint))) - {type(None)}
    if origin is Literal:
        return {str}
    return {dict if origin is Mapping or hasattr(origin, "keys") else origin or hint}
