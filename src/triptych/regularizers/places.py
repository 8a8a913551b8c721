"""Where a triplane is sampled: points along the rays of each kind of camera.

`regularizer` is a `Triplane3D`, which knows the numbers: samples, near, far, width.
"""

import torch
from torch import Tensor

from triptych.regularizers.base import Regularizer
from triptych.regularizers.fields import SamplePoints
from triptych.rendering import cameras
from triptych.rendering.volume import sample_intervals
from triptych.types import Sample


def image_size(sample: Sample) -> tuple[int, int]:
    """Height and width of a batch's images."""
    height, width = sample.image.shape[-2:]
    return height, width


def full_precision(sample: Sample) -> torch.autocast:
    """A context in which geometry is not rounded: bfloat16 has 8 bits, images have more columns."""
    return torch.autocast(sample.image.device.type, enabled=False)


def cube_points(regularizer: Regularizer, sample: Sample, size: tuple[int, int]) -> SamplePoints:
    """Rays parallel to z; camera NDC differs in the meaning of z alone."""
    distances = regularizer.distances(sample, 0.0, 2.0)
    rays = cameras.orthographic_rays(size, device=distances.device)
    points = cameras.points_on_rays(rays, regularizer.depth_order(distances))
    intervals = sample_intervals(distances, last=2 / regularizer.num_samples)[:, None, None]
    return SamplePoints(points, intervals, (distances - 1)[:, None, None], None, True)


def spaced_distances(regularizer: Regularizer, sample: Sample) -> tuple[Tensor, float]:
    """Depths in metres from `near` to `far`, evenly in depth or in its inverse, and the length of the last bin."""
    near, far, count = regularizer.near, regularizer.far, regularizer.num_samples
    if not regularizer.inverse:
        return regularizer.distances(sample, near, far), (far - near) / count
    before_last = 1 / far + (1 / near - 1 / far) / count
    return regularizer.distances(sample, 1 / near, 1 / far).reciprocal(), far - 1 / before_last


def metric_points(regularizer: Regularizer, sample: Sample, size: tuple[int, int]) -> SamplePoints:
    """Rays of each image's own camera through a box in metres, empty outside it; lengths are metres."""
    near, far = regularizer.near, regularizer.far
    distances, last = spaced_distances(regularizer, sample)
    rays = cameras.metric_rays(_intrinsics(sample), image_size(sample), size)
    metric = cameras.points_on_rays(rays, regularizer.depth_order(distances))
    points = cameras.cube_from_box(metric, half_width=regularizer.half_width, near=near, far=far)
    intervals = sample_intervals(distances, last=last)[:, None, None]
    lengths = intervals * rays.directions.norm(dim=-1)[..., None]
    depths = (2 * (distances - near) / (far - near) - 1)[:, None, None]
    return SamplePoints(points, lengths, depths, cameras.inside_cube(points), False)


def _intrinsics(sample: Sample) -> Tensor:
    if sample.camera is not None and bool(sample.camera.intrinsics.isfinite().all()):
        return sample.camera.intrinsics
    raise ValueError(
        "triplane regularizer: camera 'metric' needs sample.camera, which this dataset does not give (for every "
        "sample of the batch); use camera='orthographic' or camera='ndc', which need none."
    )
