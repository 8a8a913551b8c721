"""Files inside zip archives, read in place: a path simply goes through the archive, `data.zip/train/0001.png`."""

import os
import zipfile
import zlib
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from triptych.data.errors import UnreadableFileError

SUFFIX = ".zip"
MOST_BYTES = 1 << 30
"""Largest member that is unpacked: a thousandth of it in an archive may be enough to make it."""
Version = tuple[int, ...]


def file_version(path: Path) -> Version:
    """Key of what is kept of a file in memory: another one where it was replaced since, and in another process, as
    forked workers that share one position in an open file would read each other's bytes.
    """
    found = path.stat()
    return os.getpid(), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def open_source(path: Path) -> Path | BytesIO:
    """A file on disk, or one inside an archive, in the form that `Image.open` and the like accept.

    Raises `FileNotFoundError` for a member that is not there, `UnreadableFileError` for an archive or member that is
    damaged, and for a member of more than `MOST_BYTES`.
    """
    parts = _split(path)
    if parts is None:
        return path
    archive, member = parts
    try:
        opened = _open_archive(archive, file_version(archive))
        if (size := opened.getinfo(member).file_size) > MOST_BYTES:
            text = f"{path} would take {size / 1e9:.3g} GB of memory, more than {MOST_BYTES / 1e9:.3g}"
            raise UnreadableFileError(text, f"unpack {archive.name}, if it is what it should be")
        return BytesIO(opened.read(member))
    except KeyError as error:
        raise FileNotFoundError(f"{archive} has no member '{member}'.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        text = f"{path} cannot be read: damaged in its archive ({error})"
        raise UnreadableFileError(text, f"download {archive.name} again") from error


def read_bytes(path: Path) -> bytes:
    """The content of a file on disk, or of one inside an archive."""
    source = open_source(path)
    return source.read_bytes() if isinstance(source, Path) else source.getvalue()


def list_archive(archive: Path) -> list[str]:
    """Names of the files in a zip archive, in order; raises `OSError` naming an archive that is not whole."""
    try:
        names = _open_archive(archive, file_version(archive)).namelist()
    except zipfile.BadZipFile as error:
        raise UnreadableFileError(f"{archive} is not a whole zip archive ({error})", "download it again") from error
    return sorted(name for name in names if not name.endswith("/"))


def _split(path: Path) -> tuple[Path, str] | None:
    if SUFFIX not in str(path).lower():
        return None
    for parent in path.parents:
        if parent.suffix.lower() == SUFFIX and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


@lru_cache(maxsize=32)
def _open_archive(archive: Path, version: Version) -> zipfile.ZipFile:
    return zipfile.ZipFile(archive)
