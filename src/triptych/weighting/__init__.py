"""Weightings by name."""

from triptych.weighting.base import Weighting
from triptych.weighting.gradient import IMTLG, MGDA, AlignedMTL, CAGrad, GradDrop, GradientBalancing, PCGrad, UPGrad
from triptych.weighting.losses import DWA, Fixed, Logarithm, OneTask, RandomWeighting, Uncertainty

WEIGHTINGS: dict[str, type[Weighting]] = {
    "fixed": Fixed,
    "log": Logarithm,
    "uncertainty": Uncertainty,
    "dwa": DWA,
    "random": RandomWeighting,
    "one-task": OneTask,
    "gradient": GradientBalancing,
    "pcgrad": PCGrad,
    "mgda": MGDA,
    "upgrad": UPGrad,
    "cagrad": CAGrad,
    "imtl-g": IMTLG,
    "aligned-mtl": AlignedMTL,
    "graddrop": GradDrop,
}
