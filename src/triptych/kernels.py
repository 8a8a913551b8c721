"""The one way in which the kernels of datasets and generated rooms are compiled and kept."""

import hashlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba


def cache_folder(*parts: str) -> Path:
    """A folder below `TRIPTYCH_CACHE`, or below the user's cache folder of this platform; it may not exist yet.

    >>> cache_folder("rooms").name
    'rooms'
    """
    chosen = os.environ.get("TRIPTYCH_CACHE")
    if chosen:
        return Path(chosen).expanduser().joinpath(*parts)
    home = Path.home()
    base = {
        "darwin": home / "Library" / "Caches",
        "win32": Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")),
    }
    default = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base.get(sys.platform, default).joinpath("triptych", *parts)


def _sources() -> str:
    """A digest of the kernels' files: numba notices a change of a kernel's own file, not of one that it calls."""
    files = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*/*.py"))]
    return hashlib.sha256(b"".join(text for text in files if b"@compiled" in text)).hexdigest()[:16]


def _kept(function: Callable[..., Any]) -> Any:
    """Compile on first use, and keep the machine code in the user's cache."""
    # No fast math: labels are the same bits everywhere.
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    settings: Any = numba.config
    chosen = settings.CACHE_DIR
    settings.CACHE_DIR = os.path.join(chosen or cache_folder("kernels"), _DIGEST)
    try:
        return numba.njit(cache=True, **options)(function)
    except (RuntimeError, OSError):  # no folder to write to: compile in every process
        return numba.njit(**options)(function)
    finally:
        settings.CACHE_DIR = chosen


_DIGEST = _sources()


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a kernel without fast math and without the global interpreter lock."""
    # Shape checking in tests wraps every function; numba needs the function itself.
    return _kept(inspect.unwrap(function))
