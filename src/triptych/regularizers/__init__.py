"""Regularizers by name."""

from triptych.regularizers.base import Regularizer
from triptych.regularizers.controls import (
    AuxiliaryHeads,
    Decoder2D,
    DepthCoded,
    DepthInput,
    OtherDepth,
    SecondHeads,
    ShuffledDepth,
    SingleSample,
    TrueDepth,
    UniformWeights,
)
from triptych.regularizers.cross_view import CrossView
from triptych.regularizers.distillation import FeatureDistillation
from triptych.regularizers.mtpsl import MTPSL
from triptych.regularizers.triplane import Triplane3D

REGULARIZERS: dict[str, type[Regularizer]] = {
    "triplane": Triplane3D,
    "triplane-cross-view": CrossView,
    "triplane-xy": DepthCoded,
    "triplane-single-sample": SingleSample,
    "triplane-uniform": UniformWeights,
    "triplane-shuffled": ShuffledDepth,
    "triplane-true-depth": TrueDepth,
    "triplane-other-depth": OtherDepth,
    "triplane-depth-input": DepthInput,
    "auxiliary-heads": AuxiliaryHeads,
    "decoder-2d": Decoder2D,
    "distill": FeatureDistillation,
    "mtpsl": MTPSL,
    "second-heads": SecondHeads,
}
