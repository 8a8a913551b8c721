"""What the two GPU commands share: options, the clock that ends them, and processes that die with it."""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REHEARSAL = bool(os.environ.get("TRIPTYCH_GPU_REHEARSAL"))
"""Tiny settings on a CPU."""


def parse(description: str | None, seconds: int) -> argparse.Namespace:
    """The options of both commands; `part` is what a child process does."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", help="of a child process")
    parser.add_argument("--seconds", type=int, default=seconds)
    parser.add_argument("--device", default="cpu" if REHEARSAL else "cuda")
    parser.add_argument("--results", type=Path, default=ROOT / "runs" / "rehearsal" if REHEARSAL else ROOT / "results")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu")
    parser.add_argument("--processes", type=int, default=2 if REHEARSAL else 12)
    return parser.parse_args()


class Clock:
    """Seconds that are left of a command."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds; below 0 after the end."""
        return self.end - time.monotonic()


def start(words: list[str], arguments: argparse.Namespace, log: Path) -> subprocess.Popen:
    """This script again as a child in a process group of its own."""
    options = ["--device", arguments.device, "--results", str(arguments.results), "--out", str(arguments.out)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        return subprocess.Popen(
            [sys.executable, sys.argv[0], *words, *options], stdout=file, stderr=file, start_new_session=True
        )


@contextmanager
def stopped_at_the_end() -> Iterator[list[subprocess.Popen]]:
    """Children that are put in the list end with this process, whatever ends it: an error, an interrupt, `kill`. Two
    calls would train in one folder otherwise.
    """
    children: list[subprocess.Popen] = []
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield children
    finally:
        for child in children:
            stop(child)


def stop(child: subprocess.Popen) -> None:
    """Kill a child and what it started."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def source_digest() -> str:
    """Hash of the library's source: a copy of the working tree may have no history to ask."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "src" / "triptych").rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return f"source {digest.hexdigest()[:12]}"
