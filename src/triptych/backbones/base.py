"""Base class of backbones: image in, feature maps out, finest first."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from triptych.types import round_up

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel."""


class Backbone(nn.Module):
    """Image to feature maps, finest first.

    `channels` and `strides` describe the maps that `forward` returns; `forward` takes `(B, 3, H, W)` RGB in [0, 1] and
    returns a list of `(B, channels[i], ceil(H / strides[i]), ceil(W / strides[i]))`. Mean and std are buffers, applied
    inside `forward` by `normalize`. Sides need not be multiples of a stride: a backbone pads inside where its structure
    asks for it.

    `body` holds the layers under the names of their timm model, so that weights are matched by name; `timm_name` says
    which model that is. A backbone without either keeps its layers itself.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    multiple: int = 1
    """Maps cover the image padded at the bottom and on the right to a multiple of this, in pixels."""
    mean: Tensor
    std: Tensor
    body: nn.Module
    timm_name: str
    class_token: bool = False
    """Append the class token's features to those of every patch: twice the channels."""
    one_size: str = ""
    """Reason why an exported program of this network works at one image size only; empty where sizes can be free."""
    free_from: int = 1
    """Least side of the images that a file of free sizes takes."""
    load_report: Any = None
    """Report of `load_weights`, where weights were loaded."""

    def __init__(
        self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD, timm_name: str = ""
    ) -> None:
        super().__init__()
        self.timm_name = timm_name
        # Not saved: they are constants of the architecture, and published checkpoints do not hold them.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.checkpointing = False

    def normalize(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Subtract the mean and divide by the standard deviation: ImageNet's, unless the options `mean` and `std` say
        otherwise. Weights that were trained with others (`pretrained_statistics`) need them.

        Raises `ValueError` for anything but a batch of RGB images, and for one image in training that is too small for
        batch norm.
        """
        self._check(image)
        return (image - self.mean) / self.std

    def _check(self, image: Any) -> None:
        shape = tuple(image.shape)
        if len(shape) != 4 or shape[1] != 3 or not image.is_floating_point():
            raise ValueError(
                f"image is {image.dtype} of shape {shape}; a backbone takes float RGB in [0, 1], (batch, 3, "
                "height, width)."
            )
        if 0 in shape:
            raise ValueError(f"image of shape {shape} has no pixels; the smallest is 1 x 1.")
        stride = max(self.strides)
        if (
            self.training
            and shape[0] == 1
            and max(shape[2:]) <= stride
            and any(isinstance(part, _BatchNorm) and part.training for part in self.modules())
        ):
            raise ValueError(
                f"one image of {shape[2]} x {shape[3]} is a single place at stride {stride}, which batch norm cannot "
                f"train on; give two images or more, or a side above {stride}."
            )

    def pad(self, image: Tensor) -> Tensor:
        """The normalized image with zeros, the mean color, at the bottom and on the right, up to a multiple of the
        largest stride.
        """
        height, width = image.shape[-2:]
        largest = max(self.strides)
        return F.pad(
            self.normalize(image), (0, round_up(width, largest) - width, 0, round_up(height, largest) - height)
        )

    @property
    def statistics(self) -> Statistics:
        """Mean and standard deviation that `normalize` goes by."""
        mean, std = (tuple(round(value, 6) for value in each.flatten().tolist()) for each in (self.mean, self.std))
        return mean, std

    @property
    def own_body(self) -> nn.Module:
        """Module that weights, low-rank updates and layer-wise learning rates refer to: `body`, or the backbone itself
        where it has none.
        """
        return getattr(self, "body", self)

    @property
    def body_prefix(self) -> str:
        """Prefix of the names of the own body's tensors in the backbone's state."""
        return "" if self.own_body is self else "body."

    def layers(self) -> list[nn.Module]:
        """The modules that hold parameters, from the image to the last map, as layer-wise learning rates count them."""
        own = [child for child in self.children() if child is not self.own_body and _has_parameters(child)]
        return [*_blocks(self.own_body, 0), *(() if self.own_body is self else own)]

    def set_checkpointing(self, enabled: bool = True) -> None:
        """Recompute the activations of each block in the backward pass: less memory, more time, the same gradients."""
        self.checkpointing = enabled

    def run(self, block: Callable[..., Any], *inputs: Any) -> Any:
        """Call a block, recomputing it in the backward pass where checkpointing is on."""
        if not (self.checkpointing and self.training and torch.is_grad_enabled()):
            return block(*inputs)
        if torch.compiler.is_compiling():
            return checkpoint(block, *inputs, use_reentrant=False)
        return checkpoint(
            block, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_kept(self))
        )

    def adapt_weights(self, state: dict[str, Tensor], options: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
        """Bring loaded tensors under the names and shapes of `body`, where a family needs it (position embeddings).

        `options` are those of the backbone that they were trained in, `None` where these are not known.
        """
        return state


def find_backbones(module: nn.Module) -> dict[str, Backbone]:
    """The backbones inside a module, by the names of their places.

    >>> find_backbones(nn.Sequential(nn.ReLU()))
    {}
    """
    return {name: part for name, part in module.named_modules() if isinstance(part, Backbone)}


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Context without updates of running statistics: recomputing must not count a batch a second time."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.num_batches_tracked is not None]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _blocks(module: nn.Module, depth: int) -> Iterator[nn.Module]:
    """Children in order, opening what is a sequence of blocks."""
    for child in module.children():
        if (
            hasattr(child, "blocks")
            or child is getattr(module, "blocks", None)
            or (isinstance(child, nn.Sequential) and depth == 0)
        ):
            yield from _blocks(child, depth + 1)
        elif _has_parameters(child):
            yield child
