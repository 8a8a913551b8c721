"""Architectures that share inside the encoder, by name."""

from collections.abc import Callable

from triptych.models.mtan import MTAN
from triptych.models.multitask import MultiTaskModel

ARCHITECTURES: dict[str, Callable[..., MultiTaskModel]] = {
    "mtan": MTAN,
}
"""Called as `builder(backbone, tasks=tasks, **options)`; one that needs several trunks copies the one it is given."""
