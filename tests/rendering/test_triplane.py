"""Triplane readings: cell centres, all three planes, brute force, gradients."""

import itertools

import pytest
import torch

from triptych.rendering.cameras import orthographic_rays, points_on_rays
from triptych.rendering.triplane import (
    PlaneFeatures,
    Triplane,
    aggregate_planes,
    sample_plane,
    sample_planes,
    sample_planes_parallel,
)


def random_planes(batch: int = 2, channels: int = 3) -> Triplane:
    sizes = ((4, 5), (6, 5), (6, 4))
    return Triplane(*(torch.randn(batch, channels, *size, dtype=torch.float64) for size in sizes))


def read_slowly(plane: torch.Tensor, column: float, row: float) -> torch.Tensor:
    """Bilinear reading of one `(C, rows, columns)` plane, by its definition."""
    rows, columns = plane.shape[1:]
    x = min(max((column + 1) * columns / 2 - 0.5, 0), columns - 1)
    y = min(max((row + 1) * rows / 2 - 0.5, 0), rows - 1)
    value = 0
    for i, j in itertools.product(range(rows), range(columns)):
        value = value + max(0, 1 - abs(y - i)) * max(0, 1 - abs(x - j)) * plane[:, i, j]
    return value


def test_a_cell_centre_returns_the_cell() -> None:
    planes = random_planes()
    for x, y, z in itertools.product(range(5), range(4), range(6)):
        point = torch.tensor([(2 * x + 1) / 5 - 1, (2 * y + 1) / 4 - 1, (2 * z + 1) / 6 - 1]).double()
        features = sample_planes(planes, point.expand(2, 1, 3))
        torch.testing.assert_close(features.xy[:, 0], planes.xy[:, :, y, x], rtol=0, atol=1e-6)
        torch.testing.assert_close(features.xz[:, 0], planes.xz[:, :, z, x], rtol=0, atol=1e-6)
        torch.testing.assert_close(features.yz[:, 0], planes.yz[:, :, z, y], rtol=0, atol=1e-6)


def test_readings_equal_brute_force_and_the_rim_holds() -> None:
    planes = random_planes(batch=1)
    points = torch.rand(1, 20, 3, dtype=torch.float64) * 2.4 - 1.2
    features = sample_planes(planes, points)
    for index, (x, y, z) in enumerate(points[0].tolist()):
        for plane, feature, at in zip(planes, features, ((x, y), (x, z), (y, z)), strict=True):
            torch.testing.assert_close(feature[0, index], read_slowly(plane[0], *at))


def test_parallel_reading_equals_reading_every_point() -> None:
    planes = random_planes()
    rays = orthographic_rays((3, 7), dtype=torch.float64)
    points = points_on_rays(rays, torch.rand(2, 5, dtype=torch.float64) * 2)
    every = sample_planes(planes, points)
    fewer = sample_planes_parallel(planes, points)
    assert fewer.xy.shape == (2, 3, 7, 1, 3)
    assert fewer.xz.shape[1] == 1
    assert fewer.yz.shape[2] == 1
    for one, other in zip(every, fewer, strict=True):
        torch.testing.assert_close(other.expand_as(one), one)


def test_gradients_of_a_reading() -> None:
    plane = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    coordinates = (torch.rand(1, 6, 2, dtype=torch.float64) * 1.2 - 0.6).requires_grad_()
    assert torch.autograd.gradcheck(sample_plane, (plane, coordinates))


def test_half_precision_planes_are_read_at_exact_places() -> None:
    """Coordinates in bfloat16 would miss the cells of a wide plane."""
    plane = torch.arange(128.0).view(1, 1, 1, 128)
    centres = torch.stack([(2 * torch.arange(128.0) + 1) / 128 - 1, torch.zeros(128)], dim=-1)[None]
    values = sample_plane(plane.bfloat16(), centres)
    assert values.dtype == torch.bfloat16
    torch.testing.assert_close(values.float().flatten(), plane.flatten(), rtol=0, atol=0.02)


@pytest.mark.parametrize(("how", "expected"), [("sum", 7.0), ("mean", 7 / 3), ("product", 8.0), ("concat", None)])
def test_aggregation(how: str, expected: float | None) -> None:
    features = PlaneFeatures(*(torch.full((1, 2, 1), float(value)) for value in (1, 2, 4)))
    result = aggregate_planes(features, how)
    if expected is None:
        assert result[0, 0].tolist() == [1, 2, 4]
    else:
        assert result.flatten().tolist() == pytest.approx([expected] * 2)


def test_raises_for_an_unknown_aggregation() -> None:
    with pytest.raises(ValueError, match=r"unknown aggregation 'summ'; did you mean 'sum'"):
        aggregate_planes(PlaneFeatures(*(torch.zeros(1, 1, 1),) * 3), "summ")
