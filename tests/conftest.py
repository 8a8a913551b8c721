"""Check the shapes in annotations while testing, and choose the device."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

if os.environ.get("TRIPTYCH_CHECK_SHAPES", "1") == "1":
    from jaxtyping import install_import_hook

    install_import_hook("triptych", "beartype.beartype")

import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """`TRIPTYCH_TEST_DEVICE` chooses where the suite runs; a CPU by default."""
    return torch.device(os.environ.get("TRIPTYCH_TEST_DEVICE", "cpu"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)
