"""Check whether a file is intact by its own checksums, and by the lengths in its headers.

Decoders stop once they have all pixels, so that a file with inserted, missing or flipped bytes may be read, wrongly.
"""

import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

CUT = "it ends before its last part"
FIRST_ALONE = "of which the first alone is read"
SEVERAL = f"it holds several pictures, {FIRST_ALONE}"
MOST_BYTES = 1 << 28
"""Larger files are not checked."""


MOST_HEADER = 4096
"""First bytes of a WebP in which its kind of compression is named, unless its color profile is larger."""


def find_damage(path: Path) -> str:
    """Return the damage of a file in words; "" where there is none, or its format has no checks.

    >>> find_damage(Path("no.txt"))
    ''
    """
    suffix = path.suffix.lower()
    check = CHECKS.get(suffix)
    if check is None:
        return ""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            return ""
        content = file.read()
    kind = next((kind for kind, starts in MAGIC.items() if content.startswith(starts)), "")
    if kind and suffix not in SUFFIXES_OF[kind]:
        return f"its content is {kind}, whatever its name says"
    try:
        return check(content)
    except (struct.error, IndexError, ValueError):
        return "its header cannot be followed to the end"


def find_pages(path: Path) -> str:
    """Return the finding that a picture has several pages or frames, of which the first alone is read; "" where it has
    one, or is damaged.

    >>> find_pages(Path("no.txt"))
    ''
    """
    found = find_damage(path)
    return found if found.endswith(FIRST_ALONE) else ""


def is_lossy(path: Path) -> bool:
    """Whether a file is of a format that changes values near edges: JPEG, or WebP that is not lossless.

    >>> is_lossy(Path("a.JPG")), is_lossy(Path("a.png"))
    (True, False)
    """
    if path.suffix.lower() == ".webp":
        with open(path, "rb") as file:
            return b"VP8L" not in file.read(MOST_HEADER)
    return path.suffix.lower() in SUFFIXES_OF["JPEG"]


def _png(content: bytes) -> str:
    at = 8
    while at + 12 <= len(content):
        (length,), kind = struct.unpack_from(">I", content, at), content[at + 4 : at + 8]
        stored = content[at + 8 + length : at + 12 + length]
        if len(stored) < 4:
            break
        if zlib.crc32(content[at + 4 : at + 8 + length]) != int.from_bytes(stored, "big"):
            return f"its part {kind.decode('latin-1')!r} has another checksum than it says"
        if kind == b"acTL" and int.from_bytes(content[at + 8 : at + 12], "big") > 1:
            return SEVERAL
        if kind == b"IEND":
            return ""
        at += 12 + length
    return CUT


