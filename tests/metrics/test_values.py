"""Metrics of any quantity against plain NumPy."""

import numpy as np
import pytest
import torch

from triptych.metrics.values import VALUES_METRICS
from triptych.tasks import regression
from triptych.tasks.stored import tasks_from_json, tasks_to_json, with_options


def test_numbers_equal_their_formulas() -> None:
    torch.manual_seed(0)
    target = torch.randn(2, 3, 5, 4).double().round(decimals=3) + torch.tensor([250.0, 0.0, -3.0]).view(3, 1, 1)
    prediction = target + torch.randn_like(target).round(decimals=3)
    target[0, :, 1, 2] = torch.nan
    known = target[:, 0].isfinite()
    found = {}
    for name, make in VALUES_METRICS.items():
        metric = make(3)
        for image in range(2):
            metric.update(prediction[image : image + 1], target[image : image + 1])
        assert metric.primary == name
        found[name] = metric.compute()[name]
    p, t = (values.movedim(1, -1)[known].numpy() for values in (prediction, target))
    cosine = (p * t).sum(1) / np.linalg.norm(p, axis=1) / np.linalg.norm(t, axis=1)
    assert found == pytest.approx(
        {
            "mae": np.abs(p - t).mean(),
            "rmse": np.sqrt(((p - t) ** 2).mean()),
            "r2": 1 - ((p - t) ** 2).sum() / ((t - t.mean(0)) ** 2).sum(),
            "angle": np.degrees(np.arccos(cosine)).mean(),
        },
        abs=1e-6,  # sums are rounded to 2^-24
    )


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-6])
def test_errors_of_small_quantities_count(size: float) -> None:
    """A score does not depend on the unit; squares of errors of 1e-4 were rounded to 0, the perfect score."""
    torch.manual_seed(0)
    target = torch.rand(1, 1, 20, 20, dtype=torch.float64)
    prediction = target + 0.1 * torch.randn_like(target)
    for name in ("rmse", "r2"):
        metric, plain = (VALUES_METRICS[name](1) for _ in range(2))
        metric.update(size * prediction, size * target)
        plain.update(prediction, target)
        unit = size if name == "rmse" else 1.0
        assert metric.compute()[name] == pytest.approx(unit * plain.compute()[name], rel=1e-2)


def test_sums_of_earlier_versions_are_read() -> None:
    """Real values were added up in two parts."""
    metric = VALUES_METRICS["rmse"](1)
    metric.update(torch.full((1, 1, 1, 2), 2.5), torch.ones(1, 1, 1, 2))
    saved = {name: value[None] for name, value in metric.sums().items()}
    old = {name: value[..., :2] if value.ndim == 2 else value for name, value in saved.items()}
    again = VALUES_METRICS["rmse"](1).upgrade_sums(old)
    assert {name: value.tolist() for name, value in again.items()} == {n: v.tolist() for n, v in saved.items()}


def test_the_chosen_metric_is_kept_in_files_and_beside_other_options() -> None:
    task = regression("heat", unit="K", loss="huber", metric="r2")
    for again in (tasks_from_json(tasks_to_json({"heat": task}))["heat"], with_options(task, "heat", {"weight": 2.0})):
        assert again.metric().primary == "r2"
        assert again.loss(torch.full((1, 1, 1, 1), 3.0), torch.zeros(1, 1, 1, 1)).item() == 2.5
    assert '"loss"' not in tasks_to_json({"heat": regression("heat")})  # usual choices leave files as they were


def test_raises_for_mistakes() -> None:
    with pytest.raises(ValueError, match=r"unknown regression metric 'mse'.*Choose from angle, mae, r2, rmse"):
        regression("heat", metric="mse")
    with pytest.raises(ValueError, match="'angle' for 1 channel; choose mae, rmse, r2"):
        regression("heat", metric="angle")
