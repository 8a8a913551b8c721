"""Decoding a triplane at points: a small perceptron per task, and the routes from planes to rendered maps.

The routes compute the same numbers. `naive` reads every plane at every sample. `factored` uses that reading is linear:
W (A + B + C) = W A + W B + W C, so the first layer is applied to the planes, and with parallel rays each plane is read
only where it differs. `late` besides composites the hidden layer and applies the linear output rows once per ray.
`recomputed` is `factored` (`naive` for the product of planes) in chunks of rows that the backward pass computes again:
what it keeps does not grow with the number of samples. `fused` is `late` and recomputed, ray by ray in compiled loops
(`rendering.fused`); where these cannot be used (rays that are not parallel, values with an activation, a device without
kernels) it is `recomputed`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from triptych.rendering.fused import Marched, fused_runs_on, march
from triptych.rendering.triplane import (
    PlaneFeatures,
    Triplane,
    aggregate_planes,
    sample_planes,
    sample_planes_parallel,
)
from triptych.rendering.volume import (
    SMALLEST_OPACITY,
    composite,
    density_from_raw,
    expected_depth,
    render_opacity,
    render_weights,
)
from triptych.types import named_choice

CHUNK_POINTS = 2**15
"""Points of one image that are recomputed together: 8 MiB of hidden values, about a second-level cache."""


class SamplePoints(NamedTuple):
    """Where rays are sampled: points of the cube, the lengths they stand for, their z (near to far), whether they lie
    in the cube (`None`: all), and whether rays are parallel to z. Sizes of 1 broadcast.
    """

    points: Float[Tensor, "batch height width samples 3"]
    intervals: Float[Tensor, "batch any_height any_width samples"]
    depths: Float[Tensor, "batch 1 1 samples"]
    inside: Bool[Tensor, "batch height width samples"] | None
    parallel: bool

    def rows(self, start: int, stop: int) -> "SamplePoints":
        """The samples of some image rows."""
        intervals = self.intervals if self.intervals.shape[1] == 1 else self.intervals[:, start:stop]
        inside = None if self.inside is None else self.inside[:, start:stop]
        return self._replace(points=self.points[:, start:stop], intervals=intervals, inside=inside)


class Rendered(NamedTuple):
    """What a ray shows: task values `(B, H, W, K)`, and its opacity and expected depth (z of the cube) `(B, H, W)`."""

    values: Float[Tensor, "batch height width values"]
    opacity: Float[Tensor, "batch height width"]
    depth: Float[Tensor, "batch height width"]


STARTS: dict[str, Callable[[int], float]] = {"small": lambda hidden: 0.01, "unit": lambda hidden: hidden**-0.5}
"""Standard deviation of an output row's first weights, by the number of hidden values it reads: near zero, or such that
its output is of the size of these (EG3D's gain). Biases start at 0.
"""


class Field(nn.Module):
    """n_t: linear, softplus, linear, to `values` task values and, if asked, a density.

    `values_init` and `density_init` are names of `STARTS`. `small`: rendered logits start near uniform, and a density
    starts, and may stay, a homogeneous fog. `exponential`: see `volume.density_from_raw`. With an `activation` the
    values are that of the output layer's (probabilities): no longer linear in the hidden layer, which rules out `late`
    routes.
    """

    def __init__(
        self,
        channels: int,
        values: int,
        *,
        hidden: int = 64,
        density: bool = True,
        activation: Callable[[Tensor], Tensor] | None = None,
        values_init: str = "small",
        density_init: str = "small",
        exponential: bool = False,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.exponential = exponential
        self.hidden = nn.Linear(channels, hidden)
        self.values = nn.Linear(hidden, values) if values else None
        self.density = nn.Linear(hidden, 1) if density else None
        starts = {"values_init": (self.values, values_init), "density_init": (self.density, density_init)}
        for what, (layer, start) in starts.items():
            deviation = named_choice(what, start, STARTS)(hidden)
            if layer is not None:
                nn.init.normal_(layer.weight, std=deviation)
                nn.init.zeros_(layer.bias)

    def apply_to_planes(self, planes: Triplane, aggregation: str) -> Triplane:
        """The first layer applied to the planes: their readings then add up to its output."""
        weight = self.hidden.weight[:, :, None, None]
        parts = {
            "sum": lambda: (weight,) * 3,
            "mean": lambda: (weight / 3,) * 3,
            "concat": lambda: weight.chunk(3, dim=1),
        }
        first, second, third = named_choice("aggregation of a factored route", aggregation, parts)()
        return Triplane(
            F.conv2d(planes.xy, first, self.hidden.bias), F.conv2d(planes.xz, second), F.conv2d(planes.yz, third)
        )


class Route(NamedTuple):
    """Whether the first layer is applied to the planes, the output layer to the ray, and the whole in chunks or, where
    that is possible, in compiled loops.
    """

    factored: bool
    late: bool = False
    recomputed: bool = False
    fused: bool = False


ROUTES = {
    "naive": Route(factored=False),
    "factored": Route(factored=True),
    "late": Route(factored=True, late=True),
    "recomputed": Route(factored=True, recomputed=True),
    "fused": Route(factored=True, recomputed=True, fused=True),
}


def choose_route(name: str, aggregation: str) -> Route:
    """The route of that name; `auto` is `fused`, or `recomputed` for the product of planes.

    >>> choose_route("auto", "product")
    Route(factored=False, late=False, recomputed=True, fused=False)
    """
    if aggregation == "product":
        choices = {"auto": Route(factored=False, recomputed=True), "naive": ROUTES["naive"]}
        choices["recomputed"] = choices["auto"]
        return named_choice("route for the product of planes, which cannot be factored,", name, choices)
    return named_choice("route", name, {"auto": ROUTES["fused"], **ROUTES})


def render_field(
    field: Field,
    planes: Triplane,
    samples: SamplePoints,
    *,
    route: Route,
    aggregation: str = "sum",
    weights: Float[Tensor, "batch height width samples"] | None = None,
) -> Rendered:
    """Render one field. `weights` are given where its density is another's (or none)."""
    source = field.apply_to_planes(planes, aggregation) if route.factored else planes
    if route.fused and _can_fuse(field, samples):
        return _fused(field, source, samples, weights)
    run = partial(_march, field, late=route.late, aggregation="" if route.factored else aggregation)
    if not route.recomputed:
        return run(source, samples, weights)
    parts = [
        checkpoint(
            run,
            source,
            samples.rows(*rows),
            None if weights is None else weights[:, slice(*rows)],
            use_reentrant=False,
        )
        for rows in _chunks(samples)
    ]
    return Rendered(*(torch.cat(maps, dim=1) for maps in zip(*parts, strict=True)))


def render_shared_weights(
    field: Field, planes: Triplane, samples: SamplePoints, *, route: Route, aggregation: str = "sum"
) -> Float[Tensor, "batch height width samples"]:
    """The rendering weights of a density that all tasks share."""
    source = field.apply_to_planes(planes, aggregation) if route.factored else planes
    if route.fused and _can_fuse(field, samples):
        return _march_fused(field, source, samples, weights=None, kept=True).weights
    weigh = partial(_weigh, field, aggregation="" if route.factored else aggregation)
    if not route.recomputed:
        return weigh(source, samples)
    parts = [checkpoint(weigh, source, samples.rows(*rows), use_reentrant=False) for rows in _chunks(samples)]
    return torch.cat(parts, dim=1)


def render_ends(weights: Float[Tensor, "batch height width samples"], samples: SamplePoints) -> Rendered:
    """Where rays end: opacity and depth of rendering weights, and no values."""
    opacity = render_opacity(weights)
    return Rendered(weights.new_zeros((*opacity.shape, 0)), opacity, expected_depth(weights, samples.depths))


def _chunks(samples: SamplePoints) -> Iterator[tuple[int, int]]:
    height, width, count = samples.points.shape[1:4]
    rows = max(1, CHUNK_POINTS // (width * count))
    return ((start, min(start + rows, height)) for start in range(0, height, rows))


def _hidden(field: Field, source: Triplane, samples: SamplePoints, aggregation: str) -> Tensor:
    """The hidden layer at every sample; without an aggregation the planes went through the first layer already."""
    read = sample_planes_parallel if samples.parallel and not aggregation else sample_planes
    features: PlaneFeatures = read(source, samples.points)
    if not aggregation:
        return F.softplus(features.xy + features.xz + features.yz)
    return F.softplus(field.hidden(aggregate_planes(features, aggregation)))


def _weights_of(field: Field, hidden: Tensor, samples: SamplePoints) -> Tensor:
    assert field.density is not None
    density = density_from_raw(_raw_density(field, hidden), exponential=field.exponential)
    if samples.inside is not None:
        density = density * samples.inside
    return render_weights(density, samples.intervals)


def _raw_density(field: Field, hidden: Tensor) -> Tensor:
    if not field.exponential:
        return field.density(hidden)[..., 0]
    # An exponential turns what bfloat16 rounds off raw into as large a share of the density.
    full = torch.promote_types(hidden.dtype, torch.float32)
    with torch.autocast(hidden.device.type, enabled=False):
        return F.linear(hidden.to(full), field.density.weight.to(full), field.density.bias.to(full))[..., 0]


def _weigh(field: Field, source: Triplane, samples: SamplePoints, aggregation: str) -> Tensor:
    return _weights_of(field, _hidden(field, source, samples, aggregation), samples)


def _march(
    field: Field, source: Triplane, samples: SamplePoints, weights: Tensor | None, *, late: bool, aggregation: str
) -> Rendered:
    """One field along the rays. Values are linear in the hidden layer, so that they can be taken after compositing:
    sum_i w_i (V h_i + b) = V (sum_i w_i h_i) + b sum_i w_i.
    """
    hidden = _hidden(field, source, samples, aggregation)
    if weights is None:
        weights = _weights_of(field, hidden, samples)
    opacity = render_opacity(weights)
    if field.values is None:
        values = weights.new_zeros((*opacity.shape, 0))
    elif late:
        values = _late_values(field, composite(weights, hidden), opacity)
    else:
        values = field.values(hidden)
        values = composite(weights, values if field.activation is None else field.activation(values))
    return Rendered(values, opacity, expected_depth(weights, samples.depths))


def _late_values(field: Field, mixed: Tensor, opacity: Tensor) -> Tensor:
    return F.linear(mixed, field.values.weight) + opacity[..., None] * field.values.bias


def _can_fuse(field: Field, samples: SamplePoints) -> bool:
    parallel = samples.parallel and samples.inside is None and samples.intervals.shape[1:3] == (1, 1)
    learned = samples.intervals.requires_grad or samples.depths.requires_grad
    return parallel and not learned and field.activation is None and fused_runs_on(samples.points.device)


def _fused(field: Field, source: Triplane, samples: SamplePoints, weights: Tensor | None) -> Rendered:
    """One field along parallel rays, in compiled loops."""
    mixed, opacity, moment, _ = _march_fused(field, source, samples, weights)
    depth = moment / opacity.clamp(min=SMALLEST_OPACITY)
    if field.values is None:
        return Rendered(opacity.new_zeros((*opacity.shape, 0)), opacity, depth)
    return Rendered(_late_values(field, mixed, opacity), opacity, depth)


def _march_fused(
    field: Field, source: Triplane, samples: SamplePoints, weights: Tensor | None, *, kept: bool = False
) -> Marched:
    density: dict[str, Tensor | bool] = {}
    if weights is None:
        row, bias = field.density.weight[0], field.density.bias[0]
        density = {"row": row, "bias": bias, "exponential": field.exponential, "kept": kept}
    features = sample_planes_parallel(source, samples.points)
    return march(features, intervals=samples.intervals, depths=samples.depths, weights=weights, **density)
