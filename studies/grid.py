"""Train and score every arm of a study with every seed, several runs side by side, and go on where it stopped.

A study is a dict from the name of an arm to its recipe. The run of an arm and a seed is a run folder
`<out>/<arm>/seed-<n>`, so that `triptych compare`, `predict` and `evaluate` work on it afterwards; studies that share
an arm share its runs. One run uses one thread: many small networks side by side use processors better than one after
another. A recipe's `model.initialize_from` names arms: the run starts from theirs of the same seed, once they are done.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from triptych.recipes.config import Recipe, from_json, to_json

Job = tuple[str, int, Recipe, tuple[str, ...]]
"""Arm, seed, recipe, splits to score."""


def folder(out: Path, arm: str, seed: int) -> Path:
    """Where the run of an arm and a seed lies."""
    return out / arm / f"seed-{seed}"


def jobs_of(arms: Mapping[str, Recipe], seeds: Iterable[int], splits: Sequence[str]) -> list[Job]:
    """Every arm with every seed, one seed of all arms before the next: a study cut short is still paired."""
    return [(arm, seed, replace(recipe, seed=seed), tuple(splits)) for seed in seeds for arm, recipe in arms.items()]


def run_all(jobs: Sequence[Job], out: Path, *, workers: int) -> dict[str, str]:
    """Do what is not done yet; returns the runs that failed, with the reason.

    Raises `ValueError` where a run folder holds another recipe than the study's: a number must not come from a run that
    the study no longer describes.
    """
    waiting = [job for job in jobs if not _is_done(out, job)]
    total = len(waiting)
    print(f"{len(jobs) - total} of {len(jobs)} runs are there; {total} to do, {workers} at a time", flush=True)
    failed: dict[str, str] = {}
    if not total:
        return failed
    started = time.monotonic()
    running: dict[Future[None], Job] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker) as pool:
        while waiting or running:
            for job in _ready(waiting, running.values())[: workers - len(running)]:
                waiting.remove(job)
                running[pool.submit(_run, out, to_json(_place(job, out)), *job[:2], job[3])] = job
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                arm, seed, *_ = running.pop(future)
                error = future.exception()
                if error is not None:
                    failed[f"{arm}/seed-{seed}"] = f"{type(error).__name__}: {error}"
                minutes, done = (time.monotonic() - started) / 60, total - len(waiting) - len(running)
                left = minutes / done * (total - done)
                word = "done" if error is None else f"FAILED ({error})"
                print(f"{done}/{total} {arm} seed {seed} {word}; {minutes:.0f} min, about {left:.0f} left", flush=True)
    return failed


def _ready(waiting: Sequence[Job], running: Iterable[Job]) -> list[Job]:
    """The jobs that start from none that is still to come, in order."""
    open_runs = {job[:2] for job in (*waiting, *running)}
    return [job for job in waiting if not any((arm, job[1]) in open_runs for arm in job[2].model.initialize_from)]


def _place(job: Job, out: Path) -> Recipe:
    """The recipe of a job with run folders for the arms that it starts from."""
    _, seed, recipe, _ = job
    runs = [folder(out, arm, seed) for arm in recipe.model.initialize_from]
    return replace(recipe, model=replace(recipe.model, initialize_from=tuple(map(str, runs))))


def _read_recipe(path: Path) -> Recipe:
    """A stored recipe with the names of arms (no slash in them) for the runs it started from, wherever they lay."""
    recipe = from_json(path.read_text(encoding="utf-8"))
    arms = tuple(Path(run).parent.name for run in recipe.model.initialize_from)
    return replace(recipe, model=replace(recipe.model, initialize_from=arms))


def _is_done(out: Path, job: Job) -> bool:
    arm, seed, recipe, splits = job
    run = folder(out, arm, seed)
    stored = run / "recipe.json"
    if stored.is_file() and _read_recipe(stored) != recipe:
        raise ValueError(
            f"{run} holds a run of another recipe than the study's arm {arm!r}; move it away or change --out."
        )
    return all((run / f"evaluation-{split}.json").is_file() for split in splits)


def _prepare_worker() -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides; a run resumes from its last checkpoint
    import torch

    torch.set_num_threads(1)


def _run(out: Path, recipe_json: str, arm: str, seed: int, splits: Sequence[str]) -> None:
    from triptych.evaluation.run import evaluate_run
    from triptych.training.loop import train

    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)  # a killed study must not go on behind the next one
    recipe, run = from_json(recipe_json), folder(out, arm, seed)
    for start in map(Path, recipe.model.initialize_from):
        if not any(start.glob("evaluation-*.json")):
            raise ValueError(f"{start}, which the run starts from, is not done.")
    run.parent.mkdir(parents=True, exist_ok=True)
    device = "auto" if os.environ["CUDA_VISIBLE_DEVICES"] else "cpu"
    with (run.parent / f"seed-{seed}.txt").open("a") as log, contextlib.redirect_stdout(log):
        if not (run / "model.safetensors").is_file() or not _finished(run, recipe):
            train(recipe, run, resume=(run / "recipe.json").is_file(), device=device, progress=False)
        for split in splits:
            if not (run / f"evaluation-{split}.json").is_file():
                evaluate_run(run, split=split, device=device, constant=False, progress=False)


def _finished(run: Path, recipe: Recipe) -> bool:
    lines = (
        (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines() if (run / "metrics.jsonl").is_file() else []
    )
    return any(json.loads(line).get("step") == recipe.schedule.steps for line in lines)


def read_scores(out: Path, arm: str, seeds: Iterable[int], split: str) -> dict[int, dict[str, float]]:
    """Each scored seed's primary number per task."""
    found = {}
    for seed in seeds:
        path = folder(out, arm, seed) / f"evaluation-{split}.json"
        if path.is_file():
            found[seed] = json.loads(path.read_text(encoding="utf-8"))["primary"]
    return found


