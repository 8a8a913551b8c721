"""Kernels are compiled when they are called, kept under a digest of all their files, and found again."""

import subprocess
import sys
from pathlib import Path

import pytest

import triptych
from triptych import kernels

HERE = Path(triptych.__file__).parent

WATCH = """
import importlib, pkgutil, sys
import triptych

def watch(event, details):
    if event not in ("open", "os.mkdir", "os.listdir", "tempfile.mkstemp"):
        return
    frame = sys._getframe(1)
    while frame is not None and "importlib" not in frame.f_code.co_filename:
        if "triptych" in frame.f_code.co_filename:
            seen.add(f"{frame.f_code.co_filename}:{frame.f_lineno} {event} {details[0]}")
            return
        frame = frame.f_back

seen = set()
sys.addaudithook(watch)
for module in pkgutil.walk_packages(triptych.__path__, "triptych."):
    if module.name.startswith(("triptych.rooms", "triptych.datasets", "triptych.kernels")):
        importlib.import_module(module.name)
print("\\n".join(sorted(seen)))
"""


def test_a_user_without_a_home_compiles_in_every_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A container may run as a user without an entry."""
    for name in ("HOME", "XDG_CACHE_HOME", "TRIPTYCH_CACHE"):
        monkeypatch.delenv(name, raising=False)

    def refuse() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", refuse)
    monkeypatch.setattr(kernels.numba.config, "CACHE_DIR", "")
    assert isinstance(kernels._Kept(refuse)._files, kernels.NullCache)
    with pytest.raises(OSError, match="this user has no home folder; name one for caches in TRIPTYCH_CACHE"):
        kernels.cache_folder("rooms")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernels.cache_folder("rooms") == tmp_path / "triptych/rooms"


def test_every_file_with_kernels_is_listed() -> None:
    """A file that is left out would keep old machine code in use after a change; numba's own decorator fails on import
    where no folder can be written to.
    """
    texts = {path: path.read_text(encoding="utf-8") for path in HERE.rglob("*.py")}
    found = [path for path, text in texts.items() if "\n@compiled" in text]
    assert not [path for path, text in texts.items() if "\n@numba.njit" in text]
    assert sorted(path.relative_to(HERE).as_posix() for path in found) == sorted(kernels.SOURCES)


@pytest.mark.slow
def test_importing_a_module_reads_no_file() -> None:
    done = subprocess.run([sys.executable, "-c", WATCH], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.slow
def test_machine_code_is_kept_between_processes(tmp_path: Path) -> None:
    command = (
        "from triptych.rooms.rays import build_hierarchy as kernel; import numpy as np; "
        "kernel(np.array([[0.0, 0, 0, 1, 1, 1]])); print(sum(kernel.stats.cache_hits.values()))"
    )
    environment = {"TRIPTYCH_CACHE": str(tmp_path), "PYTHONPATH": str(HERE.parent), "PATH": ""}
    hits = [
        subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert [done.stdout.strip() for done in hits] == ["0", "1"]
    folders = list((tmp_path / "kernels").iterdir())
    assert [folder.name for folder in folders] == [kernels._digest()]
