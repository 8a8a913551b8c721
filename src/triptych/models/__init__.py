"""Architectures that share inside the encoder, by name."""

from collections.abc import Callable

from triptych.models.cross_stitch import CrossStitch
from triptych.models.mtan import MTAN
from triptych.models.multitask import MultiTaskModel
from triptych.models.nddr import NDDR

ARCHITECTURES: dict[str, Callable[..., MultiTaskModel]] = {
    "cross-stitch": CrossStitch,
    "mtan": MTAN,
    "nddr": NDDR,
}
"""Called as `builder(backbone, tasks=tasks, **options)`; one that needs several trunks copies the one it is given."""
