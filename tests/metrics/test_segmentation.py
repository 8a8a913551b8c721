"""mIoU and its companions from counts of pixels."""

import math

import numpy as np
import pytest
import torch
from published_metrics import arrays, expected, labels

from triptych.metrics.segmentation import SegmentationMetric

INPUTS = {"mIoU_semseg40": ("semseg40", 40), "mIoU_semseg21": ("semseg21", 21), "mIoU_parts": ("parts", 7)}


def published(name: str) -> SegmentationMetric:
    prefix, classes = INPUTS[name]
    inputs = arrays()
    metric = SegmentationMetric(classes)
    metric.update(torch.tensor(inputs[f"{prefix}_logits"]).argmax(dim=1), labels(inputs[f"{prefix}_label"]))
    return metric


@pytest.mark.parametrize("family", ["survey", "atrc", "invpt"])
@pytest.mark.parametrize("name", INPUTS)
def test_published_with_absent_classes_as_zero(family: str, name: str) -> None:
    wanted = expected(family)[name]["values"]
    assert published(name).compute()["mIoU_absent_zero"] == pytest.approx(wanted["mIoU"], rel=1e-5)


@pytest.mark.parametrize("name", ["mIoU_semseg40", "mIoU_semseg21"])
def test_published_without_absent_classes(name: str) -> None:
    wanted = expected("densemtl")[name]["values"]
    scores = published(name).compute()
    assert scores["mIoU"] == pytest.approx(wanted["mIoU"], rel=1e-5)
    assert scores["pixel_accuracy"] == pytest.approx(wanted["pixel_accuracy"], rel=1e-5)


@pytest.mark.parametrize("name", INPUTS)
def test_published_iou_per_class(name: str) -> None:
    wanted = expected("survey")[name]["values"]["jaccards_all_categs"]
    np.testing.assert_allclose(np.nan_to_num(list(published(name).per_class().values())), wanted, rtol=1e-6)


def test_published_f1_of_edges() -> None:
    inputs = arrays()
    metric = SegmentationMetric(["none", "edge"])
    metric.update(torch.tensor(inputs["edge2_logits"]).argmax(dim=1), labels(inputs["edge_label"]))
    assert metric.compute()["mF1"] == pytest.approx(expected("densemtl")["edges_F1"]["values"]["F1"], rel=1e-5)


def test_twin() -> None:
    prediction, target = torch.randint(0, 4, (3, 6, 7)), torch.randint(0, 3, (3, 6, 7))
    target[torch.rand(3, 6, 7) < 0.2] = 255
    metric = SegmentationMetric(6)  # class 3 occurs in predictions alone, 4 and 5 nowhere
    metric.update(prediction, target)
    p, t = prediction.numpy(), target.numpy()
    iou = [((p == k) & (t == k)).sum() / (((p == k) | (t == k)) & (t != 255)).sum() for k in range(4)]
    scores = metric.compute()
    assert scores["mIoU"] == pytest.approx(sum(iou) / 4)
    assert scores["mIoU_absent_zero"] == pytest.approx(sum(iou) / 6)
    assert scores["pixel_accuracy"] == pytest.approx((p == t)[t != 255].mean())
    assert math.isnan(metric.per_class()["5"])


def test_states_grow_with_the_classes_and_not_with_their_square() -> None:
    """They are kept for every image: a confusion matrix of 150 classes is 180 kB."""
    assert sum(state.numel() for state in SegmentationMetric(150).sums().values()) <= 4 * 150


def test_confusion_matrices_of_before_give_the_same_numbers() -> None:
    prediction, target = torch.randint(0, 5, (2, 4, 6, 7))
    target[0, :2] = 255
    metric, counts, matrices = SegmentationMetric(5), [], []
    for p, t in zip(prediction, target, strict=True):
        metric.reset()
        metric.update(p[None], t[None])
        counts.append(metric.sums()["counts"])
        matrices.append(torch.bincount((5 * t + p)[t != 255], minlength=25).view(5, 5))
    upgraded = metric.upgrade_sums({"confusion": torch.stack(matrices)})
    assert torch.equal(upgraded["counts"], torch.stack(counts))
    assert metric.upgrade_sums(upgraded) is upgraded


def test_by_hand() -> None:
    metric = SegmentationMetric(["a", "b", "c"])
    metric.update(torch.tensor([[[0, 0, 1, 1]]]), torch.tensor([[[0, 1, 1, 255]]]))
    assert metric.per_class()["a"] == 0.5
    assert metric.compute() == {"mIoU": 0.5, "mIoU_absent_zero": 1 / 3, "pixel_accuracy": 2 / 3, "mF1": 2 / 3}


@pytest.mark.parametrize(
    ("prediction", "target", "argument"), [(3, 0, "prediction"), (0, 3, "target"), (0, -1, "target")]
)
def test_raises_for_unknown_class(prediction: int, target: int, argument: str) -> None:
    metric = SegmentationMetric(3)
    with pytest.raises(ValueError, match=f"{argument} has class ids .* has 3 classes"):
        metric.update(torch.tensor([[[prediction]]]), torch.tensor([[[target]]]))
