"""One task per optimizer step: no gradient is ever a compromise between tasks.

StableMTL (2025, CVPR 2026), which learns from data sets with labels of other tasks each, isolates gradients so.
Paper and this file. The paper's code was not consulted; what is kept is that a step has the gradient of one task. The
order is fixed or shuffled round by round here, so that all tasks get as many steps. The momentum of the optimizer and
its second moments are still shared over the trunk.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from triptych.lookup import named_choice
from triptych.weighting.base import Weighting


class OneTask(Weighting):
    """total = w_t L_t of the task t whose turn it is: the same in all micro-batches of a step and in all processes.

    `order`: `cycle`, as the tasks are declared; `shuffled`, another permutation in each round, drawn from `seed` and
    the number of the round. A buffer counts steps: a resumed run continues where it stopped. A task without a label in
    the batch has its turn all the same.

    The loop leaves the other tasks without a graph (`active`), so that heads whose turn it is not keep their weights
    and their optimizer's memory as they are. Elsewhere their gradient is zero, not missing.

    >>> weighting = OneTask(["a", "b"], weights={"a": 1.0, "b": 3.0})
    >>> losses = {"a": torch.tensor(2.0, requires_grad=True), "b": torch.tensor(5.0, requires_grad=True)}
    >>> [weighting.backward(losses, []).item() for _ in range(3)]
    [2.0, 15.0, 2.0]
    """

    steps: Tensor

    def __init__(
        self, names: Sequence[str], *, weights: Mapping[str, float], order: str = "cycle", seed: int = 0
    ) -> None:
        super().__init__(names, weights=weights)
        self.shuffled = named_choice("order of tasks", order, {"cycle": False, "shuffled": True})
        self.seed = seed
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def active(self) -> tuple[str, ...]:
        """The task of the next optimizer step."""
        round_number, place = divmod(int(self.steps), len(self.names))
        if self.shuffled:
            generator = torch.Generator().manual_seed(self.seed + 7919 * round_number)
            place = int(torch.randperm(len(self.names), generator=generator)[place])
        return (self.names[place],)

    def check(self, shared_parameters: Sequence[nn.Parameter], idle: Sequence[str]) -> None:
        if idle:
            raise ValueError(
                f"weighting 'one-task' would give steps to {', '.join(idle)}, of which nothing trains (model.freeze); "
                "use weighting 'fixed'."
            )

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        chosen = self.active()
        # Several processes expect a gradient of whatever took part in the forward pass.
        return self.weighted_sum(losses, {name: float(name in chosen) for name in self.names})

    def backward(
        self,
        losses: Mapping[str, Tensor],
        shared_parameters: Sequence[nn.Parameter],
        *,
        run_backward: Callable[[Tensor], None] = Tensor.backward,
        last: bool = True,
        extra: Tensor | None = None,
    ) -> Tensor:
        total = super().backward(losses, shared_parameters, run_backward=run_backward, last=last, extra=extra)
        if last:
            self.steps += 1
        return total
