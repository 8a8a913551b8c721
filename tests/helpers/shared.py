"""The shared folder beside the checkout: specifications, golden values and real samples that tests may read."""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("TRIPTYCH_SHARED", Path(__file__).resolve().parents[3] / "shared"))


def shared_path(relative: str) -> Path:
    """The path of a shared file; skips the calling test with a reason where it is absent."""
    path = ROOT / relative
    if not path.exists():
        pytest.skip(f"needs {relative} of the shared folder, which is not beside this checkout")
    return path
