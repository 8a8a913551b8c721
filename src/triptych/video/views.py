"""The frame and its neighbors as training needs them, and how well one looks like the other: photometric error,
minimum over sources, automasking, smoothness.

Equations of Godard, Mac Aodha, Firman and Brostow, "Digging into self-supervised monocular depth estimation", ICCV 2019
(monodepth2); DenseMTL (Lopes et al., WACV 2023) trains with the same numbers. Images are RGB in [0, 1].
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from triptych.augmentation.steps import image_pixels
from triptych.rendering.reprojection import invert_motion, rigid_motion, warp
from triptych.types import Sample

Images = Float[Tensor, "batch 3 height width"]
OneMap = Float[Tensor, "batch 1 height width"]
Depth = OneMap
ViewImages = Float[Tensor, "views batch 3 height width"]
Motions = Float[Tensor, "views batch 4 4"]


class Views:
    """The neighbors of a batch, with placeholders where one is missing: the frame itself, without motion.

    `images` `(views, B, 3, H, W)`; `inside` `(B, 1, H, W)` are pixels that a transform did not pad, of all views, which
    it moved alike; `present` and `usable` `(views, B)` say which of them exist, and which of these have
    intrinsics. Raises `ValueError` where the dataset gives no neighbors or no intrinsics at all.
    """

    def __init__(self, sample: Sample) -> None:
        if not sample.neighbors:
            raise ValueError(
                f"video: sample {sample.image_keys[0]!r} has no neighboring frames; ask the dataset for them, such as "
                'data.options {"neighbor_frames": (-1, 1)}.'
            )
        if sample.camera is None:
            raise ValueError(
                f"video: the intrinsics of sample {sample.image_keys[0]!r} are not known; a folder names them in the "
                "[camera] section of its dataset.toml."
            )
        self.sample, self.frame = sample, sample.image.float()
        self.inside: Bool[Tensor, "batch 1 height width"] = image_pixels(sample)
        height, width = self.frame.shape[-2:]
        guess = self.frame.new_tensor([[width, 0.0, width / 2], [0.0, width, height / 2], [0.0, 0.0, 1.0]])
        known = sample.camera.intrinsics.isfinite().all(dim=(1, 2))
        self.intrinsics = torch.where(known[:, None, None], sample.camera.intrinsics, guess).float()
        present, calibrated, images, cameras = [], [], [], []
        for view in sample.neighbors:
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
        offsets = [view.extras.get("offset", torch.ones(len(self.frame))) for view in sample.neighbors]
        self.earlier = torch.stack([offset.to(self.frame.device) < 0 for offset in offsets])

    @property
    def pairs(self) -> tuple[Images, Images]:
        """All (frame, neighbor) pairs, in the order of time: `(views * B, 3, H, W)` twice."""
        earlier = self.earlier[:, :, None, None, None]
        first = torch.where(earlier, self.images, self.frame)
        return first.flatten(0, 1), torch.where(earlier, self.frame, self.images).flatten(0, 1)

    def motions(self, axis_angle: Tensor, translation: Tensor) -> Motions:
        """Motions from the frame to each neighbor, given motions in the order of time."""
        with torch.autocast(self.frame.device.type, enabled=False):  # a product in bf16 moves points
            forward = rigid_motion(axis_angle.float(), translation.float())
            earlier = self.earlier.flatten()[:, None, None]
            return torch.where(earlier, invert_motion(forward), forward).unflatten(0, self.earlier.shape)

    def warped(self, depth: Depth, motions: Motions) -> ViewImages:
        """Every neighbor as seen from the frame."""
        return torch.stack(
            [
                warp(image, depth, self.intrinsics, camera, motion).image
                for image, camera, motion in zip(self.images, self.cameras, motions, strict=True)
            ]
        )

    def errors(self, images: ViewImages) -> Float[Tensor, "views batch 1 height width"]:
        """Photometric errors against the frame; infinite where a view is not usable."""
        errors = torch.stack([photometric_error(image, self.frame) for image in images])
        return torch.where(self.usable[:, :, None, None, None], errors, torch.inf)


Errors = Float[Tensor, "views batch 1 height width"]
PerImage = Float[Tensor, " batch"]

C1, C2 = 0.01**2, 0.03**2
"""Constants of SSIM for values in [0, 1]."""
SSIM_SHARE = 0.85


def ssim(first: Images, second: Images) -> Images:
    """Structural similarity of 3x3 neighborhoods, uniform weights, reflected at the border; 1 where they are equal.

    (2 m1 m2 + C1)(2 s12 + C2) / ((m1^2 + m2^2 + C1)(s1^2 + s2^2 + C2)) (Wang et al., IEEE TIP 2004, eq. 13).

    >>> round(ssim(torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)).mean().item(), 4)
    0.0001
    """

    def average(values: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(values, (1, 1, 1, 1), mode="reflect"), 3, stride=1)

    m1, m2 = average(first), average(second)
    # Rounding must not make a variance negative.
    s1, s2 = (average(first.square()) - m1.square()).clamp(min=0), (average(second.square()) - m2.square()).clamp(min=0)
    s12 = average(first * second) - m1 * m2
    return (2 * m1 * m2 + C1) * (2 * s12 + C2) / ((m1.square() + m2.square() + C1) * (s1 + s2 + C2))


def photometric_error(first: Images, second: Images) -> OneMap:
    """a (1 - SSIM) / 2 + (1 - a) |difference| with a = 0.85, mean over colours (eq. 2).

    >>> photometric_error(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)).max().item()
    0.0
    """
    structure = ((1 - ssim(first, second)) / 2).clamp(0, 1)
    return (SSIM_SHARE * structure + (1 - SSIM_SHARE) * (first - second).abs()).mean(dim=1, keepdim=True)


class Minimum(NamedTuple):
    """The photometric loss of every pixel, and where the unmoved neighbors explain it at least as well."""

    error: OneMap
    static: Bool[Tensor, "batch 1 height width"]


def minimum_error(reprojected: Errors, unmoved: Errors | None = None) -> Minimum:
    """min over views of the error, so that a point hidden in one view is judged by another (eq. 4).

    With the errors of the `unmoved` views the smaller one counts (automasking, eq. 5): pixels that look the same
    without any motion, because the camera stands or something moves along, teach nothing. The published code breaks
    ties by noise of 1e-5; here a tie is static, without random numbers. Views that do not count have infinite errors.

    >>> minimum = minimum_error(torch.tensor([0.3, 0.2]).view(2, 1, 1, 1, 1), torch.full((2, 1, 1, 1, 1), 0.25))
    >>> round(minimum.error.item(), 2), minimum.static.item()
    (0.2, False)
    """
    error = reprojected.amin(dim=0)
    if unmoved is None:
        return Minimum(error, torch.zeros_like(error, dtype=torch.bool))
    still = unmoved.amin(dim=0)
    return Minimum(torch.minimum(error, still), still <= error)


def mean_inside(values: OneMap, inside: Bool[Tensor, "batch 1 height width"]) -> PerImage:
    """Mean of each image over the pixels inside; 0 where there are none.

    >>> mean_inside(torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[False, True]]]])).tolist()
    [3.0]
    """
    return torch.where(inside, values, 0.0).sum(dim=(1, 2, 3)) / inside.sum(dim=(1, 2, 3)).clamp(min=1)


def edge_aware_smoothness(
    disparity: OneMap, image: Images, inside: Bool[Tensor, "batch 1 height width"] | None = None
) -> PerImage:
    """|dx d*| exp(-|dx I|) + |dy d*| exp(-|dy I|), d* = d / mean(d), averaged over each image (eq. 3), or over its
    pixels `inside`.

    >>> edge_aware_smoothness(torch.ones(1, 1, 4, 4), torch.rand(1, 3, 4, 4)).item()
    0.0
    """
    inside = torch.ones_like(disparity, dtype=torch.bool) if inside is None else inside
    normalized = disparity / (mean_inside(disparity, inside)[:, None, None, None] + 1e-7)
    total = disparity.new_zeros(len(disparity))
    for dim in (2, 3):
        edges = image.diff(dim=dim).abs().mean(dim=1, keepdim=True)
        size = inside.shape[dim] - 1
        both = inside.narrow(dim, 0, size) & inside.narrow(dim, 1, size)
        total = total + mean_inside(normalized.diff(dim=dim).abs() * (-edges).exp(), both)
    return total
