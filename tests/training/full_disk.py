"""Trains a tiny run on disks that are too small, of six sizes, and on one that fills up while the run is away; makes
room, resumes, and compares with a run that was left alone.

Run as a script by someone who may mount: root, or `unshare -rm python tests/training/full_disk.py FOLDER`. It prints
what the run said and what differs.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from kills import KILLED, contents, forked, run
from tiny import RECIPE, change

SHARES = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
"""Sizes of the disks, as shares of the one that a run fits on."""


@contextmanager
def disk(place: Path, size: int) -> Iterator[None]:
    """A file system in memory of `size` bytes."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def resize(place: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


def fails(folder: Path, *arguments: object, **options: object) -> str:
    """What a run says that ends with an error; empty where it ends well."""
    told = folder / "told.txt"

    def attempt() -> None:
        try:
            run(*arguments, **options)  # type: ignore[arg-type]
        except Exception as error:
            told.write_text(f"{type(error).__name__}: {error}")

    told.write_text("")
    assert forked(attempt) == 0
    return told.read_text()


def used(place: Path) -> int:
    """Bytes that are taken on a disk."""
    disk = os.statvfs(place)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


def judge(what: str, text: str, found: dict[str, object], expected: dict[str, object]) -> bool:
    """Whether the error was one line of the system's and the resumed run is equal; prints both."""
    good = text.startswith("OSError: ") and "\n" not in text and "No space left" in text and "/run" in text
    wrong = [name for name in expected if found.get(name) != expected[name]]
    print(f"{what}: {text or 'it had room'}", f"{', '.join(wrong) or 'nothing'} differs", sep="\n  ", flush=True)
    return good and not wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shares", type=float, nargs="*", default=SHARES)
    arguments = parser.parse_args()
    # All checkpoints are kept: what is used at the end is the most that ever was.
    often = {"training__checkpoint_every": 1, "training__log_every": 1, "training__keep_checkpoints": 100}
    recipe = change(RECIPE, training__evaluate_every=2, **often)
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    with disk(folder / "whole", 2**28):
        assert forked(run, recipe, folder / "whole" / "run") == 0
        expected, need, good = contents(folder / "whole" / "run"), used(folder / "whole"), []
    room = 4 * need
    for share in arguments.shares:
        place = folder / f"disk-{share}"
        with disk(place, int(share * need)):
            text = fails(folder, recipe, place / "run")
            resize(place, room)
            begun = (place / "run" / "recipe.json").is_file()
            code = forked(partial(run, recipe, place / "run", resume=begun))
            good.append(judge(f"{share:.0%} of the room", text, contents(place / "run") if code == 0 else {}, expected))
    with disk(folder / "filled", room):
        place = folder / "filled"
        assert forked(partial(run, recipe, place / "run", end=60)) == KILLED
        filler = os.statvfs(place)
        with (place / "filler").open("wb") as file:
            file.write(bytes(filler.f_bavail * filler.f_frsize))
        text = fails(folder, recipe, place / "run", resume=True)
        (place / "filler").unlink()
        code = forked(partial(run, recipe, place / "run", resume=True))
        found = contents(place / "run") if code == 0 else {}
        good.append(judge("filled before it resumes", text, found, expected))
    print(f"{len(good)} full disks, {good.count(False)} not told or not made good")
    return int(not all(good))


if __name__ == "__main__":
    sys.exit(main())
