"""A small shared network with two or three tasks, and what its weightings do in two processes."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from triptych.weighting import WEIGHTINGS
from triptych.weighting.base import Weighting

TASKS = ("a", "b", "c")
WEIGHTS = {"a": 1.0, "b": 2.0, "c": 0.5}
LINEAR = [name for name in WEIGHTINGS if name not in ("log", "random")]
"""The logarithm of a mean is not the mean of logarithms; random weights are drawn per micro-batch."""


class Network(nn.Module):
    """Four inputs, a shared layer and one head per task."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.shared = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5))
        self.heads = nn.ModuleDict({name: nn.Linear(5, 1) for name in TASKS})

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        features = self.shared(inputs)
        return {name: head(features)[:, 0] for name, head in self.heads.items()}


def batch() -> tuple[Tensor, dict[str, Tensor]]:
    """Eight inputs and targets that pull in different directions."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(8, 4, generator=generator)
    return inputs, {name: 3 * torch.randn(8, generator=generator) for name in TASKS}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert set(first) == set(second)
    for name, gradient in first.items():
        torch.testing.assert_close(
            gradient, second[name], rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}"
        )


def make(name: str, **options) -> Weighting:
    return WEIGHTINGS[name](TASKS, weights=WEIGHTS, **options)


def gradients(
    weighting: Weighting,
    *,
    parts: int = 1,
    share: slice = slice(None),
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    run_backward: Callable[[Tensor], None] = Tensor.backward,
    absent: tuple[str, ...] = (),
    device: str = "cpu",
) -> dict[str, Tensor]:
    """Gradients of a step over this share of the batch in `parts` micro-batches; `absent` tasks have no label."""
    network = Network().to(device)
    module = wrap(network)
    inputs, targets = batch()
    inputs, targets = inputs.to(device), {name: target.to(device) for name, target in targets.items()}
    rows = range(8)[share]
    for part in range(parts):
        last = part == parts - 1
        chosen = list(rows)[part::parts]
        with nullcontext() if last or module is network else module.no_sync():
            outputs = module(inputs[chosen])
            losses = {name: (outputs[name] - targets[name][chosen]).square().mean() / parts for name in TASKS}
            losses |= {name: 0 * losses[name] for name in absent}
            weighting.backward(losses, list(network.shared.parameters()), run_backward=run_backward, last=last)
    learned = {f"weighting.{name}": parameter.grad for name, parameter in weighting.named_parameters()}
    return {name: parameter.grad for name, parameter in network.named_parameters()} | learned


def gradients_of_share(rank: int, world: int) -> dict[str, dict[str, Tensor]]:
    """Every weighting's gradients over this process's half of the batch, in two micro-batches each."""
    share = slice(rank, None, world)
    return {name: gradients(make(name), parts=2, share=share, wrap=DistributedDataParallel) for name in WEIGHTINGS} | {
        f"{name}, one task in process 0 alone": gradients(
            make(name), share=share, wrap=DistributedDataParallel, absent=("b",) * rank
        )
        for name in WEIGHTINGS
    }
