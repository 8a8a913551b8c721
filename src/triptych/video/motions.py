"""How the camera moved from the frame to its neighbours: seen by a network, aligned with the depth so far, or known."""

from collections.abc import Callable

import torch
from torch import nn

from triptych.rendering.alignment import align_images
from triptych.rendering.poses import check_rigid, relative_pose
from triptych.video.pose import PoseNetwork
from triptych.video.views import Depth, Motions, Views, first_key


class MotionSource(nn.Module):
    """`forward(views, depth)`: motions `(views, B, 4, 4)` that take points of the frame to each neighbour, in the unit
    of the frame's `depth`, which has no gradient from them.
    """

    def forward(self, views: Views, depth: Depth) -> Motions:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")


class SeenMotions(MotionSource):
    """A pose network on both images, which learns from the photometric loss beside the depth (Zhou et al., CVPR 2017).

    At first it sees nothing, from random weights for hundreds of steps and more, and depth learns nothing meanwhile.
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
            )
        return motions.unflatten(0, views.earlier.shape)


class KnownMotions(MotionSource):
    """The poses of the dataset: depth is then learnt in their unit, metres.

    Raises `ValueError` where the dataset knows none, or one that is no rigid motion.
    """

    def forward(self, views: Views, depth: Depth) -> Motions:
        sample, keys = views.sample, [views.sample.key] if isinstance(views.sample.key, str) else views.sample.key
        motions = []
        for view, usable in zip(sample.neighbours, views.usable, strict=True):
            own, other = (None if camera is None else camera.pose for camera in (sample.camera, view.camera))
            if own is None or other is None:
                raise ValueError(
                    f"video: poses of sample {first_key(sample)!r} and its neighbours are not known; choose "
                    "video.options 'poses' alignment or network."
                )
            # Of missing neighbours, poses are NaN.
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
"""Where motions come from, by name; called with the pose network's backbone and weights."""
