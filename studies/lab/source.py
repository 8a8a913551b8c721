"""The pinned source of a study: a clean worktree of its commit, and nothing else, is what its jobs import."""

import os
import subprocess
from pathlib import Path


def check_source(source: Path, commit: str) -> str:
    """The full commit of a worktree; `ValueError` unless it is at `commit` and nothing in it was changed."""
    head = _git(source, "rev-parse", "HEAD")
    if not commit or not head.startswith(commit):
        raise ValueError(
            f"{source} is at {head[:7]}, the study is pinned to {commit[:7] or 'no commit'}; "
            f"`git worktree add DIR {commit[:7] or 'COMMIT'}` and pass --source DIR."
        )
    if changed := _git(source, "status", "--porcelain"):
        raise ValueError(f"{source} has changes ({changed.splitlines()[0].strip()}); a study needs a clean worktree.")
    return head


def check_import(source: Path) -> None:
    """`ValueError` unless `triptych`, and what studies share, are imported from that worktree: an editable install may
    be another checkout, and the folder of the study's file is one. A source older than this frame has none to import.
    """
    import triptych

    for name, file, part in (("triptych", triptych.__file__, "src"), ("lab", __file__, "studies")):
        here, wanted = Path(file).resolve(), (source / part / name).resolve()
        if wanted.is_dir() and not here.is_relative_to(wanted):
            raise ValueError(
                f"{name} is imported from {here.parent}, not from {source}; start the study with `run`, or as `python "
                f"-P` with PYTHONPATH={source}/src:{source}/studies."
            )


def search_path(source: Path) -> str:
    """`PYTHONPATH` of a job: the source, but this frame's folder for that of a source older than the frame."""
    own = source / "studies"
    studies = own if (own / "lab").is_dir() else Path(__file__).resolve().parents[1]
    return os.pathsep.join(map(str, (source / "src", studies)))


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{folder} is no worktree ({done.stderr.strip()}); `git worktree add` makes one.")
    return done.stdout.strip()
