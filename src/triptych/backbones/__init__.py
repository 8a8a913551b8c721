"""Backbones by name."""

from collections.abc import Callable
from functools import partial
from typing import Any

from triptych.backbones.base import Backbone
from triptych.backbones.hierarchical import Pyramid
from triptych.backbones.hrnet import HRNet
from triptych.backbones.resnet import ResNet
from triptych.backbones.swin import Swin
from triptych.backbones.timm_models import family_module
from triptych.backbones.vit import RotaryViT, ViT
from triptych.lookup import require_options
from triptych.plugins.loading import load_installed

_SWIN: dict[str, Any] = {
    "stage_norms": True,
    "drop_path_rate": 0.0,
    "strict_img_size": False,
    "always_partition": True,
}
"""Windows keep their size and shift at every image size, so that weights fit whatever the crop."""

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "resnet18": partial(ResNet, "resnet18.tv_in1k"),
    "resnet18_half": partial(ResNet, "resnet18", widths=(32, 64, 128, 256)),  # no published weights: for CPU demos
    "resnet34": partial(ResNet, "resnet34.tv_in1k"),
    "resnet50": partial(ResNet, "resnet50.tv_in1k"),
    "resnet101": partial(ResNet, "resnet101.tv_in1k"),
    "resnet152": partial(ResNet, "resnet152.tv_in1k"),
    "hrnet_w18_small_v2": partial(HRNet, "hrnet_w18_small_v2.ms_in1k"),
    "hrnet_w48": partial(HRNet, "hrnet_w48.ms_in1k"),
    "vit_tiny_patch16_384": partial(ViT, "vit_tiny_patch16_384.augreg_in21k_ft_in1k"),
    "vit_small_patch16_384": partial(ViT, "vit_small_patch16_384.augreg_in21k_ft_in1k"),
    "vit_base_patch16_384": partial(ViT, "vit_base_patch16_384.augreg_in21k_ft_in1k"),
    "vit_large_patch16_384": partial(ViT, "vit_large_patch16_384.augreg_in21k_ft_in1k"),
    "swin_tiny": partial(Swin, "swin_tiny_patch4_window7_224.ms_in1k", **_SWIN),
    "swin_small": partial(Swin, "swin_small_patch4_window7_224.ms_in22k_ft_in1k", **_SWIN),
    "swin_base": partial(Swin, "swin_base_patch4_window12_384.ms_in22k_ft_in1k", **_SWIN),
    "swin_large": partial(Swin, "swin_large_patch4_window12_384.ms_in22k_ft_in1k", **_SWIN),
    "convnext_atto": partial(Pyramid, "convnext_atto.d2_in1k", stage_norms=True),
    "convnext_tiny": partial(Pyramid, "convnext_tiny.fb_in22k_ft_in1k", stage_norms=True),
    "convnext_small": partial(Pyramid, "convnext_small.fb_in22k_ft_in1k", stage_norms=True),
    "convnext_base": partial(Pyramid, "convnext_base.fb_in22k_ft_in1k", stage_norms=True),
    "dinov2_small": partial(ViT, "vit_small_patch14_dinov2.lvd142m"),
    "dinov2_base": partial(ViT, "vit_base_patch14_dinov2.lvd142m"),
    "dinov2_large": partial(ViT, "vit_large_patch14_dinov2.lvd142m"),
    "dinov3_small": partial(RotaryViT, "vit_small_patch16_dinov3.lvd1689m"),
    "dinov3_base": partial(RotaryViT, "vit_base_patch16_dinov3.lvd1689m"),
    "dinov3_large": partial(RotaryViT, "vit_large_patch16_dinov3.lvd1689m"),
}

_FAMILIES: dict[str, Callable[..., Backbone]] = {
    "resnet": ResNet,
    "hrnet": HRNet,
    "vision_transformer": ViT,
    "eva": RotaryViT,
    "swin_transformer": partial(Swin, **_SWIN),
    "swin_transformer_v2": partial(Swin, stage_norms=True, strict_img_size=False),
}
"""Classes for models of timm that `BACKBONES` does not name, by timm's module."""


def find_backbone(name: str) -> Callable[..., Backbone]:
    """The constructor of a backbone: one of `BACKBONES`, or that of the family that a model of timm belongs to."""
    if name not in BACKBONES:
        load_installed()
    return BACKBONES.get(name) or partial(_FAMILIES.get(family_module(name, BACKBONES), Pyramid), name)


def create_backbone(
    name: str, *, image_size: tuple[int, int] | None = None, weights: str = "", **options: Any
) -> Backbone:
    """Build a backbone by name: one of `BACKBONES`, or any feature model of timm, also with its tag
    (`resnet50.a1_in1k`).

    `image_size` is the (height, width) of the training images, which only position embeddings depend on; other sizes
    work afterwards. `weights` is empty for random ones, `"timm"` for the pretrained ones of the name,
    `"hub:organisation/name"` for those of a network on the hub, or the path of a local file; what matched is in the
    backbone's `load_report`. `options` are those of the family's class.

    >>> create_backbone("resnet18", output_stride=8).strides
    (4, 8, 8, 8)
    """
    constructor = find_backbone(name)
    require_options(f"backbone '{name}'", constructor, options)
    backbone = constructor(image_size=image_size, **options)
    if weights:
        from triptych.backbones.weights import load_weights

        backbone.load_report = load_weights(backbone, weights)
    return backbone
