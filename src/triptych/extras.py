"""Packages of the extras in pyproject.toml, which not everybody installs."""

import importlib
from typing import Any

FROM_CLONE = {"export": "./runtime "}
"""Distribution of the same clone that an extra needs too."""


def install_command(extra: str) -> str:
    """The command that installs an extra, from a clone.

    >>> install_command("video")
    "python -m pip install -c constraints.txt -e '.[video]'"
    """
    return f"python -m pip install -c constraints.txt {FROM_CLONE.get(extra, '')}-e '.[{extra}]'"


def missing_extra(package: str, extra: str, whose: str) -> ImportError:
    """Return the error for a missing package of an extra; `whose` begins the sentence, such as "videos need"."""
    return ImportError(f"{whose} the extra '{extra}', {package} is missing: {install_command(extra)}")


def import_extra(package: str, extra: str, whose: str) -> Any:
    """Import a module of an extra; raise `missing_extra` where it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise missing_extra(error.name or package, extra, whose) from error
