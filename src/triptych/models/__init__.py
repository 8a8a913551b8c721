"""Architectures that share inside the encoder, by name."""

from collections.abc import Callable

from triptych.models.multitask import MultiTaskModel

ARCHITECTURES: dict[str, Callable[..., MultiTaskModel]] = {}
