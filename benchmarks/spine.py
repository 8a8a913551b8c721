"""Time and memory of the way in: import, help, and the demo, each as a whole process.

python benchmarks/spine.py            # import and help, against an empty interpreter
python benchmarks/spine.py --demo     # the demo too: minutes
"""

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEATS = 7


def seconds(command: list[str]) -> float:
    """Wall time of a process whose output is thrown away; raises if it fails."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", action="store_true", help="run the demo too")
    arguments = parser.parse_args()
    python = sys.executable
    commands = {
        "empty interpreter (baseline)": [python, "-c", "pass"],
        "import triptych": [python, "-c", "import triptych"],
        "triptych --help": [python, "-m", "triptych", "--help"],
        "import torch (for scale)": [python, "-c", "import torch"],
    }
    # In turn, so that a machine that drifts slows all of them alike.
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(REPEATS):
        for name, command in commands.items():
            times[name].append(seconds(command))
    baseline = statistics.median(times["empty interpreter (baseline)"])
    print(f"{'':32} median s   x baseline")
    for name, values in times.items():
        print(f"{name:32} {statistics.median(values):8.3f} {statistics.median(values) / baseline:12.1f}")
    if arguments.demo:
        folder = Path(tempfile.mkdtemp())
        try:
            elapsed = seconds([python, "-m", "triptych", "demo", "--out", str(folder / "demo")])
        finally:
            shutil.rmtree(folder)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"triptych demo: {elapsed:.0f} s, peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
