"""Frames on disk: one `.npy` file per scene, a manifest with checksums, and their atomic writing and checked reading."""

import hashlib
import json
import os
import zlib
from pathlib import Path

import numpy as np

MANIFEST = "manifest.json"


def frame_type(size: tuple[int, int]) -> np.dtype:
    """The record of one frame: planes of `size`, camera, and a CRC-32 of all bytes before it.

    Depth is in metres; normals are in 1/32767; the pose is camera to world; pixel centres are at integer + 0.5.

    >>> frame_type((96, 128)).itemsize
    221388
    """
    return np.dtype(
        [
            ("intrinsics", "<f8", (3, 3)),
            ("pose", "<f8", (4, 4)),
            ("depth", "<f4", size),
            ("normals", "<i2", (3, *size)),
            ("image", "u1", (3, *size)),
            ("semseg", "u1", size),
            ("instances", "u1", size),
            ("human_parts", "u1", size),
            ("saliency", "u1", size),
            ("boundary", "u1", size),
            ("checksum", "<u4"),
        ]
    )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def header(kind: np.dtype, count: int) -> bytes:
    """The header of a `.npy` file of `count` records."""
    from io import BytesIO

    buffer = BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (count,)}
    )
    return buffer.getvalue()


def write_scene(path: Path, records: np.ndarray) -> str:
    """Write the frames of a scene; returns the SHA-256 of the file."""
    content = header(records.dtype, len(records)) + records.tobytes()
    write_whole(path, content)
    return hashlib.sha256(content).hexdigest()


def read_frame(path: Path, kind: np.dtype, count: int, number: int) -> np.ndarray:
    """Frame `number` of a scene file of `count` frames. Raises `ValueError` that names a damaged file and says what to do."""
    try:
        with path.open("rb") as file:
            file.seek(len(header(kind, count)) + number * kind.itemsize)
            content = file.read(kind.itemsize)
    except FileNotFoundError:
        raise ValueError(f"generated scene {path} is missing; open the dataset again to generate it.") from None
    if len(content) == kind.itemsize:
        record = np.frombuffer(content, kind)[0]
        if zlib.crc32(content[:-4]) == int(record["checksum"]):
            return record
    raise ValueError(
        f"generated scene {path} is damaged (frame {number}); delete it and open the dataset again to generate it."
    )


def sound_scene(path: Path, kind: np.dtype, count: int) -> bool:
    """Whether a scene file is there, whole and undamaged."""
    try:
        if path.stat().st_size != len(header(kind, count)) + count * kind.itemsize:
            return False
        for number in range(count):
            read_frame(path, kind, count, number)
    except (OSError, ValueError):
        return False
    return True


def read_manifest(folder: Path) -> dict[str, str]:
    """Scene files of a folder that are known to be complete, with their SHA-256; empty where there is no readable manifest."""
    try:
        return dict(json.loads((folder / MANIFEST).read_text())["scenes"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
