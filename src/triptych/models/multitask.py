"""A multi-task model: one backbone, one decoder, maps brought to the image's size."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from triptych.backbones.base import Backbone
from triptych.decoders.base import Decoder
from triptych.tasks import Task
from triptych.types import Output


class ResizedMaps(Mapping[str, Tensor]):
    """Maps brought to the image's size as they are read.

    Of intermediate predictions prediction reads none, and training each once: resized all together they were a good
    part of the peak memory.
    """

    def __init__(self, raw: Mapping[str, Tensor], resize: Callable[[Tensor], Tensor]) -> None:
        self.raw, self.resize = raw, resize

    def __getitem__(self, name: str) -> Tensor:
        return self.resize(self.raw[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)


class MultiTaskModel(nn.Module):
    """Compose a backbone and a decoder (hard parameter sharing).

    `forward(image)` takes `(B, 3, H, W)` RGB in [0, 1] and returns an `Output` whose maps have the image's size.
    Encoder-sharing architectures (Cross-Stitch, MTAN, ...) subclass it and return the same `Output`. In eval mode
    `auxiliary` holds the intermediate predictions too; exporting and predicting read `predictions` alone.
    """

    multiple: int = 1
    """Of what, in pixels, the sides are that raw maps cover: the backbone may have padded the image."""

    def __init__(self, backbone: Backbone, decoder: Decoder) -> None:
        super().__init__()
        self.multiple = backbone.multiple
        self.backbone = backbone
        self.decoder = decoder

    @property
    def tasks(self) -> dict[str, Task]:
        """The tasks of the final prediction, in declaration order."""
        return self.decoder.tasks

    @property
    def auxiliary_tasks(self) -> dict[str, Task]:
        """Tasks that only intermediate predictions have: training needs their targets, inference does not."""
        return self.decoder.auxiliary_tasks

    @property
    def intermediate_tasks(self) -> dict[str, Task]:
        """What supervises intermediate predictions, by task."""
        return self.decoder.intermediate_tasks

    @property
    def shared_modules(self) -> list[nn.Module]:
        """The modules whose parameters every task shares: gradient balancing works on these."""
        return [self.backbone]

    @property
    def fusion_modules(self) -> list[nn.Module]:
        """Modules that mix the tasks' features; `optimizer.fusion_lr_factor` scales their learning rate."""
        return []

    def penalties(self) -> dict[str, Tensor]:
        """Scalars that training adds to the loss as they are, after a forward pass."""
        return self.decoder.penalties()

    def affinity_losses(self, output: Output, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What training adds to the losses of tasks for pairs of places."""
        return self.decoder.affinity_losses(output, targets)

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of `Output.features`, finest first."""
        return self.backbone.channels

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Strides of `Output.features`, finest first."""
        return self.backbone.strides

    def forward(self, image: Tensor) -> Output:
        features = self.backbone(image)
        *auxiliary, final = self.decoder(features)
        size = image.shape[-2:]
        return Output(
            predictions={name: self.resize(final[name], size) for name in self.tasks},
            auxiliary=[self.resize_later(stage, size) for stage in auxiliary],
            features=features,
        )

    def describe(self) -> str:
        """What a trained decoder has to say of itself."""
        return self.decoder.describe()

    def resize_later(self, stage: dict[str, Tensor], size: tuple[int, int]) -> ResizedMaps | dict[str, Tensor]:
        """Intermediate predictions at the image's size, each resized when it is read."""
        if torch.compiler.is_compiling():  # a program returns nothing but tensors
            return {name: self.resize(raw, size) for name, raw in stage.items()}
        return ResizedMaps(stage, partial(self.resize, size=size))

    def resize(self, raw: Tensor, size: tuple[int, int]) -> Tensor:
        """Bilinear resize of raw maps to the image size, without what the backbone padded; none where they have it."""
        return self.decoder.resize(raw, size, self.multiple)
