"""Controls that receive a depth: what would geometry be worth if it were known?

They render every task but those in metres. Depth reaches the cube by a stated map, z = 2 (depth - near) / (far - near)
- 1, with `near` 0.5 and `far` 10 m unless told otherwise; what lies outside comes to the rim. It is read at the pixels
nearest to the centres of the rendering's cells. A label counts where every cell that its rendering is interpolated from
has a depth, so that nothing is learned from rays whose depth is unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from triptych.regularizers.controls import SingleSample, UniformWeights
from triptych.regularizers.fields import Rendered, SamplePoints
from triptych.regularizers.planes import ceil_divide
from triptych.regularizers.terms import image_size, keep_labels, resize_to, thin_to
from triptych.regularizers.triplane import Triplane3D
from triptych.rendering.triplane import Triplane
from triptych.tasks import Task
from triptych.types import Output, Sample

DepthMap = Float[Tensor, "batch 1 height width"]


class ToldDepth(Triplane3D):
    """What these controls share: where depth comes from, and which labels count."""

    has_density: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = True

    def __init__(
        self, channels: Sequence[int], *, tasks: Mapping[str, Task], rendered: tuple[str, ...] = (), **options: Any
    ) -> None:
        lengths = [name for name, task in tasks.items() if task.in_metres]
        others = {name: task for name, task in tasks.items() if name not in lengths}
        if not lengths or not others:
            raise ValueError(
                f"a regularizer that is told depth needs a task in metres and others to render; the tasks are "
                f"{', '.join(tasks)}. Use the regularizer 'triplane'."
            )
        self.told = lengths[0]
        super().__init__(channels, tasks=others, rendered=rendered, **options)

    def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        _, known = self.depth_in_cube(sample)
        whole = resize_to(known.double(), image_size(sample)) > 1 - 1e-9
        kept = {name: keep_labels(sample.targets[name], whole) for name in self.tasks}
        return super().forward(output, replace(sample, targets={**sample.targets, **kept}))

    def depths(self, sample: Sample) -> DepthMap:
        """The depth each image is told, in metres, NaN where it is unknown."""
        return sample.targets[self.told]

    def depth_in_cube(self, sample: Sample) -> tuple[DepthMap, Bool[Tensor, "batch 1 height width"]]:
        """z of the cube at the rendering size, and where it is known."""
        depth = thin_to(self.depths(sample), ceil_divide(image_size(sample), self.stride))
        z = 2 * (depth - self.near) / (self.far - self.near) - 1
        return z.clamp(-1, 1).nan_to_num(0.0), depth.isfinite()


class TrueDepth(ToldDepth, UniformWeights):
    """Rendering weights from the true depth: a softmax over the samples of -(z_i - z)^2 / (2 h^2), h one bin.

    What a density could give at best. Depth itself is not rendered.
    """

    def render(self, output: Output, sample: Sample) -> dict[str, Rendered]:
        samples = self.sample_points(sample)
        z, _ = self.depth_in_cube(sample)
        planes = self.encoder(output.features, image_size(sample))
        return self.render_points(planes, samples, weights=self.weigh(samples, z))

    def weigh(self, samples: SamplePoints, z: DepthMap) -> Float[Tensor, "batch height width samples"]:
        """Weights of sum 1 with their peak at z."""
        bins = (samples.depths - z[:, 0, ..., None]) / (2 / self.num_samples)
        return torch.softmax(-bins.square() / 2, dim=-1)


class OtherDepth(TrueDepth):
    """The same with the depth of another image, the one before in the batch: as sharp, and of no meaning."""

    def depths(self, sample: Sample) -> DepthMap:
        depth = super().depths(sample)
        if len(depth) == 1:
            raise ValueError(
                "regularizer triplane-other-depth reads another image's depth, and this batch has one image; use "
                "data.batch_size 2 or more (2 for each process)."
            )
        return depth.roll(1, dims=0)


class DepthInput(ToldDepth, SingleSample):
    """One sample whose perceptrons read the true depth beside the xy plane; nothing is rendered.

    What true depth says of the other tasks without any rendering: `TrueDepth` has to beat it.
    """

    told_channels: ClassVar[int] = 1

    def render(self, output: Output, sample: Sample) -> dict[str, Rendered]:
        z, _ = self.depth_in_cube(sample)
        planes = self.encoder(output.features, image_size(sample))
        told = [z.to(planes.xy.dtype), *(torch.zeros_like(plane[:, :1]) for plane in planes[1:])]
        planes = Triplane(*(torch.cat(pair, dim=1) for pair in zip(planes, told, strict=True)))
        return self.render_points(planes, self.sample_points(sample))
