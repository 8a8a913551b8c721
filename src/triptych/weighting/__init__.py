"""Weightings by name."""

from triptych.weighting.base import Weighting

WEIGHTINGS: dict[str, type[Weighting]] = {}
