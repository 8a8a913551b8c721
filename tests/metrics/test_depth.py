"""Depth errors, pooled and per image."""

import math
import statistics

import numpy as np
import pytest
import torch
from published_metrics import arrays, expected, values

from triptych.losses.depth import decode_metres
from triptych.metrics.depth import RESULTS, AlignedDepthMetric, DepthMetric


def scored(target: torch.Tensor, **options) -> dict[str, float]:
    metric = DepthMetric(**options)
    metric.update(decode_metres(torch.tensor(arrays()["depth_pred"])), target)
    return metric.compute()


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("invpt", "depth_pooled"),
        ("survey", "depth_pooled"),
        ("survey", "depth_offline"),
        ("atrc", "depth_rmse_ignore0"),
    ],
)
def test_published_pooled(family: str, name: str) -> None:
    entry = expected(family)[name]
    array = entry["inputs"][1]
    scores = scored(values(arrays()[array], 0.0 if array.endswith("ignore0") else 255.0))
    ours = {"abs_rel": "absrel", "sq_rel": "sqrel"}
    for published, value in entry["values"].items():
        assert scores[ours.get(published, published)] == pytest.approx(value, rel=1e-5), published


def test_published_mismatch_of_invalid_values() -> None:
    """ATRC's metric ignores 0 while invalid pixels come as 255, and counts them as 255 m: labels without NaN."""
    wanted = expected("atrc")["depth_rmse_ignore0_fed_255"]["values"]["rmse"]
    assert scored(torch.tensor(arrays()["depth_label_ignore255"]))["rmse"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", ["depth_per_image", "depth_per_image_median_scaled"])
def test_published_per_image(name: str) -> None:
    target = torch.tensor(arrays()["depth_label"])
    target[torch.tensor(arrays()["depth_label_ignore0"]) == 0] = torch.nan
    scores = scored(target, near=1e-3, far=80.0, lowest=1e-3, highest=80.0, median_scaling=name.endswith("scaled"))
    ours = {"abs_rel": "absrel", "sq_rel": "sqrel", "rmse": "rmse", "d1": "delta1", "d2": "delta2", "d3": "delta3"}
    for published, value in expected("densemtl")[name]["values"].items():
        assert scores[f"{ours[published]}_image"] == pytest.approx(value, rel=1e-5), published


def twin(predicted: list[float], truth: list[float]) -> list[float]:
    """The seven means of one set of pixels, one pixel at a time."""
    rows = []
    for p, t in zip(predicted, truth, strict=True):
        p = max(p, 1e-9)
        ratio = max(p / t, t / p)
        rows.append([(p - t) ** 2, abs(p - t) / t, (p - t) ** 2 / t, (math.log(p) - math.log(t)) ** 2])
        rows[-1] += [float(ratio < 1.25**k) for k in (1, 2, 3)]
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]


def rooted(means: list[float]) -> list[float]:
    return [math.sqrt(m) if name in ("rmse", "log_rmse") else m for name, m in zip(RESULTS, means, strict=True)]


def test_twin() -> None:
    target = torch.rand(3, 1, 4, 5) * 5 + 0.3
    prediction = target + torch.randn_like(target)
    target[torch.rand(3, 1, 4, 5) < 0.3] = torch.nan
    target[0, 0, 0, 0] = 0.0  # not a depth
    metric = DepthMetric()
    metric.update(prediction, target)
    pairs = []
    for p, t in zip(prediction.flatten(1).double().tolist(), target.flatten(1).double().tolist(), strict=True):
        kept = [(a, b) for a, b in zip(p, t, strict=True) if b > 0]
        pairs.append(([a for a, _ in kept], [b for _, b in kept]))
    pooled = rooted(twin([a for p, _ in pairs for a in p], [b for _, t in pairs for b in t]))
    per_image = rooted([statistics.fmean(column) for column in zip(*(twin(*pair) for pair in pairs), strict=True)])
    scores = metric.compute()
    for name, all_pixels, images in zip(RESULTS, pooled, per_image, strict=True):
        assert scores[name] == pytest.approx(all_pixels, rel=1e-5), name
        assert scores[f"{name}_image"] == pytest.approx(images, rel=1e-5), name


