"""Rays: through pixel centres, through what the intrinsics say, and back."""

import math

import pytest
import torch

from triptych.rendering import cameras

INTRINSICS = torch.tensor([[[50.0, 0, 30.0], [0, 40.0, 22.0], [0, 0, 1]]], dtype=torch.float64)
SIZE = (48, 64)


def test_parallel_rays_cross_the_cube_at_pixel_centres() -> None:
    origins, directions = cameras.orthographic_rays((3, 5), dtype=torch.float64)
    for row in range(3):
        for column in range(5):
            expected = torch.tensor([(column + 0.5) * 2 / 5 - 1, (row + 0.5) * 2 / 3 - 1, -1.0])
            torch.testing.assert_close(origins[0, row, column], expected.double())
            end = origins[0, row, column] + 2 * directions[0, row, column]
            torch.testing.assert_close(end, torch.tensor([expected[0], expected[1], 1.0]).double())


def test_metric_rays_project_back_to_their_pixel() -> None:
    rays = cameras.metric_rays(INTRINSICS, SIZE, (6, 8))
    points = cameras.points_on_rays(rays, torch.tensor([[0.7, 4.0]], dtype=torch.float64))
    assert points[..., 0, 2].unique().item() == pytest.approx(0.7)
    for row, column in ((0, 0), (5, 2)):
        x, y, z = points[0, row, column, 1].tolist()
        assert 50 * x / z + 30 == pytest.approx((column + 0.5) * 8)
        assert 40 * y / z + 22 == pytest.approx((row + 0.5) * 8)


def test_metric_rays_meet_a_known_wall() -> None:
    """A wall z = 2 + x / 2 is met at depth 2 / (1 - slope / 2)."""
    directions = cameras.metric_rays(INTRINSICS, SIZE, SIZE).directions
    depth = 2 / (1 - directions[..., 0] / 2)
    points = depth[..., None] * directions
    torch.testing.assert_close(points[..., 2], 2 + points[..., 0] / 2)


def test_ndc_and_metric_points_are_inverse_and_rays_become_parallel() -> None:
    rays = cameras.metric_rays(INTRINSICS, SIZE, (6, 8))
    points = cameras.points_on_rays(rays, torch.tensor([[0.5, 1.0, 10.0]], dtype=torch.float64))
    cube = cameras.cube_from_metric(points, INTRINSICS, SIZE, near=0.5, far=10.0)
    parallel = cameras.orthographic_rays((6, 8), dtype=torch.float64).origins
    torch.testing.assert_close(cube[..., :2], parallel[..., None, :2].expand_as(cube[..., :2]))
    torch.testing.assert_close(cube[0, 0, 0, [0, 2], 2], torch.tensor([-1.0, 1.0], dtype=torch.float64))
    assert cube[0, 0, 0, 1, 2].item() == pytest.approx(1 - 2 * (1 - 0.1) / (2 - 0.1))
    back = cameras.metric_from_cube(cube, INTRINSICS, SIZE, near=0.5, far=10.0)
    torch.testing.assert_close(back, points)


def test_box_and_inside() -> None:
    points = torch.tensor([[[-3.0, 3.0, 1.0], [0.0, 0.0, 5.0], [3.1, 0.0, 2.0]]])
    cube = cameras.cube_from_box(points, half_width=3.0, near=1.0, far=5.0)
    assert cube[0, 0].tolist() == [-1, 1, -1]
    assert cameras.inside_cube(cube).tolist() == [[True, True, False]]
    assert math.isclose(cube[0, 1, 2].item(), 1.0)
