"""One record per image: a sample with its neighbours in one piece of bytes, so that one read brings it, and a checksum.

A record is `MAGIC`, the CRC-32 of what follows it, the length of a JSON header, the header (keys and fields), and the
arrays, each at a multiple of 8 bytes. A file of records is a row of them; where each one lies stands in the manifest.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from triptych.prepared.fields import Field, decode_array, encode_array
from triptych.types import Camera, Sample

MAGIC = b"TRIPTYC1"
_HEAD = struct.Struct("<8sII")


def pack_sample(sample: Sample, tasks: Sequence[str]) -> bytes:
    """The record of a sample and its neighbours, with the targets of `tasks` alone."""
    fields, content = {}, b""
    for view, each in enumerate((sample, *sample.neighbours)):
        for name, tensor in _tensors(each, tasks).items():
            field, data = encode_array(tensor.contiguous().numpy(), len(content))
            fields[f"{view}/{name}"] = field.to_json()
            content += data + b"\0" * (-len(data) % 8)
    keys = [str(each.key) for each in (sample, *sample.neighbours)]
    header = json.dumps({"keys": keys, "fields": fields}).encode()
    header += b" " * (-(len(header) + _HEAD.size) % 8)
    checksum = zlib.crc32(content, zlib.crc32(header))
    return _HEAD.pack(MAGIC, checksum, len(header)) + header + content


def _tensors(sample: Sample, tasks: Sequence[str]) -> dict[str, Tensor]:
    """What a sample consists of, by name."""
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
            field = Field.from_json(values)
            array = decode_array(field, content[field.offset : field.offset + field.size])
            tensors[name] = torch.from_numpy(array)
    first, *others = (_sample(tensors, f"{view}/", key, tasks) for view, key in enumerate(header["keys"]))
    return replace(first, neighbours=tuple(others))


def _sample(tensors: Mapping[str, Tensor], start: str, key: str, tasks: Sequence[str]) -> Sample:
    own = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
    intrinsics = own.get("camera/intrinsics")
    return Sample(
        image=own["image"],
        targets={name: own[f"targets/{name}"] for name in tasks},
        key=key,
        camera=None if intrinsics is None else Camera(intrinsics, own.get("camera/pose")),
        extras={name.removeprefix("extras/"): tensor for name, tensor in own.items() if name.startswith("extras/")},
    )


def read_record(path: Path, offset: int, length: int) -> bytes:
    """The bytes of a record, in one read."""
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        return file.read(length)


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """Write a file whole or not at all: it takes its name once everything is on the disk."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file whole or not at all."""
    with open_whole(path) as file:
        file.write(json.dumps(content, indent=1).encode())
