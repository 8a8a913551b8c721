"""Ends tiny runs as `kill -9` would, resumes them and compares them with runs that were left alone: at every one of
their file operations, or with `--random N` at N random moments of each of fourteen configurations.

Run as a script: it prints how many operations or kills there are, and what differs. Processes are forked, so that torch
is imported once; the parent computes nothing, so that no thread is forked away.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import torch
from tiny import RECIPE, change

from triptych.training.loop import train
from triptych.training.run_lock import FILE as LOCK

CONFIGURATIONS: dict[str, dict[str, object]] = {
    "plain": {},
    "no validation": {"data__val_split": "", "training__evaluate_every": 0},
    "every step": {"training__checkpoint_every": 1, "training__evaluate_every": 1, "training__log_every": 1},
    "all checkpoints": {"training__checkpoint_every": 1, "training__keep_checkpoints": 100},
    "average": {"training__ema": 0.9},
    "sgd": {"optimizer__name": "sgd"},
    "workers": {"data__num_workers": 2},
    "accumulated": {"training__accumulate": 2, "training__channels_last": True},
    "uncertainty": {"weighting__name": "uncertainty"},
    "epochs": {"weighting__name": "dwa", "data__batch_size": 5},
    "gradients": {"weighting__name": "pcgrad"},
    "half precision": {"training__precision": "bf16", "training__checkpoint_gradients": True},
    "auxiliary": {
        "model__decoder_options": {"dropout": 0.2, "intermediate": True},
        "data__auxiliary_tasks": ("normals",),
    },
    "one task a turn": {
        "weighting__name": "one-task",
        "weighting__options": {"order": "shuffled"},
        "training__accumulate": 2,
    },
}
"""What differs from the tiny recipe."""

OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
KILLED = 9


def end_at(operation: int, folder: Path) -> None:
    """End this process before its file operation of that number below a folder."""
    counter = itertools.count(1)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in OPERATIONS and str(arguments[0]).startswith(str(folder)) and next(counter) == operation:
            os._exit(KILLED)

    sys.addaudithook(hook)


def forked(function, *arguments, seconds: float | None = None) -> int:
    """Call a function in a process of its own, which is killed after so many seconds; returns how that ended."""
    process = os.fork()
    if process == 0:
        try:
            torch.set_num_threads(1)
            function(*arguments)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def run(recipe, out: Path, *, resume: bool = False, end: int = 0, overwrite: bool = False) -> None:
    if end:
        end_at(end, out.parent)
    train(recipe, out, resume=resume, overwrite=overwrite, device="cpu", progress=False)


def contents(folder: Path) -> dict[str, object]:
    """What a run is compared by: bytes, and log lines without times."""
    found: dict[str, object] = {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))
    }
    found |= {name: (folder / name).read_bytes() for name in ("recipe.json", "tasks.json")}
    resolved = json.loads((folder / "resolved.json").read_text())
    found["resolved.json"] = (resolved["version"], resolved["options"])  # not the commit, which may come meanwhile
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    timeless = ("seconds", "images_per_second")
    found["metrics"] = [{k: v for k, v in line.items() if k not in timeless} for line in lines]
    found["left"] = [str(path.relative_to(folder)) for path in folder.rglob(".*")]
    return found


def contents_are_old(out: Path, before: dict[str, object]) -> bool:
    """Whether the run that was to be replaced is there, and then whole."""
    if (out / "recipe.json").read_bytes() != before["recipe.json"]:
        return False
    (out / LOCK).unlink(missing_ok=True)  # nobody's, of the process that was killed
    assert contents(out) == before
    return True


def kill_at_random(folder: Path, count: int) -> int:
    """Kill every configuration at `count` random moments, one after the other, and resume it; returns how many runs
    differ from those that were left alone.
    """
    generator, differing, kills, unfinished = random.Random(0), 0, 0, 0
    for name, changes in CONFIGURATIONS.items():
        recipe = change(RECIPE, **changes)
        whole, out = folder / name / "whole", folder / name / "killed"
        started = time.perf_counter()
        assert forked(run, recipe, whole) == 0, name
        seconds = time.perf_counter() - started
        for _ in range(count):
            begun = (out / "recipe.json").is_file()
            code = forked(partial(run, recipe, out, resume=begun), seconds=generator.uniform(0, seconds))
            assert code in (0, -signal.SIGKILL), f"{name}: {code}"
            kills += 1
            unfinished += code != 0
        begun = (out / "recipe.json").is_file()
        code = forked(partial(run, recipe, out, resume=begun))
        expected, found = contents(whole), contents(out) if code == 0 else {}
        wrong = [each for each in expected if found.get(each) != expected[each]]
        print(f"{name}: {', '.join(wrong)} differ (exit {code})" if wrong else f"{name}: equal bits", flush=True)
        differing += bool(wrong)
    print(f"{len(CONFIGURATIONS)} configurations, {kills} kills, {unfinished} of running ones, {differing} differ")
    return differing


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--overwrite", action="store_true", help="over a finished run of another recipe")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="operation to begin with, for pieces")
    parser.add_argument("--random", type=int, metavar="N", help="kills of each of fourteen configurations")
    arguments = parser.parse_args()
    if arguments.random:
        sys.exit(bool(kill_at_random(arguments.folder, arguments.random)))
    recipe = change(RECIPE, schedule__steps=4, training__evaluate_every=2, training__checkpoint_every=2)
    if not arguments.validation:
        recipe = change(recipe, data__val_split="", training__evaluate_every=0)
    whole, old = arguments.folder / "whole", arguments.folder / "old"
    assert forked(run, recipe, whole) == 0
    expected, differing = contents(whole), []
    if arguments.overwrite:
        assert forked(run, change(recipe, seed=1), old) == 0
        (old / "mine.txt").write_text("not a run's")
        before = contents(old)
    for end in itertools.count(arguments.first, arguments.stride):
        out = arguments.folder / f"killed-{end}" / "run"
        if arguments.overwrite:
            shutil.copytree(old, out)
        else:
            out.parent.mkdir()
        code = forked(lambda out=out, end=end: run(recipe, out, end=end, overwrite=arguments.overwrite))
        if code == 0:
            break
        assert code == KILLED, code
        begun = (out / "recipe.json").is_file()
        if begun and arguments.overwrite and contents_are_old(out, before):
            code = forked(lambda out=out: run(recipe, out, overwrite=True))
        else:
            code = forked(lambda out=out, begun=begun: run(recipe, out, resume=begun))
        found = contents(out) if code == 0 else {}
        if arguments.overwrite:
            assert (out / "mine.txt").read_text() == "not a run's", end
            assert [path.name for path in out.parent.iterdir()] == ["run"], end
        wrong = [name for name in expected if found.get(name) != expected[name]]
        if wrong:
            differing.append(end)
            print(f"killed at operation {end}: {', '.join(wrong)} differ (exit {code})")
    print(f"{end - 1} operations, {len(differing)} differ")


if __name__ == "__main__":
    main()
