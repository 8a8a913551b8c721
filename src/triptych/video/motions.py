"""Camera motion from the frame to its neighbors: by a pose network, by image alignment with the present depth, or
known.

The network is a ResNet on the pair, a few convolutions, six numbers (Godard et al., ICCV 2019); widths and order as
DenseMTL has them (Lopes et al., WACV 2023): with ResNet-18 12,500,492 parameters, of them 1,314,572 after the trunk.
Twelve numbers come out and six are used, as in the published networks, so that their weights fit.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from triptych.backbones import create_backbone
from triptych.rendering.alignment import align_images
from triptych.rendering.poses import check_rigid, relative_pose
from triptych.video.views import Depth, Motions, Views

Images = Float[Tensor, "batch 3 height width"]
SCALE = 0.01
"""Factor of the output: motions begin near 0."""
MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)


class PoseNetwork(nn.Module):
    """Motion from the first camera to the second of two images, `(axis_angle, translation)`, `(B, 3)` each.

    `backbone` is a ResNet by name. Its first convolution sees both images; of pretrained `weights` it is repeated and
    halved.

    >>> network = PoseNetwork("resnet18_half").eval()
    >>> axis_angle, translation = network(torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64))
    >>> axis_angle.shape, translation.shape
    (torch.Size([2, 3]), torch.Size([2, 3]))
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str = "resnet18", *, weights: str = "", width: int = 256) -> None:
        super().__init__()
        trunk = create_backbone(backbone, weights=weights)
        if not all(hasattr(trunk.body, name) for name in ("conv1", "maxpool", "layer4")):
            raise ValueError(f"the pose network's backbone is '{backbone}', which is no ResNet; choose resnet18.")
        # Only the layers: as a Backbone it would be given the network's learning rate, and images of three channels.
        self.body: nn.Module = trunk.body
        # conv1 itself, or the first of the three that deep stems have (resnet18d).
        name, first = next((name, each) for name, each in self.body.named_modules() if isinstance(each, nn.Conv2d))
        self.body.set_submodule(name, _pair_convolution(first))
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        self.head = nn.Sequential(
            nn.Conv2d(trunk.channels[-1], width, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 12, 1),
        )

    def forward(self, first: Images, second: Images) -> tuple[Float[Tensor, "batch 3"], Float[Tensor, "batch 3"]]:
        x = torch.cat([(image - self.mean) / self.std for image in (first, second)], dim=1)
        body = self.body
        x = body.maxpool(body.act1(body.bn1(body.conv1(x))))
        for stage in (body.layer1, body.layer2, body.layer3, body.layer4):
            x = stage(x)
        numbers = SCALE * self.head(x).float().mean(dim=(2, 3))
        return numbers[:, :3], numbers[:, 3:6]


def _pair_convolution(conv: nn.Conv2d) -> nn.Conv2d:
    """The convolution for two images: for two equal ones its output is that of `conv` for one."""
    pair = nn.Conv2d(
        2 * conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        bias=conv.bias is not None,
    )
    with torch.no_grad():
        pair.weight.copy_(torch.cat([conv.weight, conv.weight], dim=1) / 2)
        if conv.bias is not None and pair.bias is not None:
            pair.bias.copy_(conv.bias)
    return pair


class MotionSource(nn.Module):
    """`forward(views, depth)`: motions `(views, B, 4, 4)` that take points of the frame to each neighbor, in the unit
    of the frame's `depth`, which has no gradient from them.
    """

    def forward(self, views: Views, depth: Depth) -> Motions:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")


class SeenMotions(MotionSource):
    """A pose network on both images, which learns from the photometric loss beside the depth (Zhou et al., CVPR 2017).

    From random weights it finds no motion for hundreds of steps and more, and depth learns nothing meanwhile.
    """

    def __init__(self, backbone: str, weights: str) -> None:
        super().__init__()
        self.network = PoseNetwork(backbone, weights=weights)

    def forward(self, views: Views, depth: Depth) -> Motions:
        return views.motions(*self.network(*views.pairs))


class AlignedMotions(MotionSource):
    """Direct image alignment with the depth as it is predicted so far, anew in every step; nothing is learnt.

    Of Wang et al. (CVPR 2018), without the gradient through the alignment: where it is the best motion for the depth,
    the motion's part of the loss's gradient is nearly zero.
    """

    def forward(self, views: Views, depth: Depth) -> Motions:
        count, (frame, depth, intrinsics) = len(views.images), (views.frame, depth.detach(), views.intrinsics)
        with torch.autocast(frame.device.type, enabled=False):
            motions = align_images(
                frame.repeat(count, 1, 1, 1),
                views.images.flatten(0, 1),
                depth.repeat(count, 1, 1, 1),
                intrinsics.repeat(count, 1, 1),
                views.cameras.flatten(0, 1),
                inside=views.inside.repeat(count, 1, 1, 1),
            )
        return motions.unflatten(0, views.earlier.shape)


class KnownMotions(MotionSource):
    """The poses of the dataset: depth is then learnt in their unit, metres.

    Raises `ValueError` where the dataset has none, or one that is no rigid motion.
    """

    def forward(self, views: Views, depth: Depth) -> Motions:
        sample, keys = views.sample, views.sample.image_keys
        motions = []
        for view, usable in zip(sample.neighbors, views.usable, strict=True):
            own, other = (None if camera is None else camera.pose for camera in (sample.camera, view.camera))
            if own is None or other is None:
                raise ValueError(
                    f"video: poses of sample {keys[0]!r} and its neighbors are not known; choose "
                    "video.options 'poses' alignment or network."
                )
            # Of missing neighbors, poses are NaN.
            still = torch.eye(4, device=own.device, dtype=own.dtype)
            own, other = (torch.where(usable[:, None, None], pose, still) for pose in (own, other))
            check_rigid(own, keys)
            check_rigid(other, keys)
            motions.append(relative_pose(other, own).float())
        return torch.stack(motions)


MOTIONS: dict[str, Callable[[str, str], MotionSource]] = {
    "alignment": lambda backbone, weights: AlignedMotions(),
    "known": lambda backbone, weights: KnownMotions(),
    "network": SeenMotions,
}
"""Sources of motions, by name; called with the pose network's backbone and weights."""
