"""Decoders by name."""

from triptych.decoders.base import Decoder

DECODERS: dict[str, type[Decoder]] = {}
