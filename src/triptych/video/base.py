"""Base class of self-supervision from video: a loss of one task without its labels, never part of the model; and its
record in the log.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from triptych.lookup import named_choice
from triptych.tasks import Task
from triptych.types import Output, Sample

COUNTS = ("without_neighbors", "without_intrinsics")
"""Reasons that `VideoTerms.skipped` counts, in the order of its entries."""
STATIC = 0.9
"""Share of pixels without motion above which the camera probably stands."""


class VideoTerms(NamedTuple):
    """Terms of a batch from its neighboring frames.

    `loss`: takes the place of the task's supervised loss; 0 where no image was usable. `images`: usable ones.
    `static`: share of their pixels that automasking left out. `skipped`: images that could not be used, by `COUNTS`.
    """

    loss: Float[Tensor, ""]
    images: Float[Tensor, ""]
    static: Float[Tensor, ""]
    skipped: Float[Tensor, " counts"]

    def row(self, one: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Values and weights of a batch by name, for means and sums over several."""
        counts = {f"video/{name}": (count, one) for name, count in zip(COUNTS, self.skipped, strict=True)}
        return {"video/static": (self.static * self.images, self.images), "video/images": (self.images, one)} | counts


def video_record(sums: Mapping[str, float], static: float | None) -> dict[str, Any]:
    """Record for the log from sums over batches: images that were learnt from, skipped images by reason, and the share
    of pixels that automasking left out.
    """
    return {name: int(sums[f"video/{name}"]) for name in ("images", *COUNTS)} | {"static": static}


def count_skipped(record: Mapping[str, Any]) -> str:
    """How many images could not be used, and why, as text.

    >>> count_skipped({"without_neighbors": 2, "without_intrinsics": 0})
    'without neighbors: 2, without intrinsics: 0'
    """
    return ", ".join(f"{name.replace('_', ' ')}: {record[name]}" for name in COUNTS)


def video_warnings(record: dict[str, Any]) -> list[str]:
    """Warnings about frames without a training signal."""
    if not record["images"]:
        return [f"video: no image since the last line could be learnt from ({count_skipped(record)})"]
    if record["static"] > STATIC:
        return [
            f"video: over {STATIC:.0%} of the pixels look the same in the neighboring frames and teach nothing; does "
            "the camera move? Neighbors farther away (neighbor_frames) see more motion."
        ]
    return []


class VideoSupervision(nn.Module):
    """Training-only supervision from neighboring frames, built as `MyMethod(tasks, intermediate_tasks=..., task=...,
    **options)` from the model's tasks.

    `forward(output, sample)` returns the terms of a batch whose samples carry `neighbors` and a `camera`; raises
    `ValueError` where the dataset gives none at all.
    """

    def __init__(self, tasks: Mapping[str, Task], *, intermediate_tasks: Mapping[str, Task], task: str) -> None:
        super().__init__()
        named_choice("task in video.task", task, dict(tasks))
        self.task = task
        self.final, self.intermediate = tasks[task], intermediate_tasks.get(task, tasks[task])

    def maps(self, output: Output) -> list[tuple[Task, Tensor]]:
        """The raw maps of the task, each with the task that decodes it: the final one, then those before it, the last
        first.
        """
        earlier = [stage[self.task] for stage in reversed(output.auxiliary) if self.task in stage]
        return [(self.final, output.predictions[self.task]), *((self.intermediate, raw) for raw in earlier)]

    def forward(self, output: Output, sample: Sample) -> VideoTerms:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")
