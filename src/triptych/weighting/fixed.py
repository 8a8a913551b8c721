"""Fixed weights: a weighted sum of the task losses."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from triptych.lookup import named_choice
from triptych.weighting.base import Weighting

_MULTI_TASK_LINE = {
    "semseg": 1.0,
    "depth": 1.0,
    "normals": 10.0,
    "boundary": 50.0,
    "human_parts": 2.0,
    "saliency": 5.0,
}

PRESETS: dict[str, dict[str, float]] = {
    "survey": _MULTI_TASK_LINE,
    "atrc": _MULTI_TASK_LINE,
    "invpt": _MULTI_TASK_LINE,
    "bridgenet-nyuv2": {**_MULTI_TASK_LINE, "boundary": 70.0},
    "mtmamba": dict.fromkeys(_MULTI_TASK_LINE, 1.0),
    "densemtl-single": {"semseg": 1.0, "depth": 1.0, "normals": 1.0, "boundary": 1.0},
    "densemtl-sd": {"semseg": 50.0, "depth": 1.0},
    "densemtl-sdn": {"semseg": 100.0, "depth": 1.0, "normals": 100.0},
    "densemtl-sdne": {"semseg": 100.0, "depth": 1.0, "normals": 100.0, "boundary": 50.0},
}
"""Task weights by paper. Intermediate predictions carry the same weights; DenseMTL takes the mean over its scales, the
others the sum. MTMamba's are meant for the logarithms of the losses (weighting `log`); DenseMTL's adaptation from
synthetic images uses `densemtl-sd`."""


class Fixed(Weighting):
    """total = sum_t w_t L_t.

    `preset` names a row of `PRESETS`; it takes the place of `weights` for the tasks that the row has.

    >>> import torch
    >>> weighting = Fixed(["semseg", "depth"], weights={"semseg": 1.0, "depth": 2.0})
    >>> weighting({"semseg": torch.tensor(3.0), "depth": torch.tensor(5.0)}).item()
    13.0
    """

    def __init__(self, names: Sequence[str], *, weights: Mapping[str, float], preset: str = "") -> None:
        super().__init__(names, weights=weights)
        if preset:
            row = named_choice("weighting preset", preset, PRESETS)
            self.weights.update({name: row[name] for name in self.names if name in row})

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        return self.weighted_sum(losses, dict.fromkeys(self.names, 1.0))