def commits(out: Path, arms: Iterable[str], seeds: Iterable[int]) -> list[str]:
    """The commits that the runs were made with."""
    found = set()
    for arm in arms:
        for seed in seeds:
            path = folder(out, arm, seed) / "environment.json"
            if path.is_file():
                found |= {str(start["commit"]) for start in json.loads(path.read_text(encoding="utf-8"))["starts"]}
    return sorted(found)


def mean_and_deviation(values: Sequence[float], digits: int = 4) -> str:
    """`mean ± standard deviation` over seeds, or the one value.

    >>> mean_and_deviation([1.0, 2.0])
    '1.5 ± 0.71'
    """
    if not values:
        return "–"
    mean = f"{statistics.fmean(values):.{digits}g}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2g}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of the documentation.

    >>> print(markdown_table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replace_section(page: Path, name: str, text: str) -> None:
    """Put `text` between the marks `<!-- name -->` and `<!-- /name -->` of a page; `ValueError` where it has none."""
    page.write_text(with_section(page, name, text), encoding="utf-8")


def with_section(page: Path, name: str, text: str) -> str:
    """The page as `replace_section` would write it."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    content = page.read_text(encoding="utf-8")
    if first not in content or last not in content:
        raise ValueError(f"{page} has no marks {first} and {last} to write between.")
    before, rest = content.split(first, 1)
    return f"{before}{first}\n{text.strip()}\n{last}{rest.split(last, 1)[1]}"


def write_results(path: Path, content: Mapping[str, Any]) -> None:
    """Machine-readable results beside the page: plain JSON, sorted by nothing, numbers as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


def current_commit() -> str:
    """The commit of the checkout the study runs from."""
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()


def run_study(description: str | None, jobs: Callable[[], Sequence[Job]], report: Callable[[Path], None]) -> None:
    """The command line of a study with the parts `run` and `report`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["run", "report"])
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.part == "report":
        report(arguments.out)
        return
    for name, reason in run_all(jobs(), arguments.out, workers=arguments.workers).items():
        print(f"{name} failed: {reason}")
