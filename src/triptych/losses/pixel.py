"""Pixel losses as pure functions: `loss(raw, target)` is a scalar.

Invalid target pixels (`IGNORE`, NaN) are replaced before any arithmetic and masked after it, so a target without a
valid pixel gives exactly 0 with zero gradients. Arithmetic is float32 even under autocast (float64 stays), and nothing
synchronises with the host. The tables at the end name what a recipe can choose; the first entry of each is the
default, that of InvPT. Class-balanced losses take their shares from the batch, as published; under several processes
that is all of theirs (`losses/whole_batch.py`). Losses of depth are in `losses/depth.py`.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from triptych.losses.whole_batch import ratio
from triptych.types import IGNORE, valid_pixels

Labels = Int[Tensor, "batch height width"]
Logits = Float[Tensor, "batch classes height width"]
OneMap = Float[Tensor, "batch 1 height width"]
TwoMaps = Float[Tensor, "batch 2 height width"]
ThreeMaps = Float[Tensor, "batch 3 height width"]
Maps = Float[Tensor, "batch channels height width"]
Scalar = Float[Tensor, ""]

SMALLEST = torch.finfo(torch.float32).tiny
"""Lower bound of sums of weights in denominators."""


def at_least_float32(raw: Tensor) -> Tensor:
    """At least float32: half precision has too few bits for sums over pixels."""
    return raw if raw.dtype == torch.float64 else raw.float()


def known_values(target: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """A float target with 0 where there is no label, NaN or infinite: both spread through what is masked afterwards.

    >>> known_values(torch.tensor([[[1.0, torch.nan, torch.inf]]])).tolist()
    [[[1.0, 0.0, 0.0]]]
    """
    return torch.where(valid_pixels(target), target, 0)


def masked_mean(error: Float[Tensor, "..."], valid: Bool[Tensor, "..."]) -> Scalar:
    """Sum of `error` where `valid` over the number of valid pixels; 0 without any. Channels of `error` are summed.

    `error` has to be finite everywhere: clean the target before any arithmetic (`known_values`), as NaN stays NaN
    however it is masked, in gradients too. `valid` has its shape, or one channel for maps `(*batch, C, H, W)`; else
    raises `ValueError`: a mask of label maps `(B, H, W)` would spread over the batch.

    >>> masked_mean(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False])).item()
    2.0
    """
    one_channel = (*error.shape[:-3], 1, *error.shape[-2:]) if error.ndim > 3 else error.shape
    if valid.shape not in (error.shape, one_channel):
        raise ValueError(
            f"masked_mean: error is {tuple(error.shape)}, its mask {tuple(valid.shape)}; give {tuple(one_channel)}: "
            "valid[:, None] of label maps (B, H, W), which lack the axis of channels, else valid.expand_as(error)."
        )
    return ratio((error * valid).sum(), valid.sum())


# Label maps


def cross_entropy(raw: Logits, target: Labels) -> Scalar:
    """Cross-entropy in nats, mean over valid pixels.

    >>> cross_entropy(torch.zeros(1, 2, 1, 2), torch.tensor([[[1, 255]]])).item()  # ln 2
    0.6931471824645996
    """
    total = F.cross_entropy(at_least_float32(raw), target, ignore_index=IGNORE, reduction="sum")
    return ratio(total, valid_pixels(target).sum())


def balanced_cross_entropy(raw: TwoMaps, target: Labels) -> Scalar:
    """Two-channel cross-entropy with class weights (1 - w, w), w the batch's share of negatives among valid pixels.

    The sum is divided by the number of valid pixels, not by the sum of weights (ATRC, InvPT).
    """
    valid = valid_pixels(target)
    negative_share = masked_mean((target == 0).to(at_least_float32(raw).dtype), valid)
    weight = torch.stack([1 - negative_share, negative_share])
    total = F.cross_entropy(at_least_float32(raw), target, weight=weight, ignore_index=IGNORE, reduction="sum")
    return ratio(total, valid.sum())


def binary_cross_entropy(raw: OneMap, target: Labels) -> Scalar:
    """One-channel binary cross-entropy, mean over valid pixels."""
    return _weighted_bce(raw, target[:, None] == 1, valid_pixels(target)[:, None], None)


def balanced_binary_cross_entropy(raw: OneMap, target: Labels) -> Scalar:
    """w L_pos + (1 - w) L_neg, w the batch's share of negatives among valid pixels (HED, Xie and Tu 2015; survey)."""
    return _batch_balanced_bce(raw, target[:, None] == 1, valid_pixels(target)[:, None])


def _weighted_bce(raw: Tensor, positive: Tensor, valid: Tensor, positive_weight: Tensor | float | None) -> Tensor:
    raw = at_least_float32(raw)
    error = F.binary_cross_entropy_with_logits(raw, positive.to(raw.dtype), reduction="none")
    if positive_weight is not None:
        error = error * torch.where(positive, positive_weight, 1 - positive_weight)
    return masked_mean(error, valid)


