"""Files that are written whole or not at all, and files of tensors that carry a checksum.

A file is written under another name in the same folder, flushed to the disk and renamed: a process that is killed in
between leaves the older file as it was.
"""

import ctypes
import hashlib
import json
import math
import os
import platform
import re
import shutil
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

PARTIAL = ".partial"
"""Suffix of files and folders being written: `.<name>.<machine>-<thread>-<process>.partial`."""
ASIDE = "aside-"
"""Prefix of `<machine>` in the name of a complete folder that is set aside while another takes its place."""
LONGEST_NAME = 200
"""Longest name in bytes that leaves room for the suffix: file systems take 255."""
ABANDONED = 3600.0
"""Seconds without a change after which a partial file of another machine counts as abandoned."""


def partial_path(path: Path, mark: str = "") -> Path:
    """Path of the partial file or folder that this thread writes before it is renamed to `path`."""
    name = os.fsencode(path.name)
    short = path.name if len(name) <= LONGEST_NAME else hashlib.sha256(name).hexdigest()
    return path.with_name(f".{short}.{mark}{_machine()}-{threading.get_native_id()}-{os.getpid()}{PARTIAL}")


@cache
def _machine() -> str:
    """A code for this machine and container, within which process numbers are unique."""
    try:
        inside = os.readlink("/proc/self/ns/pid")
    except OSError:  # only Linux has it
        inside = ""
    return f"{zlib.crc32(f'{platform.node()} {inside}'.encode()):08x}"


@contextmanager
def written_whole(path: Path, *, flushed: bool = True) -> Iterator[Path]:
    """Yield a path to write to; it is renamed to `path` when the block succeeds and deleted when it fails.

    Without `flushed` the file survives a kill, but perhaps not a loss of power: for many files that can be made again.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with written_whole(folder / "a.txt") as partial:
    ...     _ = partial.write_text("whole")
    >>> [path.name for path in folder.iterdir()], (folder / "a.txt").read_text()
    (['a.txt'], 'whole')
    """
    partial = partial_path(path)
    try:
        yield partial
        if flushed:
            flush(partial)
        partial.replace(path)
        if flushed:
            flush(path.parent)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)  # a full disk does not say which file it has no room for
        raise


def require_new(path: Path | None, overwrite: bool, *, beside: Sequence[str] = ()) -> None:
    """Fail where a file to write, or one of these suffixes `beside` it, exists already and must not be replaced, and
    where none can be written.
    """
    if path is not None:
        for each in (path, *map(path.with_suffix, beside)):
            if each.exists() and not overwrite:
                raise ValueError(f"{each} exists; name another file, or --overwrite it.")
        check_writable(path.parent, "name a file in another folder")


def check_writable(folder: Path, cure: str) -> None:
    """Make a folder; raise an `OSError` of one line where it is not writable, before any work instead of after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"cannot write to {folder} ({error.strerror}); {cure}.") from error


def check_target(path: Path, cure: str) -> None:
    """Raise an `OSError` of one line where a file that somebody names for a result cannot be written, before any work
    instead of after it.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; {cure}.")
    if not _is_stream(path):
        check_writable(path.resolve().parent, cure)


def write_named(path: Path, text: str) -> None:
    """Write a file that somebody names for a result: as `write_text`, where a link leads to; into a pipe or device."""
    if _is_stream(path):
        path.write_text(text, encoding="utf-8")
    else:
        write_text(path.resolve(), text)


def _is_stream(path: Path) -> bool:
    return path.exists() and not path.is_file()


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8, with the line ends of the text on every system, whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")  # Windows would make \r\r\n of \r\n


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def finite(content: Any) -> Any:
    """Content for JSON, in which numbers that are not finite become null.

    >>> finite({"a": (1.0, math.nan), "NaN": Path("x")})
    {'a': [1.0, None], 'NaN': 'x'}
    """
    if isinstance(content, Mapping):
        return {name: finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    return content if isinstance(content, str | int | None) else str(content)


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write readable JSON; numbers that are not finite become null."""
    write_text(path, json.dumps(finite(content), indent=2, allow_nan=False) + "\n")


@contextmanager
def naming_damage(path: Path, cure: str = "copy it again, or move it away") -> Iterator[None]:
    """Turn errors about the content of a file into a `ValueError` that names it.

    >>> with naming_damage(Path("starts.json")):
    ...     json.loads("[]")[-1]
    Traceback (most recent call last):
    ...
    ValueError: starts.json is damaged (IndexError: list index out of range); copy it again, or move it away.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); {cure}.") from error


