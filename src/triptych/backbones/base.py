"""What every backbone is: image in, feature maps out, finest first."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """Image to feature maps, finest first.

    `channels` and `strides` describe the maps that `forward` returns; `forward` takes `(B, 3, H, W)` RGB in [0, 1] and
    returns a list of `(B, channels[i], ceil(H / strides[i]), ceil(W / strides[i]))`. Mean and std are buffers, applied
    inside `forward` by `normalize`. Sides need not be multiples of a stride: a backbone pads inside where its structure
    asks for it.

    `body` holds the layers under the names of their timm model, so that weights are matched by name; `timm_name` says
    which model that is.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: Tensor
    std: Tensor
    body: nn.Module
    timm_name: str = ""
    load_report: Any = None
    """What `load_weights` found, where weights were loaded."""

    def __init__(self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> None:
        super().__init__()
        # Not saved: they are constants of the architecture, and published checkpoints do not hold them.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.checkpointing = False

    def normalize(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Subtract the mean and divide by the standard deviation of the pre-training images."""
        return (image - self.mean) / self.std

    def layers(self) -> list[nn.Module]:
        """The modules that hold parameters, from the image to the last map: what layer-wise learning rates count."""
        raise NotImplementedError(f"{type(self).__name__} does not list its layers")

    def set_checkpointing(self, enabled: bool = True) -> None:
        """Recompute the activations of each block in the backward pass: less memory, more time, the same gradients."""
        self.checkpointing = enabled

    def run(self, block: Callable[..., Any], *inputs: Any) -> Any:
        """Call a block, recomputing it in the backward pass where checkpointing is on."""
        if not (self.checkpointing and self.training and torch.is_grad_enabled()):
            return block(*inputs)
        if torch.compiler.is_compiling():
            return checkpoint(block, *inputs, use_reentrant=False)
        contexts = partial(_contexts, block) if isinstance(block, nn.Module) else _no_contexts
        return checkpoint(block, *inputs, use_reentrant=False, context_fn=contexts)


def _no_contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), nullcontext()


def _contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Recomputing must not update running statistics a second time with the same batch."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
