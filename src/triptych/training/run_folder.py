"""The run folder: never overwritten unless told to, never resumed with another recipe; it records its origin."""

import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from triptych import __version__
from triptych.data.fingerprints import as_noted
from triptych.files import PARTIAL, exchange, is_abandoned, partial_path, write_text
from triptych.named_parts import resolve_options
from triptych.prediction import calibration
from triptych.recipes.config import INERT, Options, Recipe, flatten, from_json, read_recipe, to_json
from triptych.recipes.option_words import flatten as flatten_fields
from triptych.recipes.resolved import FILE as RESOLVED
from triptych.recipes.resolved import STARTS, code_commit, package_version, read_resolved, read_starts
from triptych.training.optim import schedule_factor
from triptych.training.run_lock import FILE as LOCK

FREE_ON_RESUME = (
    *INERT,
    "model.initialize_from",
    "plugins",  # what was loaded is compared, once it is
)
"""Fields that may differ when a run is resumed: they do not change what is computed."""

OURS = (
    "recipe.json",
    "resolved.json",
    "tasks.json",
    "model.safetensors",
    calibration.FILE,
    "frozen.safetensors",
    STARTS,
    "metrics.jsonl",
    "log.txt",
    "report.html",
    "checkpoints",
    "trackers",
)

SCORES = ("evaluation-", "confidence-")
"""Prefixes of the names of files that `triptych evaluate` writes into a run folder."""
PACKAGES = ("torch", "timm", "accelerate", "torchjd", "torchmetrics", "numpy", "safetensors")


def check_run_folder(run: Path, recipe: Recipe, *, resume: bool, overwrite: bool) -> None:
    """Raise, before anything is written, where `run` cannot be used as asked.

    An existing run needs `resume` (with the recipe it was started with) or `overwrite`; a folder that holds something
    else is refused either way.
    """
    if resume and overwrite:
        raise ValueError("resume and overwrite exclude each other: go on with the run, or replace it.")
    if run.exists() and not run.is_dir():
        raise NotADirectoryError(f"run folder {run} is a file; choose another --out.")
    parent = next(path for path in (run, *run.absolute().parents) if path.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise PermissionError(f"cannot write to {parent}: the folder is read-only; choose another --out.")
    # What was half written when a start was killed is nothing yet.
    if not run.exists() or all(path.name.endswith(PARTIAL) or path.name == LOCK for path in run.iterdir()):
        return
    if not (run / "recipe.json").is_file():
        raise FileExistsError(f"{run} is not empty and is no run folder (it has no recipe.json); choose another --out.")
    if not (resume or overwrite):
        raise FileExistsError(
            f"run folder {run} exists; go on with --resume, replace it with --overwrite, or choose another --out."
        )
    if resume:
        check_same_recipe(read_recipe(run / "recipe.json"), recipe, run)


def check_same_recipe(stored: Recipe, asked: Recipe, run: Path) -> None:
    """Raise `ValueError` naming every field in which two recipes would compute something else.

    More steps are allowed where they change none of those before (`can_go_on`).
    """
    free = (*FREE_ON_RESUME, "schedule.steps") if can_go_on(stored, asked) else FREE_ON_RESUME
    before, after = (flatten(from_json(to_json(recipe))) for recipe in (stored, asked))
    changed = [
        f"{name} was {before.get(name)!r}, now {after.get(name)!r}"
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name) and not name.startswith(free)
    ]
    if changed:
        follows = _follows_length(stored, asked)
        length = f" (on the number of steps depend {', '.join(follows)})" if follows else ""
        raise ValueError(
            f"cannot resume {run} with another recipe: {'; '.join(changed)}{length}. Resume with the run's recipe, or "
            "start another run from its weights (model.initialize_from)."
        )


def can_go_on(stored: Recipe, asked: Recipe) -> bool:
    """Whether a run with more steps begins as the stored one did.

    Then every learning rate of the shared steps is the same, and no part depends on the number of steps.

    >>> recipe = Recipe()
    >>> longer = replace(recipe, schedule=replace(recipe.schedule, steps=2 * recipe.schedule.steps))
    >>> can_go_on(recipe, longer)  # poly falls to 0 at its end
    False
    """
    before, after = stored.schedule, asked.schedule
    longer = after.steps > before.steps and replace(before, steps=after.steps) == after
    return longer and not _follows_length(stored, asked)


def _follows_length(stored: Recipe, asked: Recipe) -> list[str]:
    """Settings that change a run from its first step on where its number of steps changes."""
    before, after = stored.schedule, asked.schedule
    if before.steps == after.steps:
        return []
    shared = range(min(before.steps, after.steps))
    same = all(schedule_factor(before, step) == schedule_factor(after, step) for step in shared)
    told = [flatten_fields(resolve_options(replace(asked, schedule=each))) for each in (before, after)]
    return [
        *(() if same else [f"the rates of schedule.name {after.name}"]),
        *([f"adaptation.name {asked.adaptation.name}"] if asked.adaptation.used else ()),
        *(name for name, value in told[0].items() if told[1].get(name) != value),
    ]