def _batch_balanced_bce(raw: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
    return _weighted_bce(raw, positive, valid, masked_mean((~positive).to(at_least_float32(raw).dtype), valid))


# Boundaries


def boundary_bce(raw: OneMap, target: OneMap, positive_weight: float = 0.95) -> Scalar:
    """w L_pos + (1 - w) L_neg over valid pixels, fixed w = `positive_weight`; a label of at least 0.5 is a boundary.

    The survey averages over all pixels: the same number, as its labels are valid everywhere.
    """
    return _weighted_bce(raw, known_values(target) >= 0.5, valid_pixels(target), positive_weight)


def boundary_batch_balanced(raw: OneMap, target: OneMap, positive_weight: float = 0.95) -> Scalar:
    """As `boundary_bce` with w the batch's share of negatives (HED, Xie and Tu 2015); `positive_weight` is not used."""
    return _batch_balanced_bce(raw, known_values(target) >= 0.5, valid_pixels(target))


def boundary_cross_entropy(raw: TwoMaps, target: OneMap, positive_weight: float = 0.95) -> Scalar:
    """Two channels, class weights (1 - w, w), divided by the number of valid pixels (ATRC's auxiliary head)."""
    total, labels, _ = _boundary_sum(raw, target, positive_weight)
    return ratio(total, valid_pixels(labels).sum())


def boundary_weighted_mean(raw: TwoMaps, target: OneMap, positive_weight: float = 0.95) -> Scalar:
    """As `boundary_cross_entropy`, divided by the sum of the pixels' weights (DenseMTL)."""
    total, labels, weight = _boundary_sum(raw, target, positive_weight)
    weights = (labels == 0).sum() * weight[0] + (labels == 1).sum() * weight[1]
    return ratio(total, weights, least=SMALLEST)


def _boundary_sum(raw: Tensor, target: Tensor, positive_weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted cross-entropy summed over valid pixels, the labels and the class weights."""
    labels = torch.where(valid_pixels(target), (known_values(target) >= 0.5).long(), IGNORE)[:, 0]
    raw = at_least_float32(raw)
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
    prediction = unit_vectors(at_least_float32(raw))
    return masked_mean((prediction - known_values(target)).abs(), valid_pixels(target))


def l1_normals_mean(raw: ThreeMaps, target: ThreeMaps) -> Scalar:
    """As `l1_normals`, mean over pixels and channels: a third of it (survey, DenseMTL's option)."""
    return l1_normals(raw, target) / 3


def cosine_normals(raw: ThreeMaps, target: ThreeMaps) -> Scalar:
    """1 - cos of the angle, mean over valid pixels (MTAN, DenseMTL); both vectors are normalised."""
    prediction = unit_vectors(at_least_float32(raw))
    reference = unit_vectors(known_values(target).to(prediction.dtype))
    return masked_mean(1 - (prediction * reference).sum(dim=1, keepdim=True), valid_pixels(target))


def cluster_normals(raw: Logits, target: ThreeMaps, centroids: Float[Tensor, "classes 3"]) -> Scalar:
    """Cross-entropy against the nearest of the unit `centroids` (ATRC's auxiliary head)."""
    centroids = centroids.to(device=raw.device, dtype=torch.float32)
    # Written out: a matrix product would run in half precision under autocast.
    known = known_values(target)
    distance = torch.stack([(known - c[:, None, None]).square().sum(dim=1) for c in centroids], dim=1)
    labels = torch.where(valid_pixels(target)[:, 0], distance.argmin(dim=1), -1)
    return class_mean(raw, labels)


def class_mean(raw: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over labels that are not -1."""
    total = F.cross_entropy(at_least_float32(raw), labels, ignore_index=-1, reduction="sum")
    return ratio(total, (labels >= 0).sum())


# Other quantities


def mean_error(raw: Maps, target: Maps, error: Callable[..., Tensor]) -> Scalar:
    """`error(v^, v)` of torch, mean over channels and valid pixels: |v^ - v|, its square, or Huber's loss with delta 1,
    e^2 / 2 where |e| <= 1, else |e| - 1/2.
    """
    raw = at_least_float32(raw)
    errors = error(raw, known_values(target).to(raw), reduction="none")
    return masked_mean(errors.mean(dim=1, keepdim=True), valid_pixels(target))


def cosine_values(raw: Maps, target: Maps) -> Scalar:
    """1 - cos(v^, v) of the vectors of channels, mean over valid pixels: for embeddings and other directions."""
    raw = at_least_float32(raw)
    cosine = F.cosine_similarity(raw, known_values(target).to(raw), dim=1)[:, None]
    return masked_mean(1 - cosine, valid_pixels(target))


# Discriminators


def adversarial_bce(logits: Float[Tensor, "..."], label: float) -> Scalar:
    """Mean binary cross-entropy of discriminator logits against one constant label (0 source, 1 target in DenseMTL).

    >>> round(adversarial_bce(torch.zeros(1, 1, 2, 2), 1.0).item(), 4)
    0.6931
    """
    logits = at_least_float32(logits)
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


Loss = Callable[[Tensor, Tensor], Tensor]
BoundaryLoss = Callable[[Tensor, Tensor, float], Tensor]

SALIENCY_1: dict[str, Loss] = {"balanced": balanced_binary_cross_entropy, "cross-entropy": binary_cross_entropy}
SALIENCY_2: dict[str, Loss] = {"balanced": balanced_cross_entropy, "cross-entropy": cross_entropy}
BOUNDARY_1: dict[str, BoundaryLoss] = {"balanced": boundary_bce, "batch-balanced": boundary_batch_balanced}
BOUNDARY_2: dict[str, BoundaryLoss] = {"balanced": boundary_cross_entropy, "weighted-mean": boundary_weighted_mean}
NORMALS: dict[str, Loss] = {"l1": l1_normals, "l1-mean": l1_normals_mean, "cosine": cosine_normals}
VALUES: dict[str, Loss] = {
    "l1": partial(mean_error, error=F.l1_loss),
    **dict.fromkeys(("l2", "mse"), partial(mean_error, error=F.mse_loss)),
    "huber": partial(mean_error, error=F.huber_loss),
    "cosine": cosine_values,
}