def shorten_paths(value: Any) -> Any:
    """Shorten absolute paths in a JSON value to their last part: shared files tell no one's folders.

    >>> shorten_paths({"root": "/home/someone/data", "names": ["~/a", "b/c"], "text": "Of images /home/a/b, in m/s."})
    {'root': 'data', 'names': ['a', 'b/c'], 'text': 'Of images b, in m/s.'}
    """
    if isinstance(value, dict):
        return {name: shorten_paths(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shorten_paths(each) for each in value]
    if isinstance(value, str) and (Path(value).is_absolute() or value.startswith("~/")):
        return Path(value).name
    return re.sub(r"(?<![^\s'\"(\[])~?/\S*/(?=\S)", "", value) if isinstance(value, str) else value


def remove_partials(folder: Path, name: str = "") -> None:
    """Delete partial files and folders in a folder that nothing else writes any more: all, or those of `name`."""
    begins = f".{name}." if name else "."
    for path in filter(is_abandoned, [path for path in folder.glob(f".*{PARTIAL}") if path.name.startswith(begins)]):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def is_abandoned(path: Path, *, after: float = ABANDONED) -> bool:
    """Tell whether nobody writes a partial file or folder any more: its process has ended, or its thread where that is
    this process (this thread itself is done with it). A process of another machine that shares the folder counts as
    ended when nothing changed for `after` seconds.
    """
    *name, process, _ = path.name.split(".")
    # Earlier versions wrote no thread, before no machine, `.<name>.<process>.partial`, and before no process.
    owner, _, number = process.rpartition("-")
    machine, _, thread = owner.removeprefix(ASIDE).partition("-")
    if len(name) >= 2 and machine and number.isdigit() and machine != _machine():
        with suppress(OSError):
            return time.time() - path.stat().st_mtime >= after
    return len(name) < 2 or not _is_running(number, thread)


def exchange(one: Path, other: Path) -> None:
    """Exchange two files or folders of one file system; in one step where the system can (Linux), else in three."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if renameat2 and renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        flush(other.parent)
        return
    aside = partial_path(other, ASIDE)
    other.rename(aside)
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        raise
    aside.rename(one)


_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux's headers."""


def _is_running(process: str, thread: str) -> bool:
    """Tell whether the writer runs: another process, or another thread of this one."""
    if process == str(os.getpid()):
        others = {str(each.native_id) for each in threading.enumerate()} - {str(threading.get_native_id())}
        return thread in others
    # Not os.kill(process, 0), which is Ctrl-C on Windows.
    return process.isdigit() and psutil.pid_exists(int(process))


def flush(path: Path) -> None:
    """fsync: a rename must not reach the disk before what it renames."""
    if path.is_dir():
        # Some file systems cannot flush folders, and Windows opens none; they order the rename themselves.
        with suppress(OSError):
            _flush(path, os.O_RDONLY)
    else:
        _flush(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)  # Windows flushes only writable files


def _flush(path: Path, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors of any device and layout with their checksum, and flush them to the disk; return the checksum."""
    # Cloned only where memory is shared, which safetensors refuses.
    seen: set[int] = set()
    ready = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        pointer = tensor.untyped_storage().data_ptr()
        ready[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    path.touch()
    mode = path.stat().st_mode  # as the umask says; the library writes for the user alone
    # The library writes to a random name first, which `remove_partials` would not know: so inside a partial folder.
    begun = partial_path(path)
    begun.mkdir(exist_ok=True)
    try:
        # One entry: the library writes several in random order, and equal tensors should give equal bytes.
        save_file(ready, begun / "tensors", metadata={"crc32": (written := checksum(ready))})
        (begun / "tensors").chmod(mode)
        flush(begun / "tensors")
        (begun / "tensors").replace(path)
    finally:
        shutil.rmtree(begun, ignore_errors=True)
    return written


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a file of `save_tensors`, or any safetensors file without a checksum.

    Raises `ValueError` naming the file where it cannot be read or where its tensors are not those that were written;
    `FileNotFoundError` where there is none.
    """
    with _open_tensors(path) as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    stated = metadata.get("crc32", "" if set(metadata) <= {"format"} else "none")
    if stated and stated != checksum(tensors):
        raise ValueError(
            f"{path} is damaged: the checksum of its tensors is {checksum(tensors)}, written was {stated}; copy it "
            "again or train anew."
        )
    return tensors


def count_numbers(path: Path) -> int:
    """Count the numbers that a safetensors file stores, from its header alone."""
    with _open_tensors(path) as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 (no mapping)


@contextmanager
def _open_tensors(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except Exception as error:  # a damaged header fails in any way
        if isinstance(error, MemoryError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read as safetensors ({reason}); copy it again or train anew.") from error


def sign(content: Mapping[str, Any]) -> dict[str, Any]:
    """JSON content with a checksum of itself, for files that nobody edits.

    >>> sign({"step": 3})
    {'crc32': '08b1f3bf', 'step': 3}
    """
    return {"crc32": f"{zlib.crc32(json.dumps(content).encode()):08x}", **content}


def check_signed(content: Any) -> dict[str, Any]:
    """Return content without the checksum of `sign`; unchanged where it has none. `ValueError` where it was edited.

    >>> check_signed({"crc32": "08b1f3bf", "step": 3})
    {'step': 3}
    """
    if not isinstance(content, dict):
        raise ValueError("not an object")
    bare = {name: value for name, value in content.items() if name != "crc32"}
    if content not in (bare, sign(bare)):
        raise ValueError("its checksum is not that of its content")
    return bare


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of names, number types, shapes and bytes, independent of the order of the tensors.

    >>> checksum({"a": torch.zeros(2), "b": torch.ones(1)}) == checksum({"b": torch.ones(1), "a": torch.zeros(2)})
    True
    >>> checksum({"a": torch.zeros(2)}) == checksum({"a": torch.zeros(1, 2)})
    False
    """
    code = 0
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        code = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), code)
        code = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, code)
    return f"{code:08x}"


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
