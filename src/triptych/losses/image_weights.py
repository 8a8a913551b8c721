"""Weights of images in training, such as smaller ones for pseudo-labels."""

from collections.abc import Sequence

from torch import Tensor


def weigh_images(raw: Tensor, weights: Sequence[float]) -> Tensor:
    """The same maps `(B, ...)`, whose gradients are multiplied by a weight of each image; no weights are 1.

    Exact for every loss, whatever it normalizes or balances by: the value of the loss stays the same, and only the
    gradient from each image is scaled.

    >>> import torch
    >>> raw = torch.ones(2, 1, 1, 1, requires_grad=True)
    >>> weigh_images(raw, [1.0, 0.5]).sum().backward()
    >>> raw.grad.flatten().tolist()
    [1.0, 0.5]
    """
    if all(weight == 1 for weight in weights) or not raw.requires_grad:
        return raw
    weighed = raw.clone()
    factor = raw.new_tensor(weights).view(-1, *[1] * (raw.dim() - 1))
    weighed.register_hook(lambda gradient: gradient * factor)
    return weighed
