"""What every regularizer has in common; a new entry in `REGULARIZERS` is enrolled by its name."""

import pickle
from dataclasses import replace

import pytest
import torch
from regularizers.branch import FEW, OTHERS, RENDERING, SIZE, batch, build, tasks_of
from torch import Tensor

from triptych.regularizers import REGULARIZERS
from triptych.regularizers.base import Regularizer
from triptych.types import Output, Sample

STILL = ("triplane-single-sample", "triplane-depth-input", "auxiliary-heads", "decoder-2d", "second-heads")
"""Those that render, and draw no random number for it."""

every_regularizer = pytest.mark.parametrize("name", REGULARIZERS)


def make(name: str) -> Regularizer:
    torch.manual_seed(1)
    return build(name, tasks_of(), **({} if name in OTHERS else {"num_samples": 2, **FEW.get(name, {})})).train()


def terms(regularizer: Regularizer, output: Output, sample: Sample) -> dict[str, Tensor]:
    """Those of tasks, and those of none."""
    return regularizer(output, sample) | regularizer.penalties(output, sample)


def partly(sample: Sample) -> Sample:
    """The first image has a label of every other task, the second one none."""
    targets = dict(sample.targets)
    for i, (name, task) in enumerate(tasks_of().items()):
        empty = task.invalid_target(SIZE)
        targets[name] = torch.stack([empty if i % 2 else targets[name][0], empty])
    return replace(sample, targets=targets)


@every_regularizer
def test_other_processes_can_be_sent_one(name: str) -> None:
    regularizer = make(name)
    other = pickle.loads(pickle.dumps(regularizer))
    assert other.state_dict().keys() == regularizer.state_dict().keys()


@every_regularizer
def test_labels_are_those_of_the_key_and_not_of_the_name(name: str) -> None:
    """Two depths may both be called so; `depth()` takes no name."""
    found = []
    for far in (tasks_of("depth")["depth"], tasks_of("depth")["depth"].called("far")):
        tasks = {**tasks_of("semseg", "depth"), "far": far}
        torch.manual_seed(1)
        regularizer = build(name, tasks, **({} if name in OTHERS else {"num_samples": 2, **FEW.get(name, {})})).train()
        torch.manual_seed(2)
        found.append(regularizer(*batch(tasks, camera=True)))
    assert {key: term.item() for key, term in found[0].items()} == {key: term.item() for key, term in found[1].items()}


@every_regularizer
@pytest.mark.parametrize("labels", ["all", "some", "none"])
def test_terms_and_gradients_are_finite_whatever_labels_there_are(name: str, labels: str) -> None:
    regularizer = make(name)
    output, sample = batch(tasks_of(), camera=True, labelled=labels != "none")
    if labels == "some":
        sample = partly(sample)
        sample = replace(sample, neighbors=(replace(sample, neighbors=()),))
    losses = regularizer(output, sample)
    assert set(losses) <= set(tasks_of())
    found = losses | regularizer.penalties(output, sample)
    assert found
    total = torch.stack(list(found.values())).sum()
    total.backward()
    assert total.isfinite()
    for key, parameter in regularizer.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    for tensor in (*output.features, *output.predictions.values()):
        assert tensor.grad is None or tensor.grad.isfinite().all()
    if name in RENDERING:
        assert list(losses) == list(regularizer.tasks)
    if name in RENDERING and labels == "all":
        assert total > 0
        assert all(map.grad.abs().max() > 0 for map in output.features)
    if name in RENDERING and labels == "none":
        assert all(loss == 0 for loss in losses.values())
        assert all((feature.grad == 0).all() for feature in output.features)


@every_regularizer
def test_random_numbers_are_its_own(name: str) -> None:
    """The network's dropout draws what it draws without it; the same state of the generator gives the same terms."""
    output, sample = batch(tasks_of(), camera=True)
    sample = partly(sample)
    sample = replace(sample, neighbors=(replace(sample, neighbors=()),))
    results = []
    for seed in (5, 6):
        regularizer = make(name)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(terms(regularizer, output, sample))
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(results[1][key], value) for key, value in results[0].items())
    if name in RENDERING:
        full = batch(tasks_of(), camera=True)
        before, own = torch.get_rng_state(), regularizer.generator.get_state()
        first, second = regularizer(*full), regularizer(*full)
        assert torch.equal(torch.get_rng_state(), before)
        assert (name in STILL) == all(torch.equal(second[key], value) for key, value in first.items())
        regularizer.generator.set_state(own)
        again = regularizer(*full)
        assert all(torch.equal(again[key], value) for key, value in first.items())
