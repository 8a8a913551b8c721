"""MinEnt: minimize the entropy of unlabelled predictions (Vu et al., "ADVENT: Adversarial Entropy Minimization for
Domain Adaptation in Semantic Segmentation", CVPR 2019, arXiv 1811.12833, section 3.1).

Paper and this file. The paper has one segmentation map (and a second one with a weight of its own); here the mean is
taken over every map that scores classes: tasks and intermediate predictions. Depth and normals have no entropy and
adapt through the shared network alone.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from triptych.adaptation.base import Adapter, mean, supervised_maps
from triptych.types import Output, Sample

Scores = Float[Tensor, "batch channels height width"]


def weighted_self_information(raw: Scores) -> Float[Tensor, "batch classes height width"]:
    """I_c = -p_c log2(p_c + 1e-30) / log2 C with p the softmax over the C classes (Vu et al. 2019, section 3.2).

    The sum over classes is the entropy, from 0 to 1. A map with one channel is a logit: its two classes are (1 - p, p).

    >>> weighted_self_information(torch.zeros(1, 4, 1, 1)).flatten().tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    probability = class_probabilities(raw)
    return -probability * torch.log2(probability + 1e-30) / math.log2(probability.shape[1])


def class_probabilities(raw: Scores) -> Float[Tensor, "batch classes height width"]:
    """Softmax over the classes of a raw map; a map with one channel is the logit of the second of two."""
    raw = raw if raw.dtype == torch.float64 else raw.float()
    if raw.shape[1] == 1:
        return torch.cat([(-raw).sigmoid(), raw.sigmoid()], dim=1)
    return raw.softmax(dim=1)


class MinEnt(Adapter):
    """`weight` (0.001 in the paper) times the mean normalised entropy of the target's class maps."""

    def __init__(
        self,
        model: nn.Module,
        *,
        size: tuple[int, int],
        weights: Mapping[str, float],
        seed: int = 0,
        weight: float = 1e-3,
    ) -> None:
        super().__init__(model, size=size, weights=weights, seed=seed)
        self.weight = weight
        if not any(task.is_categorical for task in self.tasks.values()):
            raise ValueError(
                f"entropy minimisation needs a task with classes; the model has {', '.join(self.tasks)}. "
                "Add one to data.tasks, or choose adaptation 'advent-mt'."
            )

    def forward(self, model: nn.Module, source: Sample, target: Sample, output: Output) -> dict[str, Tensor]:
        maps = supervised_maps(model, model(target.image)).values()
        entropies = [weighted_self_information(raw).sum(dim=1).mean() for task, raw in maps if task.is_categorical]
        return {"entropy": self.weight * mean(entropies)}
