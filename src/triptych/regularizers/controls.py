"""Controls of the 3D-aware regularizer: is it 3D, or extra supervision of any kind?

Each is the regularizer with one thing taken away, or a 2D branch with as many parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from triptych.regularizers.base import Regularizer
from triptych.regularizers.fields import Field
from triptych.regularizers.planes import DepthCode, Flat, Trunk
from triptych.regularizers.terms import Alpha, choose_tasks, resize_to
from triptych.regularizers.triplane import Triplane3D
from triptych.tasks import Task
from triptych.types import Output, Sample


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
    """What 2D controls share: raw maps at `stride`, the task losses at the labels' size, and a width that gives as
    many parameters as `Triplane3D` with `reference` options (its defaults otherwise).
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

    def build(self, build_trunk: Callable[[int], Trunk], width: int) -> nn.Module:
        raise NotImplementedError(f"{type(self).__name__} does not define build")

    def predict(self, output: Output, size: tuple[int, int]) -> dict[str, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} does not define predict")

    def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        height, width = sample.image.shape[-2:]
        raw = self.predict(output, (height, width))
        losses = {}
        for name, task in self.tasks.items():
            target = sample.targets[name]
            losses[name] = task.loss(resize_to(raw[name], target.shape[-2:]), target)
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
