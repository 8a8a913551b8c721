"""How many pixels a picture, and how many bytes an array may have."""

import os

from triptych.data.errors import DataError

MOST_PIXELS = 178_000_000
"""Default limit of pixels of a picture, as a tiny file can claim gigabytes; the environment variable
`TRIPTYCH_MAX_PIXELS`, which `--max-pixels` sets, overrides it.
"""
MAX_PIXELS = "TRIPTYCH_MAX_PIXELS"


def most_pixels(unless_told: int = MOST_PIXELS) -> int:
    """Limit of pixels for this process and those that it starts."""
    return check_pixels(os.environ.get(MAX_PIXELS) or str(unless_told), MAX_PIXELS)


def check_pixels(text: str, option: str) -> int:
    """Parse a number of pixels; `ValueError` that names the option for any other text."""
    if not text.isdecimal() or len(text) > 18 or int(text) < 1:
        raise ValueError(f"{option} is {text[:40]!r}; give a number of pixels, such as {MOST_PIXELS}.")
    return int(text)


BYTES_OF_PIXEL = 12
"""Bytes of a pixel of a color image of 32-bit floats. An array of more bytes than the limit of pixels times this is a
mistake or an attack, and is refused before memory is allocated.
"""


def check_bytes(count: int) -> None:
    """Raise `DataError` for an array of more bytes than the limit."""
    most = BYTES_OF_PIXEL * most_pixels()
    if count > most:
        raise DataError(
            f"it would take {count / 1e9:.3g} GB of memory, more than {most / 1e9:.3g}",
            f"a label map is far smaller; cut it into tiles, or raise the limit with --max-pixels (or {MAX_PIXELS}), "
            f"{BYTES_OF_PIXEL} bytes each",
        )
