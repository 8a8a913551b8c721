"""Files of rendered scenes: records of frames in a `.npy`, written whole and read with checks."""

import hashlib
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np

from triptych.files import written_whole


def frame_type(size: tuple[int, int]) -> np.dtype:
    """The record of one frame: planes of `size`, camera, and a CRC-32 of all bytes before it.

    Depth is in metres; normals are in 1/32767; the pose is camera to world; pixel centers are at integer + 0.5.

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
    """Write a file whole or not at all, in a folder that may not exist yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        partial.write_bytes(content)


def _header(kind: np.dtype, count: int) -> bytes:
    """The header of a `.npy` file of `count` records."""
    buffer = BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


def write_scene(path: Path, records: np.ndarray) -> str:
    """Write the frames of a scene; returns the SHA-256 of the file."""
    content = _header(records.dtype, len(records)) + records.tobytes()
    write_whole(path, content)
    return hashlib.sha256(content).hexdigest()


def read_frame(path: Path, kind: np.dtype, count: int, number: int) -> np.void:
    """Frame `number` of a scene file of `count` frames, a record; `ValueError` names a missing or damaged file."""
    try:
        with path.open("rb") as file:
            file.seek(len(_header(kind, count)) + number * kind.itemsize)
            content = file.read(kind.itemsize)
    except FileNotFoundError:
        raise ValueError(f"generated scene {path} is missing; open the dataset again to generate it.") from None
    if len(content) != kind.itemsize:
        raise ValueError(_damaged(path, "it is cut short"))
    record = np.frombuffer(content, kind)[0]
    if zlib.crc32(content[:-4]) != int(record["checksum"]):
        raise ValueError(_damaged(path, f"frame {number} does not match its checksum"))
    return record


def check_size(path: Path, kind: np.dtype, count: int) -> None:
    """Raise `ValueError` if a scene file has not the size of `count` frames."""
    size, expected = path.stat().st_size, len(_header(kind, count)) + count * kind.itemsize
    if size != expected:
        raise ValueError(_damaged(path, f"it has {size} bytes, not {expected}"))


def _damaged(path: Path, reason: str) -> str:
    return f"generated scene {path} is damaged: {reason}; delete it and open the dataset again to generate it."


def sound_scene(path: Path, kind: np.dtype, count: int) -> bool:
    """Whether a scene file is there, whole and undamaged."""
    try:
        check_size(path, kind, count)
        for number in range(count):
            read_frame(path, kind, count, number)
    except (OSError, ValueError):
        return False
    return True
