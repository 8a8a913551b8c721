"""One training of a run folder at a time: a lock that the system holds for a process, and drops when it ends."""

import errno
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

from triptych.processes import gather_objects

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FILE = ".lock"
_HELD: dict[int, "RunLock"] = {}
"""Lock by process, which trains one run at a time: the system's lock would admit a second thread of it, and two runs
would draw from one stream of random numbers, so that neither were that of its seed.
"""
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # a received run's could lead to a file of its reader


class RunLock:
    """Within this context nothing else trains `run`, whose folder is created where there is none.

    Every process of a training enters it, and the `main` one locks. Raises `BlockingIOError` in all of them, naming who
    trains it already, or what else this process trains. Evaluation and prediction need no lock. Where the file system
    has none, `lines` says so.
    """

    def __init__(self, run: Path, *, main: bool) -> None:
        self.run, self.main, self._is_new = run, main, not run.exists()
        self.lines: list[str] = []
        self._file: int | None = None
        self._process = os.getpid()
        # In the folder, where all that share it see it; Windows renames no folder that holds an open file.
        self._path = run.with_name(f".{run.name}{FILE}") if sys.platform == "win32" else run / FILE

    def __enter__(self) -> "RunLock":
        refusal = gather_objects(self._take() if self.main else "")[0]
        if refusal:
            self.__exit__()
            raise BlockingIOError(refusal)
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        if _HELD.get(self._process) is self:
            del _HELD[self._process]

    def _leave(self) -> None:
        if self._file is None:
            return
        with suppress(OSError):  # Windows deletes no open file: there it stays
            if self._is_here(self._file):
                self._path.unlink()
        os.close(self._file)
        self._file = None
        if self._is_new:
            with suppress(OSError):  # where nothing was begun, it is empty
                self.run.rmdir()

    def _take(self) -> str:
        """Lock the file; return the refusal where it is locked already, else an empty text."""
        other = _HELD.setdefault(self._process, self)
        if other is not self and other.run.resolve() == self.run.resolve():
            return self._refuse("another thread of this process")
        if other is not self:
            return (
                f"this process trains {other.run} already, and both would draw from one stream of random numbers; "
                f"train {self.run} afterwards, or in a process of its own."
            )
        try:
            while self._file is None:
                self.run.mkdir(parents=True, exist_ok=True)
                try:
                    file = os.open(self._path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
                except FileNotFoundError:  # a training that began nothing took its empty folder away
                    continue
                try:
                    if not _lock(file):
                        return self._refuse(_read_owner(file))
                    if self._is_here(file):  # its former owner deletes it when it ends
                        self._file = file
                finally:
                    if self._file is None:
                        os.close(file)
        except OSError as error:
            self.lines = [f"{self.run} cannot be locked ({error.strerror}): see that nothing else trains it"]
            return ""
        with suppress(OSError):  # a full disk: the lock holds without a name
            os.ftruncate(self._file, 0)
            os.write(self._file, f"process {os.getpid()} on {platform.node()}".encode())
        return ""

    def _refuse(self, owner: str) -> str:
        cure = "wait for its end, stop it, or choose another --out"
        return f"run folder {self.run} is being trained by {owner}; {cure}."

    def _is_here(self, file: int) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file), self._path.stat())
        return False


def _lock(file: int) -> bool:
    """Whether this process has the lock of a file now; `OSError` where there are no locks."""
    try:
        if sys.platform == "win32":
            os.lseek(file, 1 << 20, os.SEEK_SET)  # beyond the name, which others may read
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            os.lseek(file, 0, os.SEEK_SET)
        else:
            # Not flock, which data workers inherit: they outlive a process that is killed by some seconds.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _read_owner(file: int) -> str:
    with suppress(OSError, UnicodeDecodeError):
        os.lseek(file, 0, os.SEEK_SET)
        return os.read(file, 300).decode() or "another process"
    return "another process"
