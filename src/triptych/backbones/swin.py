"""Swin (Liu et al., ICCV 2021) and its second version, with windows that can be traced at open sizes.

timm rolls maps and numbers the regions of the mask by slices of them, whose bounds the tracer compares with sizes for
minutes. While a network is exported the same is computed from the positions of rows and columns.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from triptych.backbones.hierarchical import Pyramid
from triptych.types import ceil_div


class Swin(Pyramid):
    """A `Pyramid` of shifted windows.

    >>> [channels for channels in Swin("swin_tiny_patch4_window7_224.ms_in1k", strict_img_size=False).channels]
    [96, 192, 384, 768]
    """

    def __init__(self, timm_name: str, **options: Any) -> None:
        super().__init__(timm_name, **options)
        for module in self.body.modules():
            if hasattr(module, "get_attn_mask"):  # a block
                module._attn = MethodType(_attend, module)


def _attend(block: Any, x: Tensor) -> Tensor:
    return attend(block, x) if torch.compiler.is_exporting() else type(block)._attn(block, x)


def attend(block: Any, x: Tensor) -> Tensor:
    """What a block's `_attn` computes of `(B, H, W, C)`: attention within windows that are shifted over the map."""
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


def _roll(x: Tensor, down: int, right: int) -> Tensor:
    """Rows and columns from these on, then those before."""
    height, width = x.shape[1:3]
    if down:
        x = x[:, (torch.arange(height, device=x.device) + down) % height]
    if right:
        x = x[:, :, (torch.arange(width, device=x.device) + right) % width]
    return x


def _mask(block: Any, rows: int, columns: int) -> Tensor:
    """`(windows, area, area)`: -100 between pixels that the shift has brought into one window from different sides."""
    high, wide = block.window_size
    region = 3 * _regions(rows * high, high, block.shift_size[0])[:, None]
    region = region + _regions(columns * wide, wide, block.shift_size[1])
    region = region.reshape(rows, high, columns, wide).transpose(1, 2).reshape(rows * columns, high * wide)
    return torch.where(region[:, None] == region[:, :, None], 0.0, -100.0)


def _regions(length: int, window: int, shift: int) -> Tensor:
    """0 before the last window, 1 in it, 2 in what came from the other side."""
    places = torch.arange(length)
    return (places >= length - window).long() + (places >= length - shift)
