"""Volume rendering against integrals, against loops, and its properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.rendering import volume


def test_a_constant_slab_absorbs_as_beer_and_lambert_say() -> None:
    """Density 1.5 from 1 to 3 absorbs 1 - exp(-3); its mean depth has a closed form."""
    distances = volume.sample_distances(4000, near=0.0, far=4.0, dtype=torch.float64)
    density = 1.5 * ((distances > 1) & (distances < 3))
    weights = volume.render_weights(density, volume.sample_intervals(distances, last=1e-3))
    assert volume.render_opacity(weights).item() == pytest.approx(1 - math.exp(-3), abs=1e-9)
    closed = 1 + (1 / 1.5 - math.exp(-3) * (2 + 1 / 1.5)) / (1 - math.exp(-3))
    assert volume.expected_depth(weights, distances).item() == pytest.approx(closed, abs=2e-3)


def test_a_step_is_seen_where_it_is() -> None:
    distances = volume.sample_distances(64, near=0.0, far=2.0)
    density = torch.where(distances > 1.25, 1e6, 0.0)
    weights = volume.render_weights(density, volume.sample_intervals(distances, last=1 / 32))
    assert volume.expected_depth(weights, distances).item() == pytest.approx(1.25, abs=1 / 64 + 1e-6)
    assert volume.render_opacity(weights).item() == pytest.approx(1.0)
    colors = (distances > 1.25).float()[..., None] * torch.tensor([2.0, -1.0])
    torch.testing.assert_close(volume.composite(weights, colors)[0], torch.tensor([2.0, -1.0]))


def render_slowly(density: list[float], intervals: list[float]) -> list[float]:
    light, weights = 1.0, []
    for one, length in zip(density, intervals, strict=True):
        absorbed = 1 - math.exp(-one * length)
        weights.append(light * absorbed)
        light *= 1 - absorbed
    return weights


def test_weights_composite_depth_and_distortion_equal_loops() -> None:
    distances = torch.rand(3, 9, dtype=torch.float64).sort(dim=-1).values * 5
    intervals = volume.sample_intervals(distances, last=0.3)
    density = torch.rand(3, 9, dtype=torch.float64) * 3
    values = torch.randn(3, 9, 4, dtype=torch.float64)
    weights = volume.render_weights(density, intervals)
    transmittance = volume.transmittance_from_density(density, intervals)
    for ray in range(3):
        w, t, d = render_slowly(density[ray].tolist(), intervals[ray].tolist()), distances[ray], intervals[ray]
        assert weights[ray].tolist() == pytest.approx(w)
        assert transmittance[ray].tolist() == pytest.approx([1 - sum(w[:i]) for i in range(9)])
        mixed = [sum(w[i] * values[ray, i, c].item() for i in range(9)) for c in range(4)]
        assert volume.composite(weights, values)[ray].tolist() == pytest.approx(mixed)
        mean = sum(w[i] * t[i].item() for i in range(9)) / sum(w)
        assert volume.expected_depth(weights, distances)[ray].item() == pytest.approx(mean)
        spread = sum(w[i] * w[j] * abs(t[i] - t[j]).item() for i in range(9) for j in range(9))
        spread += sum(w[i] ** 2 * d[i].item() for i in range(9)) / 3
        assert volume.distortion(weights, distances, intervals)[ray].item() == pytest.approx(spread)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20), st.floats(1e-4, 1e3))
def test_weights_are_shares(density: list[float], length: float) -> None:
    density = torch.tensor(density)
    weights = volume.render_weights(density, torch.full_like(density, length))
    assert weights.min() >= 0
    assert weights.max() <= 1
    total = volume.render_opacity(weights).item()
    assert total <= 1 + 1e-6
    assert total == pytest.approx(-math.expm1(-float(density.double().sum()) * length), abs=1e-5)


def test_gradients() -> None:
    density = torch.rand(2, 5, dtype=torch.float64, requires_grad=True)
    values = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    distances = volume.sample_distances(5, near=0.5, far=3.0, batch=2, dtype=torch.float64)
    intervals = volume.sample_intervals(distances, last=0.5)

    def render(density: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        weights = volume.render_weights(density, intervals)
        return (
            volume.composite(weights, values),
            volume.expected_depth(weights, distances),
            volume.distortion(weights, distances, intervals),
        )

    assert torch.autograd.gradcheck(render, (density, values))


def test_transmittance_of_half_precision_density_is_full() -> None:
    density = torch.full((1, 256), 0.011).bfloat16()
    weights = volume.render_weights(density, torch.ones(1, 256))
    assert weights.dtype == torch.float32
    expected = 1 - math.exp(-256 * density[0, 0].item())
    assert volume.render_opacity(weights).item() == pytest.approx(expected, abs=1e-5)


def test_autocast_changes_no_composite() -> None:
    weights, values = (torch.rand(*size, requires_grad=True) for size in ((3, 5), (3, 5, 2)))
    found = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            mixed = volume.composite(weights, values)
        found.append((mixed, *torch.autograd.grad(mixed.square().sum(), (weights, values))))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
