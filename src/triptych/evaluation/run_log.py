"""Read the log of a run, `metrics.jsonl` (its records: `training.log`)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from triptych.files import naming_damage
from triptych.lookup import parse_json

FINISHED = "finished"


def training_end(run: Path, steps: int) -> str:
    """Return `finished`, or how far a training of `steps` steps came, as `step 300 of 2000`; empty where no log tells.

    Where there are evaluations, the last of them counts: later weights were not deployed.
    """
    path = run / "metrics.jsonl"
    if not path.is_file():
        return ""
    with naming_damage(path):
        last = {record["kind"]: record["step"] for _, record in read_lines(path)}
    reached = last.get("evaluation", last.get("train", 0))
    return FINISHED if reached >= steps else f"step {reached} of {steps}"


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines of a `metrics.jsonl` and what they hold, without a last one that was being written when the process
    ended; `ValueError` where another is damaged.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    for i, line in enumerate(lines):
        try:
            record = parse_json(line)
        except json.JSONDecodeError as error:
            if i == len(lines) - 1:
                return
            raise ValueError(f"line {i + 1}: {error}") from error
        if not _is_record(record):
            raise ValueError(f"line {i + 1} is no record")
        yield line, record


def _is_record(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and found.get("kind") in ("train", "evaluation")
        and isinstance(found.get("step"), int)
        and all(
            isinstance(found.get(name, {}), dict) for name in ("losses", "weighted", "parts", "labelled", "metrics")
        )
    )
