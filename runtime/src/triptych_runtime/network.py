"""A network in an ONNX file that `triptych export` wrote: what it is, and what it predicts."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

from triptych_runtime.pictures import check_range, read_picture, resize_map, resize_picture

KEY = "triptych"
"""Under which key of the file's metadata its description lies, as JSON."""
FORMAT = 1
"""Version of that description."""
_PARTS = {
    "input": ("name", "type", "size", "smallest"),
    "maps": ("name", "kind", "holds", "unit", "type", "layout"),
    "tasks": ("name",),
}
"""What a description must say: of the input, of every map and of every task."""
Picture = str | os.PathLike | Image.Image | np.ndarray


class FileError(ValueError):
    """A file that is no export of Triptych, or one of a version that this package does not know."""


class Network:
    """A network from the file at `path`, run by onnxruntime on a CPU unless other `providers` are given.

    `network(picture)` takes a path, a PIL image or an array `(H, W, 3)` (uint8, or float in [0, 1]) and returns maps at
    its size: class ids `(H, W)` int64, others `(C, H, W)` float32. `metadata` is the file's description: `metadata
    ["maps"]` says what each map holds. `threads` 0 leaves their number to onnxruntime.

    Raises `FileNotFoundError` or `FileError`, in one line.
    """

    def __init__(
        self, path: str | os.PathLike, *, threads: int = 0, providers: Sequence[str] = ("CPUExecutionProvider",)
    ) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"no file {path}; check the path.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(str(self.path), options, providers=list(providers))
        except Exception as error:  # onnxruntime has a class of its own for every kind of damage
            reason = " ".join(str(error).split())[:200]
            raise FileError(
                f"{path} cannot be opened as ONNX ({reason}); give a file that `triptych export` wrote."
            ) from error
        self.metadata = read_metadata(self.session.get_modelmeta().custom_metadata_map, self.path)
        self.names = [entry["name"] for entry in self.metadata["maps"]]
        strange = set(self.names) - {output.name for output in self.session.get_outputs()}
        if strange:
            raise FileError(f"{path} has no map {', '.join(sorted(strange))}, which it describes; export it again.")

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that the network takes; `None` where these are free."""
        size = self.metadata["input"]["size"]
        return None if size is None else (size[0], size[1])

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Maps of a batch `(B, 3, H, W)`, float32 in [0, 1] or uint8: `(B, H, W)` or `(B, C, H, W)`.

        Raises `ValueError` for a size that the file does not allow, and for other values.
        """
        self._check(images)
        kind, batches = self.metadata["input"]["type"], []
        for image in images:
            values = _to_uint8(image) if kind == "uint8" else _to_float(image)
            batches.append(self.session.run(self.names, {self.metadata["input"]["name"]: values[None]}))
        return {name: np.concatenate(maps) for name, maps in zip(self.names, zip(*batches, strict=True), strict=True)}

    def __call__(self, picture: Picture, *, resize: bool = False) -> dict[str, np.ndarray]:
        """Maps of one picture, at its own size.

        With `resize`, a file of one size sees the picture resized to it, and its maps are resized back: class ids by
        the nearest pixel, others as the file says, bilinearly if it does not.
        """
        image = read_picture(picture)
        size = (image.shape[0], image.shape[1])
        resized = resize and self.size is not None and size != self.size
        shown = resize_picture(image, self.size) if resized and self.size is not None else image
        maps = {name: value[0] for name, value in self.run(shown.transpose(2, 0, 1)[None]).items()}
        if not resized:
            return maps
        entries = {entry["name"]: entry for entry in self.metadata["maps"]}
        return {
            name: resize_map(
                value,
                size,
                unit=entries[name]["kind"] == "direction",
                nearest=entries[name].get("interpolation") == "nearest",
            )
            for name, value in maps.items()
        }

    def _check(self, images: np.ndarray) -> None:
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise ValueError(f"images have shape {images.shape}; expected (batch, 3, height, width).")
        if images.dtype != np.uint8 and images.dtype.kind != "f":
            raise ValueError(f"images are {images.dtype}; give uint8, or floats in [0, 1].")
        if images.dtype != np.uint8:
            check_range(images)
        height, width = images.shape[2:]
        if self.size is not None and (height, width) != self.size:
            raise ValueError(
                f"{self.path} takes images of {self.size[0]} x {self.size[1]}, this one has {height} x {width}: resize "
                "it (predict --resize, in Python resize=True), or export the network with --dynamic."
            )
        smallest = self.metadata["input"]["smallest"]
        if min(height, width) < smallest:
            raise ValueError(
                f"{self.path} takes images from {smallest} x {smallest} on, this one has {height} x {width}: enlarge "
                "it."
            )


def read_metadata(stored: dict[str, str], path: Path) -> dict[str, Any]:
    """The description in a file's metadata; `FileError` where there is none, or one of another version."""
    if KEY not in stored:
        raise FileError(
            f"{path} is no export of Triptych: its metadata has no entry '{KEY}'; write one with `triptych export`."
        )
    try:
        metadata = json.loads(stored[KEY])
        version = metadata["format"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise FileError(f"{path}: its description is damaged ({error!r}); export it again.") from error
    if version != FORMAT:
        raise FileError(
            f"{path} has format {version}, this version reads format {FORMAT}; export it again, or install the "
            "triptych-runtime that wrote it."
        )
    missing = dict.fromkeys(
        f"{part}.{key}" if metadata.get(part) else part
        for part, keys in _PARTS.items()
        for entry in _entries(metadata.get(part))
        for key in keys
        if key not in entry
    )
    if missing:
        raise FileError(f"{path}: its description has no {', '.join(missing)}; export it again.")
    for name in (entry["name"] for entry in metadata["maps"]):
        if not isinstance(name, str) or not name or printable(name) != name or set(name) & {"/", "\\"}:
            raise FileError(f"{path} has a map {name!r}, and maps are written to files of their names; do not use it.")
    return metadata


def printable(text: str) -> str:
    r"""Text whose control characters are spelled out, which a received file could move the cursor of a terminal with.

    >>> print(printable("a\x1b]0;title\x07"))
    a\x1b]0;title\x07
    """
    return re.sub(r"[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", lambda mark: ascii(mark[0])[1:-1], text)


def _entries(part: Any) -> list[dict[str, Any]]:
    entries = (part if isinstance(part, list) else [part]) or [None]
    return [entry if isinstance(entry, dict) else {} for entry in entries]


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _to_float(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / 255 if image.dtype == np.uint8 else image.astype(np.float32, copy=False)
