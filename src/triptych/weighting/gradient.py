"""Gradient balancing: combine the gradients of the tasks on shared parameters instead of their losses."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from triptych.choices import named_choice
from triptych.weighting.base import Weighting, average_over_processes

Rows = Float[Tensor, "tasks parameters"]
Direction = Float[Tensor, " parameters"]


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

    aggregator_name: ClassVar[str] = "pcgrad"
    steps: Tensor

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

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        return sum(self.weights[name] * loss for name, loss in self.present(losses).items())

    def backward(
        self,
        losses: Mapping[str, Tensor],
        shared_parameters: Sequence[nn.Parameter],
        *,
        run_backward: Callable[[Tensor], None] = Tensor.backward,
        last: bool = True,
    ) -> Tensor:
        shared = _checked(shared_parameters)
        total = self(losses)
        scale = _backward_scale(run_backward, total)
        rows = self._task_gradients(losses, shared, scale)
        run_backward(total)
        self._rows = rows if self._rows is None else self._rows + rows
        if last:
            self._replace_sum(self._rows, shared, scale)
            self._rows = None
        return total.detach()

    def _task_gradients(self, losses: Mapping[str, Tensor], shared: Sequence[nn.Parameter], scale: Tensor) -> Rows:
        size = sum(parameter.numel() for parameter in shared)
        rows = torch.zeros(len(self.names), size, device=shared[0].device)
        for row, name in zip(rows, self.names, strict=True):
            if name not in losses or not losses[name].requires_grad:
                continue
            loss = scale * self.weights[name] * losses[name]
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
        raise ValueError("shared_parameters has no trainable parameter to balance; use weighting 'fixed'.")
    if any(isinstance(parameter, DTensor) for parameter in shared):
        raise ValueError("gradient balancing needs whole parameters, these are sharded (FSDP); use DDP or 'fixed'.")
    return shared


def _backward_scale(run_backward: Callable[[Tensor], None], total: Tensor) -> Tensor:
    """The factor by which `run_backward` multiplies a loss (loss scaling, accumulation), read off a leaf."""
    leaf = torch.ones((), device=total.device, requires_grad=True)
    run_backward(leaf * 1.0)
    assert leaf.grad is not None
    return leaf.grad


def _split(vector: Tensor, shared: Sequence[nn.Parameter]) -> list[Tensor]:
    parts = vector.split([parameter.numel() for parameter in shared])
    return [part.view_as(parameter) for part, parameter in zip(parts, shared, strict=True)]


class _CAGradAggregator(nn.Module):
    """g_0 + c |g_0| / |g_w| g_w, g_0 the mean gradient and g_w = sum_t w_t g_t, w in the simplex minimising
    g_w . g_0 + c |g_0| |g_w| (Liu et al. 2021, Algorithm 1). torchjd's needs cvxpy; scipy solves it as well.
    """

    def __init__(self, c: float = 0.4) -> None:
        super().__init__()
        if c < 0:
            raise ValueError(f"c is {c}; it must not be negative (the paper uses 0.4).")
        self.c = c

    def forward(self, rows: Rows) -> Direction:
        from scipy.optimize import minimize

        gramian = (rows @ rows.T).double().cpu().numpy()
        gramian /= np.trace(gramian) / len(gramian)
        uniform = np.full(len(gramian), 1 / len(gramian))
        radius = self.c * np.sqrt(uniform @ gramian @ uniform)

        def norm(weights: np.ndarray) -> float:
            return float(np.sqrt(max(weights @ gramian @ weights, 0.0) + 1e-12))

        solution = minimize(
            lambda weights: weights @ gramian @ uniform + radius * norm(weights),
            uniform,
            jac=lambda weights: gramian @ uniform + radius * (gramian @ weights) / norm(weights),
            bounds=[(0, 1)] * len(gramian),
            constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like},
            options={"ftol": 1e-12, "maxiter": 200},
        ).x
        combined = uniform + radius / norm(solution) * solution
        return torch.as_tensor(combined, dtype=rows.dtype, device=rows.device) @ rows


def aggregators() -> dict[str, Callable[..., nn.Module]]:
    """Aggregators by name: modules from `(tasks, parameters)` to `(parameters,)`."""
    from torchjd import aggregation

    return {
        "pcgrad": aggregation.PCGrad,
        "mgda": aggregation.MGDA,
        "upgrad": aggregation.UPGrad,
        "cagrad": _CAGradAggregator,
        "imtl-g": aggregation.IMTLG,
        "aligned-mtl": partial(aggregation.AlignedMTL, scale_mode="min"),
        "dual-projection": aggregation.DualProj,
        "config": aggregation.ConFIG,
        "graddrop": aggregation.GradDrop,
        "mean": aggregation.Mean,
        "sum": aggregation.Sum,
    }


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
