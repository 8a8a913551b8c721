"""Files of `torch.export`: archives (`.pt2`), for Python with torch and as input of other compilers, and packages of
AOTInductor (`.aoti.pt2`), compiled ahead of time for this kind of processor, for C++ on libtorch.
"""

import json
import shutil
import warnings
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
    return _by_name(torch.export.load(str(path)).module(), names)


def write_package(program: Program, path: Path) -> None:
    """Compile the program with the C++ compiler of this machine; its metadata names the outputs, in order."""
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        raise ValueError(f"{path} is compiled, and no C++ compiler is here; install g++, or export to .onnx or .pt2.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        torch._inductor.aoti_compile_and_package(
            program.exported,
            package_path=str(path),
            inductor_configs={"aot_inductor.metadata": {"maps": ",".join(program.names)}},
        )


def open_package(path: Path, names: tuple[str, ...]) -> Callable[[Tensor], dict[str, Tensor]]:
    """The package as a function of a batch."""
    return _by_name(torch._inductor.aoti_load_package(str(path)), names)


def _by_name(
    network: Callable[[Tensor], Mapping[str, Tensor]], names: tuple[str, ...]
) -> Callable[[Tensor], dict[str, Tensor]]:
    def run(image: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            maps = network(image)
        return {name: maps[name] for name in names}

    return run
