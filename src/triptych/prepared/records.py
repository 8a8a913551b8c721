"""Records of prepared samples: each sample with its neighbors in one piece of bytes, read at once, and a checksum.

A record is `MAGIC`, the CRC-32 of what follows it, the length of a JSON header, the header (keys and fields), and the
arrays, each at a multiple of 8 bytes. A file of records is a sequence of them; their offsets are in the manifest.

Each array gets the first code of `CODES` that reproduces it exactly, which is tested when it is written, so that no
unit or scale is assumed: 8-bit photographs as bytes, whole numbers in the smallest type that holds them, other arrays
with few different vectors (boundaries, depth of 8 or 16 bits, normals of 8 bits, NaN included) as a table and an index,
and the rest unchanged. Contents that deflate makes at least `WORTH` times smaller are deflated too: label maps and
boundaries, which then inflate about as fast as they would be read; photographs, depth and normals gain too little.
"""

import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from triptych.types import Camera, Sample

WORTH = 4
"""Least factor in size at which deflating is worth its time."""
LARGEST_TABLE = 65536


@dataclass(frozen=True)
class StoredField:
    """One stored array: its type and shape, its code, the stored type, and its place in the record."""

    code: str
    dtype: str
    shape: tuple[int, ...]
    stored: str
    table: int
    """Entries of the table; 0 for codes without one."""
    deflated: bool
    offset: int
    size: int


Stored = tuple[np.ndarray, np.ndarray | None]
"""Stored values of an array, and the table they index."""


def _as_bytes(array: np.ndarray) -> Stored | None:
    """Encode multiples of 1/255 in float32, the values of 8-bit photographs, as bytes."""
    if array.dtype != np.float32 or not array.size or not 0 <= array.min() <= array.max() <= 1:
        return None
    return np.rint(array * 255).astype(np.uint8), None


