"""Networks with a pyramid of maps: Swin (Liu et al., ICCV 2021), ConvNeXt (Liu et al., CVPR 2022), others of timm."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from triptych.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from triptych.backbones.timm_models import build_timm, check_timm_options
from triptych.machine import ran_out_of_memory
from triptych.types import ceil_div


class Pyramid(Backbone):
    """One map for every stride from 4 on (from the finest one with `include_stem`), channels first.

    Images are padded at the bottom and on the right to a multiple of the largest stride, and maps cropped back.
    `stage_norms` adds a LayerNorm over channels to each map, as dense prediction on Swin and ConvNeXt does. Further
    options are those of the timm model. A few of timm's networks take only the image size that they were built for.

    >>> Pyramid("convnext_atto").channels
    (40, 80, 160, 320)
    """

    def __init__(
        self,
        timm_name: str,
        *,
        image_size: tuple[int, int] | None = None,
        include_stem: bool = False,
        stage_norms: bool = False,
        drop_path_rate: float | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        **timm_options: Any,
    ) -> None:
        super().__init__(mean, std, timm_name)
        check_timm_options(timm_name, timm_options)
        if drop_path_rate is not None:
            timm_options["drop_path_rate"] = drop_path_rate
        body = build_timm(timm_name, num_classes=0, **timm_options)
        if not hasattr(body, "forward_intermediates") or not hasattr(body, "feature_info"):
            raise ValueError(
                f"{timm_name} has no feature maps in timm; choose another backbone (`triptych list backbones`)."
            )
        finest = 1 if include_stem else 4
        last_of_stride = {
            info["reduction"]: i for i, info in enumerate(body.feature_info) if info["reduction"] >= finest
        }
        self.indices = body.prune_intermediate_layers(sorted(last_of_stride.values()), prune_norm=True, prune_head=True)
        self.channels = tuple(body.feature_info[i]["num_chs"] for i in self.indices)
        self.strides = tuple(body.feature_info[i]["reduction"] for i in self.indices)
        self.body = body
        self.norms = nn.ModuleList(ChannelNorm(width) if stage_norms else nn.Identity() for width in self.channels)

    def set_checkpointing(self, enabled: bool = True) -> None:
        """timm's own switch: stages of these networks recompute themselves.

        Raises `ValueError` where batch norm is trained, since recomputing would count each batch twice in its
        statistics, and for a network of which timm has no such switch.
        """
        if enabled and any(isinstance(part, _BatchNorm) and part.training for part in self.body.modules()):
            raise ValueError(
                f"{self.timm_name} has batch norm, in whose statistics recomputed gradients would count each batch "
                "twice; leave checkpoint_gradients off, freeze backbone.norms, or choose a ResNet, HRNet, ConvNeXt, "
                "Swin or ViT."
            )
        try:
            self.body.set_grad_checkpointing(enabled)
        except AssertionError as error:
            raise ValueError(
                f"timm recomputes no activations of {self.timm_name}; leave checkpoint_gradients off, or choose a "
                "ResNet, HRNet, ConvNeXt, Swin or ViT."
            ) from error

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        padded = self.pad(image)
        if torch.compiler.is_compiling():
            return self.finish(self._maps(padded), (image.shape[-2], image.shape[-1]))
        try:
            maps = self._maps(padded)
        except (AssertionError, RuntimeError) as error:
            if ran_out_of_memory(error) or type(error) not in (AssertionError, RuntimeError):  # of a device, of a link
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ValueError(
                f"{self.timm_name} of timm failed on images of {padded.shape[-2]} x {padded.shape[-1]} ({reason}); "
                "some of its networks take one size alone (img_size in backbone_options) or windows that divide it: "
                "choose another size or backbone."
            ) from error
        return self.finish(maps, (image.shape[-2], image.shape[-1]))

    def _maps(self, padded: Tensor) -> list[Tensor]:
        return self.body.forward_intermediates(padded, indices=self.indices, intermediates_only=True)

    def finish(self, maps: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """The network's maps without what was padded, normalized, for an image of `size`."""
        height, width = size
        return [
            norm(x[..., : ceil_div(height, stride), : ceil_div(width, stride)])
            for x, stride, norm in zip(maps, self.strides, self.norms, strict=True)
        ]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of `(B, C, H, W)` maps."""

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
