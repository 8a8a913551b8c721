"""Architectures that share inside the encoder, and what matches views beside it, by name."""

from collections.abc import Callable

from triptych.models.cvm import CvM
from triptych.models.joined import NDDR, CrossStitch
from triptych.models.mtan import MTAN
from triptych.models.multitask import MultiTaskModel

ARCHITECTURES: dict[str, Callable[..., MultiTaskModel]] = {
    "cross-stitch": CrossStitch,
    "mtan": MTAN,
    "nddr": NDDR,
}
"""Called as `builder(backbone, tasks=tasks, **options)`; one that needs several trunks copies the one it is given."""

CROSS_VIEW: dict[str, type[CvM]] = {"cvm": CvM}
"""Called as `builder(**options)`; what it returns stands beside the trunk, and all heads read it."""
