"""Pairwise affinity losses: two places should be as similar in the prediction as in the target.

Each kind of task has a similarity s in 0..1 of two places: the probability of one class at both for labels, (1 + cos) /
2 of the angle between normals, the ratio of the nearer to the farther depth. The loss is the mean of (s^ - s)^2 over
all pairs of different valid places of an image, within the batch; 0 without a pair. Meant for coarse maps: all pairs of
`h w` places are `(h w)^2` numbers. Similarities are compared in float32.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from triptych.losses.pixel import OneMap, ThreeMaps, known_values, masked_mean
from triptych.types import valid_pixels

Maps = Float[Tensor, "batch channels height width"]
Similarity = Float[Tensor, "batch places places"] | Bool[Tensor, "batch places places"]


def compare_labels(raw: Maps, target: Int[Tensor, "batch height width"]) -> Float[Tensor, ""]:
    """Logits of classes, against labels.

    >>> two_places = torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]])  # class 0 here, class 1 there
    >>> compare_labels(two_places, torch.tensor([[[0, 1]]])).item() < 1e-6
    True
    >>> compare_labels(two_places, torch.tensor([[[1, 1]]])).item() > 0.99
    True
    """
    labels = target.flatten(1)
    return _compare(_products(raw.float().softmax(dim=1)), labels[:, :, None] == labels[:, None], target)


def compare_normals(raw: Maps, target: ThreeMaps, decode: Callable[[Tensor], Tensor]) -> Float[Tensor, ""]:
    """Unit normals, by the angle between them."""
    return _compare(_cosines(decode(raw)), _cosines(F.normalize(known_values(target), dim=1)), target)


def compare_depth(raw: Maps, target: OneMap, decode: Callable[[Tensor], Tensor]) -> Float[Tensor, ""]:
    """Metres, by their ratio exp(-|ln d_i - ln d_j|): whatever the scale of the scene.

    >>> target = torch.tensor([[[[1.0, 2.0]]]])
    >>> compare_depth(3 * target, target, decode=lambda raw: raw).item()
    0.0
    """
    return _compare(_ratios(decode(raw)), _ratios(known_values(target)), target)


def _cosines(unit: Tensor) -> Tensor:
    return (1 + _products(unit.float())) / 2


def _products(maps: Maps) -> Float[Tensor, "batch places places"]:
    """Inner products of the vectors at every two places."""
    places = maps.flatten(2)
    with torch.autocast(maps.device.type, enabled=False):
        return places.transpose(1, 2) @ places


def _ratios(depth: Tensor) -> Tensor:
    logarithm = depth.clamp(min=1e-3).log().flatten(1)
    return (-(logarithm[:, :, None] - logarithm[:, None]).abs()).exp()


def _compare(predicted: Similarity, wanted: Similarity, target: Tensor) -> Tensor:
    valid = valid_pixels(target).flatten(1)
    different = ~torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
    error = predicted.float() - wanted.float()
    return masked_mean(error.square(), valid[:, :, None] & valid[:, None] & different)
