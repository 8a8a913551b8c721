"""ResNet (He et al., CVPR 2016), also dilated to output stride 8 or 16, with access to its stem and blocks."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from triptych.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from triptych.backbones.timm_models import build_timm


class ResNet(Backbone):
    """ResNet's four stages, and the stem before its max-pooling with `include_stem`.

    `output_stride` 8 or 16 replaces the strides of the last stages by dilation, as torchvision does: the first block of
    a dilated stage keeps the dilation of the stage before. `widths` are timm's `channels`, for thinner networks than
    the published ones; the expansion of a bottleneck comes on top. Encoder-sharing methods call `stem`, `pool` and the
    blocks of `stages` themselves.

    >>> backbone = ResNet("resnet18", output_stride=8, include_stem=True)
    >>> backbone.channels, backbone.strides
    ((64, 64, 128, 256, 512), (2, 4, 8, 8, 8))
    """

    def __init__(
        self,
        timm_name: str,
        *,
        output_stride: int = 32,
        include_stem: bool = False,
        widths: Sequence[int] = (64, 128, 256, 512),
        drop_path_rate: float = 0.0,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(mean, std, timm_name)
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride of a ResNet is {output_stride}; choose 8, 16 or 32.")
        self.body = build_timm(
            timm_name,
            num_classes=0,
            global_pool="",
            output_stride=output_stride,
            channels=tuple(widths),
            drop_path_rate=drop_path_rate,
        )
        first = 0 if include_stem else 1
        self.channels = tuple(info["num_chs"] for info in self.body.feature_info[first:])
        self.strides = tuple(info["reduction"] for info in self.body.feature_info[first:])
        self.include_stem = include_stem

    @property
    def stages(self) -> tuple[nn.Sequential, ...]:
        """layer1 to layer4, each a sequence of residual blocks."""
        return (self.body.layer1, self.body.layer2, self.body.layer3, self.body.layer4)

    def layers(self) -> list[nn.Module]:
        return [nn.ModuleList([self.body.conv1, self.body.bn1]), *(block for stage in self.stages for block in stage)]

    def stem(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels half_height half_width"]:
        """ReLU(BN(conv1(normalized image))), at stride 2, before the max-pooling."""
        return self.body.act1(self.body.bn1(self.body.conv1(self.normalize(image))))

    def pool(self, stem: Tensor) -> Tensor:
        """The max-pooling between the stem and layer1."""
        return self.body.maxpool(stem)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        stem = self.stem(image)
        features = [stem] if self.include_stem else []
        x = self.pool(stem)
        for stage in self.stages:
            for block in stage:
                x = self.run(block, x)
            features.append(x)
        return features


def require_resnet(architecture: str, backbone: Backbone) -> ResNet:
    """Return the backbone if it is a `ResNet`, whose stem and stages are accessible; raise `ValueError` for others."""
    if not isinstance(backbone, ResNet):
        raise ValueError(
            f"{architecture} shares inside the stages of a ResNet, backbone is a {type(backbone).__name__}; choose "
            "resnet18, resnet34, resnet50, resnet101 or resnet152."
        )
    return backbone


def stage_channels(backbone: ResNet) -> tuple[int, ...]:
    """Widths of layer1 to layer4, whether or not the stem is among the features."""
    return tuple(backbone.channels[-4:])
