"""Weightings by name."""

from triptych.weighting.base import Weighting
from triptych.weighting.dwa import DWA
from triptych.weighting.fixed import Fixed
from triptych.weighting.gradient import IMTLG, MGDA, AlignedMTL, CAGrad, GradDrop, GradientBalancing, PCGrad, UPGrad
from triptych.weighting.logarithm import Logarithm
from triptych.weighting.one_task import OneTask
from triptych.weighting.random import RandomWeighting
from triptych.weighting.uncertainty import Uncertainty

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
