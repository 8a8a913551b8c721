"""Depth from video without labels (Godard et al., ICCV 2019), as DenseMTL trains it (Lopes et al., WACV 2023).

A depth is right if the neighbouring frames, moved by it and by the motion that a pose network sees, look like the
frame. Depth and motion share one unknown scale.

Departures. Depth is what the task decodes, in whatever units the network predicts, and smoothness is taken of 1 / depth
(published: of the sigmoid itself). Intermediate maps come at the image's size, resized as the model does; their
smoothness is taken at half, a quarter and an eighth of it, as published. What lies outside `near .. far` is pulled back
by the task's own loss: a sigmoid between bounds cannot leave them, other representations can, where they have no
gradient. Ties of automasking are static (`photometric.minimum_error`).
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from triptych.rendering.reprojection import invert_motion, rigid_motion, warp
from triptych.tasks import Task
from triptych.types import Output, Sample
from triptych.video.base import VideoSupervision, VideoTerms
from triptych.video.photometric import edge_aware_smoothness, minimum_error, photometric_error
from triptych.video.pose import PoseNetwork

Images = Float[Tensor, "batch 3 height width"]
Depth = Float[Tensor, "batch 1 height width"]
ViewImages = Float[Tensor, "views batch 3 height width"]


class Monodepth2(VideoSupervision):
    """Mean over the last `scales` predictions of (photometric loss + `smoothness` / 2^scale * smoothness loss).

    `near` and `far` bound depth, in units that only labels could make metres. `pose_backbone` is the pose network's
    trunk, `pose_weights` its weights as in `create_backbone`. `automask=False` counts every pixel.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        *,
        intermediate_tasks: Mapping[str, Task],
        task: str = "depth",
        near: float = 0.1,
        far: float = 100.0,
        scales: int = 4,
        smoothness: float = 1e-3,
        automask: bool = True,
        pose_backbone: str = "resnet18",
        pose_weights: str = "",
    ) -> None:
        super().__init__(tasks, intermediate_tasks=intermediate_tasks, task=task)
        if not 0 < near < far:
            raise ValueError(f"video: near is {near} and far {far}; give 0 < near < far.")
        if self.final.unit != "m":
            raise ValueError(f"video: task '{task}' is not decoded to metres; self-supervision from video is of depth.")
        _check_trainable(self.final, near)
        self.near, self.far, self.scales = near, far, scales
        self.smoothness, self.automask = smoothness, automask
        self.pose = PoseNetwork(pose_backbone, weights=pose_weights)

    def forward(self, output: Output, sample: Sample) -> VideoTerms:
        views, frame = _Views(sample), sample.image.float()
        axis_angle, translation = self.pose(*views.pairs)
        with torch.autocast(frame.device.type, enabled=False):
            motions = views.motions(axis_angle, translation)
            unmoved = views.errors(views.images) if self.automask else None
            usable = views.usable.any(dim=0)
            share = usable / usable.sum().clamp(min=1)
            losses, static = [], torch.zeros_like(share)
            for scale, (task, raw) in enumerate(self.maps(output)[: self.scales]):
                metres = task.decode(raw)
                depth = metres.clamp(self.near, self.far)
                minimum = minimum_error(views.errors(views.warped(depth, motions)), unmoved)
                error = torch.where(usable[:, None, None, None], minimum.error, 0.0).mean(dim=(1, 2, 3))
                smooth = edge_aware_smoothness(*(_shrink(x, 2**scale) for x in (1 / depth, frame)))
                losses.append(error + self.smoothness / 2**scale * smooth + _keep_inside(task, raw, metres, depth))
                if scale == 0:
                    static = minimum.static.float().mean(dim=(1, 2, 3))
            seen = views.present.any(dim=0)
            return VideoTerms(
                (torch.stack(losses).mean(dim=0) * share).sum(),
                usable.sum().float(),
                (static * share).sum(),
                torch.stack([(~seen).sum(), (seen & ~usable).sum()]).float(),
            )


def _check_trainable(task: Task, near: float) -> None:
    """Raise `ValueError` where a raw value below the range would stay there: neither loss nor decoding moves it."""
    raw = torch.full((1, task.channels, 1, 1), -1.0, requires_grad=True)
    moved = task.decode(raw) + task.loss(raw, torch.full((1, 1, 1, 1), near))
    if not torch.autograd.grad(moved.sum(), raw)[0].any():
        raise ValueError(
            "video: the loss that the depth task is built with has no gradient at negative values, where a new network "
            "may begin; choose another in data.task_options, such as 'disparity' or 'log-l1'."
        )


