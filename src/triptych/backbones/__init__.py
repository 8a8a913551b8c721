"""Backbones by name."""

from collections.abc import Callable

from triptych.backbones.base import Backbone

BACKBONES: dict[str, Callable[..., Backbone]] = {}
