"""Depth from video without labels (Godard et al., ICCV 2019), as DenseMTL trains it (Lopes et al., WACV 2023).

A depth is right if the neighboring frames, moved by it and by the camera's motion, look like the frame. The motion is
seen by a pose network, as published, found by aligning the images, or known (`motions`); without labels and poses depth
and motion share one unknown scale.

Departures. Depth is what the task decodes, in whatever units the network predicts, and smoothness is taken of 1 / depth
(published: of the sigmoid itself). Intermediate maps come at the image's size, resized as the model does; their
smoothness is taken at half, a quarter and an eighth of it, as published. Depth outside `near .. far` is pulled back by
the task's own loss: a sigmoid between bounds cannot leave them, other representations can, where they have no gradient.
Ties of automasking are static (`views.minimum_error`).
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from triptych.lookup import named_choice
from triptych.tasks import Task
from triptych.types import Output, Sample
from triptych.video.base import VideoSupervision, VideoTerms
from triptych.video.motions import MOTIONS
from triptych.video.views import Depth, Views, edge_aware_smoothness, mean_inside, minimum_error


class Monodepth2(VideoSupervision):
    """Mean over the last `scales` predictions of (photometric loss + `smoothness` / 2^scale * smoothness loss).

    `near` and `far` bound depth, in units that only labels could make metres. `poses` says where the camera's
    motion comes from: `network`, whose trunk is `pose_backbone` with `pose_weights` as in `create_backbone`,
    `alignment`, or `known`, the dataset's poses, which make depth metric. `automask=False` counts every pixel.
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
        poses: str = "network",
        pose_backbone: str = "resnet18",
        pose_weights: str = "",
    ) -> None:
        super().__init__(tasks, intermediate_tasks=intermediate_tasks, task=task)
        if not 0 < near < far:
            raise ValueError(f"video: near is {near} and far {far}; give 0 < near < far.")
        if not self.final.in_metres:
            raise ValueError(f"video: task '{task}' is not decoded to metres; self-supervision from video is of depth.")
        _check_trainable(self.final, near)
        self.near, self.far, self.scales = near, far, scales
        self.smoothness, self.automask = smoothness, automask
        self.pose = named_choice("poses of video", poses, MOTIONS)(pose_backbone, pose_weights)

    def forward(self, output: Output, sample: Sample) -> VideoTerms:
        views, frame = Views(sample), sample.image.float()
        maps = self.maps(output)[: self.scales]
        motions = self.pose(views, self._bounded(*maps[0]))
        with torch.autocast(frame.device.type, enabled=False):
            unmoved = views.errors(views.images) if self.automask else None
            usable = views.usable.any(dim=0)
            share = usable / usable.sum().clamp(min=1)
            losses, static = [], torch.zeros_like(share)
            for scale, (task, raw) in enumerate(maps):
                depth = self._bounded(task, raw)
                minimum = minimum_error(views.errors(views.warped(depth, motions)), unmoved)
                error = mean_inside(torch.where(usable[:, None, None, None], minimum.error, 0.0), views.inside)
                whole = _shrink(views.inside.float(), 2**scale) == 1
                smooth = edge_aware_smoothness(*(_shrink(x, 2**scale) for x in (1 / depth, frame)), whole)
                losses.append(error + self.smoothness / 2**scale * smooth + keep_inside(task, raw, depth, views.inside))
                if scale == 0:
                    static = mean_inside(minimum.static.float(), views.inside)
            seen = views.present.any(dim=0)
            return VideoTerms(
                (torch.stack(losses).mean(dim=0) * share).sum(),
                usable.sum().float(),
                (static * share).sum(),
                torch.stack([(~seen).sum(), (seen & ~usable).sum()]).float(),
            )

    def _bounded(self, task: Task, raw: Tensor) -> Depth:
        return task.decode(raw).clamp(self.near, self.far)


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


def keep_inside(
    task: Task, raw: Tensor, bounded: Depth, shown: Bool[Tensor, "batch 1 height width"]
) -> Float[Tensor, ""]:
    """The task's own loss between predictions outside the bounds and the nearest bound, where an image is `shown`.

    The share of such pixels weighs it, so that a few of them do not outweigh the picture; a loss that is a mean over
    all pixels has that share in it.
    """
    outside = (task.decode(raw.detach()) != bounded.detach()) & shown
    target = torch.where(outside, bounded.detach(), torch.nan)
    return task.loss(raw, target) * (outside.sum() / shown.sum().clamp(min=1) if task.averages_labels else 1.0)
