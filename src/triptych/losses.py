"""Pixel losses as pure functions: `loss(raw, target)` is a scalar.

Conventions of all of them: invalid target pixels (`IGNORE`, NaN) are replaced before any arithmetic and masked after it, so a target
without a valid pixel gives exactly 0 with zero gradients; arithmetic is float32 even under autocast (float64 stays); nothing
synchronises with the host. The tables at the end name what a recipe can choose; the first entry is the default, the InvPT line.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from triptych.types import IGNORE, valid_pixels

Labels = Int[Tensor, "batch height width"]
Logits = Float[Tensor, "batch classes height width"]
OneMap = Float[Tensor, "batch 1 height width"]
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


def balanced_cross_entropy(raw: Float[Tensor, "batch 2 height width"], target: Labels) -> Scalar:
    """Two-channel cross-entropy with class weights (1 - w, w), w the batch's share of negatives among valid pixels.

    The sum is divided by the number of valid pixels, not by the sum of weights (ATRC, InvPT). Under several processes each uses
    its own share, as published.
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
    """One-channel class-balanced cross-entropy w L_pos + (1 - w) L_neg, w the batch's share of negatives (HED, Xie and Tu 2015; survey)."""
    positive, valid = target[:, None] == 1, valid_pixels(target)[:, None]
    return _weighted_bce(raw, positive, valid, masked_mean((~positive).to(_full(raw).dtype), valid))


def _weighted_bce(raw: Tensor, positive: Tensor, valid: Tensor, positive_weight: Tensor | float | None) -> Tensor:
    raw = _full(raw)
    error = F.binary_cross_entropy_with_logits(raw, positive.to(raw.dtype), reduction="none")
    if positive_weight is not None:
        error = error * torch.where(positive, positive_weight, 1 - positive_weight)
    return masked_mean(error, valid)


# Boundaries


def boundary_bce(raw: OneMap, target: OneMap, positive_weight: float = 0.95) -> Scalar:
    """w L_pos + (1 - w) L_neg over valid pixels, fixed w = `positive_weight`; a label of at least 0.5 is a boundary.

    The survey averages over all pixels: the same number, as its labels are valid everywhere.
    """
    return _weighted_bce(raw, target.nan_to_num() >= 0.5, valid_pixels(target), positive_weight)


def boundary_batch_balanced(raw: OneMap, target: OneMap, positive_weight: float = 0.95) -> Scalar:
    """As `boundary_bce` with w the batch's share of negatives (HED, Xie and Tu 2015); `positive_weight` has no effect."""
    positive, valid = target.nan_to_num() >= 0.5, valid_pixels(target)
    return _weighted_bce(raw, positive, valid, masked_mean((~positive).to(_full(raw).dtype), valid))


def _boundary_labels(target: Tensor) -> Tensor:
    labels = (target.nan_to_num() >= 0.5).long()
    return torch.where(valid_pixels(target), labels, IGNORE)[:, 0]


def boundary_cross_entropy(
    raw: Float[Tensor, "batch 2 height width"], target: OneMap, positive_weight: float = 0.95
) -> Scalar:
    """Two-channel cross-entropy with class weights (1 - w, w), divided by the number of valid pixels (ATRC's auxiliary head)."""
    labels, raw = _boundary_labels(target), _full(raw)
    weight = raw.new_tensor([1 - positive_weight, positive_weight])
    total = F.cross_entropy(raw, labels, weight=weight, ignore_index=IGNORE, reduction="sum")
    return total / valid_pixels(labels).sum().clamp(min=1)


def boundary_weighted_mean(
    raw: Float[Tensor, "batch 2 height width"], target: OneMap, positive_weight: float = 0.95
) -> Scalar:
    """As `boundary_cross_entropy`, divided by the sum of the pixels' weights (DenseMTL)."""
    labels, raw = _boundary_labels(target), _full(raw)
    weight = raw.new_tensor([1 - positive_weight, positive_weight])
    total = F.cross_entropy(raw, labels, weight=weight, ignore_index=IGNORE, reduction="sum")
    weights = (labels == 0).sum() * weight[0] + (labels == 1).sum() * weight[1]
    return total / torch.where(weights > 0, weights, 1)


# Normals


def l1_normals(raw: ThreeMaps, target: ThreeMaps) -> Scalar:
    """|n^ - n| with the prediction normalised, summed over channels, mean over valid pixels (ATRC, InvPT).

    >>> up = torch.tensor([0.0, -1.0, 0.0]).view(1, 3, 1, 1)
    >>> l1_normals(5 * up, up).item(), l1_normals(5 * up, -up).item()
    (0.0, 2.0)
    """
    prediction = F.normalize(_full(raw), dim=1)
    return masked_mean((prediction - target.nan_to_num()).abs(), valid_pixels(target))


def l1_normals_mean(raw: ThreeMaps, target: ThreeMaps) -> Scalar:
    """As `l1_normals`, mean over pixels and channels: a third of it (survey)."""
    return l1_normals(raw, target) / 3


def cosine_normals(raw: ThreeMaps, target: ThreeMaps) -> Scalar:
    """1 - cos of the angle, mean over valid pixels (MTAN, DenseMTL); both vectors are normalised."""
    prediction = F.normalize(_full(raw), dim=1)
    reference = F.normalize(target.nan_to_num().to(prediction.dtype), dim=1)
    return masked_mean(1 - (prediction * reference).sum(dim=1, keepdim=True), valid_pixels(target))


# Depth


def l1_depth(raw: OneMap, target: OneMap) -> Scalar:
    """|d^ - d| in metres, mean over valid pixels."""
    return masked_mean((_full(raw) - target.nan_to_num()).abs(), valid_pixels(target))


def decode_metres(raw: OneMap) -> OneMap:
    """Metres as predicted, not below 0."""
    return raw.clamp(min=0)


Loss = Callable[[Tensor, Tensor], Tensor]
BoundaryLoss = Callable[[Tensor, Tensor, float], Tensor]
Decode = Callable[[Tensor], Tensor]

SEGMENTATION: dict[str, Loss] = {"cross-entropy": cross_entropy}
SALIENCY_1: dict[str, Loss] = {"balanced": balanced_binary_cross_entropy, "cross-entropy": binary_cross_entropy}
SALIENCY_2: dict[str, Loss] = {"balanced": balanced_cross_entropy, "cross-entropy": cross_entropy}
BOUNDARY_1: dict[str, BoundaryLoss] = {"balanced": boundary_bce, "batch-balanced": boundary_batch_balanced}
BOUNDARY_2: dict[str, BoundaryLoss] = {"balanced": boundary_cross_entropy, "weighted-mean": boundary_weighted_mean}
NORMALS: dict[str, Loss] = {"l1": l1_normals, "l1-mean": l1_normals_mean, "cosine": cosine_normals}
DEPTH: dict[str, tuple[Loss, Decode]] = {"l1": (l1_depth, decode_metres)}
