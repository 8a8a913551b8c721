"""Probability from which a pixel is labelled as an event (boundary, salient object), chosen by labels.

A loss that weighs events more than the rest makes probabilities larger than frequencies. Of boundaries that weigh 19 to
1, 0.5 is passed by bands several pixels wide, and a network that learns from these gets worse (docs/study-missing.md).
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from triptych.types import valid_pixels

LEVELS = 1000


def event_level(pairs: Iterable[tuple[Tensor, Tensor]]) -> float | None:
    """Threshold, to a thousandth, that as many pixels of some images reach as their labels have events.

    Pairs are a probability `(1, H, W)` and a label `(h, w)` or `(1, h, w)`; where a label is invalid neither counts.
    `None` where no label has an event.

    >>> event_level([(torch.tensor([[[0.25, 0.5, 0.75, 1.0]]]), torch.tensor([[0, 0, 1, 1]]))])
    0.75
    """
    counts, events, labelled = torch.zeros(LEVELS + 1, dtype=torch.float64), 0.0, 0.0
    for probability, label in pairs:
        valid = valid_pixels(label).reshape(1, 1, *label.shape[-2:])
        events += float((label.reshape(valid.shape)[valid] >= 0.5).sum())
        labelled += float(valid.sum())
        here = F.interpolate(valid.float(), probability.shape[-2:], mode="nearest-exact")[0] > 0.5
        levels = (probability[here].double() * LEVELS).long()
        counts += torch.bincount(levels, minlength=LEVELS + 1)
    if not events:
        return None
    reached = counts.flip(0).cumsum(0).flip(0) / counts.sum()
    fits = (reached - events / labelled).abs()
    return (1 + float((fits[1:] == fits[1:].min()).nonzero().max())) / LEVELS  # from 0 on is every pixel
