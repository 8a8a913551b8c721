"""Base class of weightings: task losses in, one total and its gradients out."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn

from triptych.processes import average_over_processes


class Weighting(nn.Module):
    """Combine task losses.

    Built as `MyWeighting(names, weights=..., **options)`: `names` in declaration order, `weights` the tasks' default
    weights. `forward(losses)` returns the total; `backward(losses, shared_parameters)` writes gradients and by
    default calls the first. Gradient-balancing methods replace `backward`. A learned weighting has parameters, which
    the optimizer gets; a stateful one has buffers, which checkpoints keep.

    A task without a label in the batch has a loss of exactly 0 (or is left out of `losses`) and changes nothing. Under
    several processes a weighting is not wrapped: it averages what it must over the processes itself.
    """

    undecayed: ClassVar[bool] = True
    """Its parameters get no weight decay."""
    retains_graph: ClassVar[bool] = False
    """Whether `backward` runs through the graph more than once; a compiled model must then not reuse its buffers
    (`torch._functorch.config.donated_buffer = False`)."""
    shares: Mapping[str, float] = MappingProxyType({})
    """Where several batches make a step: factors that the losses of this batch are already multiplied by, by task with
    a label in the step. Their mean over the batches is 1, so that linear weightings can ignore them.
    """

    def __init__(self, names: Sequence[str], *, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.weights = {name: float(weights[name]) for name in self.names}

    def active(self) -> tuple[str, ...]:
        """The tasks that train in the next optimizer step; the losses of others need no graph."""
        return self.names

    def check(self, shared_parameters: Sequence[nn.Parameter], idle: Sequence[str]) -> None:
        """Raise `ValueError` where it cannot combine losses of a network of which parts are frozen: `idle` are tasks of
        which nothing trains.
        """

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The total; the weighted sum of the losses unless a weighting says otherwise."""
        return self.weighted_sum(losses, dict.fromkeys(self.names, 1.0))

    def backward(
        self,
        losses: Mapping[str, Tensor],
        shared_parameters: Sequence[nn.Parameter],
        *,
        run_backward: Callable[[Tensor], None] = Tensor.backward,
        last: bool = True,
        extra: Tensor | None = None,
    ) -> Tensor:
        """Accumulate gradients of the combined losses into `.grad` and return the total, detached.

        `run_backward` is the precision- and process-aware backward pass of the loop (accelerate's). `last` says that
        the optimizer steps after this batch (`accelerator.sync_gradients`): what belongs to the whole step, such as
        balancing its gradients, happens then. `extra` joins the total as it is and is not balanced: the losses of
        domain adaptation.
        """
        total = self(losses) if extra is None else self(losses) + extra
        run_backward(total)
        if last:
            average_over_processes(p.grad for p in self.parameters() if p.grad is not None)
        return total.detach()

    def end_epoch(self, losses: Mapping[str, float]) -> None:
        """Receive the mean raw loss of each task after every epoch, for schedules such as DWA."""

    def weighted_sum(self, losses: Mapping[str, Tensor], factors: Mapping[str, Tensor | float]) -> Tensor:
        """sum_t factor_t w_t L_t over the tasks in `losses`."""
        present = self.present(losses)
        return torch.stack([factors[name] * self.weights[name] * loss for name, loss in present.items()]).sum()

    def present(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The losses in declaration order; `ValueError` for a loss of no known task."""
        for name in losses:
            if name not in self.weights:
                raise ValueError(f"losses has {name!r}; this weighting was built for {', '.join(self.names)}.")
        if not losses:
            raise ValueError(f"losses is empty; pass at least one of {', '.join(self.names)}.")
        return {name: losses[name] for name in self.names if name in losses}
