"""Padding of images to whole cells of a network's maps, and maps cut to their image."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.types import round_up


def find_padding(model: nn.Module) -> int:
    """`pad_to` of a network, which may be wrapped."""
    return max(getattr(part, "pad_to", 1) for part in model.modules())


def pad_image(model: nn.Module, image: Tensor) -> Tensor:
    """A batch of images whose last row and column are repeated up to sides that are multiples of the network's
    `pad_to`.
    """
    multiple = find_padding(model)
    if multiple == 1:
        return image
    height, width = image.shape[-2:]
    beyond = (0, round_up(width, multiple) - width, 0, round_up(height, multiple) - height)
    return F.pad(image, beyond, mode="replicate")


def predict_maps(model: nn.Module, image: Tensor) -> Mapping[str, Tensor]:
    """Final raw maps at the size of a batch of images, which the network sees padded."""
    height, width = image.shape[-2:]
    output = model(pad_image(model, image))
    if not hasattr(output, "predictions"):
        raise TypeError(
            f"the network returns a {type(output).__name__}; return triptych.Output(predictions={{task: raw map}}, "
            "auxiliary=[], features=[])."
        )
    return {name: raw[..., :height, :width] for name, raw in output.predictions.items()}


def cover_image(
    maps: Float[Tensor, "batch channels rows columns"], size: tuple[int, int], multiple: int
) -> Float[Tensor, "batch channels rows columns"]:
    """Resample a map that covers sides rounded up to a `multiple` to one of as many cells that covers an image of
    `size` alone: bilinear, and the map itself where nothing was rounded.

    >>> cover_image(torch.tensor([[[[2.0, 6.0, 10.0]]]]), (4, 8), 4).tolist()  # centres of 4 pixels each
    [[[[2.0, 6.0, 10.0]]]]
    >>> cover_image(torch.tensor([[[[2.0, 6.0, 10.0]]]]), (4, 9), 4).tolist()  # of 3 pixels each
    [[[[2.0, 4.5, 7.5]]]]
    """
    shares = [side / round_up(side, multiple) for side in size]
    if shares == [1.0, 1.0]:
        return maps
    rows, columns = (_between_cells(count, share, maps) for count, share in zip(maps.shape[-2:], shares, strict=True))
    with torch.autocast(maps.device.type, enabled=False):
        return (rows @ (maps.to(rows.dtype) @ columns.T)).to(maps.dtype)


def _between_cells(count: int, share: float, like: Tensor) -> Tensor:
    """Interpolation weights of `count` cells at the centres of as many cells that cover a `share` of them, one row
    each.
    """
    cells = torch.arange(count, device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))
    places = ((cells + 0.5) * share - 0.5).clamp(min=0)
    return (1 - (places[:, None] - cells).abs()).clamp(min=0)
