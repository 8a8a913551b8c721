"""Losses against published values, against slow NumPy twins, and in the corners: no label, half precision, compiled."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from class_loss_twins import matched_gradients
from class_loss_twins import twin as class_twin
from metric_cases import hide
from shared import shared_path
from test_studies import load
from torch import Tensor
from torch.nn import functional as F

from triptych.losses import classes
from triptych.losses import depth as depth_losses
from triptych.losses import pixel as losses
from triptych.types import IGNORE, valid_pixels

derive_normals = load("derived_normals").derive_normals

TABLES = {
    "segmentation": classes.SEGMENTATION,
    "saliency_1": losses.SALIENCY_1,
    "saliency_2": losses.SALIENCY_2,
    "boundary_1": losses.BOUNDARY_1,
    "boundary_2": losses.BOUNDARY_2,
    "normals": losses.NORMALS,
    "depth": {name: loss for name, (loss, _) in depth_losses.DEPTH.items()},
    "auxiliary": {
        "bins": depth_losses.bin_depth,
        "clusters": partial(losses.cluster_normals, centroids=F.normalize(torch.arange(12.0).sin().view(4, 3), dim=1)),
    },
}
ENTRIES = [(table, name) for table, entries in TABLES.items() for name in entries]

# Published values. Their labels mark invalid pixels by 255 (DenseMTL 250, or a mask); ours by IGNORE or NaN.


def labels(array: np.ndarray, ignore: int = 255) -> Tensor:
    target = torch.tensor(array).long()
    target = target[:, 0] if target.ndim == 4 else target
    return torch.where(target == ignore, IGNORE, target)


def values(array: np.ndarray) -> Tensor:
    """Floats with 255 in any channel meaning invalid, as ATRC and InvPT count pixels."""
    target = torch.tensor(array)
    return torch.where((target == 255).any(dim=1, keepdim=True), torch.nan, target)


def masked(array: np.ndarray, mask: np.ndarray) -> Tensor:
    return torch.where(torch.tensor(mask), torch.tensor(array), torch.nan)


Inputs = dict[str, np.ndarray]
Case = Callable[[Inputs, dict[str, Tensor]], Tensor]


def single(loss: Callable[..., Tensor], prediction: str, target: str, read: Callable[..., Tensor], **options) -> Case:
    return lambda inputs, raw: loss(raw[prediction], read(inputs[target]), **options)


def weighted(cases: dict[str, Case], weights: dict[str, float], rename: dict[str, str] | None = None) -> Case:
    rename = rename or {}

    def total(inputs: Inputs, raw: dict[str, Tensor]) -> Tensor:
        raw = raw | {old: raw[new] for old, new in rename.items()}
        return sum(weight * cases[name](inputs, raw) for name, weight in weights.items())

    return total


SURVEY = {
    "semseg": single(losses.cross_entropy, "semseg_logits", "semseg_label", labels),
    "human_parts": single(losses.cross_entropy, "parts_logits", "parts_label", labels),
    "depth": single(depth_losses.l1_depth, "depth_pred", "depth_label", values),
    "normals": single(losses.l1_normals_mean, "normals_pred", "normals_label", values),
    "edge_w0.95": single(losses.boundary_bce, "edge_logits", "edge_label", values, positive_weight=0.95),
    "sal_balanced": single(losses.balanced_binary_cross_entropy, "sal1_logits", "sal_label", labels),
}
SURVEY_WEIGHTS = {"semseg": 1, "depth": 1, "normals": 10, "edge_w0.95": 50}
SURVEY_NAMES = {"semseg": "semseg_logits", "depth": "depth_pred", "normals": "normals_pred", "edge": "edge_logits"}


def survey_deep(scales: int) -> Case:
    """Semseg and depth at full size, and the initial predictions of four tasks `scales` times."""
    final = weighted(SURVEY, {"semseg": 1, "depth": 1})
    initial = weighted(SURVEY, SURVEY_WEIGHTS)

    def total(inputs: Inputs, raw: dict[str, Tensor]) -> Tensor:
        size = raw["semseg_logits"].shape[-2:]
        low = {
            name: F.interpolate(raw[f"{task}_low"], size=size, mode="bilinear", align_corners=False)
            for task, name in SURVEY_NAMES.items()
        }
        return final(inputs, raw) + scales * initial(inputs, low)

    return total


SURVEY |= {
    "total_multitask": weighted(SURVEY, SURVEY_WEIGHTS),
    "total_padnet": survey_deep(1),
    "total_mtinet": survey_deep(4),
}

ATRC = {
    "semseg": SURVEY["semseg"],
    "human_parts": SURVEY["human_parts"],
    "depth": SURVEY["depth"],
    "sal_balanced": single(losses.balanced_cross_entropy, "sal2_logits", "sal_label_ignore", labels),
    "normals": single(losses.l1_normals, "normals_pred", "normals_label", values),
    "depth_aux_bins": single(depth_losses.bin_depth, "depth_aux_logits", "depth_label", values),
    "normals_aux_clusters": lambda inputs, raw: losses.cluster_normals(
        raw["normals_aux_logits"], values(inputs["normals_label"]), torch.tensor(inputs["normals_centroids"])
    ),
}
for weight in (0.8, 0.88, 0.925, 0.95):
    ATRC[f"edge_w{weight}"] = single(
        losses.boundary_bce, "edge_logits", "edge_label_ignore", values, positive_weight=weight
    )
    ATRC[f"edge_aux_w{weight}"] = single(
        losses.boundary_cross_entropy, "edge_aux_logits", "edge_label_ignore", values, positive_weight=weight
    )

INVPT_WEIGHTS = {"semseg": 1, "depth": 1, "normals": 10, "edge_w0.95": 50}
INVPT_INITIAL = {name: f"{task}_initial" for task, name in SURVEY_NAMES.items()}
INVPT = ATRC | {
    "edge_w0.95_no_ignore": SURVEY["edge_w0.95"],
    "total_with_intermediate": lambda inputs, raw: (
        weighted(ATRC, INVPT_WEIGHTS)(inputs, raw) + weighted(ATRC, INVPT_WEIGHTS, INVPT_INITIAL)(inputs, raw)
    ),
}


def scales(task: str, weight: float, loss: Callable[[Tensor, Inputs], Tensor]) -> Case:
    """DenseMTL: mean over two scales of the predictions resized with align_corners=True, times the weight."""

    def total(inputs: Inputs, raw: dict[str, Tensor]) -> Tensor:
        full, half = raw[f"{task}_scale0"], raw[f"{task}_scale1"]
        half = F.interpolate(half, size=full.shape[-2:], mode="bilinear", align_corners=True)
        return weight * (loss(full, inputs) + loss(half, inputs)) / 2

    return total


def derived(inputs: Inputs) -> Tensor:
    u = masked(inputs["depth_u"], inputs["depth_mask"])
    return derive_normals(u, torch.tensor(inputs["inv_K"])[:, :3, :3].inverse(), reference_quirks=True)


def metres(inputs: Inputs) -> Tensor:
    """Our targets are metres: u = 65536 / (100 m + 1) solved for m in double precision."""
    exact = 655.36 / inputs["depth_u"].astype(np.float64) - 0.01
    return masked(exact, inputs["depth_mask"])


def unit(array: np.ndarray) -> Tensor:
    """Our normals are of unit length; the fixture's are not."""
    return F.normalize(torch.tensor(array), dim=1)


