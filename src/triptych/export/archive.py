"""Archives of `torch.export` (`.pt2`): for Python with torch, and as input of other compilers."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych.export.program import Program

EXTRA = "triptych.json"
"""The description's name inside the archive."""


def write_archive(program: Program, path: Path, description: Mapping[str, Any] | None = None) -> None:
    """Save the program, and its description as an extra file."""
    extra = {} if description is None else {EXTRA: json.dumps(description)}
    torch.export.save(program.exported, str(path), extra_files=extra)


def open_archive(path: Path, names: tuple[str, ...]) -> Callable[[Tensor], dict[str, Tensor]]:
    """The archive as a function of a batch."""
    module = torch.export.load(str(path)).module()

    def run(image: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            maps = module(image)
        return {name: maps[name] for name in names}

    return run
