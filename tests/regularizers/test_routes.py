"""Every route equals the naive one, and the naive one equals loops."""

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from regularizers.branch import batch, build, tasks_of
from torch.nn import functional as F

from triptych.regularizers import fields
from triptych.regularizers.fields import (
    Field,
    Rendered,
    SamplePoints,
    choose_route,
    read_parallel,
    render_ends,
    render_field,
    render_shared_weights,
)
from triptych.rendering.cameras import metric_rays, orthographic_rays, points_on_rays
from triptych.rendering.fused import march
from triptych.rendering.triplane import Triplane, aggregate_planes, sample_planes
from triptych.rendering.volume import sample_intervals


def scene(
    camera: str, dtype: torch.dtype, aggregation: str, *, exponential: bool = False
) -> tuple[Field, Triplane, SamplePoints]:
    torch.manual_seed(3)
    channels = 4
    field = Field(channels * (3 if aggregation == "concat" else 1), 3, hidden=6, exponential=exponential).to(dtype)
    for layer in (field.values, field.density):
        torch.nn.init.normal_(layer.weight)
    sizes = ((5, 7), (6, 7), (6, 5))
    planes = Triplane(*(torch.randn(2, channels, *size, dtype=dtype, requires_grad=True) for size in sizes))
    distances = torch.rand(2, 9, dtype=dtype).sort(dim=1).values * 2
    rays = orthographic_rays((5, 7), dtype=dtype)
    if camera == "metric":
        intrinsics = torch.tensor([[5.0, 0, 3], [0, 6, 2], [0, 0, 1]], dtype=dtype).repeat(2, 1, 1)
        rays = metric_rays(intrinsics, (5, 7), (5, 7))
    points = points_on_rays(rays, distances)
    intervals = sample_intervals(distances, last=0.2)[:, None, None]
    inside = (points.abs() <= 1).all(dim=-1) if camera == "metric" else None
    return field, planes, SamplePoints(points, intervals, distances[:, None, None], inside, camera != "metric")


def outputs_and_gradients(
    route: str, camera: str, dtype: torch.dtype, aggregation: str, *, exponential: bool = False, half: bool = False
) -> tuple[Rendered, list[torch.Tensor]]:
    field, planes, samples = scene(camera, dtype, aggregation, exponential=exponential)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        rendered = render_field(field, planes, samples, route=choose_route(route, aggregation), aggregation=aggregation)
    weights = torch.linspace(-1, 1, rendered.values.numel(), dtype=dtype).view_as(rendered.values)
    loss = (rendered.values * weights).sum() + rendered.opacity.square().sum() + rendered.depth.sum()
    return rendered, list(torch.autograd.grad(loss, [*field.parameters(), *planes]))


ROUTES = ("auto", "factored", "late", "recomputed", "fused")
NO_FACTORS = ("auto", "recomputed")
"""Those that take a product of planes, which cannot be factored."""


