"""Boundaries of PASCAL-Context, derived from the 459 classes of its label maps: there are no boundary files."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Integer
from torch import Tensor

from triptych import tasks
from triptych.labels.encoding import Encoding
from triptych.tasks import Task
from triptych.types import Camera

LabelMap = Integer[np.ndarray, "height width"]
Edges = Bool[np.ndarray, "height width"]


def training_edges(labels: LabelMap) -> Edges:
    """Where |Laplacian(labels)| > 0 (4 neighbours, reflected border), thinned: what published loaders train on.

    Both sides of a change are marked before thinning, so lines lie on either side.
    """
    from triptych.metrics.thinning import thin

    padded = np.pad(labels.astype(np.int64), 1, mode="reflect")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return thin(around != 4 * padded[1:-1, 1:-1])


def evaluation_edges(labels: LabelMap) -> Edges:
    """Where a label differs from its right, lower or lower right neighbour, thinned: what SEISM scores against."""
    from triptych.metrics.contours import label_outlines
    from triptych.metrics.thinning import thin

    return thin(label_outlines(labels))


EDGES: dict[str, Callable[[LabelMap], Edges]] = {"training": training_edges, "evaluation": evaluation_edges}


@dataclass(frozen=True)
class LabelMapBoundary(Encoding):
    """Boundaries of a label map, by one of `EDGES`."""

    key: str = "LabelMap"
    edges: str = "training"

    def make_task(self, name: str) -> Task:
        return tasks.boundary()

    def decode(self, stored: np.ndarray, camera: Camera | None = None) -> Tensor:
        labels = self.pick(stored).astype(np.int64)
        return torch.from_numpy(EDGES[self.edges](labels).astype(np.float32)[None])
