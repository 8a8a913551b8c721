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
    [1000.0, 993.0, 135.0]
    """
    passed = (1 - opacity.double()).clamp(2.0**-52, 1 - 1e-9)
    powers = passed[..., None] ** (torch.arange(samples, device=opacity.device) / samples)
    shares = powers / powers.sum(dim=-1, keepdim=True)
    return torch.special.entr(shares).sum(dim=-1) / math.log(samples)


def dullest_entropy(weights: Float[Tensor, "*rays samples"]) -> Float[Tensor, "*rays"]:
    """Entropy, 0 to 1, of the dullest weights that end a ray where these do on average.

    Of all shares with a given mean position those that fall (or rise) geometrically have the most entropy: a
    homogeneous fog, thin or dense. What has less says more of where the ray ends than its mean depth alone. An opacity
    near 1 does no harm here, while the fog of the same opacity then ends every ray at its first sample.

    >>> dullest_entropy(torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])).round(decimals=3).tolist()
    [1.0, 0.0]
    """
    positions = torch.arange(weights.shape[-1], device=weights.device).double()
    shares = weights.double() / weights.double().sum(dim=-1, keepdim=True)
    mean = (shares * positions).sum(dim=-1)
    low, high = torch.full_like(mean, -60.0), torch.full_like(mean, 60.0)
    for _ in range(60):
        slope = (low + high) / 2
        found = torch.softmax(slope[..., None] * positions, dim=-1)
        rising = (found * positions).sum(dim=-1) < mean
        low, high = torch.where(rising, slope, low), torch.where(rising, high, slope)
    return torch.special.entr(found).sum(dim=-1) / math.log(weights.shape[-1])
