"""Aggregators of task gradients: torchjd's, and two small solvers for what they need.

torchjd solves the programs of UPGrad and CAGrad with packages that are large or under the GPL; with one unknown per
task scipy does it as well.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

Rows = Float[Tensor, "tasks parameters"]
Direction = Float[Tensor, " parameters"]
Square = Float[np.ndarray, "tasks tasks"]


def aggregators() -> dict[str, Callable[..., nn.Module]]:
    """Aggregators by name: constructors of modules from `(tasks, parameters)` to `(parameters,)`."""
    from torchjd import aggregation

    return {
        "pcgrad": aggregation.PCGrad,
        "mgda": aggregation.MGDA,
        "upgrad": partial(aggregation.UPGrad, projector=_projector()),
        "cagrad": CAGradAggregator,
        "imtl-g": aggregation.IMTLG,
        "aligned-mtl": aggregation.AlignedMTL,
        "dual-projection": partial(aggregation.DualProj, projector=_projector()),
        "config": aggregation.ConFIG,
        "graddrop": aggregation.GradDrop,
        "mean": aggregation.Mean,
        "sum": aggregation.Sum,
    }


class CAGradAggregator(nn.Module):
    """g_0 + c |g_0| / |g_w| g_w, g_0 the mean gradient, g_w = sum_t w_t g_t with w in the simplex minimising
    g_w . g_0 + c |g_0| |g_w| (Liu et al. 2021, Algorithm 1).
    """

    def __init__(self, c: float = 0.4) -> None:
        super().__init__()
        if c < 0:
            raise ValueError(f"c is {c}; it must not be negative (the paper uses 0.4).")
        self.c = c

    def forward(self, rows: Rows) -> Direction:
        weights = solve_cagrad(_normalized(rows @ rows.T), self.c)
        return torch.as_tensor(weights, dtype=rows.dtype, device=rows.device) @ rows


def solve_cagrad(gramian: Square, c: float) -> Float[np.ndarray, " tasks"]:
    """CAGrad's direction as weights of the gradients, from their products."""
    from scipy.optimize import minimize

    mean = np.full(len(gramian), 1 / len(gramian))
    radius = c * np.sqrt(max(mean @ gramian @ mean, 0.0))

    def norm(weights: np.ndarray) -> float:
        return float(np.sqrt(max(weights @ gramian @ weights, 0.0) + 1e-12))

    solution = minimize(
        lambda weights: weights @ gramian @ mean + radius * norm(weights),
        mean,
        jac=lambda weights: gramian @ mean + radius * (gramian @ weights) / norm(weights),
        bounds=[(0, 1)] * len(gramian),
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 200},
    ).x
    return mean + radius / norm(solution) * solution


def project_weights(weights: Float[np.ndarray, " tasks"], gramian: Square) -> Float[np.ndarray, " tasks"]:
    """The v >= `weights` with the shortest combination, v^T G v: the combination of `weights` projected onto the cone
    where no task gets worse (Quinton and Rey 2024, Proposition 1).

    With v = u + x and G = R^T R it is the least-squares problem |R x + R u| with x >= 0.
    """
    from scipy.optimize import nnls

    values, vectors = np.linalg.eigh(gramian)
    root = np.sqrt(values.clip(min=0))[:, None] * vectors.T
    return weights + nnls(root, -root @ weights)[0]


def _normalized(gramian: Tensor) -> Square:
    """Products of gradients with a mean of 1 on the diagonal: no solver meets a scale."""
    array = gramian.double().cpu().numpy()
    return array / max(np.trace(array) / len(array), np.finfo(np.float64).tiny)


def _projector() -> Any:
    from torchjd.linalg import DualConeProjector

    class Projector(DualConeProjector):
        """`project_weights` for torchjd, for each of the rows of `U`."""

        def __call__(self, U: Tensor, G: Tensor) -> Tensor:
            gramian = _normalized(G)
            projected = [project_weights(u, gramian) for u in U.double().cpu().numpy().reshape(-1, len(gramian))]
            return torch.as_tensor(np.stack(projected)).to(G).view_as(U)

    return Projector()
