"""Samples of what docs/reliability.md says; each script does all of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def last_line(script: Path, *words: str) -> str:
    """The last line that a script prints, which ends well."""
    command = [sys.executable, "-W", "ignore", str(script), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=900, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_runs_that_are_killed_at_random_moments_resume_to_equal_bits(tmp_path: Path) -> None:
    last = last_line(HERE / "kills.py", str(tmp_path), "--random", "1")
    assert last.startswith("14 configurations, 14 kills, ")
    assert last.endswith(" 0 differ")


@pytest.mark.slow
def test_full_disks_are_told_and_made_good(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], capture_output=True).returncode:
        pytest.skip("needs the right to mount: root, or `unshare -rm`")
    subprocess.run(["umount", str(place)], check=True)
    last = last_line(HERE / "full_disk.py", str(tmp_path / "runs"), "--shares", "0.2", "0.8")
    assert last == "3 full disks, 0 not told or not made good"


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_changed_files_are_refused_in_one_line_or_harmless(seed: str, tmp_path: Path) -> None:
    assert last_line(HERE / "mutations.py", str(tmp_path), "--count", "150", "--seed", seed) == "150 mutations, 0 wrong"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_height_of_an_image(tmp_path: Path) -> None:
    """4 times 3 megapixels take little more than 3."""
    script = HERE.parents[1] / "benchmarks/memory.py"
    peaks = [
        float(last_line(script, str(tmp_path), "--sizes", size).split("|")[3]) for size in ("2000x1500", "2000x6000")
    ]
    assert peaks[1] - peaks[0] < 0.6
