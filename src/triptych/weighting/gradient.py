"""Gradient balancing: combine the gradients of the tasks on shared parameters instead of their losses.

Aggregators are torchjd's, and two small solvers for what they need: torchjd solves the programs of UPGrad and CAGrad
with packages that are large or under the GPL; with one unknown per task scipy does it as well.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from triptych.lookup import named_choice
from triptych.processes import average_over_processes
from triptych.weighting.base import Weighting

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


class GradientBalancing(Weighting):
    """Give the shared parameters an aggregate of the tasks' gradients; other parameters get those of the weighted sum.

    Every task is one row: the gradient of w_t L_t with respect to the shared parameters, summed over the
    micro-batches of a step and averaged over processes, in float32. At the last micro-batch `aggregator` makes one
    direction of the rows, which takes the place of their sum in `.grad`; gradients from elsewhere stay. Tasks that are
    absent (a row of zeros) take no part; with one task left, or with an infinite gradient (fp16, which skips the
    step), the plain sum stays. `options` are the aggregator's own. Costs one backward pass per task on top of the
    usual one, and memory for one gradient of the shared parameters per task. Sharded parameters (FSDP) are refused.

    >>> weight = nn.Parameter(torch.tensor([0.0, 0.0]))
    >>> weighting = GradientBalancing(["a", "b"], weights={"a": 1.0, "b": 1.0}, aggregator="mgda")
    >>> losses = {"a": (weight * torch.tensor([1.0, 0.0])).sum(), "b": (weight * torch.tensor([0.0, 1.0])).sum()}
    >>> total = weighting.backward(losses, [weight])
    >>> weight.grad.tolist()
    [0.5, 0.5]
    """

    retains_graph = True
    aggregator_name: ClassVar[str] = "pcgrad"
    steps: Tensor
    """Aggregations so far; random aggregators draw by it."""

    def __init__(
        self,
        names: Sequence[str],
        *,
        weights: Mapping[str, float],
        aggregator: str = "",
        seed: int = 0,
        **options: bool | int | float | str,
    ) -> None:
        super().__init__(names, weights=weights)
        self.aggregator = named_choice("aggregator", aggregator or self.aggregator_name, aggregators())(**options)
        self.seed = seed
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._rows: Tensor | None = None
        self._scale: Tensor | float = 1.0

    @classmethod
    def further_options(cls, options: Mapping[str, Any]) -> Callable[..., nn.Module]:
        """Constructor that takes the options that this class lacks."""
        return named_choice("aggregator", str(options.get("aggregator") or cls.aggregator_name), aggregators())

    def check(self, shared_parameters: Sequence[nn.Parameter], idle: Sequence[str]) -> None:
        _checked(shared_parameters)

    def backward(
        self,
        losses: Mapping[str, Tensor],
        shared_parameters: Sequence[nn.Parameter],
        *,
        run_backward: Callable[[Tensor], None] = Tensor.backward,
        last: bool = True,
        extra: Tensor | None = None,
    ) -> Tensor:
        shared = _checked(shared_parameters)
        total = self(losses) if extra is None else self(losses) + extra
        rows = self._task_gradients(losses, shared)
        # `run_backward` multiplies by the loss scale and divides by the micro-batches: the slope of a leaf says so.
        leaf = torch.zeros((), device=total.device, requires_grad=True)
        run_backward(total + leaf)
        assert leaf.grad is not None
        rows *= leaf.grad / self._scale
        self._scale = leaf.grad
        self._rows = rows if self._rows is None else self._rows + rows
        if last:
            self._replace_sum(self._rows, shared, leaf.grad)
            self._rows = None
        return total.detach()

    def _task_gradients(self, losses: Mapping[str, Tensor], shared: Sequence[nn.Parameter]) -> Rows:
        """Gradient of every task times the latest scale, without which half precision may underflow."""
        size = sum(parameter.numel() for parameter in shared)
        rows = torch.zeros(len(self.names), size, device=shared[0].device)
        for row, name in zip(rows, self.names, strict=True):
            if name not in losses or not losses[name].requires_grad:
                continue
            loss = self._scale * self.weights[name] * losses[name]
            gradients = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True)
            for part, gradient in zip(_split(row, shared), gradients, strict=True):
                if gradient is not None:
                    part.copy_(gradient)
        return rows

    @torch.no_grad()
    def _replace_sum(self, rows: Rows, shared: Sequence[nn.Parameter], scale: Tensor) -> None:
        average_over_processes([rows])
        correction = scale * self.aggregate(rows / scale) - rows.sum(dim=0)
        if not correction.isfinite().all():
            return
        for part, parameter in zip(_split(correction, shared), shared, strict=True):
            if parameter.grad is not None:
                parameter.grad += part

    def aggregate(self, rows: Rows) -> Direction:
        """One direction from one gradient per task; the same on every process."""
        active = rows[(rows != 0).any(dim=1)]
        if len(active) < 2 or not active.isfinite().all():
            return rows.sum(dim=0)
        generators = [rows.device] if rows.is_cuda else []
        # Random aggregators draw from the global generators: seeded here so that processes and resumed runs agree.
        with torch.random.fork_rng(generators), torch.autocast(rows.device.type, enabled=False):
            torch.manual_seed(self.seed + 7919 * int(self.steps))
            self.steps += 1
            return self.aggregator(active)


def _checked(shared_parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    shared = [parameter for parameter in shared_parameters if parameter.requires_grad]
    if not shared:
        raise ValueError(
            "no parameter that tasks share trains (model.freeze), so there is nothing to balance; use weighting "
            "'fixed'."
        )
    if any(hasattr(parameter, "to_local") for parameter in shared):  # a DTensor
        raise ValueError("gradient balancing needs whole parameters, these are sharded (FSDP); use DDP or 'fixed'.")
    return shared


def _split(vector: Tensor, shared: Sequence[nn.Parameter]) -> list[Tensor]:
    parts = vector.split([parameter.numel() for parameter in shared])
    return [part.view_as(parameter) for part, parameter in zip(parts, shared, strict=True)]


class PCGrad(GradientBalancing):
    """Project each task's gradient off those it conflicts with (Yu et al., NeurIPS 2020); sums the results."""

    aggregator_name = "pcgrad"


class MGDA(GradientBalancing):
    """The shortest vector in the convex hull of the gradients (Désidéri 2012; Sener and Koltun, NeurIPS 2018)."""

    aggregator_name = "mgda"


class UPGrad(GradientBalancing):
    """Project each gradient onto the cone where no task gets worse, then average (Quinton and Rey 2024)."""

    aggregator_name = "upgrad"


class CAGrad(GradientBalancing):
    """The best worst-case improvement near the mean gradient (Liu et al., NeurIPS 2021); `c` is the radius, 0.4."""

    aggregator_name = "cagrad"


class IMTLG(GradientBalancing):
    """Equal projections onto every task's unit gradient (Liu et al., ICLR 2021)."""

    aggregator_name = "imtl-g"


class AlignedMTL(GradientBalancing):
    """Align the principal components of the gradient matrix (Senushkin et al., CVPR 2023)."""

    aggregator_name = "aligned-mtl"


class GradDrop(GradientBalancing):
    """Keep, per parameter, the gradients of one randomly chosen sign (Chen et al., NeurIPS 2020)."""

    aggregator_name = "graddrop"
