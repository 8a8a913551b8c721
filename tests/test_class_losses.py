"""Losses for rare classes and hard pixels against slow twins in NumPy, pixel by pixel."""

import pytest
import torch
from class_loss_twins import twin

from triptych import tasks
from triptych.losses.classes import SEGMENTATION
from triptych.types import IGNORE

WEIGHTS = (0.5, 2.0, 1.0, 3.0)


@pytest.mark.parametrize("sharpness", [1.0, 6.0])
@pytest.mark.parametrize("name", SEGMENTATION)
def test_a_loss_with_weights_equals_its_slow_twin(name: str, sharpness: float) -> None:
    raw = sharpness * torch.randn(2, 4, 5, 7)
    target = torch.randint(0, 3, (2, 5, 7))  # class 3 does not occur
    target[torch.rand(target.shape) < 0.3] = IGNORE
    expected = twin(name, raw.double().numpy(), target.numpy(), WEIGHTS)
    assert SEGMENTATION[name](raw, target, WEIGHTS).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", SEGMENTATION)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    raw = torch.randn(1, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[[0, 1, 2, 1], [IGNORE, 2, 0, IGNORE]]])
    assert torch.autograd.gradcheck(lambda value: SEGMENTATION[name](value, target, (1.0, 2.0, 0.5)), (raw,))


@pytest.mark.parametrize("name", SEGMENTATION)
def test_a_task_trains_with_the_loss(name: str) -> None:
    task = tasks.semseg(4, loss=name, class_weights=WEIGHTS)
    raw, target = torch.randn(1, 4, 3, 3), torch.randint(0, 4, (1, 3, 3))
    assert task.loss(raw, target) == SEGMENTATION[name](raw, target, WEIGHTS)


def test_weights_that_do_not_fit_the_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="class_weights of task 'semseg' has 2 factors; give one, not below 0"):
        tasks.semseg(4, class_weights=(1.0, 2.0))
    with pytest.raises(ValueError, match="not below 0"):
        tasks.human_parts(class_weights=(-1.0,) * 7)
