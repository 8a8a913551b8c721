"""Inspection of a triplane: its renderings, opacity and expected depth, and views from other cameras."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from triptych.regularizers.fields import SamplePoints
from triptych.regularizers.terms import image_size
from triptych.regularizers.triplane import Triplane3D
from triptych.rendering.cameras import inside_cube
from triptych.types import Output, Sample

SHIFTS = {"camera to the left": -0.6, "camera to the right": 0.6}
"""Shifts of cameras to the side, by title: how far the near face of the cube moves against the far one, in half
widths.
"""


class FieldInspection(NamedTuple):
    """Renderings of one batch, at the rendering size: raw maps by task; opacity and expected depth of the density of
    `geometry` (a task), in metres where `metric`, else z of the cube; raw maps by task from shifted cameras.
    """

    maps: dict[str, Tensor]
    geometry: str
    opacity: Float[Tensor, "batch height width"]
    depth: Float[Tensor, "batch height width"]
    metric: bool
    views: dict[str, dict[str, Tensor]]


@torch.no_grad()
def inspect(
    regularizer: Triplane3D, output: Output, sample: Sample, shifts: Mapping[str, float] | None = None
) -> FieldInspection:
    """Render a batch from its own camera and from others. The regularizer should be in evaluation mode.

    The density is that of the first task in metres, or else of the first task. Raises `ValueError` for controls that
    render with the help of labels.
    """
    if regularizer.reads_labels:
        raise ValueError(
            f"{type(regularizer).__name__} renders with the true depth of its training images and has no density: "
            "there is nothing to show; look into a run of the regularizer 'triplane'."
        )
    planes = regularizer.encoder(output.features, image_size(sample))
    samples = regularizer.sample_points(sample)
    rendered = regularizer.render_points(planes, samples)
    lengths = [name for name, task in regularizer.tasks.items() if task.in_metres]
    geometry = next(iter(lengths or regularizer.tasks))
    shown = rendered[geometry]
    metres = regularizer.to_metres(shown.depth)

    def from_aside(shift: float) -> dict[str, Tensor]:
        aside = regularizer.render_points(planes, shift_camera(samples, shift))
        return {name: regularizer.raw(name, values) for name, values in aside.items()}

    return FieldInspection(
        maps={name: regularizer.raw(name, values) for name, values in rendered.items()},
        geometry=geometry,
        opacity=shown.opacity,
        depth=shown.depth if metres is None else metres,
        metric=metres is not None,
        views={title: from_aside(shift) for title, shift in (SHIFTS if shifts is None else shifts).items()},
    )


def shift_camera(samples: SamplePoints, shift: float, anchor: float = 0.0) -> SamplePoints:
    """The samples of a camera shifted to the right by `shift`: x' = x - shift (z - anchor) / 2 in the cube.

    Things at depth `anchor` stay where they are in the image, nearer ones move to the left. In a pinhole camera's
    frustum that is even in inverse depth, a camera that steps aside by b metres without turning has
    shift = 2 f b (1/near - 1/far) / width; in a box b = shift z_anchor half_width / (far - near); parallel rays slant.
    """
    z = samples.points[..., 2]
    aside = samples.points[..., 0] - shift * (z - anchor) / 2
    points = torch.stack([aside, samples.points[..., 1], z], dim=-1)
    inside = inside_cube(points)
    return samples._replace(
        points=points, inside=inside if samples.inside is None else inside & samples.inside, parallel=False
    )
