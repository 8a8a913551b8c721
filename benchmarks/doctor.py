"""Time of `triptych data doctor` and `init` on a folder that is made here: 4,000 pairs of 240x320.

python benchmarks/doctor.py                         # photographs and class maps
python benchmarks/doctor.py --tasks semseg depth    # and depth of 16 bits
python benchmarks/doctor.py --pairs 400 --profile   # where the time goes

The baseline decodes every file of the folder once, pictures by Pillow to arrays, with as many threads: nobody who looks
at all pixels can be faster. The doctor may take 1.3 times that; `doctor --fast` and `init`, which look at samples, 6 s.
Each is measured in a process of its own, imports included for the last two, as a user waits for them; the order turns
from repeat to repeat, and the medians are compared. The folder is read once before, so that the disk does not count.
"""

import argparse
import cProfile
import os
import pstats
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 12
SCENES = 50
"""Different pictures; the others are these, shifted and darkened, so that no two files are equal."""
GOAL, SECONDS = 1.3, 6.0


def write_folder(root: Path, pairs: int, size: tuple[int, int], tasks: list[str]) -> None:
    """Photographs as JPEG and label maps as PNG, a tenth of them for validation."""
    scenes = [draw_scene(np.random.default_rng(seed), size) for seed in range(SCENES)]
    for index in range(pairs):
        photo, labels, depth = (np.roll(one, index // SCENES * 3, axis=1) for one in scenes[index % SCENES])
        shade = 1 - 0.3 * (index // SCENES) * SCENES / pairs
        photo, depth = (photo * shade).astype(np.uint8), (depth * shade).astype(np.uint16)
        maps = {"images": photo, "semseg": labels, "depth": depth}
        for name in ("images", *tasks):
            ending = ".jpg" if name == "images" else ".png"
            path = root / name / ("val" if index % 10 == 0 else "train") / f"{index:06d}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(maps[name]).save(path, **({"quality": 90} if name == "images" else {}))


def draw_scene(generator: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A photograph of colored ellipses with texture, its class map, and its depth in millimetres."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    labels, depth = np.zeros(size, np.uint8), 6000.0 - 3000 * y / height
    for _ in range(20):
        cy, cx = generator.uniform(0, height), generator.uniform(0, width)
        inside = ((y - cy) / generator.uniform(10, 70)) ** 2 + ((x - cx) / generator.uniform(10, 90)) ** 2 < 1
        labels[inside] = generator.integers(1, CLASSES)
        depth[inside] = generator.uniform(800, 5000) + 2 * (x - cx)[inside]
    colors = generator.uniform(30, 225, (CLASSES, 3))
    grain = np.asarray(
        Image.fromarray(generator.integers(0, 256, (height // 4, width // 4), np.uint8)).resize((width, height)), float
    )
    photo = colors[labels] + 0.4 * (grain[..., None] - 128) + generator.normal(0, 6, (*size, 3))
    return photo.clip(0, 255), labels, depth + generator.normal(0, 3, size)


def decode_all(root: Path, limit: int = 0) -> None:
    """The baseline: every picture to an array, with a thread per core."""
    paths = [path for path in root.rglob("*.*") if path.suffix in (".jpg", ".png")][: limit or None]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(decode, paths):
            pass


def decode(path: Path) -> int:
    with Image.open(path) as image:
        return np.asarray(image).size


def examine_all(root: Path, limit: int = 0) -> None:
    """The doctor, with a thread per core."""
    from triptych.doctor.examine import examine

    report = examine(root, limit=limit)
    if report.num_errors:
        raise SystemExit(f"the folder should be sound: {report.findings[0]}")


WORK = {"decode": decode_all, "doctor": examine_all}


def time_inside(name: str, root: Path) -> float:
    """Seconds of one kind of work in a fresh process, imports left out."""
    words = [sys.executable, __file__, "--work", name, "--folder", str(root)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1])


def time_command(*words: str) -> float:
    """Seconds of a command, as a user waits for it."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "triptych", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(root: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of the four kinds of work."""
    kinds = {
        "decode": lambda: time_inside("decode", root),
        "doctor": lambda: time_inside("doctor", root),
        "doctor --fast": lambda: time_command("data", "doctor", "--fast", str(root)),
        "init": lambda: time_command("data", "init", "--force", str(root)),
    }
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for repeat in range(repeats):
        for name in list(kinds)[:: 1 if repeat % 2 == 0 else -1]:
            found[name].append(kinds[name]())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--size", type=int, nargs=2, default=(240, 320), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--tasks", nargs="+", choices=("semseg", "depth"), default=["semseg"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="print where one thread of the doctor spends its time")
    parser.add_argument("--work", choices=[*WORK], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        WORK[given.work](given.folder, 4)  # imports, and what libraries prepare at first use
        start = time.perf_counter()
        WORK[given.work](given.folder)
        print(time.perf_counter() - start)
        return
    root = Path(tempfile.mkdtemp(prefix="triptych-doctor-"))
    try:
        write_folder(root, given.pairs, tuple(given.size), given.tasks)
        subprocess.run([sys.executable, "-m", "triptych", "data", "init", str(root)], check=True, capture_output=True)
        decode_all(root)  # from the disk into memory
        if given.profile:
            profile(root)
            return
        report(measure(root, given.repeats), given)
    finally:
        shutil.rmtree(root)


def profile(root: Path) -> None:
    """Where the time of looking at a sample goes, without threads."""
    from triptych.datasets.folder import Folder
    from triptych.doctor.inspection import inspect_sample

    dataset, profiler = Folder(root, split="train"), cProfile.Profile()
    inspect_sample(dataset, 0)  # imports
    start = time.perf_counter()
    for path in [path for index in range(len(dataset)) for path in dataset.files(index).values()]:
        decode(path)
    print(f"one decode: {(time.perf_counter() - start) / len(dataset) * 1e3:.2f} ms a pair")
    profiler.enable()
    for index in range(len(dataset)):
        inspect_sample(dataset, index)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(40)


def report(found: dict[str, list[float]], given: argparse.Namespace) -> None:
    """The medians, and whether they meet the goals."""
    seconds = {name: statistics.median(times) for name, times in found.items()}
    height, width = given.size
    print(f"{given.pairs} pairs of {height}x{width}, images and {', '.join(given.tasks)}, {os.cpu_count()} threads")
    for name, times in found.items():
        print(f"  {name:<14} {seconds[name]:7.2f} s   ({', '.join(f'{one:.2f}' for one in times)})")
    ratio = seconds["doctor"] / seconds["decode"]
    print(f"doctor / one decode of all files: {ratio:.2f} (goal: at most {GOAL})")
    for name in ("doctor --fast", "init"):
        print(f"{name}: {seconds[name]:.1f} s (goal: at most {SECONDS:g} s at 4,000 pairs)")


if __name__ == "__main__":
    main()