DENSEMTL: dict[str, Case] = {
    "semseg_w50": scales("semseg", 50, lambda raw, i: losses.cross_entropy(raw, labels(i["semseg_label"], 250))),
    "depth_berhu_w1": scales(
        "depth", 1, lambda raw, i: depth_losses.berhu_inverse_depth(raw, metres(i), all_pixels=True)
    ),
    "normals_derived_w100": scales("normals", 100, lambda raw, i: losses.cosine_normals(raw, derived(i))),
    "normals_gt_cosine_w100": scales("normals", 100, lambda raw, i: losses.cosine_normals(raw, unit(i["normals_gt"]))),
    "normals_gt_l1_w1": scales("normals", 1, lambda raw, i: losses.l1_normals_mean(raw, unit(i["normals_gt"]))),
    "edges_w50": scales(
        "edges", 50, lambda raw, i: losses.boundary_weighted_mean(raw, torch.tensor(i["edges_gt"])[:, None].float())
    ),
    "depth_l1_metres_w1": scales(
        "depth_m",
        1,
        lambda raw, i: depth_losses.l1_rectified_depth(raw, masked(i["depth_metres"], i["depth_mask"])),
    ),
    "adversarial_bce_0": lambda inputs, raw: losses.adversarial_bce(raw["disc_logits"], 0.0),
    "adversarial_bce_1": lambda inputs, raw: losses.adversarial_bce(raw["disc_logits"], 1.0),
}
DENSEMTL["total_SDNE_outdoor"] = weighted(
    DENSEMTL, dict.fromkeys(["semseg_w50", "depth_berhu_w1", "normals_derived_w100", "edges_w50"], 1.0)
)
FAMILIES = {"survey": SURVEY, "atrc": ATRC, "invpt": INVPT, "densemtl": DENSEMTL}


