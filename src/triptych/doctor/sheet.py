"""A contact sheet of a dataset: images beside their labels, in the colors of the tasks, with legends."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from triptych.data.base import DenseDataset
from triptych.data.photos import to_pixels
from triptych.data.subset import spread_evenly
from triptych.drawing.panels import Cell, Legend, Picture, color_maps, contact_sheet, describe_colors, overlay_map
from triptych.lookup import named_choice
from triptych.tasks import Task
from triptych.types import valid_pixels

MISSING = 225
"""Grey of a label that a sample does not have."""


def draw_dataset(
    dataset: DenseDataset, *, keys: Sequence[str] = (), count: int = 6, width: int = 240, overlay: bool = False
) -> Image.Image:
    """One row per sample, of those with `keys`, or `count` spread evenly over the dataset: the image and every task's
    label, each `width` pixels wide. Pseudo-labels are marked as such.

    With `overlay` labels are drawn over their image, which shows misaligned edges at once.
    Raises `ValueError` for an empty dataset and an unknown key.
    """
    if len(dataset) == 0:
        raise ValueError(f"dataset {dataset.name} has no samples to show.")
    cells: list[Cell] = []
    places = {dataset.key(index): index for index in range(len(dataset))} if keys else {}
    chosen = [named_choice(f"image of {dataset.name}", key, places) for key in keys]
    for index in chosen or spread_evenly(len(dataset), max(1, count)):
        sample = dataset[index]
        pixels = to_pixels(sample.image)
        cells.append(Cell(str(sample.key)[-32:], pixels))
        below = pixels if overlay else None
        made = {name for name, weights in dataset.pseudo_weights.items() if sample.key in weights}
        cells += [
            _draw_label(f"{name} (pseudo)" if name in made else name, task, sample.targets[name], below)
            for name, task in dataset.tasks.items()
        ]
    return contact_sheet(cells, columns=1 + len(dataset.tasks), width=width)


def _draw_label(title: str, task: Task, target: Tensor, below: Picture | None) -> Cell:
    valid = valid_pixels(target)
    if not valid.any():
        return Cell(f"{title}: missing", np.full((*target.shape[-2:], 3), MISSING, np.uint8), Legend())
    labels = target.numpy()
    share = "" if valid.all() else f" ({float(valid.float().mean()):.0%} labelled)"
    shown = color_maps(task, [labels])[0] if below is None else overlay_map(task, below, labels)
    return Cell(f"{title}{share}", shown, describe_colors(task, [labels]))
