"""A contact sheet of a dataset: images beside their labels, in the colours of the tasks, with legends."""

import numpy as np
from PIL import Image

from triptych.data.base import DenseDataset
from triptych.data.subset import spread_evenly
from triptych.drawing.panels import Cell, Legend, Picture, color_maps, contact_sheet, describe_colors, overlay_map
from triptych.tasks import Task
from triptych.types import Sample, valid_pixels

MISSING = 225
"""Grey of a label that a sample does not have."""


def draw_dataset(dataset: DenseDataset, *, count: int = 6, width: int = 240, overlay: bool = False) -> Image.Image:
    """One row per sample, spread evenly over the dataset: the image and every task's label, each `width` pixels wide.

    With `overlay` labels are drawn over their image: edges that do not meet are seen at once.
    Raises `ValueError` for an empty dataset.
    """
    if len(dataset) == 0:
        raise ValueError(f"dataset {dataset.name} has no samples to show.")
    cells: list[Cell] = []
    for index in spread_evenly(len(dataset), max(1, count)):
        sample = dataset[index]
        pixels = (sample.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        cells.append(Cell(str(sample.key)[-32:], pixels))
        below = pixels if overlay else None
        cells += [_draw_label(name, task, sample, below) for name, task in dataset.tasks.items()]
    return contact_sheet(cells, columns=1 + len(dataset.tasks), width=width)


def _draw_label(name: str, task: Task, sample: Sample, below: Picture | None) -> Cell:
    target = sample.targets[name]
    valid = valid_pixels(target)
    if not valid.any():
        return Cell(f"{name}: missing", np.full((*sample.image.shape[-2:], 3), MISSING, np.uint8), Legend())
    labels = target.numpy()
    share = "" if valid.all() else f" ({float(valid.float().mean()):.0%} labelled)"
    shown = color_maps(task, [labels])[0] if below is None else overlay_map(task, below, labels)
    return Cell(f"{name}{share}", shown, describe_colors(task, [labels]))
