"""A study as it is declared before its first run, and the order of its jobs."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Scores = dict[str, Any]
"""Numbers (and a file's hash) of one finished job by name; tables choose among them."""


@dataclass(frozen=True)
class Study:
    """Arms, seeds and source of a study, all fixed before its first run.

    `arms()` gives what each arm is: a recipe or other values that become JSON. `seeds` are those of every arm.
    `score(settings, seed, folder)` trains and scores one arm with one seed, in a folder of its own that it may find
    half done; `commit` is that of the source it runs with.
    """

    name: str
    commit: str
    arms: Callable[[], Mapping[str, Any]]
    seeds: Mapping[str, Sequence[int]]
    score: Callable[[Any, int, Path], Scores]

    def jobs(self) -> list[tuple[str, int]]:
        """Every arm with every of its seeds, one seed of all arms before the next: cut short it is still paired."""
        every = sorted({seed for seeds in self.seeds.values() for seed in seeds})
        return [(arm, seed) for seed in every for arm, seeds in self.seeds.items() if seed in seeds]


def digest(settings: Any) -> str:
    """Hash of what an arm is, 12 hexadecimal digits.

    >>> digest({"rate": 0.1, "steps": 3}) == digest({"steps": 3, "rate": 0.1})
    True
    """
    plain = dataclasses.asdict(settings) if dataclasses.is_dataclass(settings) else settings
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]
