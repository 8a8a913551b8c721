"""Decoders by name."""

from triptych.decoders.base import Decoder
from triptych.decoders.baseline import FCN, DeepLab, FourLevel, HRNetDecoder
from triptych.decoders.invpt import InvPT

DECODERS: dict[str, type[Decoder]] = {
    "deeplab": DeepLab,
    "fcn": FCN,
    "hrnet": HRNetDecoder,
    "vit": FourLevel,
    "invpt": InvPT,
}
