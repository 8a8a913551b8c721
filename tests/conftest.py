"""Check the shapes in annotations while testing; choose the device and the threads."""

import gc
import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "helpers"))

if "PYTEST_XDIST_WORKER" in os.environ:  # side by side: threads of one test would take the processors of another
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if os.environ.get("TRIPTYCH_CHECK_SHAPES", "1") == "1":
    from jaxtyping import install_import_hook

    install_import_hook("triptych", "beartype.beartype")

import torch
from hypothesis import HealthCheck, settings

settings.register_profile("triptych", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("triptych")  # how fast a machine is, and what else it does, fails no property

os.fsync = lambda descriptor: None  # no test cuts the power, and disks take a tenth of the suite's time for it


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays: looking it through for garbage takes a second each time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(scope="session")
def device() -> torch.device:
    """`TRIPTYCH_TEST_DEVICE` chooses where the suite runs; a CPU by default."""
    return torch.device(os.environ.get("TRIPTYCH_TEST_DEVICE", "cpu"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)
