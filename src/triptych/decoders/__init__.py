"""Decoders by name."""

from triptych.decoders.base import Decoder
from triptych.decoders.baseline import FCN
from triptych.decoders.invpt import InvPT

DECODERS: dict[str, type[Decoder]] = {
    "fcn": FCN,
    "invpt": InvPT,
}
