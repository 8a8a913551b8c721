"""HRNet (Wang et al., TPAMI 2020) with its four raw branches, and bilinear fusion as dense prediction uses it."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from triptych.backbones.timm_models import build_timm


class HRNet(Backbone):
    """The four branches of HRNet at strides 4, 8, 16, 32, without the classification head's extra layers.

    Coarse branches are brought to finer ones by bilinear interpolation to the explicit size (timm repeats pixels by an
    integer factor, which needs sizes divisible by 32). `double_resize` interpolates by the factor first and to the size
    afterwards, as ATRC's code does: the same for sizes divisible by 32, another result at odd sizes.
    `momentum` is that of batch norm: 0.1, or 0.01 in the multi-task survey.

    >>> HRNet("hrnet_w18_small_v2").channels
    (18, 36, 72, 144)
    """

    def __init__(
        self,
        timm_name: str,
        *,
        double_resize: bool = False,
        momentum: float = 0.1,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(mean, std, timm_name)
        self.body = build_timm(timm_name, features_only=True, feature_location="", out_indices=(1, 2, 3, 4))
        self.channels = tuple(self.body.feature_info.channels())
        self.strides = tuple(self.body.feature_info.reduction())
        self.double_resize = double_resize
        for module in self.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        body = self.body
        x = body.act1(body.bn1(body.conv1(self._lay_out(self.normalize(image)))))
        x = body.act2(body.bn2(body.conv2(x)))
        for block in body.layer1:
            x = self.run(block, x)
        branches = [x]
        stages = ((body.transition1, body.stage2), (body.transition2, body.stage3), (body.transition3, body.stage4))
        for transition, stage in stages:
            # Widths change where they differ, and one coarser branch comes from the last one.
            branches = [layer(branches[min(i, len(branches) - 1)]) for i, layer in enumerate(transition)]
            for module in stage:
                branches = self.run(self.exchange, module, *branches)
        return branches

    @staticmethod
    def _lay_out(image: Tensor) -> Tensor:
        """On a CPU channels last, which every map then is: many narrow convolutions are faster so."""
        if image.device.type != "cpu" or torch.compiler.is_compiling():
            return image
        return image.contiguous(memory_format=torch.channels_last)

    def exchange(self, module: nn.Module, *branches: Tensor) -> list[Tensor]:
        """One HRNet module: residual blocks in every branch, then every branch sums contributions of all."""
        inner = [blocks(x) for blocks, x in zip(module.branches, branches, strict=True)]
        fused = []
        for i, paths in enumerate(module.fuse_layers):
            parts = [
                self.bring(path, x, inner[i].shape[-2:], j - i)
                for j, (path, x) in enumerate(zip(paths, inner, strict=True))
            ]
            fused.append(F.relu(sum(parts[1:], parts[0])))
        return fused

    def bring(self, path: nn.Module, x: Tensor, size: Sequence[int], levels: int) -> Tensor:
        """A branch `levels` coarser (negative: finer) brought to width and size of another."""
        if levels <= 0:
            return path(x)
        x = path[1](path[0](x))  # the convolution and its norm; path[2] is timm's pixel repetition
        if self.double_resize:
            x = F.interpolate(x, scale_factor=float(2**levels), mode="bilinear", align_corners=False)
        return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
