"""Weightings that look at the losses alone: fixed and learned weights, schedules, one task at a time."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from triptych.lookup import named_choice
from triptych.processes import average_over_processes
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


class Logarithm(Weighting):
    """total = sum_t w_t log L_t, the log of the losses' geometric mean up to a factor (Chennupati et al. 2019).

    The gradient of each task is divided by its loss, so no scale needs tuning; MTMamba trains with it and weights of 1
    (our reading of "log-losses"). The total can be negative. Raises `ValueError` for a loss below 0, which has no
    logarithm.

    >>> weighting = Logarithm(["depth"], weights={"depth": 1.0})
    >>> weighting({"depth": torch.tensor(1.0)}).item()
    0.0
    """

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        losses = self.present(losses)
        if (torch.stack([*losses.values()]) < 0).any():
            below = [name for name, loss in losses.items() if loss < 0]
            raise ValueError(
                f"weighting 'log' takes the logarithm of losses, and that of {', '.join(below)} is below 0; choose a "
                "weighting of losses as they are, such as 'fixed', or a loss that is never below 0."
            )
        # 0 with zero gradient for a task that is absent from the batch.
        logarithms = {}
        for name, loss in losses.items():
            share = self.shares.get(name, 1.0)
            logarithms[name] = share * torch.where(loss > 0, loss / (share or 1.0), 1.0).log()
        return super().forward(logarithms)


class Uncertainty(Weighting):
    """total = sum_t exp(-s_t) w_t L_t + s_t / 2 with learned s_t = log sigma_t^2 (Kendall, Gal and Cipolla, CVPR 2018).

    This is the paper's classification form for every task. Its regression form, L / (2 sigma^2) + log sigma, is the
    same up to a constant with s shifted by ln 2, so the choice only moves the starting point. A task that is absent
    from the step leaves its s_t alone. `initial` is the first s_t of every task.

    >>> weighting = Uncertainty(["depth"], weights={"depth": 1.0})
    >>> weighting({"depth": torch.tensor(2.0)}).item()
    2.0
    """

    def __init__(self, names: Sequence[str], *, weights: Mapping[str, float], initial: float = 0.0) -> None:
        super().__init__(names, weights=weights)
        self.log_variances = nn.Parameter(torch.full((len(self.names),), float(initial)))

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        log_variances = dict(zip(self.names, self.log_variances.unbind(), strict=True))
        terms = []
        for name, loss in self.present(losses).items():
            s, share = log_variances[name], self.shares.get(name, (loss != 0).to(loss))
            terms.append((-s).exp() * self.weights[name] * loss + share * s / 2)
        return torch.stack(terms).sum()


class DWA(Weighting):
    """total = sum_t lambda_t w_t L_t with lambda_t = T exp(r_t / temperature) / sum_i exp(r_i / temperature).

    T is the number of tasks and r_t the ratio of the task's mean losses of the last two epochs (Liu, Johns and
    Davison, CVPR 2019, eq. 7).

    All lambda are 1 during the first two epochs. A task without a loss in one of the two epochs counts as r = 1.

    >>> weighting = DWA(["a", "b"], weights={"a": 1.0, "b": 1.0})
    >>> weighting.end_epoch({"a": 1.0, "b": 1.0})
    >>> weighting.end_epoch({"a": 0.5, "b": 1.0})
    >>> [round(value, 3) for value in weighting.factors().tolist()]
    [0.876, 1.124]
    """

    history: Tensor
    """Mean losses `(2, tasks)` of the epoch before last and of the last; NaN where unknown."""

    def __init__(self, names: Sequence[str], *, weights: Mapping[str, float], temperature: float = 2.0) -> None:
        super().__init__(names, weights=weights)
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}; it must be positive (the paper uses 2).")
        self.temperature = temperature
        self.register_buffer("history", torch.full((2, len(self.names)), math.nan))

    def factors(self) -> Tensor:
        """lambda of every task."""
        ratio = self.history[1] / self.history[0]
        ratio = torch.where(ratio.isfinite() & (ratio > 0), ratio, 1.0)
        return len(self.names) * (ratio / self.temperature).softmax(dim=0)

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        return self.weighted_sum(losses, dict(zip(self.names, self.factors().unbind(), strict=True)))

    def end_epoch(self, losses: Mapping[str, float]) -> None:
        mean = self.history.new_tensor([losses.get(name, math.nan) for name in self.names])
        average_over_processes([mean])
        self.history = torch.stack([self.history[1], mean])


class RandomWeighting(Weighting):
    """total = sum_t lambda_t w_t L_t, lambda the softmax of new normal numbers for every batch (Lin et al., TMLR 2022).

    The numbers of a batch depend on `seed` and on how many batches came before, which a buffer counts: a resumed run
    continues where it stopped, every process draws the same, and other random numbers stay the same.

    >>> weighting = RandomWeighting(["a", "b"], weights={"a": 1.0, "b": 1.0})
    >>> total = weighting({"a": torch.tensor(1.0), "b": torch.tensor(1.0)})
    >>> round(total.item(), 5)
    1.0
    """

    batches: Tensor

    def __init__(self, names: Sequence[str], *, weights: Mapping[str, float], seed: int = 0) -> None:
        super().__init__(names, weights=weights)
        self.seed = seed
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def draw(self) -> Tensor:
        """The weights of the next batch, which sum to 1."""
        generator = torch.Generator().manual_seed(self.seed + 7919 * int(self.batches))
        self.batches += 1
        return torch.randn(len(self.names), generator=generator).softmax(dim=0)

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        return self.weighted_sum(losses, dict(zip(self.names, self.draw().tolist(), strict=True)))


class OneTask(Weighting):
    """total = w_t L_t of the task t whose turn it is: the same in all micro-batches of a step and in all processes.

    `order`: `cycle`, as the tasks are declared; `shuffled`, another permutation in each round, drawn from `seed` and
    the number of the round. A buffer counts steps: a resumed run continues where it stopped. A task without a label in
    the batch has its turn all the same.

    No gradient is ever a compromise between tasks: StableMTL (2025, CVPR 2026), which learns from data sets with labels
    of other tasks each, isolates gradients so. The paper's code was not consulted; its order may be another. The
    optimizer's memory is still shared over the trunk.

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
