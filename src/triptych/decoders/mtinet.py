"""MTI-Net: multi-scale task interaction networks (Vandenhende et al., ECCV 2020, arXiv 2001.06902).

From the coarsest feature map to the finest, every task makes an initial prediction; the tasks' features are mixed and
passed on to the next finer scale (feature propagation). At each scale all tasks are distilled into each, and a head per
task aggregates the scales.

Paper and published code. The code distils the features behind the initial predictions where the paper distils the
predictions; and its propagation reads the concatenation of tasks as if channels came first, so that the softmax "over
tasks" runs over neighboring channels of arbitrary tasks. `reference_quirks=True` computes what the code computes;
`reference_quirks=False` distils the predictions, embedded by a 3x3 convolution, and runs the softmax over the tasks of
one channel.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from triptych.decoders.base import Decoder, require_at_least
from triptych.decoders.baseline import HRNetHead
from triptych.decoders.layers import BasicBlock, ConvNormReLU, SqueezeExcitation, resize
from triptych.decoders.padnet import MultiModalDistillation
from triptych.tasks import Task

Maps = Float[Tensor, "batch channels height width"]


class MTINet(Decoder):
    """The MTI-Net decoder on any pyramid of features; published on HRNet.

    `auxiliary_tasks` have initial predictions at every scale, take part in propagation and distillation and have no
    final prediction. `order` names all tasks in the order in which propagation concatenates them; by default they are
    sorted, so that weights mean the same in whatever order tasks are declared. `width` first brings every feature map
    to one width by a 1x1 convolution: wide trunks need it, since propagation works at tasks x width.

    Returns the initial predictions from the coarsest to the finest scale, then the final ones at the finest.

    >>> from triptych.tasks import nyuv2_tasks
    >>> decoder = MTINet((8, 16), strides=(4, 8), tasks=nyuv2_tasks())
    >>> coarse, fine, final = decoder([torch.randn(1, 8, 7, 9), torch.randn(1, 16, 4, 5)])
    >>> coarse["depth"].shape, final["depth"].shape
    (torch.Size([1, 1, 4, 5]), torch.Size([1, 1, 7, 9]))
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        auxiliary_tasks: Mapping[str, Task] | None = None,
        order: Sequence[str] = (),
        width: int | None = None,
        reference_quirks: bool = True,
    ) -> None:
        super().__init__(channels, strides=strides, tasks=tasks, auxiliary_tasks=auxiliary_tasks)
        require_at_least(1, width=width)
        sources = self.intermediate_tasks
        if order and sorted(order) != sorted(sources):
            raise ValueError(f"order is {', '.join(order)}; it must name each of {', '.join(sources)} once.")
        ordered = list(order) or sorted(sources)
        widths = list(self.channels) if width is None else [width] * len(self.channels)
        coarser = [*widths[1:], 0]
        self.project = nn.ModuleList(
            nn.Identity() if width is None else ConvNormReLU(c, width, 1) for c in self.channels
        )
        self.scales = nn.ModuleList(
            InitialPrediction(w + more, w, sources) for w, more in zip(widths, coarser, strict=True)
        )
        # The finest scale has nowhere to pass its features on to.
        self.propagation = nn.ModuleDict(
            {str(k): FeaturePropagation(w, ordered, interleaved=reference_quirks) for k, w in enumerate(widths) if k}
        )
        self.embeddings = nn.ModuleList()
        if not reference_quirks:
            self.embeddings.extend(
                nn.ModuleDict({name: ConvNormReLU(t.channels, w) for name, t in sources.items()}) for w in widths
            )
        self.distillation = nn.ModuleList(MultiModalDistillation(w, list(sources), targets=list(tasks)) for w in widths)
        self.heads = nn.ModuleDict({name: HRNetHead(sum(widths), task.channels) for name, task in tasks.items()})

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        propagated: dict[str, Tensor] = {}
        initial, distilled = [], []
        for k in reversed(range(len(features))):
            x = self.project[k](features[k])
            maps, predictions = self.scales[k](x, propagated)
            if str(k) in self.propagation:
                propagated = self.propagation[str(k)](maps)
            initial.append(predictions)
            distilled.append(self.distillation[k](maps, self._embed(k, predictions)))
        finest_first = distilled[::-1]
        final = {name: head([maps[name] for maps in finest_first]) for name, head in self.heads.items()}
        return [*initial, final]

    def _embed(self, scale: int, predictions: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Maps that are distilled instead of the features, at a scale; `None` as published."""
        if not self.embeddings:
            return None
        return {name: layer(predictions[name]) for name, layer in self.embeddings[scale].items()}


class InitialPrediction(nn.Module):
    """The tasks' features and predictions at one scale: two residual blocks and a 1x1 convolution each.

    A task reads the trunk's map and, except at the coarsest scale, what was propagated from the coarser one.
    """

    def __init__(self, in_channels: int, width: int, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.refine = nn.ModuleDict(
            {name: nn.Sequential(BasicBlock(in_channels, width), BasicBlock(width, width)) for name in tasks}
        )
        self.logits = nn.ModuleDict({name: nn.Conv2d(width, task.channels, 1) for name, task in tasks.items()})

    def forward(self, x: Maps, propagated: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        maps = {
            name: refine(torch.cat([x, resize(propagated[name], x.shape[-2:])], dim=1) if propagated else x)
            for name, refine in self.refine.items()
        }
        return maps, {name: logits(maps[name]) for name, logits in self.logits.items()}


class FeaturePropagation(nn.Module):
    """Feature propagation (section 3.3): maps of all tasks to one map per task for the next finer scale.

    z = concat of the tasks' maps F_t; z is gated by a softmax over tasks of h(z), reduced to a shared map d by a
    residual block, and G_t = SE_t(d) + F_t with a squeeze-and-excitation per task. `interleaved` says how channels
    number the tasks in the softmax: as if channels came first (the published code) or as they are concatenated.

    >>> propagate = FeaturePropagation(16, ["depth", "semseg"])
    >>> propagate({name: torch.randn(1, 16, 3, 4) for name in ("semseg", "depth")})["depth"].shape
    torch.Size([1, 16, 3, 4])
    """

    def __init__(self, channels: int, order: Sequence[str], *, interleaved: bool = True) -> None:
        super().__init__()
        self.order, self.interleaved = list(order), interleaved
        total = len(self.order) * channels
        inner = max(total // 4, 1)
        self.mask = nn.Sequential(BasicBlock(total, inner), BasicBlock(inner, inner), nn.Conv2d(inner, total, 1))
        self.reduce = BasicBlock(total, channels)
        self.gates = nn.ModuleDict({name: SqueezeExcitation(channels) for name in self.order})

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        joined = torch.cat([maps[name] for name in self.order], dim=1)
        shared = self.reduce(joined * self.weights(joined))
        return {name: self.gates[name](shared) + x for name, x in maps.items()}

    def weights(self, joined: Maps) -> Maps:
        """Weight of every channel of the concatenation, relative to the other tasks' channels it is compared with."""
        tasks = len(self.order)
        shape = (-1, tasks) if self.interleaved else (tasks, -1)
        return self.mask(joined).unflatten(1, shape).softmax(dim=2 if self.interleaved else 1).flatten(1, 2)
