"""What every metric has in common: sums that can be split, shuffled, merged and shared between processes."""

import math

import pytest
import torch
from metric_cases import CASES, IMAGES, SIZE, hide, images_of, score
from unchecked import shapes_unchecked

from triptych.metrics.base import Count, Metric, Total, exact_sum

WHOLE = [range(IMAGES)]


@pytest.mark.parametrize("name", CASES)
def test_batches_and_order_leave_the_bits_alone(name: str) -> None:
    whole = score(name, WHOLE)
    assert all(math.isfinite(value) for value in whole.values())
    assert score(name, [[image] for image in range(IMAGES)]) == whole
    assert score(name, [[6, 2, 0], [3, 5], [4, 1]]) == whole


@pytest.mark.parametrize("name", CASES)
def test_sums_of_parts_make_the_whole(name: str) -> None:
    prediction, target = images_of(name)
    merged = CASES[name].metric()
    for image in range(IMAGES):
        part = CASES[name].metric()
        part.update(prediction[image : image + 1], target[image : image + 1])
        merged.add_sums(part.sums())
    assert merged.compute() == score(name, WHOLE)


class Written(Metric):
    """As in a module with `from __future__ import annotations`."""

    total: "Total"

    def update(self, prediction: torch.Tensor, target: torch.Tensor) -> None:
        self.total += exact_sum(prediction)

    def compute(self) -> dict[str, float]:
        return {"total": self.total.sum().item()}


class WrittenInFull(Written):
    count: "Count"


def test_states_may_be_declared_by_annotations_that_are_texts() -> None:
    metric = WrittenInFull()
    metric.update(torch.tensor([1.5, 2.0]), torch.zeros(2))
    assert metric.compute() == {"total": 3.5}
    assert metric.count == 0


@pytest.mark.parametrize("name", CASES)
def test_reset_forgets(name: str) -> None:
    metric = CASES[name].metric()
    prediction, target = images_of(name)
    metric.update(prediction.flip(0), target)
    metric.reset()
    metric.update(prediction, target)
    assert metric.compute() == score(name, WHOLE)


@pytest.mark.parametrize("name", CASES)
def test_arrays_are_refused_by_their_name(name: str) -> None:
    prediction, target = images_of(name)
    with shapes_unchecked(), pytest.raises(TypeError, match=r"maps or a target of type ndarray; give tensors: torch\."):
        CASES[name].metric().update(prediction, target.numpy())


@pytest.mark.parametrize("name", CASES)
def test_targets_of_any_number_type_give_the_same_scores(name: str) -> None:
    """Masks are often boolean, and maps are kept in half precision."""
    prediction, target = images_of(name)
    scores = []
    for dtype in (torch.bfloat16, torch.float32) if target.is_floating_point() else (torch.bool, torch.int64):
        metric = CASES[name].metric()
        rough = target.to(torch.bfloat16).float() if target.is_floating_point() else target == 1
        with shapes_unchecked():
            metric.update(prediction if target.is_floating_point() else prediction.clamp(max=1), rough.to(dtype))
        scores.append(metric.compute())
    assert scores[0] == pytest.approx(scores[1], nan_ok=True)


@pytest.mark.parametrize("name", CASES)
def test_empty_is_nan_without_a_warning(name: str) -> None:
    """Warnings are errors in this suite."""
    metric = CASES[name].metric()
    assert all(math.isnan(value) for value in metric.compute().values())
    if name == "normals-densemtl":
        return  # counts invalid pixels, as published
    prediction, target = CASES[name].make(2, *SIZE)
    metric.update(prediction, hide(target, torch.ones(2, *SIZE, dtype=torch.bool)))
    assert all(math.isnan(value) for value in metric.compute().values())


@pytest.mark.parametrize("name", CASES)
def test_maps_of_another_layout_are_refused(name: str) -> None:
    """A missing axis would compare every image of the batch with all others."""
    prediction, target = images_of(name)
    other_axes = target[:, 0] if target.is_floating_point() else target[:, None]
    other_type = target.nan_to_num().long() if target.is_floating_point() else target.float()
    wrong = [
        (prediction, other_axes),
        (prediction, other_type),
        (prediction, target[..., 1:]),
        (prediction[:1], target),
    ]
    wrong += [(prediction[:, 0], target), (prediction[:, [0, 0]], target)]
    metric = CASES[name].metric()
    with shapes_unchecked():
        for pair in wrong:
            with pytest.raises(ValueError, match=f"^{type(metric).__name__} has maps .* and a target .*; give "):
                metric.update(*pair)


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_named_and_directed(name: str) -> None:
    metric = CASES[name].metric()
    assert set(metric.compute()) == set(metric.better)
    assert metric.primary in metric.better


@pytest.mark.parametrize("name", [name for name in CASES if name != "normals-densemtl"])
def test_invalid_pixels_do_not_count(name: str) -> None:
    metric = CASES[name].metric()
    prediction, target = images_of(name)
    valid = ~hide(torch.zeros(target.shape[0], *SIZE), target[:, 0].isnan() if target.ndim == 4 else target == 255)[
        :, 0
    ].isnan()
    noise = CASES[name].make(IMAGES, *SIZE)[0]
    metric.update(torch.where(valid[:, None] if prediction.ndim == 4 else valid, prediction, noise), target)
    assert metric.compute() == score(name, WHOLE)


@pytest.mark.parametrize("name", CASES)
def test_model_precision_leaves_the_sums_alone(name: str) -> None:
    metric = CASES[name].metric().half().bfloat16().set_dtype(torch.float16)
    assert {value.dtype for value in metric.sums().values()} <= {torch.float64, torch.int64}
