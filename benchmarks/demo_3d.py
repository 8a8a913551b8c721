"""What the 3D branch adds to a step of a small network: `rooms-demo-3d` beside `rooms-demo`, in turn.

python benchmarks/demo_3d.py               # five pairs, torch's own number of threads: three minutes
python benchmarks/demo_3d.py --threads 1

A number is the wall time between two optimizer steps, data and logs included: the median of `--steps` of them after the
first ones of a process of its own. Goal: a ratio of at most 1.25, the median over pairs.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from triptych.recipes import RECIPES
from triptych.training.loop import train

NAMES = ("rooms-demo", "rooms-demo-3d")
FIRST = 6
"""Steps that are not counted: compiled loops are loaded, caches are cold."""


def seconds(name: str, steps: int, threads: int) -> float:
    """The median of a step."""
    if threads:
        torch.set_num_threads(threads)
    recipe, times = RECIPES[name], []
    recipe = replace(
        recipe,
        data=replace(recipe.data, val_split=""),
        schedule=replace(recipe.schedule, steps=FIRST + steps + 1),
        training=replace(recipe.training, evaluate_every=0, checkpoint_every=0),
    )
    register_optimizer_step_post_hook(lambda *_: times.append(time.perf_counter()))
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, Path(folder) / "run", device="cpu", progress=False)
    return statistics.median(after - before for before, after in zip(times[FIRST:], times[FIRST + 1 :], strict=False))


def main() -> None:
    """Print a line per pair, and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as many as it takes itself")
    parser.add_argument("--one", choices=NAMES, help="print the seconds of one recipe (what pairs are made of)")
    chosen = parser.parse_args()
    if chosen.one:
        print(seconds(chosen.one, chosen.steps, chosen.threads))
        return
    ratios = []
    for repeat in range(chosen.repeats):
        order = NAMES if repeat % 2 == 0 else NAMES[::-1]
        found = {}
        for name in order:
            command = [sys.executable, __file__, "--one", name, "--steps", str(chosen.steps)]
            command += ["--threads", str(chosen.threads)]
            finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[name] = float(finished.stdout.split()[-1])
        ratios.append(found[NAMES[1]] / found[NAMES[0]])
        print(f"{found[NAMES[0]]:.4f} s, with the branch {found[NAMES[1]]:.4f} s: {ratios[-1]:.2f}x", flush=True)
    print(f"median {statistics.median(ratios):.2f}x, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
