"""Where generated things are kept."""

import os
import sys
from pathlib import Path


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
