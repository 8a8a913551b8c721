"""InvPT: inverted pyramid multi-task transformer (Ye and Xu, ECCV 2022, arXiv 2203.07997).

Every task gets a preliminary decoder at 1/32 of the image; three transformer stages then attend jointly over the tokens
of all tasks while doubling the resolution, each passing its attention logits on to the next.

Paper and published code. The code computes a skip for the first stage, a projection of its output, a last norm and a
fusion of messages that do not exist yet, and uses none of them; it scales attention by the full width and not by the
width of a head; its stochastic depth comes out as 0. `reference_quirks=True` computes what the code computes;
`reference_quirks=False` applies the first stage's skip and scales by the head. The dead layers are built only with
`dead_layers=True`, where parameters must be counted as published.
"""

from collections.abc import Mapping, Sequence
from math import log2

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.decoders.base import Decoder, require_at_least
from triptych.decoders.layers import BatchNorm2d, ConvNormReLU, compose, conv_of_bilinear, resize
from triptych.tasks import Task
from triptych.types import ceil_div, round_up

Tokens = Float[Tensor, "batch tasks height width channels"]


class InvPTStage(nn.Module):
    """Per task an up-embedding (from the second stage on) and the skip, then a block over the tokens of all tasks."""

    def __init__(
        self, names: list[str], stage: int, widths: Sequence[int], *, heads: int, scale_by_width: bool
    ) -> None:
        super().__init__()
        width = widths[stage]
        self.up = nn.ModuleDict({name: UpEmbed(widths[stage - 1], width) for name in names} if stage else {})
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.attention = MessagePassingAttention(
            len(names),
            width,
            heads=heads,
            key_stride=2 << stage,
            receives=stage > 0,
            scale=(width if scale_by_width else width // heads) ** -0.5,
        )
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(
        self,
        tokens: Tokens,
        skip: Float[Tensor, "batch stage_channels stage_height stage_width"] | None,
        messages: Float[Tensor, "batch heads queries keys"] | None,
    ) -> tuple[Tensor, Tensor]:
        if len(self.up):
            maps = [up(tokens[:, k].permute(0, 3, 1, 2)) for k, up in enumerate(self.up.values())]
            tokens = torch.stack(maps, dim=1).permute(0, 1, 3, 4, 2)
        if skip is not None:
            tokens = tokens + skip.permute(0, 2, 3, 1)[:, None]
        attended, messages = self.attention(self.norm1(tokens), messages)
        tokens = tokens + attended
        return tokens + self.mlp(self.norm2(tokens)), messages


class UpEmbed(nn.Sequential):
    """Bilinear x2, then twice a 3x3 convolution of dilation 2 with norm and ReLU."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__(ConvNormReLU(in_width, width, dilation=2), ConvNormReLU(width, width, dilation=2))

    def forward(
        self, x: Float[Tensor, "batch in_width height width"]
    ) -> Float[Tensor, "batch out_width two_height two_width"]:
        conv, norm, relu = self[0]
        doubled = (2 * x.shape[-2], 2 * x.shape[-1])
        return self[1](relu(norm(conv_of_bilinear([x], [conv.weight], doubled, dilation=2))))


class MessagePassingAttention(nn.Module):
    """Attention over the tokens of all tasks, whose logits are mixed with those of the stage before.

    Queries are strided by two, keys and values pooled to the same grid at every stage; the output is resized back. The
    logits are part of the result, so they are computed explicitly: 4032 x 252 of them at 448 x 576 with four tasks.
    """

    def __init__(
        self, num_tasks: int, width: int, *, heads: int, key_stride: int, receives: bool, scale: float
    ) -> None:
        super().__init__()
        self.heads, self.key_stride, self.scale = heads, key_stride, scale
        # One depthwise convolution for all tasks: its channels are those of the tasks one after the other.
        everything = num_tasks * width
        self.query_conv = nn.Conv2d(everything, everything, 3, stride=2, padding=1, groups=everything, bias=False)
        self.query_norm = BatchNorm2d(everything)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.fuse = nn.Conv2d(2 * heads, heads, 1) if receives else None

    def forward(self, tokens: Tokens, messages: Tensor | None) -> tuple[Tensor, Tensor]:
        batch, tasks, height, width, channels = tokens.shape
        maps = tokens.permute(0, 1, 4, 2, 3).reshape(batch, tasks * channels, height, width)
        asked = self.query_norm(self.query_conv(maps))
        pooled = self._tokens(F.avg_pool2d(maps, self.key_stride), tasks)
        query = self._split(self.query(self._tokens(asked, tasks)))
        key, value = self._split(self.key(pooled)), self._split(self.value(pooled))
        logits = self.scale * query @ key.transpose(2, 3)
        if self.fuse is not None:
            logits = self.fuse(torch.cat([logits, self._double(messages, tasks, asked.shape[-2:])], dim=1))
        attended = (logits.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
        out = self.output(attended).view(batch * tasks, *asked.shape[-2:], channels).permute(0, 3, 1, 2)
        return resize(out, (height, width)).permute(0, 2, 3, 1).view_as(tokens), logits

    def _tokens(self, maps: Tensor, tasks: int) -> Tensor:
        """(batch, tasks * channels, height, width) to (batch, tasks * height * width, channels)."""
        return maps.unflatten(1, (tasks, -1)).flatten(3).transpose(2, 3).flatten(1, 2)

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _double(self, messages: Tensor, tasks: int, size: Sequence[int]) -> Tensor:
        """Logits seen as maps over the queries of one task, resized to this stage's queries."""
        half = (tasks, size[0] // 2, size[1] // 2)
        maps = messages.unflatten(2, half).flatten(0, 2).permute(0, 3, 1, 2)
        doubled = resize(maps, size).permute(0, 2, 3, 1).flatten(1, 2)
        return doubled.reshape(*messages.shape[:2], -1, messages.shape[3])


Maps = Float[Tensor, "batch channels height width"]
STAGES = 3
PUBLISHED_STRIDE = 32
"""Stride of the first stage's grid."""


class InvPT(Decoder):
    """The InvPT decoder on any backbone.

    The first stage's grid is that of the last feature map, brought to stride 32 where it is finer, with sides rounded
    up to even numbers. Features are resized to what a stage needs, so any image size is legal (as published: multiples
    of 64). Stage i adds a skip from the feature whose stride is nearest to its own, 32 / 2^i. Where several are equally
    near, as the levels of a plain ViT are, the last stage takes the first of them, the one before it the second: the
    published wiring. The last feature is a skip only where it is the sole one.

    `width` is that of the first stage, halved at each of the next two; `preliminary_width` that of the preliminary
    decoders. `auxiliary_tasks` have initial predictions and tokens that the others attend to, and no final
    prediction. Returns the initial predictions at stride 32, then the final ones at stride 4.

    >>> from triptych.tasks import nyuv2_tasks
    >>> decoder = InvPT((8,) * 4, strides=(16,) * 4, tasks=nyuv2_tasks(), width=16, preliminary_width=8)
    >>> initial, final = decoder([torch.randn(1, 8, 7, 9) for _ in range(4)])
    >>> initial["depth"].shape, final["depth"].shape
    (torch.Size([1, 1, 4, 6]), torch.Size([1, 1, 32, 48]))
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        width: int = 576,
        preliminary_width: int = 512,
        heads: int = 2,
        reference_quirks: bool = True,
        dead_layers: bool = False,
        auxiliary_tasks: Mapping[str, Task] | None = None,
    ) -> None:
        super().__init__(channels, strides=strides, tasks=tasks, auxiliary_tasks=auxiliary_tasks)
        require_at_least(1, width=width, preliminary_width=preliminary_width, heads=heads)
        sources = self.intermediate_tasks
        if width % (4 * heads):
            raise ValueError(
                f"width of InvPT is {width}; three stages of {heads} heads need a multiple of {4 * heads}."
            )
        widths = [width >> stage for stage in range(STAGES)]
        # Sorted, so that joined weights mean the same in whatever order tasks are declared.
        self.stacked = sorted(sources)
        self.pooling = max(1, round(PUBLISHED_STRIDE / self.strides[-1]))
        self.preliminary = nn.ModuleDict(
            {
                name: nn.Sequential(
                    ConvNormReLU(self.channels[-1], self.channels[-1]),
                    ConvNormReLU(self.channels[-1], preliminary_width),
                )
                for name in sources
            }
        )
        self.initial = nn.ModuleDict({name: nn.Conv2d(preliminary_width, t.channels, 1) for name, t in sources.items()})
        self.mix = nn.ModuleDict(
            {name: nn.Conv2d(preliminary_width + t.channels, width, 1) for name, t in sources.items()}
        )
        first = 1 if reference_quirks else 0
        self.skip_sources = [self._skip_source(stage) for stage in range(STAGES)]
        self.skips = nn.ModuleDict({str(i): self._skip(i, widths[i]) for i in range(first, STAGES)})
        self.stages = nn.ModuleList(
            InvPTStage(self.stacked, i, widths, heads=heads, scale_by_width=reference_quirks) for i in range(STAGES)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(len(sources) * w, eps=1e-5) for w in widths)
        self.reductions = nn.ModuleList(
            nn.ModuleDict({name: nn.Conv2d(w, width, 1) for name in tasks}) for w in widths[1:]
        )
        self.projections = nn.ModuleDict({name: ConvNormReLU(width, width, bias=True) for name in tasks})
        self.heads = nn.ModuleDict({name: nn.Conv2d(width, t.channels, 1) for name, t in tasks.items()})
        self.apply(_initialize)
        for projection in self.projections.values():
            nn.init.trunc_normal_(projection[0].weight, std=0.02)
        if dead_layers:
            self.dead = self._dead_layers(width, heads)

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        size = self.grid(features)
        deepest = resize(features[-1], size)
        prepared = {name: layers(deepest) for name, layers in self.preliminary.items()}
        initial = {name: head(prepared[name]) for name, head in self.initial.items()}
        x = torch.stack([self.mix[k](torch.cat([prepared[k], initial[k]], dim=1)) for k in self.stacked], dim=1)
        tokens, messages, outputs = x.permute(0, 1, 3, 4, 2), None, []
        for i, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            skip = self._read_skip(i, features, (size[0] * 2**i, size[1] * 2**i)) if str(i) in self.skips else None
            tokens, messages = stage(tokens, skip, messages)
            # Only this copy is normalised: the next stage reads the block's own output.
            normalized = norm(tokens.permute(0, 2, 3, 1, 4).flatten(3))
            outputs.append(normalized.unflatten(3, (len(self.stacked), -1)))
        quarter = (size[0] * 8, size[1] * 8)
        by_task = {
            name: [output[..., k, :] for output in outputs] for k, name in enumerate(self.stacked) if name in self.tasks
        }
        return [initial, {name: self._project(name, by_task[name], quarter) for name in self.tasks}]

    def grid(self, features: list[Tensor]) -> tuple[int, int]:
        """Height and width of the first stage, even because its queries are strided by two."""
        height, width = (round_up(ceil_div(side, self.pooling), 2) for side in features[-1].shape[-2:])
        return height, width

    def _skip_source(self, stage: int) -> int:
        """Index of the feature that is added at a stage."""
        target = self.pooling * self.strides[-1] / 2**stage
        candidates = self.strides[:-1] or self.strides
        distances = [abs(log2(stride / target)) for stride in candidates]
        nearest = [i for i, distance in enumerate(distances) if distance == min(distances)]
        return nearest[min(STAGES - 1 - stage, len(nearest) - 1)]

    def _skip(self, stage: int, width: int) -> nn.Module:
        source = self.skip_sources[stage]
        if round(log2(self.strides[source] * 2**stage / (self.pooling * self.strides[-1]))) > 0:
            return nn.ConvTranspose2d(self.channels[source], width, 3, stride=2, padding=1, output_padding=1)
        return nn.Conv2d(self.channels[source], width, 3, padding=1)

    def _read_skip(self, stage: int, features: list[Tensor], size: tuple[int, int]) -> Maps:
        feature, layer = features[self.skip_sources[stage]], self.skips[str(stage)]
        if feature.shape[-1] > size[1]:
            feature = resize(feature, size)
        return resize(layer(feature), size)

    def _project(self, name: str, outputs: list[Tensor], size: tuple[int, int]) -> Maps:
        """Reduce the stages' outputs to one width, resize, add, 3x3, norm, ReLU and the task's head.

        As published the 3x3 runs on the sum at stride 4, 43 % of a forward pass with ViT-B. Reduction, resize and 3x3
        are linear: composed, they run on each stage's own grid.
        """
        conv, norm, relu = self.projections[name]
        reductions = [reduction[name] for reduction in self.reductions]
        # Bilinear weights sum to one, so a bias may be added before the resize.
        outputs[0] = outputs[0] + sum(reduction.bias for reduction in reductions)
        weights = [conv.weight] + [compose(conv.weight, reduction.weight) for reduction in reductions]
        maps = [output.permute(0, 3, 1, 2) for output in outputs]
        projected = conv_of_bilinear(maps, weights, size, bias=conv.bias)
        # The head's few channels are passed on as planes: resizing and losses read them plane by plane.
        return self.heads[name](relu(norm(projected))).contiguous()

    def _dead_layers(self, width: int, heads: int) -> nn.Module:
        """Layers of published checkpoints that no output depends on."""
        return nn.ModuleDict(
            {
                "skip": nn.Conv2d(self.channels[self.skip_sources[0]], width, 3, padding=1),
                "norm": nn.LayerNorm(width),
                "fuse": nn.Conv2d(2 * heads, heads, 1),
                "reductions": nn.ModuleDict({name: nn.Conv2d(width, width, 1) for name in self.tasks}),
            }
        )


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