@pytest.mark.parametrize("family", FAMILIES)
def test_published_values_and_gradients(family: str) -> None:
    expected = json.loads(shared_path(f"golden/losses_{family}.json").read_text())["expected"]
    arrays = dict(np.load(shared_path(f"golden/losses_{family}.npz")))
    inputs = {name.removeprefix("in/"): array for name, array in arrays.items() if name.startswith("in/")}
    for name, entry in expected.items():
        raw = {key: torch.tensor(inputs[key], requires_grad=True) for key in entry["predictions"]}
        value = FAMILIES[family][name](inputs, raw)
        assert value.item() == pytest.approx(entry["value"], rel=1e-5), name
        if entry["grad_arrays"] is None:
            continue
        value.backward()
        for prediction, array in entry["grad_arrays"].items():
            gradient, wanted = raw[prediction].grad.numpy(), arrays[array]
            assert np.abs(gradient - wanted).max() <= 1e-4 * np.abs(wanted).max(), (name, prediction)


def test_published_derived_normals() -> None:
    arrays = dict(np.load(shared_path("golden/losses_densemtl.npz")))
    normals = derived({name.removeprefix("in/"): array for name, array in arrays.items()})
    mask = arrays["out/derived_mask"]
    assert np.array_equal(valid_pixels(normals).numpy(), mask)
    wanted = np.where(mask, arrays["out/derived_normals"], np.nan)
    np.testing.assert_allclose(normals.numpy(), wanted, atol=2e-5)


@pytest.mark.parametrize("family", ["survey", "invpt"])
def test_published_edge_meter(family: str) -> None:
    """What these code bases print as the edge loss: probabilities fed to the loss as if they were logits."""
    inputs = np.load(shared_path("golden/metrics_inputs.npz"))
    entry = json.loads(shared_path(f"golden/metrics_{family}.json").read_text())["expected"]["edge_loss_meter"]
    target = values(inputs[entry["inputs"][1]].astype(np.float32))
    loss = losses.boundary_bce(torch.tensor(inputs["edge_logit"]).sigmoid(), target)
    assert loss.item() == pytest.approx(entry["values"]["loss"], rel=1e-5)


# Slow, obvious twins in double precision: one loop over the pixels that count


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max())
    return exponents / exponents.sum()