def _as_whole(array: np.ndarray) -> Stored | None:
    """Encode whole numbers in the smallest type that holds them."""
    if array.dtype.kind not in "iu" or array.size == 0:
        return None
    low, high = int(array.min()), int(array.max())
    small = next(kind for kind in "BHbhIiQq" if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return array.astype(small), None


def _as_table(array: np.ndarray) -> Stored | None:
    """Encode a map `(channels, height, width)` as a table of its different vectors and an index per pixel."""
    if array.dtype != np.float32 or array.ndim != 3 or array.size == 0:
        return None
    bits = np.ascontiguousarray(array).view(np.uint32).reshape(len(array), -1)
    # One hash per vector, with an odd factor per channel: should different vectors have equal hashes, decoding does not
    # reproduce the array, and it is stored with another code.
    factors = np.uint64(0x9E3779B97F4A7C15) ** np.arange(1, len(bits) + 1, dtype=np.uint64)
    names = (bits * factors[:, None]).sum(axis=0, dtype=np.uint64)
    _, first, index = np.unique(names, return_index=True, return_inverse=True)
    if len(first) > LARGEST_TABLE:
        return None
    small = np.uint8 if len(first) <= 256 else np.uint16
    return index.astype(small).reshape(array.shape[1:]), array.reshape(len(array), -1)[:, first]


def _from_table(stored: np.ndarray, table: np.ndarray | None, field: StoredField) -> np.ndarray:
    assert table is not None
    index = stored.astype(np.intp) if len(table) > 1 else stored
    return np.stack([channel.take(index, mode="clip") for channel in table]).reshape(field.shape)


def _as_is(array: np.ndarray) -> Stored | None:
    return array, None


Encode = Callable[[np.ndarray], Stored | None]
Decode = Callable[[np.ndarray, np.ndarray | None, StoredField], np.ndarray]

CODES: dict[str, tuple[Encode, Decode]] = {
    "bytes": (_as_bytes, lambda stored, table, field: np.divide(stored, np.float32(255), dtype=np.float32)),
    "whole": (_as_whole, lambda stored, table, field: stored.astype(field.dtype)),
    "table": (_as_table, _from_table),
    "plain": (_as_is, lambda stored, table, field: stored.copy()),
}
"""Codes of arrays, the smallest first."""


def encode_array(array: np.ndarray, offset: int) -> tuple[StoredField, bytes]:
    """Encode an array with the first code that reproduces it bit for bit; its content will be stored at `offset`.

    >>> field, content = encode_array(np.tile(np.array([0.0, 1.0, np.nan], np.float32), (1, 4, 1)), 0)
    >>> field.code, field.table, len(content)
    ('table', 3, 24)
    """
    for code, (encode, _) in CODES.items():
        found = encode(array) if array.ndim else _as_is(array)
        if found is None:
            continue
        stored, table = found
        content = (b"" if table is None else table.tobytes()) + stored.tobytes()
        if len(content) >= array.nbytes and code != "plain":
            continue
        packed = _deflate(content)
        field = StoredField(
            code=code,
            dtype=array.dtype.str,
            shape=array.shape,
            stored=stored.dtype.str,
            table=0 if table is None else table.shape[1],
            deflated=packed is not None,
            offset=offset,
            size=len(packed or content),
        )
        if code == "plain" or decode_array(field, packed or content).tobytes() == array.tobytes():
            return field, packed or content
    raise AssertionError("every array can be stored as it is")


def _deflate(content: bytes) -> bytes | None:
    """Deflate content where that is worth it; for most photographs a piece from the middle shows that it is not."""
    piece = content[len(content) // 2 :][:65536]
    if len(zlib.compress(piece, 1)) * WORTH > 2 * len(piece):
        return None
    packed = zlib.compress(content, 1)
    return packed if len(packed) * WORTH <= len(content) else None


def decode_array(field: StoredField, content: bytes | memoryview) -> np.ndarray:
    """The array that `encode_array` stored, writable.

    >>> decode_array(*encode_array(np.arange(3), 0)).tolist()
    [0, 1, 2]
    """
    data = memoryview(zlib.decompress(content) if field.deflated else content)
    table = None
    if field.table:
        width = np.dtype(field.dtype).itemsize * field.shape[0] * field.table
        table = np.frombuffer(data[:width], field.dtype).reshape(field.shape[0], field.table)
        data = data[width:]
    stored = np.frombuffer(data, field.stored)
    shape = field.shape[1:] if field.table else field.shape
    return CODES[field.code][1](stored.reshape(shape), table, field)


MAGIC = b"TRIPTYC1"
_HEAD = struct.Struct("<8sII")


def pack_sample(sample: Sample, tasks: Sequence[str]) -> bytes:
    """The record of a sample, with the targets of `tasks` alone, and of its neighbors, with those that they have."""
    fields, content = {}, b""
    for view, each in enumerate((sample, *sample.neighbors)):
        known = [name for name in tasks if view == 0 or name in each.targets]
        for name, tensor in _tensors(each, known).items():
            field, data = encode_array(tensor.contiguous().numpy(), len(content))
            fields[f"{view}/{name}"] = asdict(field)
            content += data + b"\0" * (-len(data) % 8)
    keys = [str(each.key) for each in (sample, *sample.neighbors)]
    header = json.dumps({"keys": keys, "fields": fields}).encode()
    header += b" " * (-(len(header) + _HEAD.size) % 8)
    checksum = zlib.crc32(content, zlib.crc32(header))
    return _HEAD.pack(MAGIC, checksum, len(header)) + header + content


def _tensors(sample: Sample, tasks: Sequence[str]) -> dict[str, Tensor]:
    """Tensors of a sample, by name."""
    tensors = {"image": sample.image} | {f"targets/{name}": sample.targets[name] for name in tasks}
    tensors |= {f"extras/{name}": extra for name, extra in sample.extras.items()}
    if sample.camera is not None:
        tensors["camera/intrinsics"] = sample.camera.intrinsics
        if sample.camera.pose is not None:
            tensors["camera/pose"] = sample.camera.pose
    return tensors


def unpack_sample(record: bytes, tasks: Sequence[str]) -> Sample:
    """The sample of a record, with the targets of `tasks` alone; raises `ValueError` with the reason if it is
    damaged.
    """
    view = memoryview(record)
    if len(view) < _HEAD.size:
        raise ValueError("it is cut short")
    magic, checksum, length = _HEAD.unpack(view[: _HEAD.size])
    if magic != MAGIC:
        raise ValueError("it does not start as a record")
    if zlib.crc32(view[_HEAD.size :]) != checksum:
        raise ValueError("its checksum is wrong")
    header = json.loads(bytes(view[_HEAD.size : _HEAD.size + length]))
    content = view[_HEAD.size + length :]
    left_out = {name for name in header["fields"] if "/targets/" in name and name.split("/", 2)[2] not in tasks}
    tensors: dict[str, Tensor] = {}
    for name, values in header["fields"].items():
        if name not in left_out:
            field = StoredField(**{**values, "shape": tuple(values["shape"])})
            array = decode_array(field, content[field.offset : field.offset + field.size])
            tensors[name] = torch.from_numpy(array)
    first, *others = (_sample(tensors, f"{view}/", key, tasks) for view, key in enumerate(header["keys"]))
    return replace(first, neighbors=tuple(others))


def _sample(tensors: Mapping[str, Tensor], start: str, key: str, tasks: Sequence[str]) -> Sample:
    own = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
    intrinsics = own.get("camera/intrinsics")
    return Sample(
        image=own["image"],
        targets={name: own[f"targets/{name}"] for name in tasks if f"targets/{name}" in own},
        key=key,
        camera=None if intrinsics is None else Camera(intrinsics, own.get("camera/pose")),
        extras={name.removeprefix("extras/"): tensor for name, tensor in own.items() if name.startswith("extras/")},
    )


def read_record(path: Path, offset: int, length: int) -> bytes:
    """The bytes of a record, in one read."""
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        return file.read(length)
