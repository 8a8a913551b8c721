"""The 3D-aware regularizer: lift the shared features to a triplane, render every task from it, apply the task losses.

"Multi-task Learning with 3D-Aware Regularization" (Li, McDonagh, Leonardis, Bilen, ICLR 2024): beside the heads, each
task t is rendered as r(n_t(e(f(I)))) and adds alpha_t L_t(rendered, target). No code was released; where the paper is
silent the defaults below say why. It never enters the model.
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from triptych.lookup import named_choice
from triptych.regularizers.base import Regularizer
from triptych.regularizers.fields import (
    Field,
    Rendered,
    SamplePoints,
    choose_route,
    read_parallel,
    render_ends,
    render_fields,
    render_shared_weights,
)
from triptych.regularizers.planes import PlaneEncoder, Trunk, ceil_divide
from triptych.regularizers.terms import Alpha, choose_tasks, enlarge, full_precision, image_size, require, thin_to
from triptych.rendering import cameras
from triptych.rendering.triplane import AGGREGATIONS, Triplane
from triptych.rendering.volume import sample_distances, sample_intervals
from triptych.tasks import Task
from triptych.types import Output, Sample

SURFACE_ACTIVATION = "exp"
"""The activation of preset `surface`."""

PRESETS: dict[str, Mapping[str, str]] = {
    "published": {
        "planes": "split",
        "density": "task",
        "depth_from": "value",
        "density_init": "small",
        "density_activation": "softplus",
        "values_init": "small",
    },
    "surface": {
        "planes": "pooled",
        "density": "shared",
        "depth_from": "termination",
        "density_init": "unit",
        "density_activation": SURFACE_ACTIVATION,
        "values_init": "unit",
    },
}
"""Values of options that are not given, by preset.

