"""Numbers of a learned field: how sharp its weights are, and how much of the true depth its expected depth explains."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def fit(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The best `scale * values + shift`."""
    design = np.stack([values, np.ones_like(values)], axis=1)
    return design @ np.linalg.lstsq(design, truth, rcond=None)[0]


def explained(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """R2 and mean relative error."""
    left = np.square(truth - found).sum() / np.square(truth - truth.mean()).sum()
    return 1 - left, float(np.mean(np.abs(found - truth) / truth))


def entropy(weights: Float[Tensor, "*rays samples"]) -> Float[Tensor, "*rays"]:
    """-sum_i p_i log p_i / log n of the shares p_i = w_i / sum_j w_j: 0 of one sample, 1 of n alike.

    What a ray lets through is left out, whatever its part (the opacity says it); an empty ray is NaN.
    """
    shares = weights / weights.sum(dim=-1, keepdim=True)
    return torch.special.entr(shares).sum(dim=-1) / math.log(weights.shape[-1])


def at_centres(values: Float[Tensor, "*maps height width"], size: torch.Size) -> Float[Tensor, "*maps rows columns"]:
    """Values at the pixels nearest to the centres of `size` cells."""
    rows, columns = (
        ((torch.arange(n) + 0.5) * (side / n)).long() for n, side in zip(size, values.shape[-2:], strict=True)
    )
    return values[..., rows[:, None], columns].double()


def fog_entropy(opacity: Float[Tensor, "*rays"], samples: int) -> Float[Tensor, "*rays"]:
    """Entropy, 0 to 1, of the weights of a homogeneous fog of that opacity in equal intervals: shares fall as q^i, q^n
    being what the ray lets through.

    >>> fog_entropy(torch.tensor([0.0, 0.5, 1.0]).double(), 16).mul(1000).round().tolist()
    [1000.0, 992.0, 12.0]
    """
    passed = (1 - opacity.double()).clamp(2.0**-52, 1 - 1e-9)
    powers = passed[..., None] ** (torch.arange(samples, device=opacity.device) / samples)
    shares = powers / powers.sum(dim=-1, keepdim=True)
    return torch.special.entr(shares).sum(dim=-1) / math.log(samples)
