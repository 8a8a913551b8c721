"""Pixel losses as pure functions: `loss(raw, target)` is a scalar.

Invalid target pixels (`IGNORE`, NaN) are replaced before any arithmetic and masked after it, so a target without a
valid pixel gives exactly 0 with zero gradients. Arithmetic is float32 even under autocast (float64 stays), and nothing
synchronises with the host. The tables at the end name what a recipe can choose; the first entry of each is the
default, that of InvPT. Class-balanced losses take their shares from the batch, as published; under several processes
each uses its own.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from triptych.types import IGNORE, valid_pixels

Labels = Int[Tensor, "batch height width"]
Logits = Float[Tensor, "batch classes height width"]
OneMap = Float[Tensor, "batch 1 height width"]
TwoMaps = Float[Tensor, "batch 2 height width"]
ThreeMaps = Float[Tensor, "batch 3 height width"]
Scalar = Float[Tensor, ""]


def _full(raw: Tensor) -> Tensor:
    """At least float32: half precision has too few bits for sums over pixels."""
    return raw if raw.dtype == torch.float64 else raw.float()


def masked_mean(error: Float[Tensor, "..."], valid: Bool[Tensor, "..."]) -> Scalar:
    """Sum of `error` where `valid` over the number of valid pixels; 0 without any. Channels of `error` are summed.

    >>> masked_mean(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False])).item()
    2.0
    """
    return (error * valid).sum() / valid.sum().clamp(min=1)


# Label maps


def cross_entropy(raw: Logits, target: Labels) -> Scalar:
    """Cross-entropy in nats, mean over valid pixels.

    >>> cross_entropy(torch.zeros(1, 2, 1, 2), torch.tensor([[[1, 255]]])).item()  # ln 2
    0.6931471824645996
    """
    total = F.cross_entropy(_full(raw), target, ignore_index=IGNORE, reduction="sum")
    return total / valid_pixels(target).sum().clamp(min=1)


def balanced_cross_entropy(raw: TwoMaps, target: Labels) -> Scalar:
    """Two-channel cross-entropy with class weights (1 - w, w), w the batch's share of negatives among valid pixels.

    The sum is divided by the number of valid pixels, not by the sum of weights (ATRC, InvPT).
    """
    valid = valid_pixels(target)
    negative_share = masked_mean((target == 0).to(_full(raw).dtype), valid)
    weight = torch.stack([1 - negative_share, negative_share])
    total = F.cross_entropy(_full(raw), target, weight=weight, ignore_index=IGNORE, reduction="sum")
    return total / valid.sum().clamp(min=1)


def binary_cross_entropy(raw: OneMap, target: Labels) -> Scalar:
    """One-channel binary cross-entropy, mean over valid pixels."""
    return _weighted_bce(raw, target[:, None] == 1, valid_pixels(target)[:, None], None)


def balanced_binary_cross_entropy(raw: OneMap, target: Labels) -> Scalar:
    """w L_pos + (1 - w) L_neg, w the batch's share of negatives among valid pixels (HED, Xie and Tu 2015; survey)."""
    return _batch_balanced_bce(raw, target[:, None] == 1, valid_pixels(target)[:, None])


def _weighted_bce(raw: Tensor, positive: Tensor, valid: Tensor, positive_weight: Tensor | float | None) -> Tensor:
    raw = _full(raw)
    error = F.binary_cross_entropy_with_logits(raw, positive.to(raw.dtype), reduction="none")
    if positive_weight is not None:
        error = error * torch.where(positive, positive_weight, 1 - positive_weight)
    return masked_mean(error, valid)


