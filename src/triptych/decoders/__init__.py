"""Decoders by name."""

from triptych.decoders.base import Decoder
from triptych.decoders.baseline import FCN

DECODERS: dict[str, type[Decoder]] = {
    "fcn": FCN,
}
