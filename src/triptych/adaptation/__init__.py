"""Adaptation methods by name."""

from triptych.adaptation.adabn import AdaBN
from triptych.adaptation.adversarial import AdversarialAlignment, MinEnt
from triptych.adaptation.base import Adapter
from triptych.adaptation.mean_teacher import DACS, DepthMix, MeanTeacher

ADAPTERS: dict[str, type[Adapter]] = {
    "adabn": AdaBN,
    "advent-mt": AdversarialAlignment,
    "dacs": DACS,
    "depth-mix": DepthMix,
    "mean-teacher": MeanTeacher,
    "min-ent": MinEnt,
}
