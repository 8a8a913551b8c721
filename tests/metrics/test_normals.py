"""Angular errors."""

import numpy as np
import pytest
import torch
from published_metrics import arrays, expected, values
from torch import Tensor
from torch.nn import functional as F

from triptych.metrics.normals import NormalsMetric, PublishedDenseMTLNormalsMetric, measure_angle

MEDIAN_TOLERANCE = 0.01
"""Degrees: one bin of the histogram."""


def scored(prediction: Tensor, target: Tensor) -> dict[str, float]:
    metric = NormalsMetric()
    metric.update(prediction, target)
    return metric.compute()


@pytest.mark.parametrize(("family", "name"), [("atrc", "normals_mean"), ("invpt", "normals_mean")])
def test_published_mean(family: str, name: str) -> None:
    inputs = arrays()
    scores = scored(torch.tensor(inputs["normals_pred"]), values(inputs["normals_label_ignore255"]))
    assert scores["mErr"] == pytest.approx(expected(family)[name]["values"]["mean"], rel=1e-5)


def test_published_training_meter() -> None:
    """Its entry named rmse repeats the mean."""
    inputs = arrays()
    wanted = expected("survey")["normals_online"]["values"]
    scores = scored(torch.tensor(inputs["normals_pred"]), values(inputs["normals_label_ignore255"]))
    assert scores["mErr"] == pytest.approx(wanted["mean"], rel=1e-5)
    assert scores["mErr"] == pytest.approx(wanted["rmse"], rel=1e-5)
    assert scores["rmse"] > scores["mErr"] + 1
    for limit in ("11.25", "22.5", "30"):
        assert 100 * scores[f"within_{limit}"] == pytest.approx(wanted[limit], rel=1e-5)


def test_published_after_8_bit() -> None:
    """The survey's files hold trunc((n + 1) 255 / 2)."""
    inputs = arrays()
    stored = np.trunc((F.normalize(torch.tensor(inputs["normals_pred"]), dim=1).numpy() + 1) * 255 / 2)
    scores = scored(torch.tensor(stored / 255 * 2 - 1).float(), values(inputs["normals_label_ignore0"], 0.0))
    wanted = expected("survey")["normals_offline_8bit"]["values"]
    assert scores["mErr"] == pytest.approx(wanted["mean"], rel=1e-5)
    assert scores["rmse"] == pytest.approx(wanted["rmse"], rel=1e-5)
    assert scores["median"] == pytest.approx(wanted["median"], abs=MEDIAN_TOLERANCE)
    for limit in ("11.25", "22.5", "30"):
        assert 100 * scores[f"within_{limit}"] == pytest.approx(wanted[limit], rel=1e-5)


def test_published_meter_over_rows() -> None:
    inputs = arrays()
    metric = PublishedDenseMTLNormalsMetric()
    metric.update(torch.tensor(inputs["normals_pred"]), torch.tensor(inputs["normals_label"]))
    wanted = expected("densemtl")["normals_published_bug"]["values"]
    ours = {"mean": "mErr", "t11": "within_11.25", "t22": "within_22.5", "t30": "within_30"}
    for name, value in wanted.items():
        assert metric.compute()[ours.get(name, name)] == pytest.approx(value, rel=1e-5), name


def test_twin() -> None:
    torch.manual_seed(2)
    target = F.normalize(torch.randn(4, 3, 30, 40), dim=1)
    prediction = target + torch.randn_like(target) * torch.rand(4, 1, 1, 1)
    target[(torch.rand(4, 1, 30, 40) < 0.2).expand_as(target)] = torch.nan
    p, t = (a.movedim(1, -1).reshape(-1, 3).double().numpy() for a in (prediction, target))
    p, t = p[np.isfinite(t[:, 0])], t[np.isfinite(t[:, 0])]
    cosine = (p * t).sum(1) / np.linalg.norm(p, axis=1) / np.linalg.norm(t, axis=1)
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    scores = scored(prediction, target)
    assert scores["mErr"] == pytest.approx(angle.mean(), rel=1e-6)
    assert scores["rmse"] == pytest.approx(np.sqrt((angle**2).mean()), rel=1e-6)
    assert scores["median"] == pytest.approx(np.median(angle), abs=MEDIAN_TOLERANCE)
    assert scores["within_11.25"] == (angle < 11.25).mean()


@pytest.mark.parametrize("degrees", [0.0, 1e-3, 11.24, 30.5, 90.0, 137.7, 179.999, 180.0])
def test_by_hand(degrees: float) -> None:
    """Arc cosine loses a thousandth of a degree near 0 and 180 in single precision; atan2 does not."""
    radians = np.radians(degrees)
    first = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    second = torch.tensor([np.cos(radians), np.sin(radians), 0.0]).view(1, 3, 1, 1)
    assert measure_angle(first, second).item() == pytest.approx(degrees, abs=1e-6)
    scores = scored(7 * first.float(), second.float())
    assert scores["mErr"] == pytest.approx(degrees, abs=1e-4)
    assert scores["median"] == pytest.approx(degrees, abs=0.06)
    assert scores["within_30"] == (degrees < 30)


def test_normals_that_are_nan_are_the_worst() -> None:
    """Also in the median, which a histogram gives: they are not taken for perfect ones."""
    target = F.normalize(torch.ones(1, 3, 4, 4), dim=1)
    prediction = target.clone()
    prediction[..., :3, :] = torch.nan
    scores = scored(prediction, target)
    assert scores["median"] > 179
    assert scores["within_30"] == 0.25
