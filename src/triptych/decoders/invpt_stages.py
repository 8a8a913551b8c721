"""The transformer stages of InvPT (Ye and Xu, ECCV 2022): joint attention over the tokens of all tasks."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.decoders.layers import BatchNorm2d, ConvNormReLU, resize
from triptych.decoders.resampled_conv import conv_of_bilinear

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