@pytest.mark.parametrize("exponential", [False, True], ids=["softplus", "exp"])
@pytest.mark.parametrize("camera", ["orthographic", "metric"])
@pytest.mark.parametrize(
    ("route", "aggregation"),
    [*product(ROUTES, ("sum", "mean", "concat")), *product(NO_FACTORS, ("product",))],
)
def test_routes_equal_naive(
    route: str, camera: str, aggregation: str, exponential: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fields, "CHUNK_POINTS", 2 * 7 * 9)  # chunks of two rows, and one of one
    case = (camera, torch.float32, aggregation)
    expected, gradients = outputs_and_gradients("naive", *case, exponential=exponential)
    found, ours = outputs_and_gradients(route, *case, exponential=exponential)
    for one, other in zip([*found, *ours], [*expected, *gradients], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    case = (camera, torch.float64, aggregation)
    expected, gradients = outputs_and_gradients("naive", *case, exponential=exponential)
    found, ours = outputs_and_gradients(route, *case, exponential=exponential)
    for one, other in zip([*found, *ours], [*expected, *gradients], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert all(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("camera", ["orthographic", "metric"])
@pytest.mark.parametrize("route", ["auto", *fields.ROUTES])
def test_a_shared_density_weighs_alike_on_every_route(route: str, camera: str) -> None:
    """Weights, where they end rays, another field rendered with them, and all gradients; planes read once for both."""
    found = []
    for name in ("naive", route):
        field, planes, samples = scene(camera, torch.float64, "sum", exponential=True)
        other = Field(4, 2, hidden=5, density=False, values_init="unit").double()
        how = {"route": choose_route(name, "sum")}
        how["readings"] = read_parallel(planes, samples, how["route"])
        weights = render_shared_weights(field, planes, samples, **how)
        ends = render_ends(weights, samples)
        rendered = render_field(other, planes, samples, weights=weights, **how)
        total = weights.square().sum() + ends.depth.sin().sum() + rendered.values.square().sum()
        parameters = [*field.hidden.parameters(), *field.density.parameters(), *other.parameters()]
        found.append([weights, *ends, *rendered, *torch.autograd.grad(total, [*parameters, *planes])])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert found[0][0].max() > 0.05


@pytest.mark.parametrize(("together", "marches"), [(256, 2), (12, 3), (1, 4)])
def test_fields_with_the_same_weights_are_rendered_together(
    together: int, marches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of different sizes, one with probabilities, one without values; at most so many hidden channels at a time."""
    calls = []
    monkeypatch.setattr(fields, "march", lambda *args, **options: calls.append(1) or march(*args, **options))
    monkeypatch.setattr(fields, "CHANNELS_TOGETHER", together)
    density, planes, samples = scene("orthographic", torch.float64, "sum")
    several = {
        "a": Field(4, 3, hidden=5, density=False, values_init="unit"),
        "probable": Field(4, 2, hidden=5, density=False, activation=torch.sigmoid),
        "b": Field(4, 2, hidden=6, density=False, values_init="unit"),
        "empty": Field(4, 0, hidden=6, density=False),
    }
    several = {name: field.double() for name, field in several.items()}
    route, found = choose_route("auto", "sum"), []
    weights = render_shared_weights(density, planes, samples, route=route)
    assert len(calls) == 1
    for render in (
        lambda how: fields.render_fields(several, planes, samples, **how),
        lambda how: {name: render_field(field, planes, samples, **how) for name, field in several.items()},
    ):
        shown = render({"route": route, "weights": weights})
        assert list(shown) == list(several)
        total = torch.stack([maps.sin().sum() for one in shown.values() for maps in one]).sum()
        inputs = [*density.hidden.parameters(), *planes, *(p for field in several.values() for p in field.parameters())]
        gradients = torch.autograd.grad(total, inputs, retain_graph=True, allow_unused=True, materialize_grads=True)
        found.append([maps for one in shown.values() for maps in one] + list(gradients))
        if len(found) == 1:
            assert len(calls) == marches
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("exponential", [False, True], ids=["softplus", "exp"])
@pytest.mark.parametrize("camera", ["orthographic", "metric"])
@pytest.mark.parametrize("route", fields.ROUTES)
def test_bf16_planes_and_perceptrons_with_float32_transmittance(route: str, camera: str, exponential: bool) -> None:
    """bf16 keeps 8 bits. Bounds: opacity 4e-3, expected depth 1e-2, values and gradients 2 % of their size."""
    case = (camera, torch.float32, "sum")
    expected, gradients = outputs_and_gradients("naive", *case, exponential=exponential)
    found, ours = outputs_and_gradients(route, *case, exponential=exponential, half=True)
    assert found.opacity.dtype == found.depth.dtype == torch.float32
    torch.testing.assert_close(found.opacity, expected.opacity, rtol=0, atol=4e-3)
    torch.testing.assert_close(found.depth, expected.depth, rtol=0, atol=1e-2)
    error = (found.values - expected.values).abs().max()
    assert 0 < error <= 0.02 * expected.values.abs().max()
    # All together: alone, a gradient whose parts cancel would be compared with next to nothing.
    one, other = (torch.cat([gradient.flatten() for gradient in some]) for some in (ours, gradients))
    assert one.dtype == torch.float32
    assert (one - other).norm() <= 0.02 * other.norm()


@pytest.mark.parametrize(
    ("route", "camera", "activation", "fused"),
    [
        ("auto", "orthographic", None, True),
        ("fused", "orthographic", None, True),
        ("auto", "metric", None, False),  # rays that spread out
        ("auto", "orthographic", torch.sigmoid, False),  # not linear in the hidden layer
        ("recomputed", "orthographic", None, False),
    ],
)
def test_parallel_rays_are_rendered_fused(
    route: str,
    camera: str,
    activation: Callable[[torch.Tensor], torch.Tensor] | None,
    fused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    monkeypatch.setattr(fields, "march", lambda *args, **options: calls.append(1) or march(*args, **options))
    field, planes, samples = scene(camera, torch.float32, "sum")
    field.activation = activation
    found = render_field(field, planes, samples, route=choose_route(route, "sum"))
    expected = render_field(field, planes, samples, route=choose_route("naive", "sum"))
    torch.testing.assert_close(found.values, expected.values, rtol=1e-5, atol=1e-5)
    assert bool(calls) == fused


def test_distances_that_are_learned_get_their_gradient() -> None:
    gradients = []
    for route in ("naive", "auto"):
        field, planes, samples = scene("orthographic", torch.float64, "sum")
        samples = samples._replace(depths=samples.depths.requires_grad_(), intervals=samples.intervals.requires_grad_())
        rendered = render_field(field, planes, samples, route=choose_route(route, "sum"))
        total = rendered.values.sum() + rendered.depth.sum()
        gradients.append(torch.autograd.grad(total, [samples.depths, samples.intervals]))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("camera", ["orthographic", "metric"])
def test_naive_equals_a_loop_over_one_ray(camera: str) -> None:
    field, planes, samples = scene(camera, torch.float64, "sum")
    rendered = render_field(field, planes, samples, route=choose_route("naive", "sum"))
    row, column = 3, 2
    light, values, inside = 1.0, torch.zeros(3, dtype=torch.float64), 0
    for i in range(9):
        point = samples.points[1, row, column, i]
        feature = aggregate_planes(sample_planes(planes, point.expand(2, 1, 3)))[1, 0]
        hidden = F.softplus(field.hidden(feature))
        density = math.log1p(math.exp(field.density(hidden).item() - 1))
        known = samples.inside is None or bool(samples.inside[1, row, column, i])
        inside += known
        absorbed = 1 - math.exp(-density * known * samples.intervals[1, 0, 0, i].item())
        values = values + light * absorbed * field.values(hidden)
        light *= 1 - absorbed
    assert inside > 0
    torch.testing.assert_close(rendered.values[1, row, column], values)
    assert rendered.opacity[1, row, column].item() == pytest.approx(1 - light)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"density": "shared"},
        {"density": "shared", "depth_from": "termination"},
        {"density_init": "unit", "density_activation": "exp", "values_init": "unit"},
        {"density": "shared", "depth_from": "termination", "density_init": "unit", "density_activation": "exp"},
        {"preset": "surface"},
    ],
    ids=str,
)
def test_whole_regularizers_agree_on_every_route(options: dict[str, str]) -> None:
    tasks = tasks_of("semseg", "depth")
    terms = {}
    for route in ("naive", "factored", "late", "recomputed", "fused"):
        torch.manual_seed(5)
        regularizer = build("triplane", tasks, route=route, num_samples=6, **options)
        output, sample = batch(tasks)
        losses = regularizer(output, sample)
        sum(losses.values()).backward()
        terms[route] = [*losses.values(), *(feature.grad for feature in output.features)]
    for found in terms.values():
        for one, other in zip(found, terms["naive"], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_what_recomputation_keeps_does_not_grow_with_samples() -> None:
    def kept(route: str, num_samples: int) -> int:
        tasks = tasks_of("semseg")
        regularizer = build("triplane", tasks, route=route, num_samples=num_samples, hidden=32)
        output, sample = batch(tasks)
        saved: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            losses = regularizer(output, sample)
        assert losses["semseg"].requires_grad
        return sum(saved.values())

    # What checkpoints hold by their closures no hook sees; readings of the planes would be saved by their own layer.
    assert kept("recomputed", 64) == kept("recomputed", 8)
    naive = kept("naive", 64) - kept("naive", 8)
    assert naive >= 2 * 7 * 8 * 56 * 32 * 4
    # Fused, besides: readings of two planes, (7 + 8) x samples x 32 instead of 7 x 8 x samples x 32.
    growth = kept("fused", 64) - kept("fused", 8)
    assert growth <= 2 * 56 * 4 * (7 * 8 * 4 + (7 + 8) * 32)
    assert naive > 4 * growth


@pytest.mark.parametrize("route", fields.ROUTES)
@pytest.mark.parametrize(("exponential", "density"), [(False, 15.0), (True, math.exp(15))], ids=["softplus", "exp"])
def test_a_density_stops_where_an_exponential_would_overflow(route: str, exponential: bool, density: float) -> None:
    """raw 16 everywhere, and raw 200: finite, opaque, and of an exponential no gradient any more."""
    for raw in (16.0, 200.0):
        field, planes, samples = scene("orthographic", torch.float32, "sum", exponential=exponential)
        torch.nn.init.zeros_(field.density.weight)
        torch.nn.init.constant_(field.density.bias, raw)
        thin = samples._replace(intervals=samples.intervals * 1e-6)
        found = render_field(field, planes, thin, route=choose_route(route, "sum"))
        lengths = thin.intervals.sum(dim=-1)[:, 0, 0]
        expected = -torch.expm1(-lengths * (raw - 1 if not exponential else density))
        torch.testing.assert_close(found.opacity, expected[:, None, None].expand_as(found.opacity), rtol=1e-4, atol=0)
        (gradient,) = torch.autograd.grad(found.opacity.sum(), field.density.bias)
        assert bool((gradient == 0).all()) == (exponential and raw > 16)


def test_a_product_cannot_be_factored() -> None:
    with pytest.raises(ValueError, match=r"product of planes, which cannot be factored.*'late'.*naive"):
        build("triplane", tasks_of("depth"), aggregation="product", route="late")
