"""The frame and its neighbours as training needs them: whole batches, and which images of them count."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from triptych.rendering.reprojection import invert_motion, rigid_motion, warp
from triptych.types import Sample
from triptych.video.photometric import photometric_error

Images = Float[Tensor, "batch 3 height width"]
Depth = Float[Tensor, "batch 1 height width"]
ViewImages = Float[Tensor, "views batch 3 height width"]
Motions = Float[Tensor, "views batch 4 4"]


class Views:
    """The neighbours of a batch, with stand-ins where one is missing: the frame itself, which moves nowhere.

    `images` `(views, B, 3, H, W)`; `present` and `usable` `(views, B)` say which of them exist, and which of these have
    intrinsics. Raises `ValueError` where the dataset gives no neighbours or no intrinsics at all.
    """

    def __init__(self, sample: Sample) -> None:
        if not sample.neighbours:
            raise ValueError(
                f"video: sample {first_key(sample)!r} has no neighbouring frames; ask the dataset for them, such as "
                'data.options {"neighbour_frames": (-1, 1)}.'
            )
        if sample.camera is None:
            raise ValueError(
                f"video: the intrinsics of sample {first_key(sample)!r} are not known; a folder names them in the "
                "[camera] section of its dataset.toml."
            )
        self.sample, self.frame = sample, sample.image.float()
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

    def motions(self, axis_angle: Tensor, translation: Tensor) -> Motions:
        """From the frame to each neighbour, of motions that run with time."""
        forward = rigid_motion(axis_angle.float(), translation.float())
        earlier = self.earlier.flatten()[:, None, None]
        return torch.where(earlier, invert_motion(forward), forward).unflatten(0, self.earlier.shape)

    def warped(self, depth: Depth, motions: Motions) -> ViewImages:
        """Every neighbour as seen from the frame."""
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


def first_key(sample: Sample) -> str:
    """The name of a batch's first image."""
    return sample.key if isinstance(sample.key, str) else sample.key[0]
