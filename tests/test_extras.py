"""Extras: whoever lacks a package is told how to install it, by a name that pyproject.toml has."""

import re
import tomllib
from pathlib import Path

import pytest

from triptych.extras import import_extra

ROOT = Path(__file__).parents[1]


def test_extras_that_errors_name_exist() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    calls = re.compile(r"(?:(?:import|missing)_extra\([^,]+, |install_command\()[\"'](\w+)")
    named = [name for path in (ROOT / "src").rglob("*.py") for name in calls.findall(path.read_text("utf-8"))]
    assert {"app", "export", "formats", "teachers", "track", "video"} <= set(named) <= set(declared)


def test_a_missing_package_is_one_line() -> None:
    with pytest.raises(ImportError, match=r"^maps need the extra 'video', nowhere is missing: python .*\[video\]"):
        import_extra("nowhere", "video", "maps need")
