"""What processes that load samples do with the memory they free: keep it."""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""
LARGEST = 2**25
"""Bytes of the largest blocks that glibc agrees to keep; a label map of 448x576 pixels has 2 MB."""


def keep_freed_memory() -> bool:
    """Keep the memory that this process frees, for the next sample; whether the C library can do so (glibc).

    By default glibc gives every map of some megabytes back to the system when it is freed, and the system clears its
    pages when the next one is made: a third of the time of loading a sample, more where many processes do it at once.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, or another system
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST)) and bool(mallopt(TRIM_THRESHOLD, 2**30))
