"""Fixed, logarithmic, learned, dynamic and random weights, by hand."""

import math

import pytest
import torch
from weighting_cases import TASKS, WEIGHTS, make

from triptych.tasks import TASKS as TASK_CONSTRUCTORS
from triptych.tasks import nyuv2_tasks, pascal_context_tasks
from triptych.weighting.losses import DWA, PRESETS, Fixed, Uncertainty

LOSSES = {"a": torch.tensor(2.0), "b": torch.tensor(3.0), "c": torch.tensor(0.5)}


def test_fixed_sum() -> None:
    assert make("fixed")(LOSSES).item() == 1 * 2 + 2 * 3 + 0.5 * 0.5


def test_presets_name_tasks() -> None:
    for row in PRESETS.values():
        assert set(row) <= set(TASK_CONSTRUCTORS)


def test_default_weights_of_tasks_are_those_of_invpt() -> None:
    for task in [*nyuv2_tasks().values(), *pascal_context_tasks().values()]:
        assert task.weight == PRESETS["invpt"][task.name]


def test_preset_takes_the_place_of_weights() -> None:
    weighting = Fixed(["semseg", "saliency"], weights={"semseg": 1.0, "saliency": 5.0}, preset="densemtl-sd")
    assert weighting.weights == {"semseg": 50.0, "saliency": 5.0}
    with pytest.raises(ValueError, match="unknown weighting preset 'densemtl'"):
        Fixed(["semseg"], weights={"semseg": 1.0}, preset="densemtl")


def test_a_loss_without_a_logarithm_is_named() -> None:
    with pytest.raises(ValueError, match=f"that of {TASKS[1]} is below 0; choose a weighting"):
        make("log")({**LOSSES, TASKS[1]: torch.tensor(-0.5)})


def test_logarithm() -> None:
    assert make("log")(LOSSES).item() == pytest.approx(math.log(2) + 2 * math.log(3) + 0.5 * math.log(0.5))


def test_learned_weights_settle_where_the_derivative_vanishes() -> None:
    """exp(-s) w L + s / 2 is least at exp(s) = 2 w L; there every weighted loss is 1/2."""
    weighting = make("uncertainty")
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        weighting.backward({name: loss.clone() for name, loss in LOSSES.items()}, [])
        optimizer.step()
    wanted = torch.tensor([2 * WEIGHTS[name] * LOSSES[name] for name in TASKS]).log()
    torch.testing.assert_close(weighting.log_variances.detach(), wanted, atol=1e-3, rtol=0)


def test_regression_form_is_the_same_up_to_a_constant() -> None:
    weighting = Uncertainty(["a"], weights={"a": 1.0}, initial=0.3)
    total = weighting({"a": LOSSES["a"]}).item()
    s = 0.3 + math.log(0.5)  # of the regression form L / (2 sigma^2) + log sigma
    assert total == pytest.approx(math.exp(-s) * 2.0 / 2 + s / 2 + math.log(2) / 2)


def test_dynamic_weights_by_hand() -> None:
    weighting = make("dwa")
    assert weighting(LOSSES).item() == make("fixed")(LOSSES).item()
    weighting.end_epoch({"a": 4.0, "b": 1.0, "c": 1.0})
    assert weighting(LOSSES).item() == make("fixed")(LOSSES).item()
    weighting.end_epoch({"a": 1.0, "b": 1.0})  # c had no label
    ratios = [0.25, 1.0, 1.0]
    exponents = [math.exp(ratio / 2) for ratio in ratios]
    wanted = [3 * value / sum(exponents) for value in exponents]
    assert weighting.factors().tolist() == pytest.approx(wanted)
    assert weighting(LOSSES).item() == pytest.approx(wanted[0] * 2 + wanted[1] * 6 + wanted[2] * 0.25)


def test_equal_progress_gives_equal_weights() -> None:
    weighting = make("dwa")
    weighting.end_epoch({"a": 4.0, "b": 10.0, "c": 1.0})
    weighting.end_epoch({"a": 2.0, "b": 5.0, "c": 0.5})
    assert weighting.factors().tolist() == pytest.approx([1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="temperature is 0"):
        DWA(["a"], weights={"a": 1.0}, temperature=0.0)


def test_random_weights_have_equal_means() -> None:
    weighting = make("random")
    drawn = torch.stack([weighting.draw() for _ in range(2000)])
    torch.testing.assert_close(drawn.sum(dim=1), torch.ones(2000))
    torch.testing.assert_close(drawn.mean(dim=0), torch.full((3,), 1 / 3), atol=0.02, rtol=0)
    # The softmax of normal numbers: the ratio of two weights is log-normal with variance 2.
    assert (drawn[:, 0] / drawn[:, 1]).log().std().item() == pytest.approx(math.sqrt(2), rel=0.05)


def test_random_weights_resume_and_disturb_nobody() -> None:
    state = torch.get_rng_state()
    weighting, resumed, other = make("random"), make("random"), make("random", seed=1)
    first = [weighting.draw() for _ in range(3)]
    resumed.load_state_dict(weighting.state_dict())
    assert torch.equal(weighting.draw(), resumed.draw())
    assert not torch.equal(first[0], other.draw())
    assert not torch.equal(first[0], first[1])
    assert torch.equal(torch.get_rng_state(), state)
