"""Resampling against brute force, theory, and its limits."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from metric_cases import CASES, IMAGES, images_of
from torch import Tensor

from triptych.metrics.base import Total, exact_sum
from triptych.metrics.bootstrap import bootstrap, bootstrap_difference, compute_sums, sum_groups
from triptych.metrics.depth import DepthMetric
from triptych.metrics.segmentation import SegmentationMetric
from triptych.metrics.values import ValuesMetric


def sums_of(name: str, images: list[int], shift: float = 0.0) -> dict[str, Tensor]:
    """One image after the other; `shift` moves floating predictions."""
    prediction, target = images_of(name)
    prediction = prediction + shift if prediction.is_floating_point() else prediction
    rows = []
    for image in images:
        metric = CASES[name].metric()
        metric.update(prediction[image : image + 1], target[image : image + 1])
        rows.append(metric.sums())
    return {state: torch.stack([row[state] for row in rows]) for state in rows[0]}


@pytest.mark.parametrize("name", CASES)
def test_a_resample_equals_scoring_its_images(name: str) -> None:
    labelled = [image for image in range(IMAGES) if image != 3]
    sums = sums_of(name, labelled)
    whole = CASES[name].metric()
    prediction, target = images_of(name)
    whole.update(prediction[labelled], target[labelled])
    assert compute_sums(CASES[name].metric(), sums) == whole.compute()
    times = np.random.default_rng(5).multinomial(6, np.full(6, 1 / 6), size=1)[0]
    drawn = CASES[name].metric()
    again = [image for image, n in zip(labelled, times, strict=True) for _ in range(n)]
    drawn.update(prediction[again], target[again])
    found = bootstrap(CASES[name].metric(), sums, resamples=1, seed=5)
    expected = drawn.compute()
    for number, (_, low, high) in found.items():
        assert [low, high] == pytest.approx([expected[number]] * 2, rel=1e-12, nan_ok=True)


def test_spread_of_a_mean_is_the_textbook_one() -> None:
    """Images of one pixel: rmse^2 is a mean of squares, whose interval is about +- 1.96 s / sqrt(n)."""
    torch.manual_seed(1)
    errors = torch.rand(400)
    rows = []
    for error in errors:
        metric = DepthMetric()
        metric.update((3 + error).view(1, 1, 1, 1), torch.full((1, 1, 1, 1), 3.0))
        rows.append(metric.sums())
    sums = {state: torch.stack([row[state] for row in rows]) for state in rows[0]}
    found = bootstrap(DepthMetric(), sums, resamples=2000)["rmse"]
    half = 1.96 * errors.square().std().item() / 20
    assert found.value**2 == pytest.approx(errors.square().mean().item(), rel=1e-5)
    assert found.low**2 == pytest.approx(found.value**2 - half, abs=0.12 * half)
    assert found.high**2 == pytest.approx(found.value**2 + half, abs=0.12 * half)


class Bias(ValuesMetric):
    """Errors whose primary number has a sign."""

    below_zero = True
    better: ClassVar = {"bias": False, "mae": False}
    signed: Total

    def __init__(self) -> None:
        super().__init__()
        self.primary = "bias"

    def update(self, prediction: Tensor, target: Tensor) -> None:
        super().update(prediction, target)
        self.signed += exact_sum(prediction - target)

    def compute(self) -> dict[str, float]:
        return {"bias": float(self.signed.sum() / self.numbers), "mae": super().compute()["mae"]}


@pytest.mark.parametrize("first", [-0.5, 0.5])
def test_the_better_one_of_two_is_nearer_to_perfect(first: float) -> None:
    """Whatever side of it, and so in a number that has no sign."""
    rows = []
    for error in (first, 0.25):
        metric = Bias()
        metric.update(torch.full((1, 1, 1, 1), error), torch.zeros(1, 1, 1, 1))
        rows.append({state: value.expand(4, *value.shape) for state, value in metric.sums().items()})
    found = bootstrap_difference(Bias(), *rows, resamples=20)
    assert found["bias"] == found["mae"]._replace(first=first)
    assert found["bias"].second_better == 1.0


def test_a_class_that_a_resample_lacks_is_no_class_of_score_0() -> None:
    """Perfect maps of rare classes are perfect in every resample; a class that occurs nowhere counts 0 in each."""
    rows = []
    for rare in range(1, 11):
        metric = SegmentationMetric(12)  # the last occurs nowhere
        labels = torch.tensor([[[0, 0, rare]]])
        metric.update(labels, labels)
        rows.append(metric.sums())
    sums = {state: torch.stack([row[state] for row in rows]) for state in rows[0]}
    found = bootstrap(SegmentationMetric(12), sums, resamples=50)
    assert found["mIoU"] == (1, 1, 1)
    assert found["mIoU_absent_zero"] == pytest.approx((11 / 12,) * 3)


def test_pairing_sees_a_small_steady_gain() -> None:
    images = [0, 1, 2, 4, 5, 6]
    first, second = sums_of("depth", images), sums_of("depth", images, shift=1e-3)
    metric = DepthMetric()
    found = bootstrap_difference(metric, first, second, resamples=300)["rmse"]
    alone = bootstrap(metric, first, resamples=300)["rmse"]
    assert found.high - found.low < 0.05 * (alone.high - alone.low)
    assert found.difference == found.second - found.first


@pytest.mark.parametrize("name", CASES)
def test_an_image_that_is_there_again_tells_nothing(name: str) -> None:
    """Four equal views of a scene: the interval of the scenes, not one half as wide."""
    sums = sums_of(name, [0, 1, 2, 4, 5, 6])
    views = {state: value.repeat_interleave(4, dim=0) for state, value in sums.items()}
    groups = [f"scene {i // 4}" for i in range(24)]
    metric = CASES[name].metric()
    once, again = (bootstrap(metric, each, resamples=50) for each in (sums, sum_groups(views, groups)))
    for number in once.keys() - {"images"}:
        assert [*again[number]] == pytest.approx([*once[number]], rel=1e-9, nan_ok=True)


def test_groups_that_are_single_images_change_no_bit() -> None:
    sums = sums_of("depth", [0, 1, 2, 4])
    for state, value in sum_groups(sums, ["b", "d", "a", "c"]).items():
        assert torch.equal(value, sums[state])


def test_better_follows_the_direction_of_the_number() -> None:
    images = [0, 1, 2, 4, 5, 6]
    good, bad = sums_of("depth", images), sums_of("depth", images, shift=30.0)
    for first, second, share in ((good, bad, 0.0), (bad, good, 1.0), (good, good, 0.5)):
        found = bootstrap_difference(DepthMetric(), first, second, resamples=50)
        assert found["rmse"].second_better == share
        assert found["delta1"].second_better == share


def test_bad_arguments() -> None:
    sums = sums_of("depth", [0, 1])
    with pytest.raises(ValueError, match=r"sums of \[1, 2\] images"):
        bootstrap_difference(DepthMetric(), sums, sums_of("depth", [0]))
    with pytest.raises(ValueError, match=r"confidence 1\.5"):
        bootstrap(DepthMetric(), sums, confidence=1.5)
    with pytest.raises(ValueError, match=r"sums of \[0\] images"):
        bootstrap(DepthMetric(), {name: value[:0] for name, value in sums.items()})
