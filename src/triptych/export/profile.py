"""Cost of a forward pass: time, memory and operations by image size, for runs and exported files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from triptych.export.proof import measure_seconds
from triptych.machine import peak_memory, restart_peak_memory, return_freed_memory
from triptych.prediction.predictor import Predictor
from triptych.recipes.config import split_domain

LEAST = 10**6
"""Bytes below which the growth of a process's peak means nothing: the system counts pages in larger steps."""


@dataclass(frozen=True)
class Cost:
    """One image of `size` (height, width): median `seconds`, `bytes` that the peak of memory grew by, and operations.

    `bytes` is `None` where the system does not tell (anything but Linux), and no measure below `LEAST`; `flops` (a
    multiply-add is two) is `None` for files.
    """

    size: tuple[int, int]
    seconds: float
    bytes: int | None
    flops: int | None


def profile(path: Path, sizes: Sequence[tuple[int, int]] = (), *, repeats: int = 5) -> list[Cost]:
    """Measure the network of a run folder or an ONNX file on a CPU with torch's number of threads.

    Without `sizes` a run is measured at its training size, at half and at twice that, and so is a file of free sizes at
    those of them that it takes; a file of one size at its own.
    """
    for height, width in sizes:
        if min(height, width) < 1:
            raise ValueError(f"size is {height} x {width}; give height and width of 1 pixel or more.")
    predictor = Predictor.load(path, device="cpu")
    recipe = predictor.recipe
    height, width = split_domain(recipe, recipe.data.test_split)[0].data.size
    fixed = predictor.fixed_size
    if not sizes and not fixed and not height:
        raise ValueError(f"{path} does not say at which size it was trained; give --size, a height and a width.")
    least = getattr(predictor.model, "smallest", 1)
    usual = [(height // 2, width // 2), (height, width), (2 * height, 2 * width)]
    usual = [fixed] if fixed else [size for size in usual if min(size) >= least] or [(least, least)]
    chosen = sizes or usual
    predictor.predict(_image(chosen[0]))  # loads code that is no part of what an image takes
    del predictor
    return [_measure(path, size, repeats) for size in chosen]


def cost_table(title: str, costs: Mapping[str, Sequence[Cost]]) -> Table:
    """One row per size of each network, by name."""
    several = len(costs) > 1
    table = Table(
        *(["network"] if several else []),
        "image",
        "ms",
        "images/s",
        "peak MB",
        "GMAC",
        title=title,
        title_justify="left",
    )
    for name, rows in costs.items():
        for cost in rows:
            table.add_row(
                *([name] if several else []),
                f"{cost.size[0]} x {cost.size[1]}",
                f"{cost.seconds * 1e3:.1f}",
                f"{1 / cost.seconds:.1f}",
                _megabytes(cost.bytes),
                "" if cost.flops is None else f"{cost.flops / 2e9:.2f}",
            )
    return table


def _megabytes(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 1e6:.0f}" if count >= LEAST else f"< {LEAST / 1e6:.0f}"


def _image(size: tuple[int, int]) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))


def _measure(path: Path, size: tuple[int, int], repeats: int) -> Cost:
    predictor = Predictor.load(path, device="cpu")  # anew: engines keep the memory of other sizes
    image = _image(size)
    return_freed_memory()  # else the pass would find room in it, and the peak stay as it is
    before = restart_peak_memory()
    predictor.predict(image)
    after = peak_memory()
    seconds = measure_seconds(predictor.predict, image, repeats=repeats)
    flops = None
    if getattr(predictor.model, "metadata", None) is None:
        with FlopCounterMode(display=False) as counter:
            predictor.predict(image)
        flops = counter.get_total_flops()
    return Cost(size, seconds, None if before is None or after is None else max(0, after - before), flops)
