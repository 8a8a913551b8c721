"""Adaptation methods by name."""

from triptych.adaptation.base import Adapter

ADAPTERS: dict[str, type[Adapter]] = {}
