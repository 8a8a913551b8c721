"""Swin (Liu et al., ICCV 2021) and its second version (Liu et al., CVPR 2022), whose windows can be traced at free
sizes.

timm rolls maps and numbers the regions of the mask by slices, whose bounds the tracer compares with sizes for minutes.
While a network is exported the same is computed from the positions of rows and columns. A single window is a case apart
that such a program does not hold: every stage has two or more.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.backbones.hierarchical import Pyramid
from triptych.types import ceil_div

Maps = Float[Tensor, "batch height width channels"]
OTHERS = -100.0
"""Added to the attention between pixels that are no neighbors: timm's."""


class Swin(Pyramid):
    """A `Pyramid` of shifted windows.

    >>> Swin("swin_tiny_patch4_window7_224", embed_dim=24, depths=(1, 1), num_heads=(1, 2)).channels
    (24, 48)
    """

    @property
    def free_from(self) -> int:  # type: ignore[override]
        """One pixel more than a window of the coarsest stage.

        >>> Swin("swin_tiny_patch4_window7_224").free_from
        225
        """
        windows = (
            info["reduction"] * max(block.window_size)
            for info, stage in zip(self.body.feature_info, self.body.layers, strict=False)
            for block in stage.blocks
        )
        return 1 + max(windows)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        with traceable_windows(self.body):
            return super().forward(image)


def traceable_windows(body: nn.Module) -> AbstractContextManager[None]:
    """While a program is exported, let the blocks of a Swin of timm attend by `attend`; else nothing, which
    `torch.compile` can trace.
    """
    return _attending(body) if torch.compiler.is_exporting() else nullcontext()


@contextmanager
def _attending(body: nn.Module) -> Iterator[None]:
    blocks = [block for block in body.modules() if hasattr(block, "get_attn_mask")]
    for block in blocks:
        block._attn = partial(attend, block)
    try:
        yield
    finally:
        for block in blocks:
            del block._attn


def attend(block: Any, x: Maps) -> Maps:
    """Attention within windows that are shifted over the map: what `_attn` of a block of timm computes."""
    batch, height, width, channels = x.shape
    (high, wide), shift = block.window_size, block.shift_size
    rows, columns = ceil_div(height, high), ceil_div(width, wide)
    x = F.pad(_roll(x, shift[0], shift[1]), (0, 0, 0, columns * wide - width, 0, rows * high - height))
    x = x.reshape(batch, rows, high, columns, wide, channels).transpose(2, 3)
    mask = _mask(block, rows, columns).to(x) if any(shift) else None
    x = block.attn(x.reshape(batch * rows * columns, high * wide, channels), mask=mask)
    x = x.reshape(batch, rows, columns, high, wide, channels).transpose(2, 3)
    x = x.reshape(batch, rows * high, columns * wide, channels)[:, :height, :width]
    return _roll(x, -shift[0], -shift[1])


def _roll(x: Maps, down: int, right: int) -> Maps:
    """Rows and columns from these on, then those before."""
    if down:
        x = x[:, _rolled(x.shape[1], down, x.device)]
    if right:
        x = x[:, :, _rolled(x.shape[2], right, x.device)]
    return x


def _rolled(length: int, shift: int, device: torch.device) -> Int[Tensor, " length"]:
    """Positions from `shift` on, then those before.

    >>> _rolled(4, 1, torch.device("cpu")).tolist()
    [1, 2, 3, 0]
    """
    positions = torch.arange(length, device=device)
    return (positions + shift) % _count(positions)


def _count(positions: Tensor) -> Int[Tensor, ""]:
    """The number of positions as a tensor: ONNX takes no remainder by a free size."""
    return torch.ones_like(positions).sum()


def _mask(block: Any, rows: int, columns: int) -> Float[Tensor, "windows area area"]:
    """`OTHERS` between pixels that the shift has brought into one window from different sides."""
    high, wide = block.window_size
    region = 3 * _regions(rows * high, high, block.shift_size[0])[:, None]
    region = region + _regions(columns * wide, wide, block.shift_size[1])
    region = region.reshape(rows, high, columns, wide).transpose(1, 2).reshape(rows * columns, high * wide)
    return torch.where(region[:, None] == region[:, :, None], 0.0, OTHERS)


def _regions(length: int, window: int, shift: int) -> Int[Tensor, " length"]:
    """0 before the last window, 1 in it, 2 in what came from the other side.

    >>> _regions(6, 3, 1).tolist()
    [0, 0, 0, 1, 1, 2]
    """
    positions = torch.arange(length)
    left = _count(positions) - positions
    return (left <= window).long() + (left <= shift)
