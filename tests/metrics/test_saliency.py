"""The published F-measures of saliency."""

import numpy as np
import pytest
import torch
from published_metrics import arrays, expected, labels
from torch import Tensor

from triptych.metrics.boundary import BoundaryMetric
from triptych.metrics.saliency import SaliencyMetric, count_above
from triptych.prediction.strips import resize


def scored(probability: Tensor, target: Tensor) -> dict[str, float]:
    metric = SaliencyMetric()
    metric.update(probability, target)
    return metric.compute()


def test_published_pooled() -> None:
    inputs, wanted = arrays(), expected("atrc")
    target = labels(inputs["sal_label_ignore"])
    two = scored(torch.tensor(inputs["sal_logits2"]).softmax(dim=1)[:, 1:], target)
    one = scored(torch.tensor(inputs["sal_logit1"]).sigmoid(), target)
    assert two["maxF"] == pytest.approx(wanted["saliency_maxF_2channel"]["values"]["maxF"], rel=1e-5)
    assert one["maxF"] == pytest.approx(wanted["saliency_maxF_1channel"]["values"]["maxF"], rel=1e-5)


def test_published_double_sigmoid() -> None:
    inputs = arrays()
    scores = scored(torch.tensor(inputs["sal_logits2"]).softmax(dim=1)[:, 1:], labels(inputs["sal_label_ignore"]))
    wanted = expected("invpt")["saliency_maxF_double_sigmoid"]["values"]["maxF"]
    assert scores["maxF_invpt"] == pytest.approx(wanted, rel=1e-5)
    assert scores["maxF_invpt"] < scores["maxF"]


@pytest.mark.parametrize("name", ["saliency_online", "saliency_offline_8bit"])
def test_published_per_image(name: str) -> None:
    """The offline script reads the probability back from 8 bit, truncated."""
    inputs = arrays()
    probability = torch.tensor(inputs["sal_logit1"]).sigmoid()
    if name.endswith("8bit"):
        probability = (probability * 255).floor() / 255
    metric = SaliencyMetric()
    metric.update(probability, labels(inputs["sal_label"]))
    wanted = expected("survey")[name]["values"]
    assert metric.compute()["maxF_survey"] == pytest.approx(wanted["maxF"], rel=1e-5)
    assert metric.compute()["mIoU_survey"] == pytest.approx(wanted["mIoU"], rel=1e-5)
    precision, recall, iou = (metric.image_scores.sum(dim=-1) / metric.images).numpy()
    np.testing.assert_allclose(iou, wanted["mIoUs"], rtol=1e-5)
    np.testing.assert_allclose(2 * precision * recall / (precision + recall), wanted["F"], rtol=1e-5)


def twin_pooled(probability: np.ndarray, target: np.ndarray) -> float:
    best = 0.0
    for i in range(1, 20):
        marked = probability >= np.float32(0.05 * i)
        hits = (marked & (target == 1)).sum()
        precision, recall = hits / max(marked.sum(), 1), hits / (target == 1).sum()
        best = max(best, 1.3 * precision * recall / max(0.3 * precision + recall, 1e-12))
    return best


def twin_per_image(probability: list[np.ndarray], target: list[np.ndarray]) -> tuple[float, float]:
    best_f, best_iou = 0.0, 0.0
    for threshold in np.linspace(0.2, 0.9, 15):
        rows = []
        for p, t in zip(probability, target, strict=True):
            marked, truth = p > np.float32(threshold), t == 1
            hits, union = (marked & truth).sum(), (marked | truth).sum()
            rows.append((hits / max(marked.sum(), 1), hits / max(truth.sum(), 1), hits / union if union else 1.0))
        precision, recall, iou = np.mean(rows, axis=0)
        best_f = max(best_f, 2 * precision * recall / max(precision + recall, 1e-12))
        best_iou = max(best_iou, iou)
    return best_f, best_iou


def test_twin() -> None:
    target = (torch.rand(4, 6, 7) < 0.4).long()
    probability = (torch.randn(4, 1, 6, 7) + 1.5 * target[:, None] - 1).sigmoid()
    target[torch.rand(4, 6, 7) < 0.2] = 255
    target[3] = torch.where(target[3] == 255, 255, 0)  # nothing to find
    probability[3] *= 0.1  # and nothing found
    kept = [(p[0][t != 255].numpy(), t[t != 255].numpy()) for p, t in zip(probability, target, strict=True)]
    p, t = np.concatenate([p for p, _ in kept]), np.concatenate([t for _, t in kept])
    scores = scored(probability, target)
    best_f, best_iou = twin_per_image([p for p, _ in kept], [t for _, t in kept])
    assert scores["maxF"] == pytest.approx(twin_pooled(p, t))
    assert scores["maxF_survey"] == pytest.approx(best_f)
    assert scores["mIoU_survey"] == pytest.approx(best_iou)
    assert scores["mae"] == pytest.approx(np.abs(p - t).mean(), rel=1e-6)
    double = 1 / (1 + np.exp(-p.astype(np.float64)))
    assert scores["maxF_invpt"] == pytest.approx(twin_pooled(double.astype(np.float32), t))


def test_by_hand() -> None:
    """Thresholds up to 0.6 mark two of which one is right; above, nothing is right."""
    scores = scored(torch.tensor([[[[0.62, 0.97, 0.01]]]]), torch.tensor([[[1, 0, 0]]]))
    assert scores["maxF"] == pytest.approx(1.3 * 1 / (0.3 * 1 + 2))
    assert scores["maxF_survey"] == pytest.approx(2 / 3)
    assert scores["mIoU_survey"] == pytest.approx(1 / 2)


def test_probabilities_that_resizing_rounds_beyond_1_are_scored() -> None:
    ones, target = torch.ones(1, 1, 100, 100), torch.ones(1, 77, 61, dtype=torch.int64)
    resized = resize(ones, (77, 61), antialias=True)
    assert resized.max() > 1
    assert scored(resized, target)["maxF"] == pytest.approx(1)
    BoundaryMetric().update(resized, torch.ones_like(resized))


@pytest.mark.parametrize("value", [torch.nan, 3.0, -0.25])
def test_predictions_that_are_no_probabilities_have_no_score(value: float) -> None:
    """Where there is no label, they may hold anything."""
    target, probability = torch.tensor([[[1, 0, 255]]]), torch.full((1, 1, 1, 3), 0.25)
    probability[..., 2] = value
    assert scored(probability, target) == scored(torch.full((1, 1, 1, 3), 0.25), target)
    probability[..., 0] = value
    if np.isnan(value):
        assert np.isnan([*scored(probability, target).values()]).all()
        return
    with pytest.raises(ValueError, match=rf"\[{min(value, 0):g}, {max(value, 0.25):g}\].*apply the sigmoid"):
        scored(probability, target)


@pytest.mark.parametrize("strict", [False, True])
def test_values_on_a_threshold(strict: bool) -> None:
    values = torch.tensor([[0.25, 0.5, 0.75], [0.5, 0.5, 0.0]])
    counted = torch.ones(2, 3, dtype=torch.bool)
    wanted = [[1, 0], [0, 0]] if strict else [[2, 1], [2, 0]]
    assert count_above(values, counted, (0.5, 0.75), strict=strict).tolist() == wanted