def _batch_balanced_bce(raw: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
    return _weighted_bce(raw, positive, valid, masked_mean((~positive).to(_full(raw).dtype), valid))


# Boundaries


def boundary_bce(raw: OneMap, target: OneMap, positive_weight: float = 0.95) -> Scalar:
    """w L_pos + (1 - w) L_neg over valid pixels, fixed w = `positive_weight`; a label of at least 0.5 is a boundary.

    The survey averages over all pixels: the same number, as its labels are valid everywhere.
    """
    return _weighted_bce(raw, target.nan_to_num() >= 0.5, valid_pixels(target), positive_weight)


def boundary_batch_balanced(raw: OneMap, target: OneMap, positive_weight: float = 0.95) -> Scalar:
    """As `boundary_bce` with w the batch's share of negatives (HED, Xie and Tu 2015); `positive_weight` is not used."""
    return _batch_balanced_bce(raw, target.nan_to_num() >= 0.5, valid_pixels(target))


def boundary_cross_entropy(raw: TwoMaps, target: OneMap, positive_weight: float = 0.95) -> Scalar:
    """Two channels, class weights (1 - w, w), divided by the number of valid pixels (ATRC's auxiliary head)."""
    total, labels, _ = _boundary_sum(raw, target, positive_weight)
    return total / valid_pixels(labels).sum().clamp(min=1)


def boundary_weighted_mean(raw: TwoMaps, target: OneMap, positive_weight: float = 0.95) -> Scalar:
    """As `boundary_cross_entropy`, divided by the sum of the pixels' weights (DenseMTL)."""
    total, labels, weight = _boundary_sum(raw, target, positive_weight)
    weights = (labels == 0).sum() * weight[0] + (labels == 1).sum() * weight[1]
    return total / torch.where(weights > 0, weights, 1)


def _boundary_sum(raw: Tensor, target: Tensor, positive_weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted cross-entropy summed over valid pixels, the labels and the class weights."""
    labels = torch.where(valid_pixels(target), (target.nan_to_num() >= 0.5).long(), IGNORE)[:, 0]
    raw = _full(raw)
    weight = raw.new_tensor([1 - positive_weight, positive_weight])
    return F.cross_entropy(raw, labels, weight=weight, ignore_index=IGNORE, reduction="sum"), labels, weight


# Normals


def unit_vectors(raw: ThreeMaps) -> ThreeMaps:
    """Vectors of length one; those shorter than 1e-12 are divided by 1e-12.

    `F.normalize`, whose norm along channels is slow on a CPU.

    >>> unit_vectors(torch.tensor([0.0, -5.0, 0.0]).view(1, 3, 1, 1)).flatten().tolist()
    [0.0, -1.0, 0.0]
    """
    return raw / raw.square().sum(dim=1, keepdim=True).clamp(min=1e-24).sqrt()


def l1_normals(raw: ThreeMaps, target: ThreeMaps) -> Scalar:
    """|n^ - n| with the prediction normalised, summed over channels, mean over valid pixels (ATRC, InvPT).

    >>> up = torch.tensor([0.0, -1.0, 0.0]).view(1, 3, 1, 1)
    >>> l1_normals(5 * up, up).item(), l1_normals(5 * up, -up).item()
    (0.0, 2.0)
    """
    prediction = unit_vectors(_full(raw))
    return masked_mean((prediction - target.nan_to_num()).abs(), valid_pixels(target))


def l1_normals_mean(raw: ThreeMaps, target: ThreeMaps) -> Scalar:
    """As `l1_normals`, mean over pixels and channels: a third of it (survey, DenseMTL's option)."""
    return l1_normals(raw, target) / 3


def cosine_normals(raw: ThreeMaps, target: ThreeMaps) -> Scalar:
    """1 - cos of the angle, mean over valid pixels (MTAN, DenseMTL); both vectors are normalised."""
    prediction = unit_vectors(_full(raw))
    reference = unit_vectors(target.nan_to_num().to(prediction.dtype))
    return masked_mean(1 - (prediction * reference).sum(dim=1, keepdim=True), valid_pixels(target))


def cluster_normals(raw: Logits, target: ThreeMaps, centroids: Float[Tensor, "classes 3"]) -> Scalar:
    """Cross-entropy against the nearest of the unit `centroids` (ATRC's auxiliary head)."""
    centroids = centroids.to(device=raw.device, dtype=torch.float32)
    # Written out: a matrix product would run in half precision under autocast.
    distance = torch.stack([(target.nan_to_num() - c[:, None, None]).square().sum(dim=1) for c in centroids], dim=1)
    labels = torch.where(valid_pixels(target)[:, 0], distance.argmin(dim=1), -1)
    return _class_mean(raw, labels)


def _class_mean(raw: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over labels that are not -1."""
    total = F.cross_entropy(_full(raw), labels, ignore_index=-1, reduction="sum")
    return total / (labels >= 0).sum().clamp(min=1)


# Depth: a loss and the representation that it trains, which `decode_...` turns into metres


def l1_depth(raw: OneMap, target: OneMap) -> Scalar:
    """|d^ - d| in metres, mean over valid pixels."""
    return masked_mean((_full(raw) - target.nan_to_num()).abs(), valid_pixels(target))


def l1_rectified_depth(raw: OneMap, target: OneMap) -> Scalar:
    """L1 in metres on the rectified prediction, mean over valid pixels (DenseMTL's option)."""
    return l1_depth(raw.relu(), target)


def decode_metres(raw: OneMap) -> OneMap:
    """Metres as predicted, not below 0."""
    return _full(raw).clamp(min=0)


def berhu_depth(raw: OneMap, target: OneMap) -> Scalar:
    """Reversed Huber in metres: e, or (e^2 + c^2) / 2c above c = 0.2 max e of the batch (Laina et al. 2016, eq. 1)."""
    valid = valid_pixels(target)
    return masked_mean(_berhu((_full(raw) - target.nan_to_num()).abs() * valid), valid)


def _berhu(error: Tensor) -> Tensor:
    # At least tiny: without an error c is 0, and the branch that is not taken would send NaN into the gradient.
    threshold = (0.2 * error.detach().amax()).clamp(min=1e-12)
    return torch.where(error <= threshold, error, (error.square() + threshold.square()) / (2 * threshold))


def log_l1_depth(raw: OneMap, target: OneMap) -> Scalar:
    """|ln d^ - ln d|, mean over valid pixels; `raw` is ln d^."""
    valid = valid_pixels(target) & (target > 0)
    return masked_mean((_full(raw) - torch.where(valid, target, 1).log()).abs(), valid)


def scale_invariant_depth(raw: OneMap, target: OneMap) -> Scalar:
    """mean(g^2) - mean(g)^2 / 2 per image, g = ln d^ - ln d, mean over labelled images (Eigen et al. 2014, eq. 4).

    `raw` is ln d^.
    """
    valid = valid_pixels(target) & (target > 0)
    error = (_full(raw) - torch.where(valid, target, 1).log()) * valid
    count = valid.sum(dim=(1, 2, 3))
    mean = error.sum(dim=(1, 2, 3)) / count.clamp(min=1)
    square = error.square().sum(dim=(1, 2, 3)) / count.clamp(min=1)
    return masked_mean(square - mean.square() / 2, count > 0)


def decode_logarithm(raw: OneMap) -> OneMap:
    """Metres from ln d."""
    return _full(raw).exp()


def encode_inverse_depth(depth: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """DenseMTL's inverse normalised depth u = 65536 / (100 d + 1), d in metres.

    >>> encode_inverse_depth(torch.tensor([1.0, 10.0])).tolist()
    [648.8712768554688, 65.47052764892578]
    """
    return 65536 / (100 * depth + 1)


def decode_inverse_depth(raw: OneMap, *, reference_quirks: bool = False) -> OneMap:
    """Metres from u, at most 655.35 m: 655.36 / u - 0.01. With `reference_quirks` 655.36 / u - 1 as published.

    The published code decodes predictions and labels so, 0.99 m too near; labels here are metres and stay as they are.
    """
    return (655.36 / _full(raw).clamp(min=1) - (1.0 if reference_quirks else 0.01)).clamp(min=0)


def berhu_inverse_depth(raw: OneMap, target: OneMap, *, reference_quirks: bool = False) -> Scalar:
    """Reversed Huber on u, mean over valid pixels; with `reference_quirks` over all pixels, as published (DenseMTL)."""
    valid = valid_pixels(target)
    error = (_full(raw) - encode_inverse_depth(target.nan_to_num())).abs() * valid
    return masked_mean(_berhu(error), torch.ones_like(valid) if reference_quirks else valid)


NEAREST, FARTHEST = 0.1, 100.0
"""Bounds in metres of depth that is predicted as disparity (Godard et al., 2019)."""


def decode_disparity(raw: OneMap) -> OneMap:
    """Metres from the logit of disparity: 1 / (1/100 + (1/0.1 - 1/100) sigmoid(raw)) (Godard et al., 2019, sec. 3.3).

    >>> round(decode_disparity(torch.zeros(1, 1, 1, 1)).item(), 4)
    0.1998
    """
    return 1 / (1 / FARTHEST + (1 / NEAREST - 1 / FARTHEST) * _full(raw).sigmoid())


def encode_disparity(depth: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The raw map that decodes to `depth` in metres, clamped to the bounds.

    >>> round(encode_disparity(torch.tensor(0.1)).item(), 1)  # held at 1e-6 from the bound
    13.8
    """
    share = (1 / depth - 1 / FARTHEST) / (1 / NEAREST - 1 / FARTHEST)
    return share.logit(eps=1e-6)


def disparity_l1(raw: OneMap, target: OneMap) -> Scalar:
    """|1/d^ - 1/d| relative to the largest disparity, mean over valid pixels; `raw` is the logit of disparity."""
    valid = valid_pixels(target) & (target > 0)
    share = encode_disparity(torch.where(valid, target, 1)).sigmoid()
    return masked_mean((_full(raw).sigmoid() - share).abs(), valid)


def bin_depth(raw: Logits, target: OneMap, near: float = 0.7, far: float = 10.0) -> Scalar:
    """Cross-entropy over bins of equal width in ln d between `near` and `far` metres (ATRC's auxiliary head)."""
    valid = valid_pixels(target) & (target > 0)
    position = (torch.where(valid, target, 1).log() - math.log(near)) / math.log(far / near)
    labels = (position * raw.shape[1]).floor().clamp(0, raw.shape[1] - 1).long()
    return _class_mean(raw, torch.where(valid, labels, -1)[:, 0])


def decode_depth_bins(raw: Logits, near: float = 0.7, far: float = 10.0) -> OneMap:
    """Metres from bins: exp of the expected ln d."""
    centres = near * (far / near) ** ((torch.arange(raw.shape[1], device=raw.device) + 0.5) / raw.shape[1])
    probability = _full(raw).softmax(dim=1)
    return (probability * centres.log()[:, None, None]).sum(dim=1, keepdim=True).exp()


# Discriminators


def adversarial_bce(logits: Float[Tensor, "..."], label: float) -> Scalar:
    """Mean binary cross-entropy of discriminator logits against one constant label (0 source, 1 target in DenseMTL).

    >>> round(adversarial_bce(torch.zeros(1, 1, 2, 2), 1.0).item(), 4)
    0.6931
    """
    logits = _full(logits)
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


Loss = Callable[[Tensor, Tensor], Tensor]
BoundaryLoss = Callable[[Tensor, Tensor, float], Tensor]
Decode = Callable[[Tensor], Tensor]

SEGMENTATION: dict[str, Loss] = {"cross-entropy": cross_entropy}
SALIENCY_1: dict[str, Loss] = {"balanced": balanced_binary_cross_entropy, "cross-entropy": binary_cross_entropy}
SALIENCY_2: dict[str, Loss] = {"balanced": balanced_cross_entropy, "cross-entropy": cross_entropy}
BOUNDARY_1: dict[str, BoundaryLoss] = {"balanced": boundary_bce, "batch-balanced": boundary_batch_balanced}
BOUNDARY_2: dict[str, BoundaryLoss] = {"balanced": boundary_cross_entropy, "weighted-mean": boundary_weighted_mean}
NORMALS: dict[str, Loss] = {"l1": l1_normals, "l1-mean": l1_normals_mean, "cosine": cosine_normals}
DEPTH: dict[str, tuple[Loss, Decode]] = {
    "l1": (l1_depth, decode_metres),
    "l1-rectified": (l1_rectified_depth, decode_metres),
    "berhu": (berhu_depth, decode_metres),
    "disparity": (disparity_l1, decode_disparity),
    "log-l1": (log_l1_depth, decode_logarithm),
    "scale-invariant": (scale_invariant_depth, decode_logarithm),
    "berhu-inverse": (berhu_inverse_depth, decode_inverse_depth),
    "berhu-inverse-published": (
        partial(berhu_inverse_depth, reference_quirks=True),
        partial(decode_inverse_depth, reference_quirks=True),
    ),
}
ENCODE_DEPTH: dict[str, Decode] = {
    "log-l1": torch.log,
    "disparity": encode_disparity,
    "scale-invariant": torch.log,
    "berhu-inverse": encode_inverse_depth,
    "berhu-inverse-published": encode_inverse_depth,
}
"""Metres in the units of the raw map, where these are others: the inverse of decoding."""
