"""Compile numba kernels on first use, and keep their machine code between processes."""

import hashlib
import inspect
import os
import sys
from collections.abc import Callable
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, NullCache

SOURCES = (
    "augmentation/kernels.py",
    "metrics/assignment.py",
    "metrics/contours.py",
    "metrics/matching.py",
    "rendering/fused_numba.py",
    "rooms/labels.py",
    "rooms/light.py",
    "rooms/rays.py",
    "rooms/render.py",
    "rooms/textures.py",
)
"""Files that hold kernels."""


def cache_folder(*parts: str) -> Path:
    """A folder below `TRIPTYCH_CACHE`, or below the user's cache folder of this platform; it may not exist yet.

    Raises `OSError` where neither is known.

    >>> cache_folder("rooms").name
    'rooms'
    """
    chosen = os.environ.get("TRIPTYCH_CACHE")
    if chosen:
        return Path(chosen).expanduser().joinpath(*parts)
    variable, below = {
        "darwin": ("", "Library/Caches"),
        "win32": ("LOCALAPPDATA", "AppData/Local"),
    }.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    base = os.environ.get(variable)
    try:
        return Path(base or Path.home() / below).joinpath("triptych", *parts)
    except RuntimeError as error:  # a user without an entry and without HOME, as in containers
        raise OSError("this user has no home folder; name one for caches in TRIPTYCH_CACHE.") from error


@cache
def _digest() -> str:
    """A digest of all kernels' files: numba notices a change of a kernel's own file, not of one that it calls."""
    here = Path(__file__).parent
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in SOURCES)).hexdigest()[:16]


class _Kept(NullCache):
    """Cache of one kernel, opened when the kernel is first compiled, so that importing a module reads no file."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    @cached_property
    def _files(self) -> Any:
        settings: Any = numba.config
        chosen = settings.CACHE_DIR
        try:
            settings.CACHE_DIR = os.path.join(chosen or cache_folder("kernels"), _digest())
            return FunctionCache(self.function)
        except (RuntimeError, OSError):  # no folder to write to: compile in every process
            return NullCache()
        finally:
            settings.CACHE_DIR = chosen

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The machine code for a signature, or `None`; numba calls this while it holds its lock."""
        return self._files.load_overload(sig, target_context)

    def save_overload(self, sig: Any, cres: Any) -> None:
        """Keep the machine code for a signature."""
        self._files.save_overload(sig, cres)


def compiled(function: Callable[..., Any] | None = None, *, fastmath: frozenset[str] = frozenset()) -> Any:
    """Compile a kernel without the global interpreter lock. Labels and scores are the same bits everywhere: `fastmath`,
    LLVM's flags that let it change arithmetic, is for others.
    """
    if function is None:
        return partial(compiled, fastmath=fastmath)
    # Shape checking in tests wraps every function; numba needs the function itself.
    function = inspect.unwrap(function)
    kernel: Any = numba.njit(nogil=True, error_model="numpy", fastmath={*fastmath} or False)(function)
    kernel._cache = _Kept(function)
    return kernel
