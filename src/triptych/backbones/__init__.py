"""Backbones by name."""

from collections.abc import Callable
from functools import partial
from typing import Any

from triptych.backbones.base import Backbone
from triptych.backbones.resnet import ResNet

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "resnet18": partial(ResNet, "resnet18.tv_in1k"),
    "resnet34": partial(ResNet, "resnet34.tv_in1k"),
    "resnet50": partial(ResNet, "resnet50.tv_in1k"),
    "resnet101": partial(ResNet, "resnet101.tv_in1k"),
    "resnet152": partial(ResNet, "resnet152.tv_in1k"),
}


def create_backbone(
    name: str, *, image_size: tuple[int, int] | None = None, weights: str = "", **options: Any
) -> Backbone:
    """Build a backbone by name: one of `BACKBONES`, or any feature model of timm.

    `image_size` is the (height, width) of the training images, which only position embeddings depend on; other sizes
    work afterwards.

    >>> create_backbone("resnet18").channels
    (64, 128, 256, 512)
    """
    return BACKBONES[name](image_size=image_size, **options)
