"""Decoding a triplane at points: a small perceptron per task, and the routes from planes to rendered maps.

The routes compute the same numbers. `naive` reads every plane at every sample. `factored` uses that reading is linear:
W (A + B + C) = W A + W B + W C, so the first layer is applied to each plane, or to its readings: with parallel rays a
plane is read only where it differs, once for all fields. `late` besides composites the hidden layer and applies the
linear output rows once per ray. `recomputed` is `factored` (`naive` for the product of planes) in chunks of rows that
the backward pass computes again: what it keeps does not grow with the number of samples. `fused` is `late` and
recomputed, ray by ray in compiled loops (`rendering.fused`); where these cannot be used (rays that are not parallel,
values with an activation, a device without kernels) it is `recomputed`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from triptych.lookup import named_choice
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

T = TypeVar("T")

CHUNK_POINTS = 2**15
"""Points of one image that are recomputed together: 8 MiB of hidden values, about a second-level cache."""

CHANNELS_TOGETHER = 256
"""Hidden channels that compiled loops take at once: those of one ray stay in the second level of cache."""


class SamplePoints(NamedTuple):
    """Sample points of rays: points of the cube, the lengths of their intervals, their z (near to far), whether they
    lie in the cube (`None`: all), and whether rays are parallel to z. Sizes of 1 broadcast.
    """

    points: Float[Tensor, "batch height width samples 3"]
    intervals: Float[Tensor, "batch any_height any_width samples"]
    depths: Float[Tensor, "batch 1 1 samples"]
    inside: Bool[Tensor, "batch height width samples"] | None
    parallel: bool

    def rows(self, rows: slice) -> "SamplePoints":
        """The samples of some image rows."""
        intervals = self.intervals if self.intervals.shape[1] == 1 else self.intervals[:, rows]
        inside = None if self.inside is None else self.inside[:, rows]
        return self._replace(points=self.points[:, rows], intervals=intervals, inside=inside)


class Rendered(NamedTuple):
    """Rendering of each ray: task values `(B, H, W, K)`, and its opacity and expected depth (z of the cube) `(B, H,
    W)`.
    """

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
        first, second, third = (weight[:, :, None, None] for weight in self.first_layers(aggregation))
        return Triplane(
            F.conv2d(planes.xy, first, self.hidden.bias), F.conv2d(planes.xz, second), F.conv2d(planes.yz, third)
        )

    def first_layers(self, aggregation: str) -> tuple[Tensor, ...]:
        """The first layer's matrix for each plane."""
        weight = self.hidden.weight
        parts = {
            "sum": lambda: (weight,) * 3,
            "mean": lambda: (weight / 3,) * 3,
            "concat": lambda: weight.chunk(3, dim=1),
        }
        return named_choice("aggregation of a factored route", aggregation, parts)()


