"""What a forward pass costs: time, memory and operations by image size, for a run or an exported file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from triptych.export.proof import measure_seconds
from triptych.machine import peak_memory, restart_peak_memory
from triptych.prediction.predictor import Predictor
from triptych.recipes.config import split_domain


@dataclass(frozen=True)
class Cost:
    """One image of `size` (height, width): median `seconds`, `bytes` that the peak of memory grew by, and operations.

    `bytes` is `None` where the system does not tell (anything but Linux), `flops` (a multiply-add is two) for files.
    """

    size: tuple[int, int]
    seconds: float
    bytes: int | None
    flops: int | None


def profile(path: Path, sizes: Sequence[tuple[int, int]] = (), *, repeats: int = 5) -> list[Cost]:
    """Measure the network of a run folder or an ONNX file on a CPU with torch's number of threads.

    Without `sizes` a run is measured at its training size, at half and at twice that; a file at its own.
    """
    predictor = Predictor.load(path, device="cpu")
    recipe = predictor.recipe
    height, width = split_domain(recipe, recipe.data.test_split)[0].data.size
    counted = getattr(predictor.model, "metadata", None) is None
    fixed = predictor.fixed_size
    usual = [fixed] if fixed else [(height // 2, width // 2), (height, width), (2 * height, 2 * width)]
    return [_measure(predictor, size, repeats, counted=counted) for size in sizes or usual]


def cost_table(title: str, costs: Sequence[Cost]) -> Table:
    """One row per size."""
    table = Table("image", "ms", "images/s", "peak MB", "GMAC", title=title, title_justify="left")
    for cost in costs:
        table.add_row(
            f"{cost.size[0]} x {cost.size[1]}",
            f"{cost.seconds * 1e3:.1f}",
            f"{1 / cost.seconds:.1f}",
            "" if cost.bytes is None else f"{cost.bytes / 1e6:.0f}",
            "" if cost.flops is None else f"{cost.flops / 2e9:.2f}",
        )
    return table


def _measure(predictor: Predictor, size: tuple[int, int], repeats: int, *, counted: bool) -> Cost:
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    before = restart_peak_memory()
    predictor.predict(image)
    after = peak_memory()
    seconds = measure_seconds(predictor.predict, image, repeats=repeats)
    flops = None
    if counted:
        with FlopCounterMode(display=False) as counter:
            predictor.predict(image)
        flops = counter.get_total_flops()
    return Cost(size, seconds, None if before is None or after is None else max(0, after - before), flops)
