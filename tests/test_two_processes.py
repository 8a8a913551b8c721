"""What two processes with a part of the images each agree on; they are started once for all, which takes seconds."""

from typing import Any

import pytest
import torch
from adaptation.networks import self_training, shared_numbers
from metric_cases import CASES, IMAGES, score, score_share
from scored_shares import leave_early, skip_damaged
from two_processes import run_in_two_processes
from weighting_cases import LINEAR, assert_same, gradients, gradients_of_share, make


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    workers = [score_share, gradients_of_share, shared_numbers, self_training, leave_early, skip_damaged]
    return run_in_two_processes(workers, tmp_path_factory.mktemp("processes"))


def test_metrics_agree_with_one_process(found: list[list[Any]]) -> None:
    whole = {name: score(name, [range(IMAGES)]) for name in CASES}
    assert found[0] == [whole, whole]


def test_weightings_agree_with_one_process(found: list[list[Any]]) -> None:
    """Half of the batch in each of two processes, in two micro-batches: the same direction in both, that of one
    process with the whole batch."""
    first, second = found[1]
    for name, directions in first.items():
        assert all(gradient.isfinite().all() for gradient in directions.values())
        assert_same(directions, second[name])
    for name in LINEAR:
        if name != "uncertainty":
            assert_same(first[name], gradients(make(name)))


def test_adapters_agree_on_what_they_saw_together(found: list[list[Any]]) -> None:
    assert found[2] == [[2.0, 7.0, 3.0, 4.0, 0.0, 1.0], [2.0, 7.0, 3.0, 4.0, 2.0, 3.0]]


def test_self_training_agrees_with_one_process(found: list[list[Any]]) -> None:
    """Pasted and labelled pixels are counted, and losses balanced, over the whole batch, and padding over none."""
    for ours in found[3]:
        for value, expected in zip(ours, self_training(0, 1), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_processes_leave_an_evaluation_together(found: list[list[Any]]) -> None:
    assert found[4] == [(True, 3), (True, 1)]


def test_damaged_images_change_no_order_of_scores(found: list[list[Any]]) -> None:
    keys, sums = skip_damaged()
    assert keys == [f"train-{index}" for index in range(1, 7)]
    for theirs, their_sums in found[5]:
        assert theirs == keys
        assert torch.equal(their_sums, sums)
