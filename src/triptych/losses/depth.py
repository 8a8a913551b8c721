"""Losses of depth, each with the representation that it trains, which `decode_...` turns into metres.

Rules as in `losses/pixel.py`: `loss(raw, target)` is a scalar, 0 with zero gradients without a valid pixel.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from triptych.losses.pixel import Logits, Loss, OneMap, Scalar, at_least_float32, class_mean, known_values, masked_mean
from triptych.losses.whole_batch import largest
from triptych.types import valid_pixels


def l1_depth(raw: OneMap, target: OneMap) -> Scalar:
    """|d^ - d| in metres, mean over valid pixels."""
    return masked_mean((at_least_float32(raw) - known_values(target)).abs(), valid_pixels(target))


def l1_rectified_depth(raw: OneMap, target: OneMap) -> Scalar:
    """L1 in metres on the rectified prediction, mean over valid pixels (DenseMTL's option)."""
    return l1_depth(raw.relu(), target)


def decode_metres(raw: OneMap) -> OneMap:
    """Metres as predicted, not below 0."""
    return at_least_float32(raw).clamp(min=0)


def berhu_depth(raw: OneMap, target: OneMap) -> Scalar:
    """Reversed Huber in metres: e, or (e^2 + c^2) / 2c above c = 0.2 max e of the batch (Laina et al. 2016, eq. 1)."""
    valid = valid_pixels(target)
    return masked_mean(_berhu((at_least_float32(raw) - known_values(target)).abs() * valid), valid)


def _berhu(error: Tensor) -> Tensor:
    # At least tiny: without an error c is 0, and the branch that is not taken would send NaN into the gradient.
    threshold = (0.2 * largest(error.amax())).clamp(min=1e-12)
    return torch.where(error <= threshold, error, (error.square() + threshold.square()) / (2 * threshold))


def log_l1_depth(raw: OneMap, target: OneMap) -> Scalar:
    """|ln d^ - ln d|, mean over valid pixels; `raw` is ln d^."""
    valid = valid_pixels(target) & (target > 0)
    return masked_mean((at_least_float32(raw) - torch.where(valid, target, 1).log()).abs(), valid)


def scale_invariant_depth(raw: OneMap, target: OneMap) -> Scalar:
    """mean(g^2) - mean(g)^2 / 2 per image, g = ln d^ - ln d, mean over labelled images (Eigen et al. 2014, eq. 4).

    `raw` is ln d^.
    """
    valid = valid_pixels(target) & (target > 0)
    error = (at_least_float32(raw) - torch.where(valid, target, 1).log()) * valid
    count = valid.sum(dim=(1, 2, 3))
    mean = error.sum(dim=(1, 2, 3)) / count.clamp(min=1)
    square = error.square().sum(dim=(1, 2, 3)) / count.clamp(min=1)
    return masked_mean(square - mean.square() / 2, count > 0)


def decode_logarithm(raw: OneMap) -> OneMap:
    """Metres from ln d."""
    return at_least_float32(raw).exp()


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
    return (655.36 / at_least_float32(raw).clamp(min=1) - (1.0 if reference_quirks else 0.01)).clamp(min=0)


def berhu_inverse_depth(raw: OneMap, target: OneMap, *, all_pixels: bool = False) -> Scalar:
    """Reversed Huber on u, mean over valid pixels; with `all_pixels` over invalid ones too, which count 0, as published
    (DenseMTL): where a fifth of the pixels has no label, depth weighs a fifth less beside other tasks.
    """
    valid = valid_pixels(target)
    error = (at_least_float32(raw) - encode_inverse_depth(known_values(target))).abs() * valid
    return masked_mean(_berhu(error), torch.ones_like(valid) if all_pixels else valid)


NEAREST, FARTHEST = 0.1, 100.0
"""Bounds in metres of depth that is predicted as disparity (Godard et al., 2019)."""


def decode_disparity(raw: OneMap) -> OneMap:
    """Metres from the logit of disparity: 1 / (1/100 + (1/0.1 - 1/100) sigmoid(raw)) (Godard et al., 2019, sec. 3.3).

    >>> round(decode_disparity(torch.zeros(1, 1, 1, 1)).item(), 4)
    0.1998
    """
    return 1 / (1 / FARTHEST + (1 / NEAREST - 1 / FARTHEST) * at_least_float32(raw).sigmoid())


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
    return masked_mean((at_least_float32(raw).sigmoid() - share).abs(), valid)


def bin_depth(raw: Logits, target: OneMap, near: float = 0.7, far: float = 10.0) -> Scalar:
    """Cross-entropy over bins of equal width in ln d between `near` and `far` metres (ATRC's auxiliary head)."""
    valid = valid_pixels(target) & (target > 0)
    position = (torch.where(valid, target, 1).log() - math.log(near)) / math.log(far / near)
    labels = (position * raw.shape[1]).floor().clamp(0, raw.shape[1] - 1).long()
    return class_mean(raw, torch.where(valid, labels, -1)[:, 0])


def decode_depth_bins(raw: Logits, near: float = 0.7, far: float = 10.0) -> OneMap:
    """Metres from bins: exp of the expected ln d."""
    centres = near * (far / near) ** ((torch.arange(raw.shape[1], device=raw.device) + 0.5) / raw.shape[1])
    probability = at_least_float32(raw).softmax(dim=1)
    return (probability * centres.log()[:, None, None]).sum(dim=1, keepdim=True).exp()


Decode = Callable[[Tensor], Tensor]

GRADIENT_WEIGHT, GRADIENT_SCALES = 0.5, 4


def scale_invariant_gradient_depth(raw: OneMap, target: OneMap) -> Scalar:
    """`scale_invariant_depth`, plus half the gradient matching term of g = ln d^ - ln d.

    That is |dg/dx| + |dg/dy| over pairs of neighbors that both have a label, mean over pairs and over four scales, each
    every second pixel of the one before (Li and Snavely, CVPR 2018, eq. 4). `raw` is ln d^.

    >>> target = torch.ones(1, 1, 2, 2)
    >>> scale_invariant_gradient_depth(target.log() + 1, target).item()  # a factor has no gradient
    0.5
    """
    valid = valid_pixels(target) & (target > 0)
    error = (at_least_float32(raw) - torch.where(valid, target, 1).log()) * valid
    terms = []
    for scale in range(GRADIENT_SCALES):
        some, known = error[..., :: 2**scale, :: 2**scale], valid[..., :: 2**scale, :: 2**scale]
        for dim in (2, 3):
            size = some.shape[dim] - 1
            if size:
                first, second = (known.narrow(dim, start, size) for start in (0, 1))
                terms.append(masked_mean(some.diff(dim=dim).abs(), first & second))
    matching = torch.stack(terms).sum() / GRADIENT_SCALES if terms else raw.sum() * 0
    return scale_invariant_depth(raw, target) + GRADIENT_WEIGHT * matching


DEPTH: dict[str, tuple[Loss, Decode]] = {
    "l1": (l1_depth, decode_metres),
    "l1-rectified": (l1_rectified_depth, decode_metres),
    "berhu": (berhu_depth, decode_metres),
    "disparity": (disparity_l1, decode_disparity),
    "log-l1": (log_l1_depth, decode_logarithm),
    "scale-invariant": (scale_invariant_depth, decode_logarithm),
    "scale-invariant-gradients": (scale_invariant_gradient_depth, decode_logarithm),
    "berhu-inverse": (berhu_inverse_depth, decode_inverse_depth),
    "berhu-inverse-all-pixels": (partial(berhu_inverse_depth, all_pixels=True), decode_inverse_depth),
    "berhu-inverse-published": (
        partial(berhu_inverse_depth, all_pixels=True),
        partial(decode_inverse_depth, reference_quirks=True),
    ),
}
OVER_ALL_PIXELS = ("berhu-inverse-all-pixels", "berhu-inverse-published")
"""Losses whose mean is over pixels without a label, too."""
ENCODE_DEPTH: dict[str, Decode] = {
    "log-l1": torch.log,
    "disparity": encode_disparity,
    "scale-invariant": torch.log,
    "scale-invariant-gradients": torch.log,
    "berhu-inverse": encode_inverse_depth,
    "berhu-inverse-all-pixels": encode_inverse_depth,
    "berhu-inverse-published": encode_inverse_depth,
}
"""Metres in the units of the raw map, where these are others: the inverse of decoding."""
