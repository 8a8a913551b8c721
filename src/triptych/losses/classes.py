"""Losses of label maps for rare classes, small regions and hard pixels.

Rules as in `losses/pixel.py`: `loss(raw, target)` is a scalar, 0 with zero gradients without a valid pixel, in at least
float32. `class_weights`, one factor per class, scale what a pixel of the class (or the class) counts.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from triptych.losses.pixel import (
    SMALLEST,
    Labels,
    Logits,
    Loss,
    Scalar,
    at_least_float32,
    cross_entropy,
    masked_mean,
)
from triptych.losses.whole_batch import gather, ratio, sum_over_processes
from triptych.types import valid_pixels

GAMMA = 2.0
"""Exponent of the focal loss; the paper's best."""
EASY, FEWEST = 0.7, 1 / 16
"""Pixels whose class has at least this probability are easy; at least this share of the valid pixels is kept."""


def class_probabilities(
    raw: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch classes height width"]:
    """Softmax over the classes of a raw map; a map with one channel is the logit of the second of two.

    >>> class_probabilities(torch.zeros(1, 1, 1, 1)).flatten().tolist()
    [0.5, 0.5]
    """
    raw = at_least_float32(raw)
    if raw.shape[1] == 1:
        return torch.cat([(-raw).sigmoid(), raw.sigmoid()], dim=1)
    return raw.softmax(dim=1)


def weighted_cross_entropy(raw: Logits, target: Labels, class_weights: Sequence[float] = ()) -> Scalar:
    """Cross-entropy in nats, mean over valid pixels weighted by their class.

    >>> raw, target = torch.tensor([[[[2.0, 0.0]], [[0.0, 0.0]]]]), torch.tensor([[[0, 1]]])
    >>> round(weighted_cross_entropy(raw, target, (1.0, 3.0)).item(), 4)  # (0.1269 + 3 ln 2) / 4
    0.5516
    """
    if not class_weights:
        return cross_entropy(raw, target)
    error, valid = _cross_entropies(raw, target)
    weights = _pixel_weights(error, target, class_weights) * valid
    return ratio((error * weights).sum(), weights.sum(), least=SMALLEST)


def focal_loss(raw: Logits, target: Labels, class_weights: Sequence[float] = ()) -> Scalar:
    """-w (1 - p)^2 ln p of the true class's probability p, mean over valid pixels (Lin et al., ICCV 2017, eq. 5).

    The sum is divided by the number of valid pixels, whatever the weights.

    >>> round(focal_loss(torch.zeros(1, 2, 1, 1), torch.tensor([[[1]]])).item(), 4)  # ln 2 / 4
    0.1733
    """
    error, valid = _cross_entropies(raw, target)
    weighted = (1 - (-error).exp()).pow(GAMMA) * error
    if class_weights:
        weighted = weighted * _pixel_weights(error, target, class_weights)
    return masked_mean(weighted, valid)


def dice_loss(raw: Logits, target: Labels, class_weights: Sequence[float] = ()) -> Scalar:
    """1 - 2 sum(p g) / (sum p + sum g) over the valid pixels of the batch, mean over the classes that occur there.

    Milletari et al., 3DV 2016, with sums as in most code of it (not of squares).

    >>> round(dice_loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 255]]])).item(), 4)  # 1 - 2 * 0.5 / 1.5
    0.3333
    """
    probability, truth = _by_class(raw, target)
    overlap, both, count = sum_over_processes(
        (probability * truth).sum(dim=1), (probability + truth).sum(dim=1), truth.sum(dim=1)
    )
    occurs = count > 0
    return _class_mean(1 - 2 * overlap / torch.where(occurs, both, 1), occurs, class_weights)


def lovasz_softmax(raw: Logits, target: Labels, class_weights: Sequence[float] = ()) -> Scalar:
    """The convex extension of 1 - IoU of the batch, mean over the classes that occur (Berman et al., CVPR 2018, eq. 9,
    "present").

    >>> round(lovasz_softmax(torch.tensor([[[[9.0]], [[0.0]]]]), torch.tensor([[[0]]])).item(), 4)
    0.0001
    """
    probability, truth = (gather(each) for each in _by_class(raw, target))
    # Invalid pixels have an error of 0: they come last and count for nothing.
    errors, order = (truth - probability).abs().sort(dim=1, descending=True)
    sorted_truth = truth.gather(1, order)
    count = truth.sum(dim=1, keepdim=True)
    intersection = count - sorted_truth.cumsum(dim=1)
    union = count + (1 - sorted_truth).cumsum(dim=1)
    jaccard = 1 - intersection / union
    slopes = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], dim=1)
    return _class_mean((errors * slopes).sum(dim=1), count[:, 0] > 0, class_weights)


