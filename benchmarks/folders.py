"""What becomes of folders and files of users: the table of docs/own-data.md.

python benchmarks/folders.py                 # two minutes; --cases, --layouts, --faults, --damage for one part alone

Layouts (`tests/helpers/folder_layouts.py`) are folders of which the truth is known; reported layouts and planted faults
come from `cases/` of the shared folder beside the checkout, where it is there; damaged label files
(`tests/helpers/damaged_labels.py`) are drawn from seeds, in every format that is read. Each runs under an alarm.
"""

import argparse
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
SHARED = Path(os.environ.get("TRIPTYCH_SHARED", HERE.parents[2] / "shared"))
sys.path.insert(0, str(HERE.parents[1] / "tests" / "helpers"))

from damaged_labels import DAMAGES, FORMATS, Subject, damage_label  # noqa: E402
from folder_layouts import LAYOUTS  # noqa: E402
from folder_truth import Layout, judge  # noqa: E402
from shared_layouts import read_shared_layouts  # noqa: E402

from triptych.doctor.examine import examine  # noqa: E402

SECONDS = 60
Told = Iterator[tuple[str, str]]


class HangError(BaseException):
    """Nothing catches it on the way."""


@contextlib.contextmanager
def alarm() -> Iterator[None]:
    """Ends what takes longer than a minute."""

    def ring(*_: Any) -> None:
        raise HangError

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def outcome_of(run: Callable[[], str]) -> str:
    """What `run` says, `hung`, or `died`."""
    try:
        with alarm():
            return run()
    except HangError:
        return "hung"
    except Exception as error:
        return f"died ({type(error).__name__}: {error})"


def try_layouts(layouts: Iterable[Layout]) -> Told:
    """(outcome, title) of each layout."""
    for layout in layouts:
        with tempfile.TemporaryDirectory() as folder:
            yield outcome_of(lambda: judge(layout, Path(folder)).outcome), layout.title  # noqa: B023


def find_cases() -> Iterator[Layout]:
    """The reported layouts, where they are there."""
    path = SHARED / "cases/layouts.py"
    if path.exists():
        yield from read_shared_layouts(path)


def try_faults() -> Told:
    """(outcome, title) of each planted fault, and of what is no fault."""
    path = SHARED / "cases/faults.py"
    if not path.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CASES"] = folder
        spec = importlib.util.spec_from_file_location("faults", path)
        assert spec is not None
        assert spec.loader is not None
        faults = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(faults)
        faults.build()
        for title, (plant, expected, kind) in faults.F.items():
            work = Path(folder) / "work"
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(faults.BASE, work)
            plant(work)
            said = outcome_of(lambda: _examine(work))  # noqa: B023
            if faults.MARK.exists():
                yield "ran code of a file", title
            elif said.startswith(("hung", "died")):
                yield said, title
            elif kind in ("none", "fine"):
                yield ("called an error" if "error: " in said else "without a fault or an error"), title
            else:
                yield ("named" if re.search(expected, said) else "not named"), title


def _examine(work: Path) -> str:
    try:
        findings = examine(work).findings
    except ValueError as error:
        return f"error: {error}".replace(str(work), "")
    return "\n".join(f"{finding.severity}: {finding}" for finding in findings).replace(str(work), "")


def try_damage(count: int) -> Told:
    """(outcome, title) of `count` damaged label files, every damage of every format in turn."""
    rounds = -(-count // (len(FORMATS) * len(DAMAGES)))
    for name in FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            subject = Subject(Path(folder), name)
            for kind, seed in product(DAMAGES, range(rounds)):
                yield outcome_of(lambda: damage_label(subject, kind, seed)[0]), f"{name}, {kind}, {seed}"  # noqa: B023


def count_outcomes(title: str, told: Told, expected: tuple[str, ...]) -> str:
    """A row of the table; what is not expected is printed beside it."""
    found = list(told)
    for outcome, case in found:
        if outcome not in expected:
            print(f"  {title}: {case}: {outcome}", file=sys.stderr)
    counts = Counter(outcome.partition(" (")[0] for outcome, _ in found)
    shown = ", ".join(f"{counts[outcome]} {outcome}" for outcome in (*expected, "wrong", "died", "hung"))
    return f"| {title} | {len(found)} | {shown} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="damaged files, at least")
    parts = ("cases", "layouts", "faults", "damage")
    for part in parts:
        parser.add_argument(f"--{part}", action="store_true")
    given = parser.parse_args()
    chosen = [part for part in parts if getattr(given, part)] or list(parts)
    warnings.simplefilter("ignore")
    rows: dict[str, Callable[[], str]] = {
        "cases": lambda: count_outcomes("reported layouts", try_layouts(find_cases()), ("right", "CHECK", "refused")),
        "layouts": lambda: count_outcomes("own layouts", try_layouts(LAYOUTS), ("right", "CHECK", "refused")),
        "faults": lambda: count_outcomes(
            "planted faults", try_faults(), ("named", "without a fault or an error", "not named")
        ),
        "damage": lambda: count_outcomes("damaged label files", try_damage(given.count), ("named", "same pixels")),
    }
    print("| what | how many | outcomes |\n| --- | --- | --- |")
    for part in chosen:
        print(rows[part](), flush=True)


if __name__ == "__main__":
    main()
