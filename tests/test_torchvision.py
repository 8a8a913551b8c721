"""The stand-in for torchvision's operators appears exactly where the compiled part cannot load."""

import subprocess
import sys
from functools import cache

import pytest


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip()


@cache
def failure() -> str:
    """What `import torchvision` says where it fails; empty where it does not."""
    result = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True, check=False)
    return result.stderr if result.returncode else ""


def test_timm_and_torchmetrics_import_after_the_declaration() -> None:
    assert run(
        "from triptych.machine import declare_missing_operators as d\n"
        "first = d(); again = d()\n"
        "import timm, torchmetrics\n"
        "print(first, again)"
    ).endswith("False")


def test_something_is_declared_only_where_torchvision_does_not_load() -> None:
    declared = run("from triptych.machine import declare_missing_operators as d; print(d())")
    assert declared == str(failure() != "")


def test_nothing_is_declared_without_torchvision() -> None:
    assert (
        run(
            "import importlib.util as u\n"
            "real = u.find_spec\n"
            "u.find_spec = lambda name, *a: None if name == 'torchvision' else real(name, *a)\n"
            "from triptych.machine import declare_missing_operators as d\n"
            "print(d())"
        )
        == "False"
    )


def test_the_failure_this_mends_is_the_known_one() -> None:
    if not failure():
        pytest.skip("torchvision's compiled part loads here")
    assert "operator torchvision::nms does not exist" in failure()
