"""What networks that share inside a ResNet ask of it."""

from triptych.backbones.base import Backbone
from triptych.backbones.resnet import ResNet


def require_resnet(architecture: str, backbone: Backbone) -> ResNet:
    """The backbone, if it has a stem and stages in reach."""
    if not isinstance(backbone, ResNet):
        raise ValueError(
            f"{architecture} shares inside the stages of a ResNet, backbone is a {type(backbone).__name__}; choose "
            "resnet18, resnet34, resnet50, resnet101 or resnet152."
        )
    return backbone


def stage_channels(backbone: ResNet) -> tuple[int, ...]:
    """Widths of layer1 to layer4, whether or not the stem is among the features."""
    return tuple(backbone.channels[-4:])