def check_same_options(run: Path, options: Mapping[str, Options], plugins: Mapping[str, str]) -> None:
    """Raise `ValueError` where another version began the run, or the recipe's options or plug-ins resolved otherwise
    then.

    `options` are what this version makes of the recipe, by place (`resolve_options`), `plugins` the versions
    of the plug-ins that it needs.
    """
    begun = read_resolved(run)
    way_out = "Resume it with that version, or start another run from its weights (model.initialize_from)."
    if begun is None:
        raise ValueError(
            f"cannot resume {run}: it has no {RESOLVED}, so an older version began it, which clips and draws otherwise "
            f"(its commit is in environment.json). {way_out}"
        )
    known = {place: each for place, each in begun.options.items() if each}
    before, after = (flatten_fields(json.loads(json.dumps(each))) for each in (known, options))
    changed = [f"this is {__version__}"] if begun.version != __version__ else []
    stored = read_recipe(run / "recipe.json").plugins
    changed += [
        f"plug-in {name} was {stored.get(name)!r}, now {plugins.get(name)!r}"
        for name in stored
        # A script or notebook has no version, and may have another name than before.
        if stored[name] and stored[name] != plugins.get(name)
    ]
    # An option that came later has the default that a run without it had; the recipe is compared apart.
    changed += [
        f"{name} was {value!r}, now {after.get(name)!r}" for name, value in before.items() if value != after.get(name)
    ]
    if changed:
        code = f"version {begun.version}" + (f" ({begun.commit[:10]})" if begun.commit else "")
        raise ValueError(f"cannot resume {run}, which {code} began: {'; '.join(changed)}. {way_out}")


def describe_code(run: Path) -> list[str]:
    """A line where a run that is resumed was begun at another commit of this version; empty where that is not known."""
    begun, now = read_resolved(run), code_commit()
    if begun is None or None in (begun.commit, now) or begun.commit == now:
        return []
    return [
        f"begun at commit {begun.commit}, resumed at {now}: 'If you upgrade' in CHANGELOG.md has what goes on "
        "differently in between"
    ]


def check_same_data(run: Path, data: dict[str, Any]) -> None:
    """Raise `ValueError` naming what changed where the fingerprints of the data are not those of the run's start."""
    path = run / STARTS
    if not path.is_file():
        return
    before = read_starts(path)[0]["data"]
    now = as_noted(json.loads(json.dumps(data, default=str)), before)
    changed = [
        f"{part}.{key} was {value!r}, now {now.get(part, {}).get(key)!r}"
        for part, facts in before.items()
        for key, value in facts.items()
        if now.get(part, {}).get(key) != value
    ]
    if changed:
        raise ValueError(
            f"cannot resume {run} on other data: {'; '.join(changed)}. Put the data back, or start another run from "
            "its weights (model.initialize_from)."
        )


def begin_run_folder(run: Path, write: Callable[[Path], None], *, overwrite: bool) -> None:
    """Create the folder with what `write` puts into it. With `overwrite` an older run is replaced, and nothing else.

    The new folder is made beside the old one and exchanged for it in one step: a process that is killed leaves the old
    run as it was, or the new one as it begins. Files that are not a run's move to the new folder.
    """
    if not (overwrite and (run / "recipe.json").exists()):
        run.mkdir(parents=True, exist_ok=True)
        write(run)
        return
    run = run.resolve()
    beside = partial_path(run)
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    with suppress(OSError):  # without links it moves with what is not a run's
        (beside / LOCK).hardlink_to(run / LOCK)
    write(beside)
    exchange(beside, run)
    _take_over(beside, run)


def finish_exchange(run: Path) -> None:
    """Finish the work of a process that was killed while it replaced `run`."""
    run = run.resolve()
    name = partial_path(run).name.rsplit(".", 2)[0]  # of this run alone: lr0 is not lr0.1
    for beside in list(run.parent.iterdir()) if run.parent.is_dir() else []:
        partial = beside.name.endswith(PARTIAL) and beside.name.rsplit(".", 2)[0] == name
        if partial and beside.is_dir() and is_abandoned(beside, after=0.0):  # a run has one training
            _take_over(beside, run)


def _take_over(beside: Path, run: Path) -> None:
    """Move what is not a run's into the new folder, and delete the old one."""
    for path in beside.iterdir():
        if not (path.name in OURS or path.name.startswith(SCORES) or (run / path.name).exists()):
            path.rename(run / path.name)
    shutil.rmtree(beside)


def record_start(run: Path, facts: dict[str, Any]) -> None:
    """Append to `environment.json` what this start of the run depends on: versions, command, commit and `facts`."""
    path = run / STARTS
    starts = read_starts(path) if path.exists() else []
    starts.append(
        {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": sys.argv,
            "commit": code_commit(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": {"triptych": __version__} | {name: package_version(name) for name in PACKAGES},
            **facts,
        }
    )
    write_text(path, json.dumps({"starts": starts}, indent=2, default=str) + "\n")
