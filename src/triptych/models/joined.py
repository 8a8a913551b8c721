"""What Cross-Stitch and NDDR-CNN share: one single-task network per task, mixed after each stage."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from triptych.backbones.base import Backbone
from triptych.decoders.baseline import DeepLab
from triptych.models.multitask import MultiTaskModel
from triptych.models.stages import require_resnet, stage_channels
from triptych.tasks import Task
from triptych.types import Output


class JoinedNetworks(MultiTaskModel):
    """A copy of the backbone and a DeepLab head per task; `mix(stage, maps)` exchanges features between them.

    `Output.features` are each stage's mixed maps of all tasks, concatenated in the order of sorted names. Published
    networks start from trained single-task ones (`load_single_tasks`) and train what mixes at 100 times the learning
    rate (`fusion_modules`).
    """

    def __init__(
        self, architecture: str, backbone: Backbone, fusion: nn.Module, *, tasks: Mapping[str, Task], **head: Any
    ) -> None:
        resnet = require_resnet(architecture, backbone)
        strides = resnet.strides[-4:]
        # Not the base's: there is no single backbone.
        nn.Module.__init__(self)
        self.backbones = nn.ModuleDict({name: deepcopy(resnet) for name in tasks})
        self.decoder = DeepLab(stage_channels(resnet), strides=strides, tasks=tasks, **head)
        self.fusion = fusion

    @property
    def shared_modules(self) -> list[nn.Module]:
        return [self.backbones, self.fusion]

    @property
    def fusion_modules(self) -> list[nn.Module]:
        return [self.fusion]

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return tuple(channels * len(self.tasks) for channels in self.decoder.channels)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return self.decoder.strides

    def mix(self, stage: int, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tasks' maps after stage 0 (stem and max-pooling) to 4, mixed."""
        raise NotImplementedError(f"{type(self).__name__} does not define mix")

    def forward(self, image: Tensor) -> Output:
        maps = {name: trunk.pool(trunk.stem(image)) for name, trunk in self.backbones.items()}
        maps, features = self.mix(0, maps), []
        for i in range(4):
            for name, trunk in self.backbones.items():
                for block in trunk.stages[i]:
                    maps[name] = trunk.run(block, maps[name])
            maps = self.mix(i + 1, maps)
            features.append(torch.cat([maps[name] for name in sorted(maps)], dim=1))
        raw = {name: head(maps[name]) for name, head in self.decoder.heads.items()}
        size = image.shape[-2:]
        return Output({name: self.resize(raw[name], size) for name in self.tasks}, [], features)

    @torch.no_grad()
    def load_single_tasks(self, states: Mapping[str, Mapping[str, Tensor]]) -> int:
        """Copy each task's trunk and head from the state dict of a `deeplab` run of that task alone.

        Returns the number of tensors. Raises `ValueError` where a task is missing or a tensor does not fit.
        """
        if set(states) != set(self.tasks):
            raise ValueError(
                f"single-task runs are of {', '.join(states) or 'nothing'}; give one for each of "
                f"{', '.join(self.tasks)}."
            )
        own, count = self.state_dict(), 0
        for name, state in states.items():
            prefixes = {f"backbones.{name}.": "backbone.", f"decoder.heads.{name}.": f"decoder.heads.{name}."}
            for ours, theirs in prefixes.items():
                for key in (key for key in own if key.startswith(ours)):
                    other = theirs + key.removeprefix(ours)
                    if other not in state or state[other].shape != own[key].shape:
                        raise ValueError(
                            f"the single-task run of {name} has no {other} of shape {tuple(own[key].shape)}; train it "
                            "with decoder 'deeplab' on the same backbone and with the same options."
                        )
                    own[key].copy_(state[other])
                    count += 1
        return count
