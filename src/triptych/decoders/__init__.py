"""Decoders by name."""

from triptych.decoders.atrc import ATRC
from triptych.decoders.atrc_search import ATRCSearch
from triptych.decoders.base import Decoder
from triptych.decoders.baseline import FCN, DeepLab, FourLevel, HRNetDecoder
from triptych.decoders.densemtl import DenseMTL
from triptych.decoders.diffusion import PAP, PSD
from triptych.decoders.dpt import DPT
from triptych.decoders.invpt import InvPT
from triptych.decoders.mtinet import MTINet
from triptych.decoders.padnet import PADNet, PADNetDenseMTL, PADNetPlus

DECODERS: dict[str, type[Decoder]] = {
    "atrc": ATRC,
    "atrc-search": ATRCSearch,
    "deeplab": DeepLab,
    "fcn": FCN,
    "dpt": DPT,
    "hrnet": HRNetDecoder,
    "vit": FourLevel,  # the next one by its former name: recorded studies and runs name it so
    "four-level": FourLevel,
    "densemtl": DenseMTL,
    "invpt": InvPT,
    "mti-net": MTINet,
    "pad-net": PADNet,
    "pad-net-densemtl": PADNetDenseMTL,
    "pad-net-plus": PADNetPlus,
    "pap": PAP,
    "psd": PSD,
}
