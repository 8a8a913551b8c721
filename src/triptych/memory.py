"""What a process does with the memory it frees: keep it for what comes next.

glibc gives every large buffer back to the system, which fills the next one with zeros, page by page: up to a fifth of
a training step on a CPU, half of a forward pass of wide maps, a third of loading a sample. Other C libraries are left
alone.
"""

import ctypes
import sys
from typing import Any

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of `mallopt`, as in malloc.h."""


def keep_freed_memory() -> bool:
    """Let this process use again what it frees, for good; False where the C library is not glibc.

    Peak memory stays as it is where buffers come in the same sizes over and over; see `return_freed_memory`.

    >>> keep_freed_memory() in (True, False)
    True
    """
    mallopt = _glibc("mallopt")
    return mallopt is not None and all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1)])


def return_freed_memory() -> None:
    """Hand back what was kept, before buffers of other sizes are made: they rarely fit into the gaps of the old ones,
    which would add to theirs.
    """
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
