"""Inputs and values of the published meters, with their labels in our layout."""

import json

import numpy as np
import torch
from shared import shared_path
from torch import Tensor

from triptych.types import IGNORE


def arrays() -> dict[str, np.ndarray]:
    """The input arrays that all families share."""
    return dict(np.load(shared_path("golden/metrics_inputs.npz")))


def expected(family: str) -> dict[str, dict]:
    """Published values by metric."""
    return json.loads(shared_path(f"golden/metrics_{family}.json").read_text())["expected"]


def labels(array: np.ndarray) -> Tensor:
    """Label maps `(B, H, W)`; 255 is `IGNORE` already."""
    assert IGNORE == 255
    return torch.tensor(array)[:, 0].long()


def values(array: np.ndarray, invalid: float = 255.0) -> Tensor:
    """Float maps; a pixel with `invalid` in every channel becomes NaN."""
    target = torch.tensor(array)
    return torch.where((target == invalid).all(dim=1, keepdim=True), torch.nan, target)
