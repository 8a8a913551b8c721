"""The boundary score against recorded counts, slow twins and hand-made cases."""

import math
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
import torch
from boundary_maps import IMAGES, expected, golden_annotators, golden_map, smooth_map
from published_metrics import arrays
from published_metrics import expected as published
from torch import Tensor

from triptych.metrics import BoundaryMetric
from triptych.metrics.boundary import count_boundaries
from triptych.metrics.boundary_protocols import PROTOCOLS, BoundaryCounts, boundary_protocol, prepare_target
from triptych.metrics.contours import label_outlines, thin

COUNTED = ("matched_target", "target", "matched_prediction", "prediction")


def golden_counts(protocol: str, max_dist: str, image: str) -> BoundaryCounts:
    targets = golden_annotators(image)
    if protocol == "seism":
        targets = prepare_target(golden_map(image, "segmentation1"), "outline")[None]
    prediction = golden_map(image, "prediction")
    return count_boundaries(prediction, targets, protocol=boundary_protocol(protocol), max_dist=float(max_dist))


def slow_curve(sums: dict[str, np.ndarray], empty: float) -> list[tuple[float, float]]:
    """(precision, recall) at every threshold."""
    columns = zip(*(sums[name] for name in COUNTED), strict=True)
    return [(mp / p if p else empty, mt / t if t else empty) for mt, t, mp, p in columns]


