"""Everything that trains or is scored does so on another device than the CPU too, and gives the same there.

No GPU is needed: the device is `helpers/second_device.py`, in a process of its own, which it would stay in.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from second_device_cases import CASES, REFUSED

HELPERS = Path(__file__).parent / "helpers"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """By case: why it is not the same on both devices."""
    out = tmp_path_factory.mktemp("devices") / "differences.json"
    command = [sys.executable, "-W", "ignore", str(HELPERS / "second_device_cases.py"), str(out)]
    places = os.pathsep.join([str(HELPERS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": places}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


@pytest.mark.parametrize("name", CASES)
def test_both_devices_give_the_same(found: dict[str, str], name: str) -> None:
    assert found[name] == ""


@pytest.mark.parametrize("name", REFUSED)
def test_the_second_device_refuses_what_a_gpu_refuses(found: dict[str, str], name: str) -> None:
    assert "on twin" in found[name]
    assert "Expected" in found[name]
