"""Plain vision transformers: ViT (Dosovitskiy et al., ICLR 2021), DINOv2 and DINOv3, with chosen blocks as features."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from triptych.backbones.size import built_by_name
from triptych.backbones.timm_models import build_timm
from triptych.lookup import named_choice
from triptych.types import ceil_div, round_up, same_size


class ViT(Backbone):
    """Token maps after chosen blocks, all at the stride of the patches.

    `taps` counts blocks from 1; the default is after each quarter of the depth, as InvPT and its successors take them.
    `norm` applies the final LayerNorm to the `"last"` tap only (as they do), to `"all"`, or to `"none"`. Images are
    padded at the bottom and on the right to whole patches (with the mean colour), and position embeddings are
    interpolated to the image (bicubic, no antialiasing). `image_size` is the size whose grid is stored; without it that
    of pre-training. The class token takes part in attention; with `class_token` its features follow those of every
    patch, as DPT's readout takes them (twice the channels), else they are dropped from the maps.

    >>> backbone = ViT("vit_tiny_patch16_224", image_size=(64, 96))
    >>> [tuple(x.shape) for x in backbone(torch.zeros(1, 3, 60, 90))][0], backbone.strides
    ((1, 192, 4, 6), (16, 16, 16, 16))
    """

    timm_options: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        timm_name: str,
        *,
        image_size: tuple[int, int] | None = None,
        taps: Sequence[int] = (),
        norm: str = "last",
        drop_path_rate: float = 0.0,
        class_token: bool = False,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__(mean, std, timm_name)
        self.class_token = class_token
        # Of all blocks the first may stay alone, and no option makes them larger.
        with built_by_name() if taps else nullcontext():
            body = build_timm(
                timm_name, num_classes=0, global_pool="", drop_path_rate=drop_path_rate, **self.timm_options
            )
        depth = len(body.blocks)
        self.taps = tuple(taps) or tuple(depth * quarter // 4 for quarter in (1, 2, 3, 4))
        if list(self.taps) != sorted(set(self.taps)) or not 1 <= self.taps[0] <= self.taps[-1] <= depth:
            raise ValueError(f"taps of {timm_name} are {self.taps}; choose rising block numbers from 1 to {depth}.")
        body.blocks = body.blocks[: self.taps[-1]]  # what no tap reads would get no gradient
        normed = {"last": self.taps[-1:], "all": self.taps, "none": ()}
        self.normed = named_choice("norm of the taps", norm, normed)
        if not self.normed:
            body.norm = nn.Identity()
        self.body = body
        self.patch_size = tuple(body.patch_embed.patch_size)
        if self.patch_size[0] != self.patch_size[1]:
            raise ValueError(f"{timm_name} has patches of {self.patch_size}; only square ones make a feature map.")
        if class_token and body.cls_token is None:
            raise ValueError(f"{timm_name} has no class token; leave class_token out.")
        if image_size is not None:
            self.store_grid(image_size)
        self.channels = (body.embed_dim * (1 + class_token),) * len(self.taps)
        self.strides = (self.patch_size[0],) * len(self.taps)
        self.multiple = self.patch_size[0]

    def store_grid(self, image_size: tuple[int, int]) -> None:
        """Let the position embeddings have the grid of `image_size`, rounded up to whole patches, with fresh values."""
        self.body.set_input_size(img_size=tuple(round_up(side, self.patch_size[0]) for side in image_size))
        if self.body.pos_embed is not None:
            nn.init.trunc_normal_(self.body.pos_embed, std=0.02)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        patches = self.body.patch_embed.proj(self.pad(image))
        grid = (patches.shape[-2], patches.shape[-1])
        tokens = self.body.norm_pre(self.embed(patches.flatten(2).transpose(1, 2), grid))
        rotations = self.rotations(grid)
        features = []
        for number, block in enumerate(self.body.blocks, start=1):
            tokens = self.run(block, tokens) if rotations is None else self.run(block, tokens, rotations[number - 1])
            if number in self.taps:
                features.append(self.to_map(self.body.norm(tokens) if number in self.normed else tokens, grid))
        return features

    def rotations(self, grid: tuple[int, int]) -> Sequence[Tensor] | None:
        """Rotary positions of a grid for each block, where blocks take them."""
        return None

    def embed(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Add positions and prefix tokens."""
        body = self.body
        prefix = [token.expand(len(tokens), -1, -1) for token in (body.cls_token, body.reg_token) if token is not None]
        if body.pos_embed is None:
            return torch.cat([*prefix, tokens], dim=1)
        position = resize_positions(body.pos_embed, tuple(body.patch_embed.grid_size), grid)
        if position.shape[1] == tokens.shape[1]:  # prefix tokens have no position of their own
            return torch.cat([*prefix, tokens + position], dim=1)
        return torch.cat([*prefix, tokens], dim=1) + position

    def to_map(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Drop prefix tokens, or put the class token behind every other, and lay these out as `(B, C, h, w)`."""
        patches = tokens[:, -grid[0] * grid[1] :]
        if self.class_token:
            patches = torch.cat([patches, tokens[:, :1].expand_as(patches)], dim=-1)
        return patches.transpose(1, 2).unflatten(2, grid).contiguous()

    def adapt_weights(self, state: dict[str, Tensor], options: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
        """Interpolate position embeddings of another grid to this one's: that of the `image_size` among the `options`
        that they were trained with, else a square one.

        Those of an unknown grid stay as they are. Raises `ValueError` where they fit this grid and a square one, and it
        is not known which they have.
        """
        loaded, ours = state.get("pos_embed"), self.body.pos_embed
        if loaded is None or ours is None or loaded.ndim != 3:
            return state
        grid = tuple(self.body.patch_embed.grid_size)
        places = loaded.shape[1] - (ours.shape[1] - math.prod(grid))
        size = (options or {}).get("image_size")
        side = math.isqrt(max(places, 0))
        old = tuple(ceil_div(pixels, self.patch_size[0]) for pixels in size) if size else (side, side)
        if math.prod(old) != places:
            return state
        if options is None and math.prod(grid) == places and grid != old:
            raise ValueError(
                f"position embeddings of {places} places are those of {side} x {side} patches, as published networks "
                f"have, or of the {grid[0]} x {grid[1]} that backbone_options.image_size asks for; leave image_size "
                "out in the one case (positions are interpolated to every image), give the model.safetensors of the "
                "run, with its recipe.json beside it, in the other."
            )
        return {**state, "pos_embed": resize_positions(loaded, old, grid)}


class RotaryViT(ViT):
    """Transformers with rotary positions: DINOv3 (Siméoni et al., 2025) and others of timm's Eva family.

    Rotary positions are computed for each image's grid, so these networks take any size as they are.
    """

    timm_options: ClassVar[dict[str, Any]] = {"dynamic_img_size": True}

    def __init__(self, timm_name: str, **options: Any) -> None:
        super().__init__(timm_name, **options)
        rope = self.body.rope
        if rope is not None and (getattr(rope, "normalize_coords", ""), rope.grid_indexing) != ("separate", "ij"):
            self.one_size = f"timm computes the rotary positions of {timm_name} for a grid of known size"

    def rotations(self, grid: tuple[int, int]) -> Sequence[Tensor] | None:
        rope = self.body.rope
        if rope is None:
            return None
        free = torch.compiler.is_exporting() and not self.one_size
        positions = rotary_positions(rope, grid) if free else rope.get_embed(shape=list(grid))
        # Learnt ones (RoPE-Mixed; Heo et al., ECCV 2024) are each block's own.
        return positions.unbind() if getattr(self.body, "rope_mixed", False) else [positions] * len(self.body.blocks)


def rotary_positions(rope: nn.Module, grid: tuple[int, int]) -> Tensor:
    """DINOv3's rotary positions of a grid whose size a tracer may hold open, `(h * w, 2 * head width)`: timm's numbers.

    Sines, then cosines, of 2 pi c / period for the coordinates c of a patch's centre in [-1, 1], row before column.

    >>> rope = build_timm("vit_small_patch16_dinov3").rope
    >>> torch.equal(rotary_positions(rope, (5, 7)), rope.get_embed(shape=[5, 7]))
    True
    """
    periods = rope.periods
    centers = [torch.arange(side, device=periods.device, dtype=torch.float32) + 0.5 for side in grid]
    axes = [(center + rope.grid_offset) / side for center, side in zip(centers, grid, strict=True)]
    coordinates = 2 * torch.stack(torch.meshgrid(axes, indexing="ij"), dim=-1).flatten(0, 1) - 1
    angles = (2 * math.pi * coordinates[:, :, None].to(periods) / periods).flatten(1)
    parts = [angles.sin(), angles.cos()]
    doubled = [part.repeat(1, 2) if rope.rotate_half else part.repeat_interleave(2, dim=1) for part in parts]
    return torch.cat(doubled, dim=1)


def resize_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Interpolate `(1, prefix + h * w, C)` position embeddings to another grid, bicubic without antialiasing.

    The embeddings of prefix tokens stay as they are. (timm antialiases, with another bicubic coefficient: not the same
    numbers.)

    >>> resize_positions(torch.zeros(1, 1 + 6, 8), (2, 3), (4, 4)).shape
    torch.Size([1, 17, 8])
    """
    if same_size(old, new):
        return positions
    prefix = positions.shape[1] - old[0] * old[1]
    grid = positions[:, prefix:].transpose(1, 2).unflatten(2, old)
    resized = F.interpolate(grid, size=new, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    return torch.cat([positions[:, :prefix], resized], dim=1)
