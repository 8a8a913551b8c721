"""Controls of the 3D-aware regularizer: is it 3D, or extra supervision of any kind?

Each is the regularizer with one thing taken away, or a 2D branch with as many parameters, or it receives a depth: what
would geometry be worth if it were known? The last render every task but those in metres. Depth reaches the cube by a
stated map, z = 2 (depth - near) / (far - near) - 1, with `near` 0.5 and `far` 10 m by default; values outside are
clamped. It is read at the pixels nearest to the centres of the rendering's cells. A label counts where every cell that
its rendering is interpolated from has a depth, so that nothing is learned from rays whose depth is unknown.

`SecondHeads` is a second copy of the network's own heads. Li et al. (ICLR 2024, table of ablations) compare their
branch with auxiliary heads of the same architecture as the heads and another initialization; on InvPT these lose 1.11
points of segmentation. `AuxiliaryHeads` are convolutional heads with as many parameters as the branch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from triptych.decoders.base import Decoder
from triptych.decoders.layers import resize
from triptych.regularizers.base import Regularizer
from triptych.regularizers.fields import Field, Rendered, SamplePoints
from triptych.regularizers.planes import DepthCode, Flat, Trunk, ceil_divide
from triptych.regularizers.terms import Alpha, choose_tasks, enlarge, image_size, thin_to
from triptych.regularizers.triplane import Triplane3D
from triptych.rendering.triplane import Triplane
from triptych.tasks import Task
from triptych.types import Output, Sample, keep_labels


class DepthCoded(Triplane3D):
    """The xy plane and a learned code of depth: no plane along the ray depends on the image."""

    plane_kinds: ClassVar[dict[str, type[nn.Module]]] = {"depth-code": DepthCode}

    def __init__(self, channels: Sequence[int], *, aggregation: str = "sum", **options: Any) -> None:
        if aggregation == "product":
            raise ValueError("triplane-xy has no yz plane: aggregation 'product' would be 0; use 'sum' or 'mean'.")
        super().__init__(channels, aggregation=aggregation, **options)


class UniformWeights(Triplane3D):
    """Every sample counts the same: no density, no occlusion."""

    has_density: ClassVar[bool] = False


class SingleSample(UniformWeights):
    """Pure 2D: the xy plane, read once per pixel, without a density."""

    plane_kinds: ClassVar[dict[str, type[nn.Module]]] = {"flat": Flat}

    def __init__(self, channels: Sequence[int], *, num_samples: int = 1, aggregation: str = "sum", **options: Any):
        if num_samples != 1 or aggregation == "product":
            raise ValueError(
                f"triplane-single-sample reads one plane once: num_samples {num_samples} must be 1 and "
                f"aggregation '{aggregation}' not 'product'; use triplane-uniform for more samples."
            )
        super().__init__(channels, num_samples=1, aggregation=aggregation, **options)


class ShuffledDepth(Triplane3D):
    """Planes are read at the ray's depths in random order, drawn anew per image and step: depth means nothing."""

    def depth_order(self, distances: Tensor) -> Tensor:
        return distances.gather(1, self.draw(*distances.shape, distances.device).argsort(dim=1))


