"""Ends a tiny run at every one of its file operations, as `kill -9` would, resumes it and compares it with a run that
was left alone.

Run as a script: it prints how many operations there are, and what differs. Processes are forked, so that torch is
imported once; the parent computes nothing, so that no thread is forked away.
"""

import argparse
import itertools
import json
import os
import shutil
import sys
import traceback
from pathlib import Path

import torch
from tiny import RECIPE, change

from triptych.training.loop import train

OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
KILLED = 9


def end_at(operation: int, folder: Path) -> None:
    """End this process before its file operation of that number below a folder."""
    counter = itertools.count(1)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in OPERATIONS and str(arguments[0]).startswith(str(folder)) and next(counter) == operation:
            os._exit(KILLED)

    sys.addaudithook(hook)


def forked(function, *arguments) -> int:
    """Call a function in a process of its own; returns how that ended."""
    process = os.fork()
    if process == 0:
        try:
            torch.set_num_threads(1)
            function(*arguments)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
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
    found |= {name: (folder / name).read_bytes() for name in ("recipe.json", "tasks.json", "resolved.json")}
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    timeless = ("seconds", "images_per_second")
    found["metrics"] = [{k: v for k, v in line.items() if k not in timeless} for line in lines]
    found["left"] = [str(path.relative_to(folder)) for path in folder.rglob(".*")]
    return found


def contents_are_old(out: Path, before: dict[str, object]) -> bool:
    """Whether the run that was to be replaced is there, and then whole."""
    if (out / "recipe.json").read_bytes() != before["recipe.json"]:
        return False
    assert contents(out) == before
    return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--overwrite", action="store_true", help="over a finished run of another recipe")
    parser.add_argument("--stride", type=int, default=1)
    arguments = parser.parse_args()
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
    for end in itertools.count(1, arguments.stride):
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