def slow_f(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def slow_scores(images: list[dict[str, np.ndarray]], *, interpolate: bool, empty: float) -> dict[str, float]:
    """ODS, OIS and AP as the specification words them, one number after the other."""
    curve = slow_curve({name: sum(image[name] for image in images) for name in COUNTED}, empty)
    ods = max(slow_f(*point) for point in curve)
    for (p0, r0), (p1, r1) in pairwise(curve):
        for i in range(100 if interpolate else 0):
            share = i / 99
            ods = max(ods, slow_f(p0 + share * (p1 - p0), r0 + share * (r1 - r0)))
    best = dict.fromkeys(COUNTED, 0.0)
    for image in images:
        f = [slow_f(*point) for point in slow_curve(image, empty)]
        k = f.index(max(f))
        best = {name: best[name] + image[name][k] for name in COUNTED}
    [ois] = slow_curve({name: np.array([best[name]]) for name in COUNTED}, empty)
    first: dict[float, float] = {}
    for p, r in curve:
        first.setdefault(r, p)
    recalls = sorted(first)
    area = 0.0
    for i in range(101):
        for low, high in pairwise(recalls):
            if low <= i / 100 < high or (i / 100 == high == recalls[-1]):
                area += first[low] + (i / 100 - low) / (high - low) * (first[high] - first[low])
    return {"odsF": ods, "oisF": slow_f(*ois), "AP": area / 100}


def metric_of(protocol: str, max_dist: float, images: list[BoundaryCounts]) -> BoundaryMetric:
    metric = BoundaryMetric(protocol, max_dist=max_dist)
    for counts in images:
        metric.add_counts(counts, 1)
    return metric


CASES = [("seism", "0.0075"), ("seism", "0.011"), ("bsds", "0.0075")]


@pytest.mark.parametrize(("protocol", "max_dist"), [*CASES, pytest.param("bsds", "0.011", marks=pytest.mark.slow)])
def test_recorded_counts(protocol: str, max_dist: str) -> None:
    """Every count of every threshold, and F within 5e-4 of the randomised reference's."""
    ours, union, reference = [], np.zeros(2), []
    for image in IMAGES:
        counts, recorded = golden_counts(protocol, max_dist, image), expected(protocol, max_dist)[image]
        np.testing.assert_array_equal(counts.prediction, recorded["sumP"])
        np.testing.assert_array_equal(counts.target, np.sum(recorded["sumR"]))
        np.testing.assert_array_equal(counts.matched_target, np.atleast_2d(recorded["card"]).sum(axis=0))
        randomised = np.atleast_2d(recorded["k"]).sum(axis=0)
        explained = np.array(recorded.get("cntP", randomised))
        union += counts.matched_prediction.sum(), explained.sum()
        total = np.full(len(explained), np.sum(recorded["sumR"]))
        reference.append(dict(zip(COUNTED, (randomised, total, explained, np.array(recorded["sumP"])), strict=True)))
        ours.append(counts)
    assert abs(union[0] / union[1] - 1) <= 1e-3
    scores = metric_of(protocol, float(max_dist), ours).compute()
    theirs = slow_scores(reference, interpolate=protocol == "bsds", empty=float(protocol == "seism"))
    for name in ("odsF", "oisF"):
        assert scores[f"{name}_{protocol}_{max_dist}"] == pytest.approx(theirs[name], abs=5e-4)
    assert scores[f"AP_{protocol}_{max_dist}"] == pytest.approx(theirs["AP"], abs=1e-3)


def random_counts(seed: int, protocol: str) -> list[BoundaryCounts]:
    """Three images' plausible counts; the last one has no prediction above the first thresholds."""
    random = np.random.default_rng(seed)
    images = []
    for i in range(3):
        thresholds = len(PROTOCOLS[protocol].thresholds)
        predicted = np.sort(random.integers(0, 900, thresholds))[::-1].astype(float)
        predicted[10:] *= i < 2
        target = np.full(thresholds, float(random.integers(300, 500)))
        matched = np.minimum(np.floor(predicted * np.linspace(0.4, 0.9, thresholds)), target)
        images.append(BoundaryCounts(matched, target, np.minimum(matched + 3, predicted), predicted))
    return images


@pytest.mark.parametrize("protocol", ["bsds", "seism", "seism-nonms"])
@pytest.mark.parametrize("seed", range(3))
def test_numbers_of_counts_equal_the_slow_twin(protocol: str, seed: int) -> None:
    images = random_counts(seed, protocol)
    scores = metric_of(protocol, 0.0075, images).compute()
    slow = slow_scores(
        [counts._asdict() for counts in images], interpolate=protocol == "bsds", empty=float(protocol != "bsds")
    )
    assert scores == pytest.approx({f"{name}_{protocol}_0.0075": value for name, value in slow.items()}, abs=1e-12)


def score_maps(prediction: np.ndarray, target: np.ndarray, protocol: str = "seism", **options: object) -> dict:
    metric = BoundaryMetric(protocol, **options)
    metric.update(torch.tensor(prediction).float()[None, None], torch.tensor(target).float()[None, None])
    return metric.compute()


@pytest.mark.parametrize(("shift", "f"), [(7, 1.0), (8, 0.0)])
def test_a_line_moved_beyond_the_radius_is_lost(shift: int, f: float) -> None:
    """425 x 560 with maxDist 0.011: 7.73 pixels."""
    target, prediction = np.zeros((425, 560)), np.zeros((425, 560))
    target[200, 50:500], prediction[200 + shift, 50:500] = 1, 1
    scores = score_maps(prediction, target, dataset="nyuv2", protocol="bsds")
    assert scores["odsF_bsds_0.011"] == f


@pytest.mark.parametrize(
    ("protocol", "prediction", "target", "f"),
    [
        ("seism", 0.0, 0.0, 1.0),
        ("seism", 0.0, 1.0, 0.0),
        ("seism", 1.0, 0.0, 0.0),
        ("bsds", 0.0, 0.0, 0.0),
        ("bsds", 0.0, 1.0, 0.0),
        ("bsds", 1.0, 0.0, 0.0),
        ("pixel-f1", 0.0, 0.0, 1.0),
        ("pixel-f1", 1.0, 1.0, 1.0),
        ("pixel-f1", 1.0, 0.0, 0.0),
    ],
)
def test_empty_maps_have_defined_scores(protocol: str, prediction: float, target: float, f: float) -> None:
    maps = np.full((24, 30), prediction), np.full((24, 30), target)
    scores = score_maps(*maps, protocol)
    assert all(math.isfinite(value) for value in scores.values())
    assert next(iter(scores.values())) == f


def test_equal_values_follow_the_comparison() -> None:
    """51 / 255 is 0.2: kept by p >= t in double, dropped by p > t in single precision."""
    level = np.full((1, 1), 51, np.uint8)
    assert boundary_protocol("bsds").rank(level).item() == 20
    strict = BoundaryMetric("seism").protocol
    values = np.float32(level) / np.float32(255)
    assert np.searchsorted(np.float32(strict.thresholds), values, side="left").item() == 20  # 0.001 comes first
    assert boundary_protocol("seism-nonms").rank(level / 255).item() == 20


def test_predictions_are_truncated_to_8_bit() -> None:
    bsds = boundary_protocol("bsds")
    probability = np.random.default_rng(0).random((20, 20))
    np.testing.assert_array_equal(bsds.rank(probability), bsds.rank(np.floor(255 * probability).astype(np.uint8)))
    assert (bsds.rank(probability) != bsds.rank(np.rint(255 * probability).astype(np.uint8))).any()


def test_ground_truth_recipes() -> None:
    edges = np.zeros((20, 30))
    edges[8:10] = 1
    np.testing.assert_array_equal(prepare_target(edges, "thin"), thin(edges > 0))
    np.testing.assert_array_equal(prepare_target(edges, "outline"), thin(label_outlines(edges)))
    np.testing.assert_array_equal(prepare_target(edges, "stored"), edges > 0)
    seism = boundary_protocol("seism")
    assert [seism.recipe(name) for name in ("", "pascal-context", "nyuv2")] == ["thin", "outline", "outline"]
    assert boundary_protocol("bsds").recipe("nyuv2") == "stored"
    assert [seism.radius(name) for name in ("", "pascal-context", "nyuv2")] == [0.0075, 0.0075, 0.011]


def batch_of(images: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    prediction = torch.tensor(np.stack([smooth_map(i, height, width) for i in range(images)]))[:, None].float()
    lines = [np.abs(smooth_map(i + 30, height, width) - 0.5) < 0.03 for i in range(images)]
    return prediction, torch.tensor(np.stack(lines))[:, None].float()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_invalid_margins_score_as_the_cropped_image(protocol: str) -> None:
    prediction, target = batch_of(2, 48, 60)
    padded = torch.full((2, 1, 64, 72), torch.nan)
    padded[..., 5:53, 7:67] = target
    noise = torch.rand(2, 1, 64, 72)
    noise[..., 5:53, 7:67] = prediction
    cropped, whole = BoundaryMetric(protocol, max_dist=0.02), BoundaryMetric(protocol, max_dist=0.02)
    cropped.update(prediction, target)
    whole.update(noise, padded)
    assert whole.compute() == cropped.compute()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_invalid_holes_hide_predictions(protocol: str) -> None:
    prediction, target = batch_of(1, 48, 60)
    target[..., 20:30, 20:40] = torch.nan
    metric = BoundaryMetric(protocol)
    metric.update(torch.where(target.isnan(), 1.0, prediction), target)
    other = BoundaryMetric(protocol)
    other.update(torch.where(target.isnan(), 0.0, prediction), target)
    assert metric.compute() == other.compute()


def test_several_annotators_share_the_prediction() -> None:
    """Two annotators of one line each: a prediction of both lines is all explained, and recalled once per annotator."""
    targets, prediction = torch.zeros(1, 3, 40, 50), torch.zeros(1, 1, 40, 50)
    targets[0, 0, 10, 5:45], targets[0, 1, 30, 5:45] = 1, 1
    targets[0, 2] = torch.nan
    prediction[0, 0, 10, 5:45], prediction[0, 0, 30, 5:45] = 1, 1
    metric = BoundaryMetric("bsds")
    metric.update(prediction, targets)
    assert metric.counts[:, 50].tolist() == [80, 80, 80, 80]
    metric.update(prediction, targets[:, [1, 0]])
    assert metric.counts[:, 50].tolist() == [160, 160, 160, 160]


def test_order_of_annotators_leaves_the_counts_alone() -> None:
    prediction, targets = golden_map("103006", "prediction"), golden_annotators("103006")
    window = np.s_[100:220, 100:240]
    options = {"protocol": boundary_protocol("bsds"), "max_dist": 0.02}
    one = count_boundaries(prediction[window], targets[:, *window], **options)
    other = count_boundaries(prediction[window], targets[::-1, *window], **options)
    np.testing.assert_array_equal(np.stack(one), np.stack(other))
    assert (one.matched_prediction < one.matched_target).any()


def test_pixel_f1_is_the_published_count() -> None:
    inputs = arrays()
    metric = BoundaryMetric("pixel-f1")
    probability = torch.tensor(inputs["edge2_logits"]).softmax(dim=1)[:, 1:]
    metric.update(probability, torch.tensor(inputs["edge_label"]).float())
    assert metric.compute()["F1_pixel-f1_0"] == pytest.approx(
        published("densemtl")["edges_F1"]["values"]["F1"], rel=1e-5
    )


def test_pixel_f1_has_one_annotator() -> None:
    """Five equal ones had a score above 1: the prediction's pixels count once, the annotators' five times."""
    line = torch.zeros(1, 1, 12, 12)
    line[..., 6, :] = 1
    with pytest.raises(ValueError, match="boundaries of 5 annotators, and pixel-f1 counts the pixels of one"):
        BoundaryMetric("pixel-f1").update(line, line.repeat(1, 5, 1, 1))
    one = line.repeat(1, 5, 1, 1)
    one[:, 1:] = torch.nan  # others said nothing
    metric = BoundaryMetric("pixel-f1")
    metric.update(line, one)
    assert metric.compute()["F1_pixel-f1_0"] == 1


def test_a_share_of_the_images_is_fixed_by_their_ground_truth() -> None:
    prediction, target = batch_of(16, 30, 36)
    scores = []
    for batches in ([range(16)], [[i] for i in reversed(range(16))], [range(0, 16, 2), range(1, 16, 2)]):
        metric = BoundaryMetric(share=0.5)
        for batch in batches:
            metric.update(prediction[list(batch)], target[list(batch)])
        scores.append(metric.compute())
    assert scores[0] == scores[1] == scores[2]
    assert 0 < scores[0]["images"] < 16
    assert set(scores[0]) == {f"{name}_seism_0.0075_share0.5" for name in ("odsF", "oisF", "AP")} | {"images"}
    chosen = [i for i in range(16) if BoundaryMetric(share=0.5)._chosen(target[i].numpy())]
    exact = BoundaryMetric()
    exact.update(prediction[chosen], target[chosen])
    assert scores[0]["odsF_seism_0.0075_share0.5"] == exact.compute()["odsF_seism_0.0075"]


def test_the_name_carries_protocol_and_distance() -> None:
    metric = BoundaryMetric("seism-nonms", dataset="nyuv2")
    assert metric.primary == "odsF_seism-nonms_0.011"
    assert BoundaryMetric("pixel-f1").primary == "F1_pixel-f1_0"
    assert BoundaryMetric().primary == BoundaryMetric.primary
    assert set(BoundaryMetric().better) == set(BoundaryMetric.better)


@pytest.mark.parametrize(
    ("value", "words"), [(math.nan, "1 NaN pixels"), (1.5, r"\[0, 1.5\].*sigmoid"), (-0.25, r"\[-0.25")]
)
def test_predictions_that_are_no_probabilities(value: float, words: str) -> None:
    prediction = torch.zeros(1, 1, 12, 12)
    prediction[0, 0, 3, 4] = value
    with pytest.raises(ValueError, match=words):
        BoundaryMetric().update(prediction, torch.zeros(1, 1, 12, 12))


def test_ground_truth_with_another_mark_of_no_label_is_refused() -> None:
    line = torch.zeros(1, 1, 8, 8)
    line[..., 3, :] = 1
    marked = line.clone()
    marked[..., 6:, :] = 255
    with pytest.raises(ValueError, match=r"target has values in \[0, 255\]; .* NaN is what has no label"):
        BoundaryMetric().update(line, marked)


def test_raises_for_bad_options() -> None:
    with pytest.raises(ValueError, match="unknown boundary protocol 'seizm'; did you mean 'seism'"):
        BoundaryMetric("seizm")
    with pytest.raises(ValueError, match="share 0"):
        BoundaryMetric(share=0.0)
    with pytest.raises(ValueError, match=r"max_dist 4\.34.*fraction"):
        BoundaryMetric(max_dist=4.34)


def test_radius_follows_the_diagonal_in_double_precision() -> None:
    """At 300 x 400 a maxDist of 0.01 is 5 pixels: 5 is inside, the next grid distance (sqrt 26) is not."""
    for shift, pairs in (((3, 4), 1), ((1, 5), 0)):
        prediction, target = np.zeros((300, 400)), np.zeros((1, 300, 400), bool)
        prediction[100, 100], target[0, 100 + shift[0], 100 + shift[1]] = 1, True
        counts = count_boundaries(prediction, target, protocol=boundary_protocol("bsds"), max_dist=5 / sqrt(250000))
        assert counts.matched_target[0] == pairs


def test_a_metric_reads_its_target_by_the_recipe() -> None:
    """Two pixels wide, NYUv2's ground truth is two lines: half of it is missed by one line in the middle."""
    target = torch.zeros(1, 1, 60, 80)
    target[..., 20:22, 10:70] = 1
    prediction = torch.zeros(1, 1, 60, 80)
    prediction[..., 20, 10:70] = 1
    recalls = {}
    for dataset in ("", "nyuv2"):
        metric = BoundaryMetric("seism-nonms", dataset=dataset, max_dist=0.02)
        metric.update(prediction, target)
        recalls[dataset] = metric.best().recall
    assert recalls[""] > 0.95
    assert 0.45 < recalls["nyuv2"] < 0.55