class Flat2D(Regularizer):
    """Base of 2D controls: raw maps at `stride`, the task losses at the labels' size, and a width that gives as many
    parameters as `Triplane3D` with `reference` options (its defaults otherwise).
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        weight: float = 1.0,
        rendered: tuple[str, ...] = (),
        lift: str = "auto",
        stride: int = 8,
        task_weights: tuple[float, ...] = (),
        schedule: str = "auto",
        schedule_steps: int = 0,
        warmup_steps: int = 0,
        **reference: Any,
    ) -> None:
        super().__init__()
        self.tasks = choose_tasks(rendered, tasks)
        self.alpha = Alpha(
            list(self.tasks),
            weight=weight,
            task_weights=task_weights,
            schedule=schedule,
            schedule_steps=schedule_steps,
            warmup_steps=warmup_steps,
        )
        place = {"strides": strides, "lift": lift, "stride": stride}

        def build_trunk(width: int) -> Trunk:
            return Trunk(channels, width=width, **place)

        with torch.device("meta"):
            target = count(Triplane3D(channels, tasks=self.tasks, **place, **reference))
        width = match_width(lambda width: self.build(build_trunk, width), target)
        self.branch = self.build(build_trunk, width)

    @classmethod
    def further_options(cls, options: Mapping[str, Any]) -> type[Regularizer]:
        """Class that takes the options that this class lacks."""
        return Triplane3D

    def build(self, build_trunk: Callable[[int], Trunk], width: int) -> nn.Module:
        raise NotImplementedError(f"{type(self).__name__} does not define build")

    def predict(self, output: Output, size: tuple[int, int]) -> dict[str, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} does not define predict")

    def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        height, width = sample.image.shape[-2:]
        raw = self.predict(output, (height, width))
        losses = {
            name: task.loss(enlarge(raw[name], sample.targets[name].shape[-2:]), sample.targets[name])
            for name, task in self.tasks.items()
        }
        return self.alpha(losses, self.step)


class AuxiliaryHeads(Flat2D):
    """A second head per task on the shared features, of as many parameters together as the regularizer."""

    def build(self, build_trunk: Callable[[int], Trunk], width: int) -> nn.Module:
        return nn.ModuleDict(
            {
                name: nn.ModuleList([build_trunk(width), nn.Conv2d(width, task.channels, 1)])
                for name, task in self.tasks.items()
            }
        )

    def predict(self, output: Output, size: tuple[int, int]) -> dict[str, Tensor]:
        return {name: last(trunk(output.features, size)) for name, (trunk, last) in self.branch.items()}


class Decoder2D(Flat2D):
    """One 2D trunk for all tasks and a perceptron per task, of as many parameters as the regularizer. `values_init` as
    of `Triplane3D`.
    """

    def __init__(self, channels: Sequence[int], *, values_init: str = "small", **options: Any) -> None:
        self.values_init = values_init
        super().__init__(channels, **options)

    def build(self, build_trunk: Callable[[int], Trunk], width: int) -> nn.Module:
        fields = {
            name: Field(width, task.channels, density=False, values_init=self.values_init)
            for name, task in self.tasks.items()
        }
        return nn.ModuleDict({"trunk": build_trunk(width), "fields": nn.ModuleDict(fields)})

    def predict(self, output: Output, size: tuple[int, int]) -> dict[str, Tensor]:
        maps = self.branch["trunk"](output.features, size).permute(0, 2, 3, 1)
        fields = self.branch["fields"].items()
        hidden = {name: nn.functional.softplus(field.hidden(maps)) for name, field in fields}
        return {name: field.values(hidden[name]).permute(0, 3, 1, 2) for name, field in fields}


def count(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def match_width(build: Callable[[int], nn.Module], target: int) -> int:
    """The width whose module has the number of parameters nearest `target`."""

    def size(width: int) -> int:
        with torch.device("meta"):
            return count(build(width))

    low, high = 1, 2
    while size(high) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < target else (low, middle)
    return min((low, high), key=lambda width: abs(size(width) - target))


DepthMap = Float[Tensor, "batch 1 height width"]


class ToldDepth(Triplane3D):
    """Base of controls that receive depth: the source of depth, and which labels count."""

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
        self.needed_task = lengths[0]
        super().__init__(channels, tasks=others, rendered=rendered, **options)

    def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        _, known = self.depth_in_cube(sample)
        whole = resize(known.double(), image_size(sample)) > 1 - 1e-9
        kept = {name: keep_labels(sample.targets[name], whole) for name in self.tasks}
        return super().forward(output, replace(sample, targets={**sample.targets, **kept}))

    def depths(self, sample: Sample) -> DepthMap:
        """Depth given to the renderer of each image, in metres, NaN where it is unknown."""
        return sample.targets[self.needed_task]

    def depth_in_cube(self, sample: Sample) -> tuple[DepthMap, Bool[Tensor, "batch 1 height width"]]:
        """z of the cube at the rendering size, and where it is known."""
        depth = thin_to(self.depths(sample), ceil_divide(image_size(sample), self.stride))
        z = 2 * (depth - self.near) / (self.far - self.near) - 1
        return z.clamp(-1, 1).nan_to_num(0.0), depth.isfinite()


class TrueDepth(ToldDepth, UniformWeights):
    """Rendering weights from the true depth: a softmax over the samples of -(z_i - z)^2 / (2 h^2), h one bin.

    The best that a density could give. Depth itself is not rendered.
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

    Measures the use of true depth for the other tasks without rendering: `TrueDepth` has to beat it.
    """

    told_channels: ClassVar[int] = 1

    def render(self, output: Output, sample: Sample) -> dict[str, Rendered]:
        z, _ = self.depth_in_cube(sample)
        planes = self.encoder(output.features, image_size(sample))
        told = [z.to(planes.xy.dtype), *(torch.zeros_like(plane[:, :1]) for plane in planes[1:])]
        planes = Triplane(*(torch.cat(pair, dim=1) for pair in zip(planes, told, strict=True)))
        return self.render_points(planes, self.sample_points(sample))


class SecondHeads(Regularizer):
    """A second decoder like the model's, from other random weights; it is thrown away after training.

    It is trained as the first one is: the loss of a task is that of its final prediction, plus `auxiliary_factor` times
    those of its intermediate ones, plus what the decoder adds for pairs of places. No public text states which layers
    are heads; here they are everything after the shared features. Not carried over: a decoder's `penalties`. `decoder`
    works on features of an image whose sides were padded to multiples of `multiple`.
    """

    copies_decoder: ClassVar[bool] = True

    def __init__(
        self,
        channels: Sequence[int],
        decoder: Decoder,
        multiple: int = 1,
        auxiliary_factor: float = 1.0,
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        weight: float = 1.0,
        rendered: tuple[str, ...] = (),
        task_weights: tuple[float, ...] = (),
        schedule: str = "auto",
        schedule_steps: int = 0,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__()
        if decoder.channels != tuple(channels) or decoder.strides != tuple(strides):
            raise ValueError(
                f"second-heads: the decoder reads maps of {decoder.channels} channels at strides {decoder.strides}, "
                f"the shared features have {tuple(channels)} at {tuple(strides)}; give one built for these."
            )
        self.decoder, self.multiple, self.auxiliary_factor = decoder, multiple, auxiliary_factor
        self.tasks = choose_tasks(rendered, {**tasks, **decoder.auxiliary_tasks})
        self.alpha = Alpha(
            list(self.tasks),
            weight=weight,
            task_weights=task_weights,
            schedule=schedule,
            schedule_steps=schedule_steps,
            warmup_steps=warmup_steps,
        )

    def decode(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        """The decoder's maps, its dropout drawn from the regularizer's own generator: the network's stays as it is."""
        device = features[0].device
        seed = int(self.draw(1, 1) * 2**31)
        with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
            torch.manual_seed(seed)
            return self.decoder(features)

    def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        size = (sample.image.shape[-2], sample.image.shape[-1])
        *intermediate, final = [
            {name: self.decoder.resize(raw, size, self.multiple) for name, raw in stage.items()}
            for stage in self.decode(output.features)
        ]
        tasks, between = self.decoder.tasks, self.decoder.intermediate_tasks
        terms = [(n, tasks[n].loss(raw, sample.targets[n])) for n, raw in final.items() if n in self.tasks]
        for stage in intermediate:
            terms += [
                (n, self.auxiliary_factor * between[n].loss(raw, sample.targets[n]))
                for n, raw in stage.items()
                if n in self.tasks
            ]
        second = Output(final, intermediate, output.features)
        terms.extend(self.decoder.affinity_losses(second, sample.targets).items())
        return self.alpha(
            {name: torch.stack([loss for key, loss in terms if key == name]).sum() for name in self.tasks}, self.step
        )