def _shrink(values: Tensor, factor: int) -> Tensor:
    return F.avg_pool2d(values, factor, ceil_mode=True) if factor > 1 else values


def _keep_inside(task: Task, raw: Tensor, metres: Depth, bounded: Depth) -> Float[Tensor, ""]:
    """The task's own loss between predictions outside the bounds and the nearest bound.

    The share of such pixels weighs it, so that a few of them do not outweigh the picture.
    """
    outside = metres.detach() != bounded.detach()
    target = torch.where(outside, bounded.detach(), torch.nan)
    return task.loss(raw, target) * outside.float().mean()


class _Views:
    """The neighbours of a batch, with stand-ins where one is missing: the frame itself, which moves nowhere.

    `images` `(views, B, 3, H, W)`; `present` and `usable` `(views, B)` say which of them exist, and which of these have
    intrinsics.
    """

    def __init__(self, sample: Sample) -> None:
        if not sample.neighbours:
            raise ValueError(
                f"video: sample {_first(sample.key)!r} has no neighbouring frames; ask the dataset for them, such as "
                'data.options {"neighbour_frames": (-1, 1)}.'
            )
        if sample.camera is None:
            raise ValueError(
                f"video: the intrinsics of sample {_first(sample.key)!r} are not known; a folder names them in the "
                "[camera] section of its dataset.toml."
            )
        self.frame = sample.image.float()
        height, width = self.frame.shape[-2:]
        guess = self.frame.new_tensor([[width, 0.0, width / 2], [0.0, width, height / 2], [0.0, 0.0, 1.0]])
        known = sample.camera.intrinsics.isfinite().all(dim=(1, 2))
        self.intrinsics = torch.where(known[:, None, None], sample.camera.intrinsics, guess).float()
        present, calibrated, images, cameras = [], [], [], []
        for view in sample.neighbours:
            there = view.image.isfinite().all(dim=(1, 2, 3))
            matrix = sample.camera.intrinsics if view.camera is None else view.camera.intrinsics
            sound = matrix.isfinite().all(dim=(1, 2))
            present.append(there)
            calibrated.append(known & sound)
            images.append(torch.where(there[:, None, None, None], view.image, sample.image).float())
            cameras.append(torch.where(sound[:, None, None], matrix, guess).float())
        self.present: Bool[Tensor, "views batch"] = torch.stack(present)
        self.usable: Bool[Tensor, "views batch"] = self.present & torch.stack(calibrated)
        self.images, self.cameras = torch.stack(images), torch.stack(cameras)
        offsets = [view.extras.get("offset", torch.ones(len(self.frame))) for view in sample.neighbours]
        self.earlier = torch.stack([offset.to(self.frame.device) < 0 for offset in offsets])

    @property
    def pairs(self) -> tuple[Images, Images]:
        """All (frame, neighbour) pairs, in the order of time: `(views * B, 3, H, W)` twice."""
        earlier = self.earlier[:, :, None, None, None]
        first = torch.where(earlier, self.images, self.frame)
        return first.flatten(0, 1), torch.where(earlier, self.frame, self.images).flatten(0, 1)

    def motions(self, axis_angle: Tensor, translation: Tensor) -> Float[Tensor, "views batch 4 4"]:
        """From the frame to each neighbour, of motions that run with time."""
        forward = rigid_motion(axis_angle.float(), translation.float())
        earlier = self.earlier.flatten()[:, None, None]
        return torch.where(earlier, invert_motion(forward), forward).unflatten(0, self.earlier.shape)

    def warped(
        self, depth: Depth, motions: Float[Tensor, "views batch 4 4"]
    ) -> Float[Tensor, "views batch 3 height width"]:
        """Every neighbour as seen from the frame."""
        return torch.stack(
            [
                warp(image, depth, self.intrinsics, camera, motion).image
                for image, camera, motion in zip(self.images, self.cameras, motions, strict=True)
            ]
        )

    def errors(
        self, images: Float[Tensor, "views batch 3 height width"]
    ) -> Float[Tensor, "views batch 1 height width"]:
        """Photometric errors against the frame; infinite where a view is not usable."""
        errors = torch.stack([photometric_error(image, self.frame) for image in images])
        return torch.where(self.usable[:, :, None, None, None], errors, torch.inf)


def _first(key: str | tuple[str, ...]) -> str:
    return key if isinstance(key, str) else key[0]
