"""Rows of `results/<study>.jsonl`: one per finished job, appended as it finishes; a row counts as done."""

import fcntl
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab.study import Scores


@dataclass(frozen=True)
class Row:
    """What one finished job measured, and with what: `recipe` is the hash of the arm, `commit` that of the source."""

    arm: str
    seed: int
    recipe: str
    commit: str
    scores: Scores
    facts: dict[str, Any] = field(default_factory=dict)
    """Seconds, versions: said, not compared."""


def append(path: Path, row: Row) -> None:
    """Add a row as one line, under a lock; a job that has its row already is refused."""
    numbers = {name: value for name, value in row.scores.items() if not isinstance(value, str)}
    if bad := [name for name, value in numbers.items() if not math.isfinite(value)]:
        raise ValueError(f"{row.arm}, seed {row.seed}: {', '.join(bad)} is not finite; no row was written.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if (row.arm, row.seed) in {(each.arm, each.seed) for each in _parse(path, file.read())}:
            raise ValueError(f"{path} has a row of {row.arm}, seed {row.seed} already; a row counts as done.")
        file.write(json.dumps(asdict(row)) + "\n")


def read(path: Path) -> list[Row]:
    """All rows, none where there is no file.

    Raises `ValueError` for a line that is no row, for two rows of one job and for rows of two commits: numbers of
    different code must not meet in one table.
    """
    rows = _parse(path, path.read_text(encoding="utf-8")) if path.is_file() else []
    commits = sorted({row.commit for row in rows})
    if len(commits) > 1:
        raise ValueError(
            f"{path} has rows of two commits ({', '.join(each[:7] for each in commits)}); keep one, move others away."
        )
    jobs = [(row.arm, row.seed) for row in rows]
    if twice := sorted({job for job in jobs if jobs.count(job) > 1}):
        raise ValueError(f"{path} has two rows of {twice[0][0]}, seed {twice[0][1]}; keep the first.")
    return rows


def read_declared(path: Path, commit: str, recipes: Mapping[str, str] | None = None) -> list[Row]:
    """The rows of a study that was declared with this commit and these hashes of arms; `ValueError` for any other."""
    rows = read(path)
    for row in rows:
        if not row.commit.startswith(commit):
            raise ValueError(
                f"{path} has rows of commit {row.commit[:7]}, the study is pinned to {commit[:7]}; move the file away."
            )
        if recipes is not None and recipes.get(row.arm) != row.recipe:
            raise ValueError(
                f"{path}: {row.arm}, seed {row.seed} was run as {row.recipe}, the study declares "
                f"{recipes.get(row.arm, 'no such arm')}; move the file away."
            )
    return rows


def by_seed(rows: Sequence[Row], arm: str) -> dict[int, Scores]:
    """The scores of an arm."""
    return {row.seed: row.scores for row in rows if row.arm == arm}


def _parse(path: Path, text: str) -> list[Row]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            rows.append(Row(**json.loads(line)))
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}, line {number} is no row ({error}); mend or delete it.") from None
    return rows
