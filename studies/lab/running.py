"""The command line of a study: run the jobs that have no row yet, each in a process of its own with the pinned source.

A job imports the package, this frame and what studies share from that source too: only the file of the study itself,
which names the source, is the one that was started. One thread per job, at the lowest priority (`--niceness`);
`--workers` says how many go side by side. A job that fails is repeated once with its seed, from where it stopped;
whatever stops the study, a later start goes on.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import rows
from lab.source import check_import, check_source, search_path
from lab.study import Study, digest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = "STUDY_RESULTS"
"""Variable that tells a study, and its jobs, where rows of others that it goes by lie."""
TRIES = 2


def results_folder() -> Path:
    """Where the rows of other studies lie that a study goes by: the folder that its own are written to."""
    return Path(os.environ.get(RESULTS, ROOT / "results"))


def main(study: Study, table: Callable[[list[rows.Row]], str], words: Sequence[str] | None = None) -> None:
    """`run`: do what has no row. `job ARM SEED`: do one of them here. `table`: print what the rows say."""
    parser = argparse.ArgumentParser(description=f"The study {study.name}.")
    parser.add_argument("part", choices=["run", "job", "table"])
    parser.add_argument("job", nargs="*", help="arm and seed of the part job")
    parser.add_argument("--source", type=Path, default=ROOT, help="worktree of the study's commit")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="run folders, by study, arm and seed")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of the rows")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--niceness", type=int, default=19)
    chosen = parser.parse_args(words)
    path = chosen.results / f"{study.name}.jsonl"
    os.environ[RESULTS] = str(chosen.results.resolve())
    try:
        if chosen.part == "table":
            print(table(rows.read_declared(path, study.commit)))
        elif chosen.part == "job":
            arm, seed = chosen.job
            run_job(study, arm, int(seed), source=chosen.source, out=chosen.out, path=path)
        else:
            check_source(chosen.source, study.commit)
            left = run_all(study, chosen, path)
            sys.exit(f"{len(left)} jobs failed: {', '.join(left)}" if left else 0)
    except ValueError as error:
        sys.exit(f"{study.name}: {error}")


def run_job(study: Study, arm: str, seed: int, *, source: Path, out: Path, path: Path) -> None:
    """Train and score one job with the pinned source, and append its row."""
    commit = check_source(source, study.commit)
    check_import(source)
    import torch

    torch.set_num_threads(1)
    arms = study.arms()
    recipes = {name: digest(settings) for name, settings in arms.items()}
    done = rows.read_declared(path, study.commit, recipes)
    if seed in rows.by_seed(done, arm):
        return
    folder = out / study.name / arm / f"seed-{seed}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    scores = study.score(arms[arm], seed, folder)
    check_source(source, study.commit)  # nothing was changed while it ran
    facts = {"seconds": round(time.monotonic() - started), "torch": torch.__version__}
    rows.append(path, rows.Row(arm, seed, recipes[arm], commit, scores, facts))


def run_all(study: Study, chosen: argparse.Namespace, path: Path) -> list[str]:
    """Run every job without a row; returns those that failed twice."""
    done = {(row.arm, row.seed) for row in rows.read_declared(path, study.commit)}
    waiting = [job for job in study.jobs() if job not in done]
    print(f"{study.name}: {len(study.jobs()) - len(waiting)} rows are there, {len(waiting)} jobs to do", flush=True)
    source, out, results = (folder.resolve() for folder in (chosen.source, chosen.out, chosen.results))
    environment = {**os.environ, "PYTHONPATH": search_path(source), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    places = ["--source", str(source), "--out", str(out), "--results", str(results)]

    def run(job: tuple[str, int]) -> str:
        arm, seed = job
        folder = out / study.name / arm
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"seed-{seed}.txt").open("a") as log:
            # -P: the folder of the study's file comes not before the source.
            command = [sys.executable, "-P", sys.argv[0], "job", arm, str(seed), *places]
            for _ in range(TRIES):
                code = subprocess.run(
                    ["nice", "-n", str(chosen.niceness), *command], stdout=log, stderr=log, env=environment
                ).returncode
                if code == 0:
                    break
        word = "done" if code == 0 else f"FAILED, see {log.name}"
        print(f"{time.strftime('%H:%M:%S')} {arm}, seed {seed} {word}", flush=True)
        return "" if code == 0 else f"{arm}, seed {seed}"

    with ThreadPoolExecutor(chosen.workers) as pool:
        return [name for name in pool.map(run, waiting) if name]