def pixels(raw: np.ndarray, target: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(raw vector, target value or vector) of every valid pixel."""
    kept = []
    for b, y, x in np.ndindex(raw.shape[0], raw.shape[2], raw.shape[3]):
        value = target[b, y, x] if target.ndim == 3 else target[b, :, y, x]
        if (target.ndim == 3 and value != 255) or (target.ndim == 4 and np.isfinite(value).all()):
            kept.append((raw[b, :, y, x], value))
    return kept


def mean(terms: list[float]) -> float:
    return sum(terms) / len(terms)


def twin_cross_entropy(raw, target):
    return mean([-math.log(softmax(r)[t]) for r, t in pixels(raw, target)])


def twin_two_channels(raw, target, positive=lambda t: t == 1, w=None):
    kept = pixels(raw, target)
    w = mean([float(not positive(t)) for _, t in kept]) if w is None else w
    return mean([-(w if positive(t) else 1 - w) * math.log(softmax(r)[int(positive(t))]) for r, t in kept])


def twin_weighted_mean(raw, target):
    kept = pixels(raw, target)
    weights = [0.95 if t[0] >= 0.5 else 0.05 for _, t in kept]
    terms = [-w * math.log(softmax(r)[int(t[0] >= 0.5)]) for w, (r, t) in zip(weights, kept, strict=True)]
    return sum(terms) / sum(weights)


def twin_one_channel(raw, target, positive=lambda t: t == 1, w=None):
    pairs = [(np.array([0.0, r[0]]), t) for r, t in pixels(raw, target)]
    w = mean([float(not positive(t)) for _, t in pairs]) if w is None else w
    return mean([-(w if positive(t) else 1 - w) * math.log(softmax(r)[int(positive(t))]) for r, t in pairs])


def is_boundary(t):
    return t[0] >= 0.5


def twin_berhu(pairs, count):
    errors = [abs(r - t) for r, t in pairs]
    c = 0.2 * max(errors)
    return sum(e if e <= c else (e * e + c * c) / (2 * c) for e in errors) / count


def inverse(depth):
    return 65536 / (100 * depth + 1)


def twin_berhu_inverse(raw, target):
    kept = pixels(raw, target)
    return twin_berhu([(r[0], inverse(t[0])) for r, t in kept], len(kept))


def twin_berhu_published(raw, target):
    return twin_berhu([(r[0], inverse(t[0])) for r, t in pixels(raw, target)], raw.size)


def twin_scale_invariant(raw, target):
    images = []
    for b in range(len(raw)):
        errors = [r[0] - math.log(t[0]) for r, t in pixels(raw[b : b + 1], target[b : b + 1])]
        if errors:
            images.append(mean([e * e for e in errors]) - mean(errors) ** 2 / 2)
    return mean(images)


def twin_bins(raw, target):
    terms = []
    for r, t in pixels(raw, target):
        position = math.log(t[0] / 0.7) / math.log(10 / 0.7) * len(r)
        terms.append(-math.log(softmax(r)[min(max(math.floor(position), 0), len(r) - 1)]))
    return mean(terms)


def twin_clusters(raw, target):
    centroids = TABLES["auxiliary"]["clusters"].keywords["centroids"].numpy()
    return mean(
        [-math.log(softmax(r)[np.argmin([np.linalg.norm(t - c) for c in centroids])]) for r, t in pixels(raw, target)]
    )


TWINS = {
    ("segmentation", "cross-entropy"): twin_cross_entropy,
    ("saliency_1", "balanced"): twin_one_channel,
    ("saliency_1", "cross-entropy"): lambda raw, t: 2 * twin_one_channel(raw, t, w=0.5),
    ("saliency_2", "balanced"): twin_two_channels,
    ("saliency_2", "cross-entropy"): twin_cross_entropy,
    ("boundary_1", "balanced"): partial(twin_one_channel, positive=is_boundary, w=0.95),
    ("boundary_1", "batch-balanced"): partial(twin_one_channel, positive=is_boundary),
    ("boundary_2", "balanced"): partial(twin_two_channels, positive=is_boundary, w=0.95),
    ("boundary_2", "weighted-mean"): twin_weighted_mean,
    ("normals", "l1"): lambda raw, t: mean([np.abs(r / np.linalg.norm(r) - n).sum() for r, n in pixels(raw, t)]),
    ("normals", "l1-mean"): lambda raw, t: mean([np.abs(r / np.linalg.norm(r) - n).mean() for r, n in pixels(raw, t)]),
    ("normals", "cosine"): lambda raw, t: mean([1 - r @ n / np.linalg.norm(r) for r, n in pixels(raw, t)]),
    ("depth", "l1"): lambda raw, t: mean([abs(r[0] - d[0]) for r, d in pixels(raw, t)]),
    ("depth", "l1-rectified"): lambda raw, t: mean([abs(max(r[0], 0) - d[0]) for r, d in pixels(raw, t)]),
    ("depth", "berhu"): lambda raw, t: twin_berhu([(r[0], d[0]) for r, d in pixels(raw, t)], len(pixels(raw, t))),
    ("depth", "log-l1"): lambda raw, t: mean([abs(r[0] - math.log(d[0])) for r, d in pixels(raw, t)]),
    ("depth", "disparity"): lambda raw, t: mean(
        [abs(1 / (1 + math.exp(-r[0])) - (1 / d[0] - 0.01) / 9.99) for r, d in pixels(raw, t)]
    ),
    ("depth", "scale-invariant"): twin_scale_invariant,
    ("depth", "berhu-inverse"): twin_berhu_inverse,
    ("depth", "berhu-inverse-all-pixels"): twin_berhu_published,
    ("depth", "berhu-inverse-published"): twin_berhu_published,
    ("auxiliary", "bins"): twin_bins,
    ("auxiliary", "clusters"): twin_clusters,
    **{
        ("segmentation", name): partial(class_twin, name)
        for name in ("focal", "dice", "cross-entropy-dice", "lovasz", "ohem")
    },
    ("depth", "scale-invariant-gradients"): lambda raw, t: (
        twin_scale_invariant(raw, t) + 0.5 * matched_gradients(raw, t)
    ),
}

CHANNELS = {"segmentation": 5, "saliency_1": 1, "saliency_2": 2, "boundary_1": 1, "boundary_2": 2, "normals": 3}
CHANNELS |= {"depth": 1, "auxiliary": 4}


def make_target(table: str, name: str, size: tuple[int, int, int]) -> Tensor:
    """A random target, valid everywhere."""
    if table in ("segmentation", "saliency_1", "saliency_2"):
        return torch.randint(0, 5 if table == "segmentation" else 2, size)
    batch, height, width = size
    if table.startswith("boundary"):
        return (torch.rand(batch, 1, height, width) < 0.3).float()
    if table == "normals" or name == "clusters":
        return F.normalize(torch.randn(batch, 3, height, width), dim=1)
    return torch.rand(batch, 1, height, width) * 9 + 0.6


def make_raw(table: str, size: tuple[int, int, int]) -> Tensor:
    batch, height, width = size
    return torch.randn(batch, CHANNELS[table], height, width) * 2


def test_every_loss_has_a_twin() -> None:
    assert set(TWINS) == set(ENTRIES)


@pytest.mark.parametrize(("table", "name"), ENTRIES)
@pytest.mark.parametrize("seed", [0, 1])
def test_twin(table: str, name: str, seed: int) -> None:
    torch.manual_seed(seed)
    size = (2, 5, 7)
    raw, target = make_raw(table, size), hide(make_target(table, name, size), torch.rand(size) < 0.3)
    value = TABLES[table][name](raw.double(), target.double() if target.is_floating_point() else target)
    wanted = TWINS[table, name](raw.double().numpy(), target.double().numpy() if target.ndim == 4 else target.numpy())
    assert value.item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_invalid_pixels_get_no_gradient(table: str, name: str) -> None:
    size = (2, 4, 5)
    hidden = torch.rand(size) < 0.4
    raw = make_raw(table, size).requires_grad_()
    TABLES[table][name](raw, hide(make_target(table, name, size), hidden)).backward()
    gradient = raw.grad.abs().sum(dim=1)
    assert (gradient[hidden] == 0).all()
    assert gradient[~hidden].sum() > 0


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_perfect_prediction_has_finite_gradients(table: str, name: str) -> None:
    """Errors of exactly zero, where square roots and norms have no slope."""
    target = make_target(table, name, (1, 3, 4))
    raw = torch.zeros(1, CHANNELS[table], 3, 4)
    raw = target.clone() if raw.shape == target.shape else raw
    raw.requires_grad_()
    value = TABLES[table][name](raw, target)
    value.backward()
    assert value.isfinite()
    assert raw.grad.isfinite().all()


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_half_precision_is_summed_in_full(table: str, name: str) -> None:
    size = (2, 16, 16)
    raw, target = make_raw(table, size).bfloat16(), make_target(table, name, size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = TABLES[table][name](raw, target)
    assert value.dtype == torch.float32
    assert value.item() == TABLES[table][name](raw.float(), target).item()


COMPILED = """
import torch, test_losses as t
for table, name in t.ENTRIES:
    size = (2, 4, 5)
    raw = t.make_raw(table, size)
    target = t.hide(t.make_target(table, name, size), torch.rand(size) < 0.3)
    loss = t.TABLES[table][name]
    torch._dynamo.reset()
    compiled = torch.compile(lambda raw, target: loss(raw, target), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(raw, target), loss(raw, target))
print("compiled", len(t.ENTRIES))
"""


@pytest.mark.slow
def test_losses_compile_to_one_graph() -> None:
    """In a process of its own: shape checks would break the graph."""
    here = os.path.dirname(__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([here, os.path.join(here, "helpers"), *sys.path])}
    done = subprocess.run([sys.executable, "-c", COMPILED], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["compiled", str(len(ENTRIES))], done.stderr[-2000:]


# Cases by hand


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_boundary_of_zero_logits(share: float) -> None:
    target = (torch.arange(8).view(1, 1, 2, 4) < 8 * share).float()
    wanted = math.log(2) * (0.95 * share + 0.05 * (1 - share))
    assert losses.boundary_bce(torch.zeros(1, 1, 2, 4), target).item() == pytest.approx(wanted)


def test_berhu_by_hand() -> None:
    target = torch.ones(1, 1, 1, 3)
    raw = target + torch.tensor([0.1, -0.2, 1.0])  # c = 0.2: two errors are linear, one is (1 + 0.04) / 0.4
    assert depth_losses.berhu_depth(raw, target).item() == pytest.approx((0.1 + 0.2 + 2.6) / 3)


def test_a_mask_without_the_channel_axis_is_refused() -> None:
    """It would spread over the batch: every image would be weighed by the masks of all."""
    error, valid = torch.arange(8.0).view(2, 1, 2, 2), torch.zeros(2, 2, 2, dtype=torch.bool)
    valid[0] = True
    assert losses.masked_mean(error, valid[:, None]) == 1.5
    assert losses.masked_mean(error.expand(2, 3, 2, 2), valid[:, None]) == 4.5
    for other in (valid, valid[0], valid[:1, None], valid[:, None, :1]):
        with pytest.raises(ValueError, match=r"error is \(2, 1, 2, 2\), its mask .*; give \(2, 1, 2, 2\)"):
            losses.masked_mean(error, other)


def test_half_of_scale_error_is_forgiven() -> None:
    target = torch.rand(1, 1, 4, 4) + 1
    raw = target.log() + 0.3
    assert depth_losses.scale_invariant_depth(raw, target).item() == pytest.approx(0.3**2 / 2, rel=1e-5)


def test_decoding_inverts_the_representation() -> None:
    metres = torch.tensor([0.3, 1.0, 10.0, 80.0]).view(1, 1, 1, 4)
    decoded = depth_losses.decode_inverse_depth(depth_losses.encode_inverse_depth(metres))
    torch.testing.assert_close(decoded, metres)
    published = depth_losses.decode_inverse_depth(depth_losses.encode_inverse_depth(metres), reference_quirks=True)
    torch.testing.assert_close(published, (metres - 0.99).clamp(min=0), atol=1e-4, rtol=1e-4)


def test_confident_bins_decode_to_their_centre() -> None:
    depth = torch.tensor([0.8, 2.0, 9.0]).view(1, 1, 1, 3)
    bins = 400
    position = ((depth / 0.7).log() / math.log(10 / 0.7) * bins).long()
    raw = torch.full((1, bins, 1, 3), -50.0).scatter(1, position, 50.0)
    torch.testing.assert_close(depth_losses.decode_depth_bins(raw), depth, rtol=0.01, atol=0)
    assert depth_losses.bin_depth(raw, depth).item() < 1e-6


# Normals from depth


def plane(normal: tuple[float, float, float], size: tuple[int, int] = (6, 8)) -> tuple[Tensor, Tensor, Tensor]:
    """Depth of the plane n . P = -2 seen by a camera, its intrinsics and its unit normal."""
    height, width = size
    intrinsics = torch.tensor([[[9.0, 0.0, 4.3], [0.0, 11.0, 2.9], [0.0, 0.0, 1.0]]], dtype=torch.float64)
    n = F.normalize(torch.tensor(normal, dtype=torch.float64), dim=0)
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = torch.stack([(u - 4.3) / 9, (v - 2.9) / 11, torch.ones_like(u)])
    depth = -2 / (n[:, None, None] * rays).sum(dim=0)
    assert (depth > 0).all()
    return depth[None, None], intrinsics, n


@pytest.mark.parametrize("normal", [(0.0, 0.0, -1.0), (0.3, -0.4, -1.0), (-0.5, 0.1, -0.9)])
def test_normals_of_a_plane(normal: tuple[float, float, float]) -> None:
    depth, intrinsics, n = plane(normal)
    derived = derive_normals(depth, intrinsics)
    assert valid_pixels(derived).sum() == 4 * 6
    inside = derived[0, :, 1:-1, 1:-1]
    torch.testing.assert_close(inside, n[:, None, None].expand_as(inside))


def test_unknown_depth_makes_its_neighbors_unknown() -> None:
    depth, intrinsics, _ = plane((0.1, 0.2, -1.0))
    depth[0, 0, 2, 3] = torch.nan
    valid = valid_pixels(derive_normals(depth, intrinsics))[0, 0]
    assert not valid[1:4, 2:5].any()
    assert valid.sum() == 4 * 6 - 9


def test_published_derivation_loses_two_border_pixels() -> None:
    derived = derive_normals(torch.ones(1, 1, 6, 7), torch.eye(3)[None], reference_quirks=True)
    assert valid_pixels(derived).nonzero()[:, 2:].tolist() == [[y, x] for y in (2, 3) for x in (2, 3, 4)]


def test_unit_vectors_equal_torchs_normalisation_with_its_gradient() -> None:
    """Zero and tiny vectors included."""
    lengths = torch.tensor([0.0, 1e-14, 1e-9, 1.0, 1e6], dtype=torch.float64)
    raw = (F.normalize(torch.randn(2, 3, 4, 5, dtype=torch.float64), dim=1) * lengths).requires_grad_()
    ours, expected = losses.unit_vectors(raw), F.normalize(raw, dim=1)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    direction = torch.randn_like(ours)
    gradients = [torch.autograd.grad((unit * direction).sum(), raw)[0] for unit in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)
