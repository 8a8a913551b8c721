"""What Cross-Stitch and NDDR-CNN share: one single-task network per task, mixed after each stage."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import ClassVar

import torch
from torch import Tensor, nn

from triptych.backbones.base import Backbone
from triptych.decoders.baseline import DeepLab
from triptych.models.multitask import MultiTaskModel
from triptych.models.stages import require_resnet, stage_channels
from triptych.tasks import Task
from triptych.types import Output


class JoinedNetworks(MultiTaskModel):
    """A copy of a ResNet and a DeepLab head per task; a `unit` after each stage exchanges features between them.

    `unit(channels, tasks, alpha=..., beta=...)` takes and gives a dict of the tasks' maps, and starts as `alpha` times
    the own map plus `beta` times each other one. `Output.features` are each stage's mixed maps of all tasks,
    concatenated in the order of sorted names. Published networks start from trained single-task ones
    (`load_single_tasks`) and train what mixes at 100 times the learning rate (`fusion_modules`).
    """

    architecture: ClassVar[str]
    takes_features = False
    unit: ClassVar[Callable[..., nn.Module]]
    mixes_stem: ClassVar[bool]
    """Whether there is a unit after the stem and its max-pooling, besides those after layer1 to layer4."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        tasks: Mapping[str, Task],
        alpha: float = 0.9,
        beta: float = 0.1,
        width: int = 256,
        rates: Sequence[int] = (12, 24, 36),
        dropout: float = 0.5,
    ) -> None:
        resnet = require_resnet(self.architecture, backbone)
        channels, strides = stage_channels(resnet), resnet.strides[-4:]
        mixed = [resnet.body.bn1.num_features, *channels] if self.mixes_stem else channels
        # Not the base's: there is no single backbone.
        nn.Module.__init__(self)
        self.backbones = nn.ModuleDict({name: deepcopy(resnet) for name in tasks})
        self.decoder = DeepLab(channels, strides=strides, tasks=tasks, width=width, rates=rates, dropout=dropout)
        self.fusion = nn.ModuleList(self.unit(c, list(tasks), alpha=alpha, beta=beta) for c in mixed)

    @property
    def shared_modules(self) -> list[nn.Module]:
        return [self.backbones, self.fusion]

    @property
    def fusion_modules(self) -> list[nn.Module]:
        return [self.fusion]

    @property
    def has_independent_heads(self) -> bool:
        return False

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return tuple(channels * len(self.tasks) for channels in self.decoder.channels)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return self.decoder.strides

    def forward(self, image: Tensor) -> Output:  # type: ignore[override]
        maps = {name: trunk.pool(trunk.stem(image)) for name, trunk in self.backbones.items()}
        units, features = iter(self.fusion), []
        if self.mixes_stem:
            maps = next(units)(maps)
        for i, unit in enumerate(units):
            for name, trunk in self.backbones.items():
                for block in trunk.stages[i]:
                    maps[name] = trunk.run(block, maps[name])
            maps = unit(maps)
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
