"""What every backbone is: image in, feature maps out, finest first."""

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """Image to feature maps, finest first.

    `channels` and `strides` describe the maps that `forward` returns; `forward` takes `(B, 3, H, W)` RGB in [0, 1] and
    returns a list of `(B, channels[i], ceil(H / strides[i]), ceil(W / strides[i]))`. Mean and std are buffers, applied inside `forward` by `normalize`.
    Sides need not be multiples of a stride: a backbone pads inside where its structure asks for it.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD) -> None:
        super().__init__()
        # Not saved: they are constants of the architecture, and published checkpoints do not hold them.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def normalize(self, image: Tensor) -> Tensor:
        """Subtract the mean and divide by the standard deviation of the pre-training images."""
        return (image - self.mean) / self.std
