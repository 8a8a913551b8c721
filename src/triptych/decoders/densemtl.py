"""DenseMTL: cross-task attention between per-task decoders (Lopes, Vu and de Charette, WACV 2023, arXiv 2206.08927).

The paper's xTAM is a pair of directed halves with weights of their own: `XTAM` here is one half. `CrossTaskExchange` is
the paper's multi-task block (mTEB) over all ordered pairs.

Paper and published code. The code concatenates the other tasks' messages in the order of a Python set of strings, which
changes from process to process for three tasks and more; here they are sorted by name, so that weights mean the same in
whatever order tasks are declared. The attention branch starts at zero (alpha).
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.decoders.base import require_at_least
from triptych.decoders.layers import ConvNormReLU
from triptych.decoders.pyramid import PyramidDecoder
from triptych.tasks import Task

Maps = Float[Tensor, "batch channels height width"]


class XTAM(nn.Module):
    """The message of a source task to a target task (xTAM, one direction).

    d = ReLU(conv3x3(source)) is passed on in two ways. Gated: conv3x3(d) * sigmoid(conv3x3(d)), half as wide.
    Correlated: every target location attends to all source locations, softmax(Q K^T / sqrt(C)) V on grids that are
    `downscale` times smaller (target subsampled, d max-pooled), scaled per channel by alpha. A 1x1 convolution with
    norm and ReLU joins the two.

    >>> XTAM(8)(torch.randn(1, 8, 12, 10), torch.randn(1, 8, 12, 10)).shape
    torch.Size([1, 8, 12, 10])
    """

    def __init__(self, channels: int, *, downscale: int = 4) -> None:
        super().__init__()
        self.downscale = downscale
        self.extract = nn.Conv2d(channels, channels, 3, padding=1)
        # The feature and, in the second half of the channels, its gate.
        self.gated = nn.Conv2d(channels, channels // 2 * 2, 3, padding=1, bias=False)
        self.query, self.key, self.value = (ConvNormReLU(channels, channels, 1) for _ in range(3))
        self.alpha = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.project = ConvNormReLU(channels // 2 + channels, channels, 1)

    def forward(self, target: Maps, source: Maps) -> Maps:
        extracted = F.relu(self.extract(source), inplace=True)
        gated = F.glu(self.gated(extracted), dim=1)
        correlated = self.alpha * self.attend(target, extracted)
        conv, norm, relu = self.project
        gated_weight, correlated_weight = conv.weight.split([gated.shape[1], correlated.shape[1]], dim=1)
        # The 1x1 commutes with the nearest upsampling, so the correlated part takes it on the small grid.
        small = F.conv2d(correlated, correlated_weight)
        upsampled = F.interpolate(small, scale_factor=float(self.downscale), mode="nearest")
        height, width = target.shape[-2:]
        return relu(norm(F.conv2d(gated, gated_weight).add_(upsampled[..., :height, :width])))

    def attend(self, target: Maps, extracted: Maps) -> Float[Tensor, "batch channels small_height small_width"]:
        """Attention of the subsampled target over the pooled source, on the small grid."""
        query = self.query(target[..., :: self.downscale, :: self.downscale])
        pooled = F.max_pool2d(extracted, self.downscale, ceil_mode=True)
        query, key, value = (
            x.flatten(2).transpose(1, 2)[:, None].contiguous() for x in (query, self.key(pooled), self.value(pooled))
        )
        return F.scaled_dot_product_attention(query, key, value)[:, 0].transpose(1, 2).unflatten(2, pooled.shape[-2:])


class CrossTaskExchange(nn.Module):
    """The exchange block (mTEB): each task's map plus the messages of all others. A dict of maps to a dict of maps.

    f'_t = f_t + CBR1x1(concat over s != t, sorted by name, of XTAM_{s->t}(f_t, f_s)). With one task it is the
    identity. `targets` are all of the tasks unless given; the others only send.

    >>> exchange = CrossTaskExchange(8, ["semseg", "depth", "normals"])
    >>> maps = exchange({name: torch.randn(1, 8, 6, 9) for name in ("semseg", "depth", "normals")})
    >>> maps["depth"].shape
    torch.Size([1, 8, 6, 9])
    """

    def __init__(
        self,
        channels: int,
        tasks: Sequence[str] | Mapping[str, Task],
        *,
        downscale: int = 4,
        targets: Sequence[str] | Mapping[str, Task] | None = None,
    ) -> None:
        super().__init__()
        names = list(tasks)
        self.targets = names if targets is None else list(targets)
        self.messages = nn.ModuleDict(
            {
                t: nn.ModuleDict({s: XTAM(channels, downscale=downscale) for s in sorted(names) if s != t})
                for t in self.targets
            }
        )
        others = len(names) - 1
        self.join = nn.ModuleDict({t: ConvNormReLU(others * channels, channels, 1) for t in self.targets if others})

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        joined = {}
        for target, join in self.join.items():
            messages = [xtam(maps[target], maps[s]) for s, xtam in self.messages[target].items()]
            # A single message is not copied.
            joined[target] = join(torch.cat(messages, dim=1) if len(messages) > 1 else messages[0])
        return {name: maps[name] + joined[name] if name in joined else maps[name] for name in self.targets}


class DenseMTL(PyramidDecoder):
    """DenseMTL: pyramid decoders that exchange messages at level 1. `PyramidDecoder` states the requirements on a
    backbone.

    Published on ResNet-101 with `output_stride=16, include_stem=True`, images normalised as (x - 0.45) / 0.225 and
    sides that are multiples of 16; here any size. The output at half the image's size is supervised besides the final
    one and precedes the exchange. With one task it is the matching single-task network. `auxiliary_tasks` send messages
    and have the first of these outputs only.

    >>> from triptych.tasks import nyuv2_tasks
    >>> decoder = DenseMTL((4, 4, 8, 8), strides=(4, 8, 16, 32), tasks=nyuv2_tasks(), widths=(4, 8))
    >>> half, full = decoder([torch.randn(1, c, 64 // s, 96 // s) for c, s in zip((4, 4, 8, 8), (4, 8, 16, 32))])
    >>> half["depth"].shape, full["depth"].shape
    (torch.Size([1, 1, 32, 48]), torch.Size([1, 1, 64, 96]))
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        widths: Sequence[int] = (64, 128, 128, 256, 256),
        exchange_level: int = 1,
        downscale: int = 4,
        scales: Sequence[int] = (0, 1),
        auxiliary_tasks: Mapping[str, Task] | None = None,
        aspp_rates: Sequence[int] = (6, 12, 18),
        dropout: float = 0.5,
        init: str = "default",
    ) -> None:
        require_at_least(1, downscale=downscale)
        require_at_least(2, widths=min(widths, default=0))  # messages have half of it
        super().__init__(
            channels,
            strides=strides,
            tasks=tasks,
            widths=widths,
            exchange=partial(CrossTaskExchange, downscale=downscale),
            exchange_level=exchange_level,
            scales=scales,
            auxiliary_tasks=auxiliary_tasks,
            aspp_rates=aspp_rates,
            dropout=dropout,
            init=init,
        )

    def attention_scales(self) -> dict[str, dict[str, float]]:
        """Mean |alpha| by target and source: how much of its attention a message lets through, 0 at the start.

        The message's gated part passes whatever alpha is, so a network can train without exercising its attention.
        """
        return {
            target: {source: float(xtam.alpha.detach().abs().mean()) for source, xtam in row.items()}
            for target, row in self.exchange.messages.items()
            if row
        }

    def describe(self) -> str:
        """`attention_scales` as lines of text, and their mean."""
        scales = self.attention_scales()
        if not scales:
            return "one task, no messages"
        lines = [
            f"{target} from " + ", ".join(f"{source} {value:.4f}" for source, value in row.items())
            for target, row in scales.items()
        ]
        values = [value for row in scales.values() for value in row.values()]
        return "\n".join([*lines, f"mean |alpha| over {len(values)} messages: {sum(values) / len(values):.4f}"])