class Route(NamedTuple):
    """Way to render a field: the first layer on planes or their readings (`factored`), the output layer once per ray
    (`late`), the whole in chunks that the backward pass computes again, or in compiled loops.
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


def read_parallel(planes: Triplane, samples: SamplePoints, route: Route) -> PlaneFeatures | None:
    """Read the planes along parallel rays, once for all fields; `None` where each has to read them itself: rays are not
    parallel, or the route does not allow it or keeps nothing that grows with the samples.
    """
    kept = route.fused and _can_fuse_rays(samples) if route.recomputed else route.factored and samples.parallel
    return sample_planes_parallel(planes, samples.points) if kept else None


def render_field(
    field: Field,
    planes: Triplane,
    samples: SamplePoints,
    *,
    route: Route,
    aggregation: str = "sum",
    weights: Float[Tensor, "batch height width samples"] | None = None,
    readings: PlaneFeatures | None = None,
) -> Rendered:
    """Render one field. `weights` are given where its density is another's (or none); `readings` are those of
    `read_parallel`, read here if left out.
    """
    if route.fused and _can_fuse(field, samples):
        lines = _first_layers([field], planes, samples, aggregation, readings)
        return _fused([field], lines, samples, weights)[0]
    look = _look(field, planes, samples, route=route, aggregation=aggregation, readings=readings)
    parts = [
        _maybe_again(route, _march, field, look, samples.rows(rows), rows, _rows_of(weights, rows), route.late)
        for rows in _chunks(samples, route)
    ]
    return Rendered(*(torch.cat(maps, dim=1) for maps in zip(*parts, strict=True)))


def render_fields(
    fields: Mapping[str, Field],
    planes: Triplane,
    samples: SamplePoints,
    *,
    route: Route,
    aggregation: str = "sum",
    weights: Float[Tensor, "batch height width samples"] | None = None,
    readings: PlaneFeatures | None = None,
) -> dict[str, Rendered]:
    """`render_field` of each. Where compiled loops render several with the same weights, they do so together: their
    hidden layers are one, of `CHANNELS_TOGETHER` channels at most.
    """
    how = {"route": route, "aggregation": aggregation, "weights": weights}
    alike = weights is not None and route.fused and _can_fuse_rays(samples)
    names = [name for name, field in fields.items() if alike and field.activation is None]
    found = {
        name: render_field(field, planes, samples, **how, readings=readings)
        for name, field in fields.items()
        if name not in names
    }
    count = max(1, CHANNELS_TOGETHER // max((fields[name].hidden.out_features for name in names), default=1))
    for start in range(0, len(names), count):
        some = names[start : start + count]
        group = [fields[name] for name in some]
        lines = _first_layers(group, planes, samples, aggregation, readings)
        found |= zip(some, _fused(group, lines, samples, weights), strict=True)
    return {name: found[name] for name in fields}


def render_shared_weights(
    field: Field,
    planes: Triplane,
    samples: SamplePoints,
    *,
    route: Route,
    aggregation: str = "sum",
    readings: PlaneFeatures | None = None,
) -> Float[Tensor, "batch height width samples"]:
    """The rendering weights of a density that all tasks share; `readings` as of `render_field`."""
    if route.fused and _can_fuse(field, samples):
        lines = _first_layers([field], planes, samples, aggregation, readings)
        return _march_fused(field, lines, samples, weights=None, kept=True).weights
    look = _look(field, planes, samples, route=route, aggregation=aggregation, readings=readings)
    parts = [_maybe_again(route, _weigh, field, look, samples.rows(rows), rows) for rows in _chunks(samples, route)]
    return torch.cat(parts, dim=1)


def render_ends(weights: Float[Tensor, "batch height width samples"], samples: SamplePoints) -> Rendered:
    """Sum rendering weights to opacity and expected depth, without task values."""
    opacity = render_opacity(weights)
    return Rendered(weights.new_zeros((*opacity.shape, 0)), opacity, expected_depth(weights, samples.depths))


def _chunks(samples: SamplePoints, route: Route) -> Iterator[slice]:
    """All image rows, or chunks of them for a route that recomputes."""
    height, width, count = samples.points.shape[1:4]
    rows = max(1, CHUNK_POINTS // (width * count)) if route.recomputed else height
    return (slice(start, min(start + rows, height)) for start in range(0, height, rows))


def _rows_of(weights: Tensor | None, rows: slice) -> Tensor | None:
    return None if weights is None else weights[:, rows]


def _maybe_again(route: Route, run: Callable[..., T], *arguments: Any) -> T:
    """Call `run`, and again in the backward pass where the route recomputes."""
    return checkpoint(run, *arguments, use_reentrant=False) if route.recomputed else run(*arguments)


def _first_layers(
    fields: Sequence[Field],
    planes: Triplane,
    samples: SamplePoints,
    aggregation: str,
    readings: PlaneFeatures | None,
) -> PlaneFeatures:
    """First layers applied to the planes' readings along parallel rays, in three parts that add up; the channels of all
    fields are concatenated.
    """
    xy, xz, yz = sample_planes_parallel(planes, samples.points) if readings is None else readings
    layers = zip(*(field.first_layers(aggregation) for field in fields), strict=True)
    first, second, third = (torch.cat(parts) for parts in layers)
    bias = torch.cat([field.hidden.bias for field in fields])
    return PlaneFeatures(F.linear(xy, first, bias), F.linear(xz, second), F.linear(yz, third))


Look = Callable[[SamplePoints, slice], Tensor]
"""The hidden layer at every sample of some image rows."""


def _look(
    field: Field,
    planes: Triplane,
    samples: SamplePoints,
    *,
    route: Route,
    aggregation: str,
    readings: PlaneFeatures | None,
) -> Look:
    if not route.factored:
        return lambda some, _: F.softplus(
            field.hidden(aggregate_planes(sample_planes(planes, some.points), aggregation))
        )
    if route.recomputed or not samples.parallel:
        applied = field.apply_to_planes(planes, aggregation)
        read = sample_planes_parallel if samples.parallel else sample_planes
        return lambda some, _: F.softplus(aggregate_planes(read(applied, some.points)))
    xy, xz, yz = _first_layers([field], planes, samples, aggregation, readings)
    return lambda _, rows: F.softplus(xy[:, rows] + xz + yz[:, rows])


def _weights_of(field: Field, hidden: Tensor, samples: SamplePoints) -> Tensor:
    assert field.density is not None
    density = density_from_raw(_raw_density(field, hidden), exponential=field.exponential)
    if samples.inside is not None:
        density = density * samples.inside
    return render_weights(density, samples.intervals)


def _raw_density(field: Field, hidden: Tensor) -> Tensor:
    if not field.exponential:
        return field.density(hidden)[..., 0]
    # An exponential turns bfloat16's rounding error of raw into an equal relative error of the density.
    full = torch.promote_types(hidden.dtype, torch.float32)
    with torch.autocast(hidden.device.type, enabled=False):
        return F.linear(hidden.to(full), field.density.weight.to(full), field.density.bias.to(full))[..., 0]


def _weigh(field: Field, look: Look, samples: SamplePoints, rows: slice) -> Tensor:
    return _weights_of(field, look(samples, rows), samples)


def _march(
    field: Field, look: Look, samples: SamplePoints, rows: slice, weights: Tensor | None, late: bool
) -> Rendered:
    """One field along the rays. Values are linear in the hidden layer, so that they can be taken after compositing:
    sum_i w_i (V h_i + b) = V (sum_i w_i h_i) + b sum_i w_i.
    """
    hidden = look(samples, rows)
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
    return field.activation is None and _can_fuse_rays(samples)


def _can_fuse_rays(samples: SamplePoints) -> bool:
    parallel = samples.parallel and samples.inside is None and samples.intervals.shape[1:3] == (1, 1)
    learned = samples.intervals.requires_grad or samples.depths.requires_grad
    return parallel and not learned and fused_runs_on(samples.points.device)


def _fused(
    fields: Sequence[Field], lines: PlaneFeatures, samples: SamplePoints, weights: Tensor | None
) -> list[Rendered]:
    """Fields along parallel rays, in compiled loops: one, or several with the same weights."""
    mixed, opacity, moment, _ = _march_fused(fields[0], lines, samples, weights)
    depth = moment / opacity.clamp(min=SMALLEST_OPACITY)
    parts = mixed.split([field.hidden.out_features for field in fields], dim=-1)
    return [
        Rendered(_values_of(field, part, opacity), opacity, depth) for field, part in zip(fields, parts, strict=True)
    ]


def _values_of(field: Field, mixed: Tensor, opacity: Tensor) -> Tensor:
    if field.values is None:
        return opacity.new_zeros((*opacity.shape, 0))
    return _late_values(field, mixed, opacity)


def _march_fused(
    field: Field, lines: PlaneFeatures, samples: SamplePoints, weights: Tensor | None, *, kept: bool = False
) -> Marched:
    density: dict[str, Tensor | bool] = {}
    if weights is None:
        row, bias = field.density.weight[0], field.density.bias[0]
        density = {"row": row, "bias": bias, "exponential": field.exponential, "kept": kept}
    return march(lines, intervals=samples.intervals, depths=samples.depths, weights=weights, **density)