def test_pooled_differs_from_per_image() -> None:
    """Two images, one with three times the pixels: errors 1 m and 3 m."""
    target = torch.full((2, 1, 1, 4), 2.0)
    target[1, :, :, 1:] = torch.nan
    prediction = torch.tensor([3.0, 5.0]).view(2, 1, 1, 1).expand_as(target)
    metric = DepthMetric()
    metric.update(prediction, target)
    scores = metric.compute()
    assert scores["rmse"] == pytest.approx(math.sqrt((4 * 1 + 9) / 5))
    assert scores["rmse_image"] == pytest.approx(math.sqrt((1 + 9) / 2))
    assert scores["absrel"] == pytest.approx((4 * 0.5 + 1.5) / 5)


def test_median_scaling_forgives_scale() -> None:
    target = torch.rand(2, 1, 5, 5) + 1
    metric = DepthMetric(median_scaling=True)
    metric.update(target * torch.tensor([0.3, 7.0]).view(2, 1, 1, 1), target)
    assert metric.compute()["rmse"] < 1e-6


def test_median_scaling_takes_what_is_not_positive_for_the_least_depth() -> None:
    """An image without a positive prediction is one of a constant depth; few such pixels change no other one."""
    target = torch.rand(3, 1, 1, 9) + 1
    prediction = target.clone()
    prediction[0] = 0.0
    prediction[1] = -1.0
    prediction[2, ..., :2] = torch.tensor([0.0, -3.0])
    constant = target.flatten(1).median(dim=1).values
    expected = constant.view(3, 1, 1, 1) - target
    expected[2] = 0
    metric = DepthMetric(median_scaling=True, lowest=1e-3)
    metric.update(prediction[:2], target[:2])
    assert metric.compute()["rmse"] == pytest.approx(expected[:2].square().mean().sqrt().item(), rel=1e-5)
    known = target[2:].clone()
    known[..., :2] = torch.nan
    metric = DepthMetric(median_scaling=True, lowest=1e-3)
    metric.update(prediction[2:], known)
    assert metric.compute()["rmse"] < 1e-6
    metric.update(prediction, target)
    assert all(map(math.isfinite, metric.compute().values()))


def test_ranges() -> None:
    metric = DepthMetric(near=1.0, far=10.0, highest=10.0)
    metric.update(torch.full((1, 1, 1, 3), 12.0), torch.tensor([0.5, 4.0, 20.0]).view(1, 1, 1, 3))
    assert metric.compute()["rmse"] == 6.0
    with pytest.raises(ValueError, match="lowest is 0"):
        DepthMetric(lowest=0.0)


def test_not_a_number_is_not_hidden() -> None:
    metric = DepthMetric()
    metric.update(torch.full((1, 1, 1, 2), np.nan), torch.ones(1, 1, 1, 2))
    assert math.isnan(metric.compute()["rmse"])


def test_aligned_numbers_are_those_of_a_median_scaled_metric() -> None:
    """The two protocols side by side, each as `DepthMetric` has it alone; only the aligned one ignores the scale."""
    torch.manual_seed(5)
    both, plain, scaled = AlignedDepthMetric(far=8.0), DepthMetric(far=8.0), DepthMetric(far=8.0, median_scaling=True)
    target = torch.rand(3, 1, 6, 7) * 9 + 0.5
    target[0, 0, :2] = torch.nan
    target[2] = torch.nan
    prediction = target.nan_to_num(1.0) * torch.rand(3, 1, 6, 7) + 0.1
    for metric in (both, plain, scaled):
        metric.update(prediction, target)
    numbers = both.compute()
    assert {name: numbers[name] for name in plain.better} == plain.compute()
    assert {name: numbers[f"{name}_aligned"] for name in plain.better} == scaled.compute()
    assert set(numbers) == set(both.better)
    again = AlignedDepthMetric(far=8.0)
    again.update(prediction * torch.tensor([0.01, 5.0, 1.0]).view(3, 1, 1, 1), target)
    assert again.compute()["rmse_aligned"] == pytest.approx(numbers["rmse_aligned"], rel=1e-5)
    assert again.compute()["rmse"] != pytest.approx(numbers["rmse"], rel=0.1)