_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""Markers that begin a segment of a JPEG; other bytes after 0xFF belong to a scan, or stand alone."""
_START, _END = 0xD8, 0xD9


def _jpeg(content: bytes) -> str:
    """JPEG: part after part, by their lengths, up to the end of the picture; what follows (a video) is not of it."""
    at = 2
    while found := _MARKER.search(content, at):
        kind, at = found[0][1], found.end()
        if kind in (_START, _END):
            return CUT if kind == _START else ""  # another picture begins before the end of this one
        at += struct.unpack_from(">H", content, at)[0]
    return CUT


def _gif(content: bytes) -> str:
    if not content.rstrip(b"\0").endswith(b"\x3b"):
        return CUT
    at, pictures = 13 + _color_table(content[10]), 0
    while content[at] != 0x3B:
        if content[at] == 0x2C:
            pictures += 1
            at += 11 + _color_table(content[at + 9])
        else:
            at += 2
        while content[at]:
            at += 1 + content[at]
        at += 1
    return SEVERAL if pictures > 1 else ""


def _color_table(flags: int) -> int:
    """Bytes of the color table that the flags of a GIF declare."""
    return 3 << (flags % 8 + 1) if flags & 0x80 else 0


def _webp(content: bytes) -> str:
    if content[12:16] == b"VP8X" and content[20] & 2:
        return SEVERAL
    return _compare(len(content), struct.unpack_from("<I", content, 4)[0] + 8, slack=1)


def _bmp(content: bytes) -> str:
    (said,) = struct.unpack_from("<I", content, 2)
    return _compare(len(content), said) if said else ""


NETPBM = re.compile(rb"P([2356])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")
"""The header of a PGM or PPM: its kind, width, height and largest value."""


def _netpbm(content: bytes) -> str:
    head = NETPBM.match(content)
    if head is None or head[1] in b"23":  # whose numbers are digits
        return ""
    kind, width, height, largest = (int(word) for word in head.groups())
    size = width * height * (3 if kind == 6 else 1) * (1 if largest < 256 else 2)
    return _compare(len(content), head.end() + size)


def _hdf5(content: bytes) -> str:
    base = content.find(b"\x89HDF\r\n\x1a\n")
    if base < 0:
        return _mat(content)
    version = content[base + 8]
    end = {0: base + 40, 1: base + 44, 2: base + 28, 3: base + 28}.get(version)
    return (
        "" if end is None else _compare(len(content), struct.unpack_from("<Q", content, end)[0] + base * (version > 1))
    )


def _mat(content: bytes) -> str:
    """MATLAB 5: elements of a type and a length, up to the end."""
    if not content.startswith(b"MATLAB 5"):
        return ""
    order = "<" if content[126:128] == b"IM" else ">"
    at = 128
    while at + 8 <= len(content):
        at += 8 + struct.unpack_from(f"{order}I", content, at + 4)[0]
    return _compare(len(content), at)


_TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_OFFSETS, _COUNTS, _COMPRESSION, _DEFLATED = (273, 324), (279, 325), 259, (8, 32946)
_KIND, _THUMBNAIL, _MASK = 254, 1, 4
_INSIDE = (330, 34665, 34853, 40965)
"""Directories of a page: smaller copies of it, EXIF, GPS and what EXIF calls interoperability."""


def _tiff(content: bytes) -> str:
    """TIFF: what its directories, their values and the strips or tiles take."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4])
    if order is None:
        return ""  # of more than 4 GiB
    directories, end = [(struct.unpack_from(f"{order}I", content, 4)[0], True)], 8
    seen = {0}
    pages = 0
    while directories:
        at, is_page = directories.pop()
        if at in seen:
            continue
        seen.add(at)
        (entries,) = struct.unpack_from(f"{order}H", content, at)
        found: dict[int, tuple[int, ...]] = {}
        for entry in range(at + 2, at + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", content, entry)
            size = _TIFF_BYTES.get(kind, 1) * count
            place = entry + 8 if size <= 4 else struct.unpack_from(f"{order}I", content, entry + 8)[0]
            end = max(end, place + size)
            if tag in (*_OFFSETS, *_COUNTS, *_INSIDE, _COMPRESSION, _KIND):
                found[tag] = struct.unpack_from(f"{order}{count}{'H' if kind == 3 else 'I'}", content, place)
        for offsets, counts in zip(_OFFSETS, _COUNTS, strict=True):
            for offset, count in zip(found.get(offsets, ()), found.get(counts, ()), strict=True):
                end = max(end, offset + count)
                if found.get(_COMPRESSION, (1,))[0] in _DEFLATED and not _inflates(content[offset : offset + count]):
                    return "its pixels have another checksum than it says"
        pages += is_page and not found.get(_KIND, (0,))[0] & (_THUMBNAIL | _MASK)
        directories += [(inside, False) for tag in _INSIDE for inside in found.get(tag, ())]
        after = at + 2 + 12 * entries
        end = max(end, after + 4)
        directories.append((struct.unpack_from(f"{order}I", content, after)[0], is_page))
    damage = _compare(len(content), end, slack=1 if pages < 2 else 15)  # pages begin at multiples of 16
    return damage or (f"it holds {pages} pages, {FIRST_ALONE}" if pages > 1 else "")


def _inflates(packed: bytes) -> bool:
    try:
        zlib.decompress(packed)
    except zlib.error:
        return False
    return True


def _compare(found: int, said: int, *, slack: int = 0) -> str:
    if abs(found - said) <= slack:
        return ""
    return f"it has {found} bytes, its header speaks of {said}"


CHECKS: dict[str, Callable[[bytes], str]] = {
    ".png": _png,
    **dict.fromkeys((".jpg", ".jpeg", ".jfif"), _jpeg),
    ".gif": _gif,
    ".webp": _webp,
    ".bmp": _bmp,
    **dict.fromkeys((".pgm", ".ppm"), _netpbm),
    **dict.fromkeys((".tif", ".tiff"), _tiff),
    **dict.fromkeys((".mat", ".h5", ".hdf5"), _hdf5),
}
"""Checks for damage of a file's content, by suffix."""
MAGIC = {
    "PNG": (b"\x89PNG\r\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "WebP": (b"RIFF",),
    "TIFF": (b"II*\0", b"MM\0*"),
}
SUFFIXES_OF = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jfif"),
    "GIF": (".gif",),
    "WebP": (".webp",),
    "TIFF": (".tif", ".tiff"),
}