`published` is the original: the paper as far as it is known, except that rows start near zero, which neither it nor
EG3D has; the papers' recipes start them at unit scale. `surface` has one density for all tasks: depth is where it ends
the rays, so that labels of depth place the surface, and every other task is read there. Planes along depth are aligned
with the image, and rows start at unit scale, as EG3D's: from near zero normals, which are brought to unit length, have
exploding gradients. Either start is a homogeneous fog, and does not decide alone what becomes of it.
"""


SMALLEST_OPACITY = 1e-3
SMALLEST = 1e-6
"""The least probability that becomes a logit."""
_PROBABILITIES = (partial(torch.softmax, dim=-1), torch.sigmoid)
_LOGITS = (torch.log, torch.logit)
"""For several classes, and for one logit."""


class Triplane3D(Regularizer):
    """The triplane regularizer (arXiv 2310.00986). Options, with the default first:

    - `preset`: `published`, `surface` (one density that depth supervises; see `presets`). It sets `planes`, `density`,
      `depth_from`, `density_init`, `density_activation` and `values_init` where these are not given; their values are
      in `chosen`. Where no task is learned in metres `surface` renders values only, with a warning.
    - `rendered`: names of the tasks to render; empty: all.
    - `lift`: `auto` (transformers: the last map; pyramids: all), `all`, `last`, `nearest`.
    - `stride`: 8, that of planes and rendering (the paper renders 56x72 of 448x576). Sides it does not divide are
      rounded up.
    - `planes`: `split` (EG3D's one convolution, likely the paper's), `pooled` (aligned, `bins` cells of depth).
    - `width` 256, `plane_channels` 32, `hidden` 64, `bins` 64: EG3D's perceptron, a small encoder.
    - `aggregation`: `sum` (the paper as recalled; can be factored), `mean`, `product`, `concat`.
    - `camera`: `orthographic` (the paper's "orthogonal to the image centre"), `ndc` (the same rays, see
      `rendering.cameras`), `metric` (needs `sample.camera`; a box from `near` to `far` metres, `half_width` wide,
      sampled with `spacing` `linear` or `inverse`, evenly in 1 / depth).
    - `num_samples`: 64; `stratified`: true, one jitter vector per image while training.
    - `density`: `task` (each n_t its own), `shared`. `density_init`: `small` (its row starts at a deviation of 0.01),
      `unit` (1 / sqrt(hidden), EG3D's gain). `density_activation`: `softplus` (of raw - 1, EG3D), `exp` (of
      min(raw - 1, 15)). `values_init`: `small`, `unit`, the same for the values' rows; small
      ones make the gradient of normals explode, which are brought to unit length.
    - `normalized`: tasks divided by their opacity; empty: those without classes (depth, normals), which would
      else be biased towards 0. `depth_from`: `value`, or `termination`: tasks in metres are an affine function of the
      expected depth, where their loss is on metres and not on another form such as the logarithm.
    - `composited`: `logits` of tasks with classes, or their `probabilities` (what a ray lets through counts as evenly
      distributed).
    - `resolution`: `full` (the rendering is resized to the labels, which stay exact), `rendered` (labels are thinned).
    - `task_weights`: factors in the order of the rendered tasks. `schedule`: `auto` is `linear` where `schedule_steps`
      is known (that of a run is its number of steps) and else `constant`, as is likely of the paper; `linear` and
      `cosine` fall to 0 over `schedule_steps`. A sweep of three seeds told none apart; falling to 0 had the highest
      mean (docs/study-3d-tables.md). `warmup_steps` of linear rise come first.
    - `route`: `auto`, or one of `fields.ROUTES`: equal numbers, different time and memory.

    `forward(output, sample)` returns one weighted scalar per rendered task, exactly 0 where no label is valid.
    """

    plane_kinds: ClassVar[dict[str, type[nn.Module]]] = PlaneEncoder.KINDS
    has_density: ClassVar[bool] = True
    told_channels: ClassVar[int] = 0
    """Channels that perceptrons read beside those of the planes."""

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
        preset: str = "published",
        planes: str = "",
        width: int = 256,
        plane_channels: int = 32,
        hidden: int = 64,
        bins: int = 64,
        aggregation: str = "sum",
        camera: str = "orthographic",
        near: float = 0.5,
        far: float = 10.0,
        half_width: float = 5.0,
        spacing: str = "linear",
        num_samples: int = 64,
        stratified: bool = True,
        density: str = "",
        density_init: str = "",
        density_activation: str = "",
        values_init: str = "",
        normalized: tuple[str, ...] = (),
        depth_from: str = "",
        composited: str = "logits",
        resolution: str = "full",
        task_weights: tuple[float, ...] = (),
        schedule: str = "auto",
        schedule_steps: int = 0,
        warmup_steps: int = 0,
        route: str = "auto",
    ) -> None:
        super().__init__()
        self.tasks = choose_tasks(rendered, tasks)
        named_choice("aggregation", aggregation, AGGREGATIONS)
        self.aggregation, self.route = aggregation, choose_route(route, aggregation)
        self.stride, self.num_samples, self.stratified = stride, num_samples, stratified
        require(stride >= 1 and num_samples >= 1, f"stride {stride} and num_samples {num_samples} must be at least 1.")
        require(0 < near < far, f"near {near} and far {far} must satisfy 0 < near < far (metres).")
        self.near, self.far, self.half_width = near, far, half_width
        self.needs_camera = named_choice("camera", camera, {"orthographic": False, "ndc": False, "metric": True})
        self.inverse = named_choice("spacing", spacing, {"linear": False, "inverse": True})
        self.shrink = named_choice("resolution", resolution, {"full": False, "rendered": True})
        self.alpha = Alpha(
            list(self.tasks),
            weight=weight,
            task_weights=task_weights,
            schedule=schedule,
            schedule_steps=schedule_steps,
            warmup_steps=warmup_steps,
        )
        for name in normalized:
            named_choice("task in normalized", name, self.tasks)
        self.normalized = normalized or tuple(name for name, task in self.tasks.items() if not task.is_categorical)
        lengths = [name for name, task in self.tasks.items() if task.in_metres and task.raw_is_physical]
        given = {
            "planes": planes,
            "density": density,
            "depth_from": depth_from,
            "density_init": density_init,
            "density_activation": density_activation,
            "values_init": values_init,
        }
        lacking = "" if lengths else self._lacking_metres()
        self.chosen = self.choose(preset, given, lacking)
        terminating = named_choice("depth_from", self.chosen["depth_from"], {"value": False, "termination": True})
        require(
            not terminating or (bool(lengths) and self.has_density),
            f"depth_from 'termination' needs a task in metres and a density ({lacking or 'this kind has none'}); use "
            "depth_from='value'.",
        )
        trunk = Trunk(channels, strides=strides, lift=lift, stride=stride, width=width)
        kind = named_choice("planes", self.chosen["planes"], self.plane_kinds)
        self.encoder = PlaneEncoder(trunk, kind(width, plane_channels, bins=bins))
        shared = named_choice("density", self.chosen["density"], {"task": False, "shared": True})
        inputs = (plane_channels + self.told_channels) * (3 if aggregation == "concat" else 1)
        own = self.has_density and not shared
        activations = {"softplus": False, "exp": True}
        build = partial(
            Field,
            inputs,
            hidden=hidden,
            values_init=self.chosen["values_init"],
            density_init=self.chosen["density_init"],
            exponential=named_choice("density_activation", self.chosen["density_activation"], activations),
        )
        ends = lengths if terminating else []
        probable = named_choice("composited", composited, {"logits": False, "probabilities": True})
        self.probabilities = tuple(name for name, task in self.tasks.items() if probable and task.is_categorical)
        require(
            not (probable and self.route.late),
            f"route '{route}' composites before the output layer, which needs composited='logits'; use route='auto'.",
        )
        self.fields = nn.ModuleDict(
            {
                name: build(
                    0 if name in ends else task.channels,
                    density=own,
                    activation=_PROBABILITIES[task.channels == 1] if name in self.probabilities else None,
                )
                for name, task in self.tasks.items()
                if own or name not in ends
            }
        )
        self.density = build(0) if self.has_density and shared else None
        # Metres from the cube's z: a first guess of 0 to 4 m.
        self.ends = nn.ParameterDict({name: nn.Parameter(torch.tensor([2.0, 2.0])) for name in ends})

    def _lacking_metres(self) -> str:
        """Reason why no label supervises where rays end."""
        for name, task in self.tasks.items():
            if task.in_metres:
                return f"the loss of task '{name}' has the network predict another quantity (losses on metres: 'l1')"
        return f"no rendered task is in metres ({', '.join(self.tasks)})"

    def choose(self, preset: str, given: Mapping[str, str], lacking: str) -> dict[str, str]:
        """Values of the options that a preset sets: those given, or else the preset's, where this class supports them.

        `lacking`: reason why no label supervises where rays end; empty where one does.
        """
        chosen = dict(named_choice("preset", preset, PRESETS))
        if chosen["planes"] not in self.plane_kinds:
            chosen["planes"] = next(iter(self.plane_kinds))
        if chosen["depth_from"] == "termination" and (lacking or not self.has_density):
            chosen["depth_from"] = "value"
            if self.has_density and not given["depth_from"]:
                warnings.warn(
                    f"triplane regularizer: preset '{preset}' reads depth where rays end, but {lacking}; values "
                    "alone are rendered, with one density.",
                    stacklevel=3,
                )
        return chosen | {name: value for name, value in given.items() if value}

    def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        rendered = self.render(output, sample)
        return self.alpha(
            {name: self.supervise(name, self.raw(name, rendered[name]), sample) for name in self.tasks},
            self.step,
        )

    def render(self, output: Output, sample: Sample) -> dict[str, Rendered]:
        """Render every task's field, at the rendering size."""
        return self.render_points(self.encoder(output.features, image_size(sample)), self.sample_points(sample))

    def render_points(
        self, planes: Triplane, samples: SamplePoints, names: Sequence[str] = (), weights: Tensor | None = None
    ) -> dict[str, Rendered]:
        """Render along any rays; `names` are the tasks, all of them if left out, `weights` those of rendering where
        they do not come from a density.
        """
        options = {
            "route": self.route,
            "aggregation": self.aggregation,
            "readings": read_parallel(planes, samples, self.route),
        }
        if self.density is not None:
            weights = render_shared_weights(self.density, planes, samples, **options)
        elif not self.has_density and weights is None:
            weights = samples.points.new_full(samples.points.shape[:-1], 1 / self.num_samples)  # equal ones
        shown = {name: field for name, field in self.fields.items() if not names or name in names}
        rendered = render_fields(shown, planes, samples, weights=weights, **options)
        ends = [name for name in self.ends if not names or name in names]
        if ends and weights is not None:
            rendered |= dict.fromkeys(ends, render_ends(weights, samples))
        return rendered

    def raw(self, name: str, rendered: Rendered) -> Tensor:
        """A task's raw map `(B, channels, H, W)` from what was rendered."""
        if name in self.ends:
            factor, offset = self.ends[name]
            return (factor * rendered.depth + offset)[:, None]
        values = rendered.values
        if name in self.probabilities:
            rest = (1 - rendered.opacity)[..., None] / max(values.shape[-1], 2)
            values = _LOGITS[values.shape[-1] == 1]((values + rest).clamp(SMALLEST, 1 - SMALLEST))
        elif name in self.normalized:
            values = values / rendered.opacity.clamp(min=SMALLEST_OPACITY)[..., None]
        # Contiguous while small: at the labels' size, losses would copy it.
        return values.permute(0, 3, 1, 2).contiguous()

    def to_metres(self, depth: Tensor) -> Tensor | None:
        """Expected depths as metres, `None` where the cube has no size in metres."""
        if self.needs_camera:
            return self.near + (depth + 1) / 2 * (self.far - self.near)
        for factor, offset in self.ends.values():
            return factor * depth + offset
        return None

    def supervise(self, name: str, raw: Tensor, sample: Sample) -> Tensor:
        """The task's own loss on its rendering."""
        task, target = self.tasks[name], sample.targets[name]
        if self.shrink:
            return task.loss(raw, thin_to(target, raw.shape[-2:]))
        return task.loss(enlarge(raw, target.shape[-2:]), target)

    def sample_points(self, sample: Sample) -> SamplePoints:
        """Points along the rays of a batch."""
        place = self.metric_points if self.needs_camera else self.cube_points
        with full_precision(sample):
            return place(sample, ceil_divide(image_size(sample), self.stride))

    def cube_points(self, sample: Sample, size: tuple[int, int]) -> SamplePoints:
        """Rays parallel to z; camera NDC differs in the meaning of z alone."""
        distances = self.distances(sample, 0.0, 2.0)
        rays = cameras.orthographic_rays(size, device=distances.device)
        points = cameras.points_on_rays(rays, self.depth_order(distances))
        intervals = sample_intervals(distances, last=2 / self.num_samples)[:, None, None]
        return SamplePoints(points, intervals, (distances - 1)[:, None, None], None, True)

    def metric_points(self, sample: Sample, size: tuple[int, int]) -> SamplePoints:
        """Rays of each image's own camera through a box in metres, empty outside it; lengths are metres."""
        if sample.camera is None or not bool(sample.camera.intrinsics.isfinite().all()):
            raise ValueError(
                "triplane regularizer: camera 'metric' needs sample.camera, which this dataset does not give (for "
                "every sample of the batch); use camera='orthographic' or camera='ndc', which need none."
            )
        distances, last = self.spaced_distances(sample)
        rays = cameras.metric_rays(sample.camera.intrinsics, image_size(sample), size)
        metric = cameras.points_on_rays(rays, self.depth_order(distances))
        points = cameras.cube_from_box(metric, half_width=self.half_width, near=self.near, far=self.far)
        intervals = sample_intervals(distances, last=last)[:, None, None]
        lengths = intervals * rays.directions.norm(dim=-1)[..., None]
        depths = (2 * (distances - self.near) / (self.far - self.near) - 1)[:, None, None]
        return SamplePoints(points, lengths, depths, cameras.inside_cube(points), False)

    def spaced_distances(self, sample: Sample) -> tuple[Tensor, float]:
        """Depths in metres from `near` to `far`, evenly in depth or in its inverse, and the length of the last bin."""
        near, far, count = self.near, self.far, self.num_samples
        if not self.inverse:
            return self.distances(sample, near, far), (far - near) / count
        before_last = 1 / far + (1 / near - 1 / far) / count
        return self.distances(sample, 1 / near, 1 / far).reciprocal(), far - 1 / before_last

    def distances(self, sample: Sample, near: float, far: float) -> Tensor:
        """Distances along the rays, one vector per image."""
        images, device = len(sample.image), sample.image.device
        centers = sample_distances(self.num_samples, near=near, far=far, batch=images, device=device)
        if not (self.stratified and self.training):
            return centers
        # Jitter within each bin, from the regularizer's own random numbers.
        return centers + (self.draw(images, self.num_samples, device) - 0.5) * ((far - near) / self.num_samples)

    def depth_order(self, distances: Tensor) -> Tensor:
        """The distances at which planes are read; a control shuffles them."""
        return distances
