"""Cross-Stitch and NDDR-CNN: one single-task network per task, mixed after each stage, as the multi-task survey builds
them on ResNets.

Cross-stitch networks (Misra et al., CVPR 2016, arXiv 1604.03539): after each stage of the trunks every task's map
becomes a learnt combination of all tasks' maps, channel by channel. NDDR-CNN, neural discriminative dimensionality
reduction (Gao et al., CVPR 2019, arXiv 1801.08297): after the stem and each stage every task's map becomes a 1x1
convolution of all tasks' maps, here without the paper's shortcuts from all stages to the heads.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import ClassVar

import torch
from torch import Tensor, nn

from triptych.backbones.base import Backbone
from triptych.backbones.resnet import require_resnet, stage_channels
from triptych.decoders.baseline import DeepLab
from triptych.decoders.layers import ConvNormReLU
from triptych.models.multitask import MultiTaskModel
from triptych.tasks import Task
from triptych.types import Output


class JoinedNetworks(MultiTaskModel):
    """A copy of a ResNet and a DeepLab head per task; a `unit` after each stage exchanges features between them.

    `unit(channels, tasks, alpha=..., beta=...)` takes and gives a dict of the tasks' maps, and starts as `alpha` times
    the own map plus `beta` times each other one. `Output.features` are each stage's mixed maps of all tasks,
    concatenated in the order of sorted names. Published networks start from trained single-task ones
    (`load_single_tasks`) and train the mixing units at 100 times the learning rate (`fusion_modules`).
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
        return Output({name: self.resize(raw[name], image.shape[-2:]) for name in self.tasks}, [], features)

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


class CrossStitchUnit(nn.Module):
    """x_t = sum over s of a_ts x_s with one factor per channel; a_tt starts at `alpha`, the others at `beta`.

    `factors[t * T + s]` is a_ts, tasks sorted by name.

    >>> unit = CrossStitchUnit(4, ["semseg", "depth"], alpha=1.0, beta=0.5)
    >>> unit({"semseg": torch.ones(1, 4, 2, 2), "depth": torch.zeros(1, 4, 2, 2)})["depth"].mean().item()
    0.5
    """

    def __init__(self, channels: int, tasks: Sequence[str], *, alpha: float = 0.9, beta: float = 0.1) -> None:
        super().__init__()
        # Sorted, so that joined weights mean the same in whatever order tasks are declared.
        self.names = sorted(tasks)
        start = torch.full((len(self.names), len(self.names)), beta).fill_diagonal_(alpha)
        self.factors = nn.Parameter(start.flatten()[:, None].repeat(1, channels))

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        factors = iter(self.factors[:, None, :, None, None])
        mixed = {}
        for target in self.names:
            total = maps[self.names[0]] * next(factors)
            for source in self.names[1:]:
                total = torch.addcmul(total, maps[source], next(factors))
            mixed[target] = total
        return {name: mixed[name] for name in maps}


class CrossStitch(JoinedNetworks):
    """Single-task ResNets with cross-stitch units after layer1 to layer4; published with `output_stride=8`.

    Published start: `alpha` 0.9 and `beta` 0.1 on NYUD, 0.8 and 0.05 on PASCAL.

    >>> from triptych.backbones import create_backbone
    >>> from triptych.tasks import nyuv2_tasks
    >>> model = CrossStitch(create_backbone("resnet18", widths=(8, 8, 16, 16)), tasks=nyuv2_tasks(), width=8)
    >>> model(torch.rand(1, 3, 32, 40)).predictions["depth"].shape
    torch.Size([1, 1, 32, 40])
    """

    architecture = "cross-stitch"
    unit = CrossStitchUnit
    mixes_stem = False


class NDDRLayer(nn.Module):
    """x_t = ReLU(BN(W_t concat over s of x_s)), tasks sorted by name.

    W_t starts as `alpha` x_t plus `beta` times each other map. All tasks' convolutions are one.

    >>> layer = NDDRLayer(4, ["semseg", "depth"], alpha=1.0, beta=0.5).eval()
    >>> mixed = layer({"semseg": torch.ones(1, 4, 2, 2), "depth": torch.zeros(1, 4, 2, 2)})
    >>> round(mixed["depth"].mean().item(), 3)
    0.5
    """

    def __init__(self, channels: int, tasks: Sequence[str], *, alpha: float = 0.9, beta: float = 0.1) -> None:
        super().__init__()
        # Sorted, so that joined weights mean the same in whatever order tasks are declared.
        self.names = sorted(tasks)
        number = len(self.names)
        self.joint = ConvNormReLU(number * channels, number * channels, 1, momentum=0.05)
        start = torch.full((number, number), beta).fill_diagonal_(alpha)
        with torch.no_grad():
            self.joint[0].weight.copy_(torch.kron(start, torch.eye(channels))[..., None, None])

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        joined = self.joint(torch.cat([maps[name] for name in self.names], dim=1))
        mixed = dict(zip(self.names, joined.chunk(len(self.names), dim=1), strict=True))
        return {name: mixed[name] for name in maps}


class NDDR(JoinedNetworks):
    """Single-task ResNets with NDDR layers after the stem and layer1 to layer4; published with `output_stride=8`.

    Published start: `alpha` 0.9 and `beta` 0.1 on NYUD, 0.8 and 0.05 on PASCAL.

    >>> from triptych.backbones import create_backbone
    >>> from triptych.tasks import nyuv2_tasks
    >>> model = NDDR(create_backbone("resnet18", widths=(8, 8, 16, 16)), tasks=nyuv2_tasks(), width=8)
    >>> model(torch.rand(1, 3, 32, 40)).predictions["depth"].shape
    torch.Size([1, 1, 32, 40])
    """

    architecture = "nddr"
    unit = NDDRLayer
    mixes_stem = True
