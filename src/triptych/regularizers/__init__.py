"""Regularizers by name."""

from triptych.regularizers.base import Regularizer

REGULARIZERS: dict[str, type[Regularizer]] = {}
