"""Packages of AOTInductor (`.aoti.pt2`): compiled ahead of time for this kind of processor, for C++ on libtorch."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from triptych.export.program import Program


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
    compiled = torch._inductor.aoti_load_package(str(path))

    def run(image: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            maps = compiled(image)
        return {name: maps[name] for name in names}

    return run
