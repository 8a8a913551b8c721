"""What every weighting has in common."""

import pytest
import torch
from torch import nn
from weighting_cases import LINEAR, TASKS, WEIGHTS, Network, assert_same, batch, gradients, make

from triptych.weighting import WEIGHTINGS


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_gradients_are_finite_and_reach_everything(name: str) -> None:
    weighting = make(name)
    heads = tuple(f"heads.{task}." for task in TASKS if task not in weighting.active())
    for key, gradient in gradients(weighting).items():
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0 or key.startswith(heads), key


@pytest.mark.parametrize("name", [name for name in LINEAR if name != "uncertainty"])
def test_two_micro_batches_equal_one_batch(name: str) -> None:
    assert_same(gradients(make(name), parts=2), gradients(make(name)))


@pytest.mark.parametrize("name", [name for name in WEIGHTINGS if name != "random"])  # drawn for every batch
def test_a_task_that_one_of_two_batches_labels_counts_whole(name: str) -> None:
    """The same four images twice, the second time without a label of b, are one batch of eight."""
    inputs, targets = batch()

    def step(*shares: dict[str, float]) -> dict[str, torch.Tensor]:
        network, weighting = Network(), make(name)
        for weighting.shares in shares:
            outputs = network(inputs[:4])
            losses = {
                task: weighting.shares.get(task, 1.0) * (outputs[task] - targets[task][:4]).square().mean()
                for task in TASKS
            }
            weighting.backward(
                losses,
                list(network.shared.parameters()),
                run_backward=lambda total: (total / len(shares)).backward(),
                last=weighting.shares is shares[-1],
            )
        both = (*network.named_parameters(), *weighting.named_parameters())
        return {key: parameter.grad for key, parameter in both}

    assert_same(step({"a": 1.0, "b": 2.0, "c": 1.0}, {"a": 1.0, "b": 0.0, "c": 1.0}), step({}))


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_an_absent_task_changes_nothing(name: str) -> None:
    """Exactly zero with a graph, a constant zero and no entry at all give what a weighting of the other two gives."""
    results = []
    for absent in ("graph", "constant", "missing", "never"):
        torch.manual_seed(0)
        network = Network()
        outputs = network(torch.ones(2, 4))
        losses = {task: (outputs[task] - 1).square().mean() for task in TASKS}
        losses |= {"b": {"graph": 0 * losses["b"], "constant": torch.zeros(())}.get(absent, losses["b"])}
        if absent in ("missing", "never"):
            del losses["b"]
        # Random weights sum to 1 over all tasks, so those of two tasks are others.
        names = ("a", "c") if absent == "never" and name != "random" else TASKS
        weighting = WEIGHTINGS[name](names, weights=WEIGHTS)
        weighting.backward(losses, list(network.shared.parameters()))
        results.append([parameter.grad for parameter in network.shared.parameters()])
    for other in results[:-1]:
        for gradient, wanted in zip(other, results[-1], strict=True):
            assert gradient.isfinite().all()
            torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_nothing_labelled_gives_zero_gradients(name: str) -> None:
    network, weighting = Network(), make(name)
    total = weighting.backward(
        {task: 0 * output.sum() for task, output in network(torch.ones(2, 4)).items()},
        list(network.shared.parameters()),
    )
    assert total.item() == 0
    assert not total.requires_grad
    for parameter in [*network.parameters(), *weighting.parameters()]:
        assert parameter.grad is None or parameter.grad.count_nonzero() == 0


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_loss_scaling_scales_gradients(name: str) -> None:
    """fp16 multiplies the loss, and the optimizer divides again: the second step uses the scale of the first."""
    weighting = make(name, **({"seed": 3} if name == "graddrop" else {}))
    for factor in (2.0**16, 2.0**14):
        scaled = gradients(weighting, run_backward=lambda total, f=factor: (f * total).backward())
        plain = gradients(_like(weighting, name))
        assert_same({key: gradient / factor for key, gradient in scaled.items()}, plain)
        weighting.zero_grad()


def _like(weighting: nn.Module, name: str) -> nn.Module:
    """A fresh weighting that draws what the given one drew last."""
    fresh = make(name, **({"seed": 3} if name == "graddrop" else {}))
    state = weighting.state_dict()
    counters = {key: value - 1 for key, value in state.items() if key in ("steps", "batches")}
    fresh.load_state_dict(state | counters)
    return fresh


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_gradients_from_elsewhere_stay(name: str) -> None:
    """An adaptation loss, passed as `extra` or added inside the backward pass, keeps its gradient of one."""
    network = Network()
    parameters = list(network.shared.parameters())

    def gradients_with(**options) -> list[torch.Tensor]:
        network.zero_grad()
        losses = {task: (output - 1).square().mean() for task, output in network(torch.ones(2, 4)).items()}
        make(name).backward(losses, parameters, **options)
        return [parameter.grad.clone() for parameter in parameters]

    def more() -> torch.Tensor:
        return torch.stack([parameter.sum() for parameter in parameters]).sum()

    plain = gradients_with()
    passed = gradients_with(extra=more())
    added = gradients_with(run_backward=lambda total: (total + more()).backward())
    for gradient, first, second in zip(plain, passed, added, strict=True):
        torch.testing.assert_close(first, gradient + 1)
        torch.testing.assert_close(second, gradient + 1)


def test_extra_joins_the_total() -> None:
    losses = {"a": torch.ones((), requires_grad=True), "b": torch.ones((), requires_grad=True)}
    parameter = torch.nn.Parameter(torch.ones(()))
    for name in ("fixed", "pcgrad"):
        total = make(name).backward({k: v * parameter for k, v in losses.items()}, [parameter], extra=2 * parameter)
        assert total.item() == 1 + 2 + 2


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_raises_for_wrong_losses(name: str) -> None:
    with pytest.raises(ValueError, match="losses has 'd'; this weighting was built for a, b, c"):
        make(name)({"d": torch.ones(())})
    with pytest.raises(ValueError, match="losses is empty"):
        make(name)({})


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_resumed_weighting_goes_on(name: str) -> None:
    weighting = make(name)
    gradients(weighting)
    weighting.end_epoch({"a": 1.0, "b": 2.0})
    resumed = make(name)
    resumed.load_state_dict(weighting.state_dict())
    for each in (weighting, resumed):
        each.zero_grad()
    first, second = gradients(weighting), gradients(resumed)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_default_weights_are_kept() -> None:
    assert make("fixed").weights == WEIGHTS