def hard_pixel_cross_entropy(raw: Logits, target: Labels, class_weights: Sequence[float] = ()) -> Scalar:
    """Cross-entropy of the hard pixels alone: where the true class has less than 0.7, and at least a sixteenth of the
    valid pixels of the batch, the hardest (online hard example mining, Shrivastava et al., CVPR 2016; its constants for
    segmentation are common practice).

    >>> raw = torch.tensor([[[[0.0, 9.0]], [[0.0, 0.0]]]])
    >>> round(hard_pixel_cross_entropy(raw, torch.tensor([[[0, 0]]])).item(), 4)  # ln 2: the second is easy
    0.6931
    """
    error, valid = _cross_entropies(raw, target)
    ranked = gather(torch.where(valid, error.detach(), -1).flatten()).sort(descending=True).values
    fewest = ((ranked >= 0).sum() * FEWEST).ceil().long().clamp(min=1)
    least = ranked.gather(0, (fewest - 1).view(1))  # not indexed: the host would wait for the number
    kept = valid & ((error.detach() >= least) | ((-error.detach()).exp() < EASY))
    weights = _pixel_weights(error, target, class_weights) * kept if class_weights else kept.to(error)
    return ratio((error * weights).sum(), weights.sum(), least=SMALLEST)


def cross_entropy_and_dice(raw: Logits, target: Labels, class_weights: Sequence[float] = ()) -> Scalar:
    """The sum of both, as is common for small regions."""
    return weighted_cross_entropy(raw, target, class_weights) + dice_loss(raw, target, class_weights)


def _cross_entropies(
    raw: Logits, target: Labels
) -> tuple[Float[Tensor, "batch height width"], Bool[Tensor, "batch height width"]]:
    """Cross-entropy of every pixel, 0 where there is no label, and where there is one."""
    valid = valid_pixels(target)
    return F.cross_entropy(at_least_float32(raw), torch.where(valid, target, 0), reduction="none") * valid, valid


def _by_class(raw: Logits, target: Labels) -> tuple[Float[Tensor, "classes pixels"], Float[Tensor, "classes pixels"]]:
    """Probabilities and one-hot truth, 0 at pixels without a label."""
    valid = valid_pixels(target)
    probability = at_least_float32(raw).softmax(dim=1) * valid[:, None]
    truth = F.one_hot(torch.where(valid, target, 0), raw.shape[1]).movedim(-1, 1) * valid[:, None]
    return probability.transpose(0, 1).flatten(1), truth.to(probability).transpose(0, 1).flatten(1)


def _pixel_weights(error: Tensor, target: Labels, class_weights: Sequence[float]) -> Tensor:
    return error.new_tensor(class_weights)[torch.where(valid_pixels(target), target, 0)]


def _class_mean(loss: Tensor, occurs: Tensor, class_weights: Sequence[float]) -> Scalar:
    weights = loss.new_tensor(class_weights) * occurs if class_weights else occurs.to(loss)
    return (loss * weights).sum() / weights.sum().clamp(min=torch.finfo(loss.dtype).tiny)


SEGMENTATION: dict[str, Loss] = {
    "cross-entropy": weighted_cross_entropy,
    "focal": focal_loss,
    "dice": dice_loss,
    "cross-entropy-dice": cross_entropy_and_dice,
    "lovasz": lovasz_softmax,
    "ohem": hard_pixel_cross_entropy,
}
"""Losses of label maps; the first is the default."""
