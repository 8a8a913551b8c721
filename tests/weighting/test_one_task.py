"""One task per optimizer step: whose gradient it is, in which order, and that the others' heads rest."""

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training.tiny import RECIPE, change
from training_runs import run_recipe
from weighting_cases import TASKS, WEIGHTS, Network, batch, gradients, make

from triptych.training.checkpoint import list_checkpoints


def gradients_of(task: str) -> dict[str, torch.Tensor]:
    network = Network()
    inputs, targets = batch()
    (WEIGHTS[task] * (network(inputs)[task] - targets[task]).square().mean()).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


def turns(weighting, count: int) -> list[str]:
    found = []
    for _ in range(count):
        found += weighting.active()
        gradients(weighting)
    return found


@pytest.mark.parametrize("order", ["cycle", "shuffled"])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_step_has_the_gradient_of_one_task(order: str, parts: int) -> None:
    """Also where it is gathered from two micro-batches."""
    weighting = make("one-task", order=order)
    for _ in range(4):
        (task,) = weighting.active()
        expected = gradients_of(task)
        for name, gradient in gradients(weighting, parts=parts).items():
            torch.testing.assert_close(gradient, expected.get(name, torch.zeros_like(gradient)), rtol=1e-4, atol=1e-6)


def test_every_round_has_every_task_once() -> None:
    assert turns(make("one-task"), 6) == [*TASKS, *TASKS]
    shuffled = [tuple(turns(make("one-task", order="shuffled", seed=seed), 12)) for seed in (0, 0, 1)]
    assert shuffled[0] == shuffled[1] != shuffled[2]
    rounds = [shuffled[0][i : i + 3] for i in range(0, 12, 3)]
    assert all(sorted(each) == [*TASKS] for each in rounds)
    assert len(set(rounds)) > 1


def test_raises_for_an_unknown_order() -> None:
    with pytest.raises(ValueError, match="unknown order of tasks 'cycel'; did you mean 'cycle'"):
        make("one-task", order="cycel")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_heads_whose_turn_it_is_not_rest(accumulate: int, tmp_path: Path) -> None:
    """Neither weight decay nor the optimizer's memory moves them, unlike a gradient of zero would."""
    recipe = change(
        RECIPE,
        weighting__name="one-task",
        data__val_split="",
        schedule__steps=4,
        training__checkpoint_every=1,
        training__keep_checkpoints=4,
        training__accumulate=accumulate,
    )
    run = run_recipe(recipe, tmp_path / "run")
    states = [load_file(folder / "model.safetensors") for folder in list_checkpoints(run)]
    for i, (before, after) in enumerate(itertools.pairwise(states), start=1):
        changed = [name for name in after if not torch.equal(before[name], after[name])]
        heads = {name.split(".")[2] for name in changed if ".heads." in name}
        assert heads == {("semseg", "depth")[i % 2]}
        assert "backbone.body.0.0.weight" in changed
