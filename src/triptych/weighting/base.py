"""What every weighting is: task losses in, one total and its gradients out."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn


class Weighting(nn.Module):
    """Combine task losses.

    Built as `MyWeighting(names, weights=..., **options)`: `names` in declaration order, `weights` the tasks' default weights. `forward(losses)`
    returns the total; `backward(losses, shared_parameters)` writes gradients and by default calls the first. Gradient-balancing methods replace `backward`.
    A learned weighting has parameters, which the optimizer gets; a stateful one has buffers, which checkpoints keep.
    """

    def __init__(self, names: Sequence[str], *, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.weights = {name: float(weights[name]) for name in self.names}

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def backward(
        self,
        losses: Mapping[str, Tensor],
        shared_parameters: Sequence[nn.Parameter],
        *,
        run_backward: Callable[[Tensor], None] = Tensor.backward,
    ) -> Tensor:
        """Accumulate gradients of the combined losses into `.grad` and return the total, detached.

        `run_backward` is the precision- and process-aware backward pass of the loop (accelerate's).
        """
        total = self(losses)
        run_backward(total)
        return total.detach()

    def end_epoch(self, losses: Mapping[str, float]) -> None:
        """Told the mean raw loss of each task after every epoch; schedules such as DWA use it."""
