"""The stand-in for torchvision's operators appears exactly where the compiled part cannot load."""

import importlib.util
import subprocess
import sys
from functools import cache
from types import SimpleNamespace

import pytest
import torch

from triptych import machine


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip()


@cache
def failure() -> str:
    """What `import torchvision` says where it fails; empty where it does not."""
    result = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True, check=False)
    return result.stderr if result.returncode else ""


@pytest.mark.slow
def test_it_is_declared_only_where_torchvision_does_not_load_and_once_for_timm_and_torchmetrics() -> None:
    declared = run(
        "from triptych.machine import declare_missing_operators as d\n"
        "first = d(); again = d()\n"
        "import timm, torchmetrics\n"
        "print(first, again)"
    )
    assert declared == f"{failure() != ''} False"


def test_nothing_is_declared_without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchvision" else there(name))
    # As before anything was declared, by us or by torchvision.
    monkeypatch.setattr(machine, "_library", None)
    monkeypatch.setattr(torch, "ops", SimpleNamespace(torchvision=SimpleNamespace()))
    monkeypatch.setattr(torch.library, "Library", lambda *words: pytest.fail("it was declared"))
    assert machine.declare_missing_operators() is False


@pytest.mark.slow
def test_the_failure_this_mends_is_the_known_one() -> None:
    if not failure():
        pytest.skip("torchvision's compiled part loads here")
    assert "operator torchvision::nms does not exist" in failure()
