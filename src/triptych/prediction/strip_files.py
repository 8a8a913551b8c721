"""Files written from top to bottom, strip by strip, so that no more than a strip is in memory: .npy and PNG."""

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np


class ArrayFile(AbstractContextManager):
    """A map on disk, `(H, W)` or `(C, H, W)` as a `.npy` file, written and read by rows.

    >>> import tempfile
    >>> with ArrayFile(Path(tempfile.mkdtemp()) / "a.npy", (2, 4, 3), np.dtype(np.float32)) as stored:
    ...     stored.write(0, np.zeros((2, 1, 3), np.float32))
    ...     stored.write(1, np.ones((2, 3, 3), np.float32))
    ...     stored.rows(0, 2)[:, :, 0].tolist(), np.load(stored.path).sum().item()
    ([[0.0, 1.0], [0.0, 1.0]], 18.0)
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.path, self.shape, self.dtype = path, shape, dtype
        self._file = path.open("wb")
        layout = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, layout)
        self._start = self._file.tell()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.shape[-2], self.shape[-1]

    def write(self, top: int, rows: np.ndarray) -> None:
        """Write rows from `top` on."""
        height, width = self.size
        values = np.ascontiguousarray(rows, self.dtype).reshape(-1, rows.shape[-2], width)
        for plane, each in enumerate(values):
            # Not through a memory map: a full disk would end the process with a signal.
            self._file.seek(self._start + (plane * height + top) * width * self.dtype.itemsize)
            self._file.write(each.data)

    def rows(self, top: int, bottom: int, step: int = 1) -> np.ndarray:
        """Rows from `top` to before `bottom`; with `step`, every `step`-th of them and of the columns."""
        self._file.flush()
        # Mapped anew every time: what a map has read stays with it.
        mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return np.array(mapped[..., top:bottom:step, ::step])

    def strips(self, pixels: int) -> Iterator[np.ndarray]:
        """All rows from top to bottom, at most `pixels` pixels at a time."""
        height, width = self.size
        step = max(1, pixels // width)
        yield from (self.rows(top, min(top + step, height)) for top in range(0, height, step))

    def __exit__(self, *error: object) -> None:
        self._file.close()


_GREY, _RGB = 0, 2
_UP = 2
"""The filter of every row: differences to the row above, which suit maps."""


def write_png(path: Path, size: tuple[int, int], strips: Iterator[np.ndarray]) -> None:
    """Write strips of rows, `(rows, W)` or `(rows, W, 3)` of 8 or 16 bits, as a PNG of `size` (height, width).

    Filters and chunks as in the PNG specification (W3C, third edition), sections 9 and 11.

    >>> import tempfile
    >>> from PIL import Image
    >>> path = Path(tempfile.mkdtemp()) / "a.png"
    >>> write_png(path, (4, 2), iter([np.zeros((3, 2), np.uint16), np.full((1, 2), 40000, np.uint16)]))
    >>> np.asarray(Image.open(path)).tolist()
    [[0, 0], [0, 0], [0, 0], [40000, 40000]]
    """
    height, width = size
    packer = zlib.compressobj()
    above = None
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for rows in strips:
            depth, color = 8 * rows.dtype.itemsize, _RGB if rows.ndim == 3 else _GREY
            if above is None:
                file.write(_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)))
                above = np.zeros(width * math.prod(rows.shape[2:]) * rows.dtype.itemsize, np.uint8)
            lines = np.ascontiguousarray(rows, rows.dtype.newbyteorder(">")).view(np.uint8).reshape(len(rows), -1)
            filtered = np.empty((len(lines), 1 + lines.shape[1]), np.uint8)
            filtered[:, 0] = _UP
            filtered[:, 1:] = lines
            filtered[0, 1:] -= above
            filtered[1:, 1:] -= lines[:-1]
            above = lines[-1].copy()
            file.write(_chunk(b"IDAT", packer.compress(filtered.data)))
        file.write(_chunk(b"IDAT", packer.flush()) + _chunk(b"IEND", b""))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
