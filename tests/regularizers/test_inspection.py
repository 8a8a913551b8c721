"""Looking inside a triplane: cameras that stand aside, against the geometry of real ones."""

import pytest
import torch
from regularizers.branch import SMALL, batch, build, tasks_of

from triptych.regularizers.inspection import SHIFTS, inspect, shift_camera
from triptych.types import Camera, Sample

SIZE = (24, 32)
FOCAL, NEAR, FAR = 30.0, 0.5, 10.0


def camera_pair(metres: float) -> Sample:
    """A camera, and a second one that stepped to the right."""
    intrinsics = torch.tensor([[FOCAL, 0, 16.0], [0, FOCAL, 12.0], [0, 0, 1]])[None]
    pose = torch.eye(4)[None].clone()
    second = Sample(torch.zeros(1, 3, *SIZE), {}, ("b",), Camera(intrinsics, pose.clone()))
    second.camera.pose[0, 0, 3] = metres
    return Sample(torch.zeros(1, 3, *SIZE), {}, ("a",), Camera(intrinsics, pose), {}, (second,))


@pytest.mark.parametrize("metres", [0.2, -0.1])
def test_a_shift_is_what_a_camera_sees_that_steps_aside(metres: float) -> None:
    """Of a frustum even in inverse depth: points differ from the real second camera by the same everywhere, by the
    step at the depth that stays in place.
    """
    options = {"near": NEAR, "far": FAR, "num_samples": 9, "stratified": False, "route": "recomputed"}
    regularizer = build("triplane-cross-view", tasks_of("depth"), **options).eval()
    sample = camera_pair(metres)
    second = sample.neighbors[0]
    real = regularizer.second_points(sample, second, second.camera.pose).points
    shift = 2 * FOCAL * metres * (1 / NEAR - 1 / FAR) / SIZE[1]
    aside = shift_camera(regularizer.sample_points(sample), shift).points
    torch.testing.assert_close(real[..., 1:], aside[..., 1:], rtol=0, atol=1e-5)
    apart = real[..., 0] - aside[..., 0]
    middle = (1 / NEAR + 1 / FAR) / 2  # inverse depth in the middle of the cube
    expected = 2 * FOCAL * metres / SIZE[1] * middle
    torch.testing.assert_close(apart, torch.full_like(apart, expected), rtol=0, atol=1e-5)


def test_a_shift_in_a_box_is_a_step_in_metres() -> None:
    """Rays of the shifted camera meet in one point, `shift * anchor * half_width / (far - near)` to the right."""
    options = {"near": 1.0, "far": 5.0, "half_width": 4.0, "num_samples": 5, "camera": "metric", "stratified": False}
    regularizer = build("triplane", tasks_of("depth"), **options).eval()
    samples = shift_camera(regularizer.sample_points(camera_pair(0.0)), 0.8)
    x = samples.points[..., 0] * 4.0
    z = 1.0 + (samples.points[..., 2] + 1) / 2 * 4.0
    slope = (x[..., -1] - x[..., 0]) / (z[..., -1] - z[..., 0])
    start = x[..., 0] - slope * z[..., 0]
    torch.testing.assert_close(start, torch.full_like(start, 0.8 * 3.0 * 4.0 / 4.0))


def test_without_a_shift_everything_stays_and_outside_the_cube_is_empty() -> None:
    tasks = tasks_of("semseg", "depth")
    regularizer = build("triplane", tasks, route="recomputed", num_samples=5).eval()
    output, sample = batch(tasks)
    shown = inspect(regularizer, output, sample, {"same": 0.0, "far": 9.0})
    for name in tasks:
        torch.testing.assert_close(shown.views["same"][name], shown.maps[name])
        assert (shown.views["far"][name] - shown.maps[name]).abs().max() > 1e-4
    assert shown.geometry == "depth"
    assert not shown.metric
    samples = regularizer.sample_points(sample)
    aside = shift_camera(samples, 1.0)
    assert torch.equal(aside.inside, (aside.points.abs() <= 1).all(dim=-1))
    assert 0.5 < aside.inside.float().mean() < 1
    assert list(inspect(regularizer, output, sample).views) == list(SHIFTS)


@pytest.mark.parametrize(
    ("name", "options", "metric"),
    [
        ("triplane", {}, False),
        ("triplane", {"depth_from": "termination"}, True),
        ("triplane", {"camera": "metric"}, True),
        ("triplane-cross-view", {}, True),
        ("triplane-uniform", {}, False),
    ],
)
def test_depths_are_metres_where_the_cube_has_a_size(name: str, options: dict[str, object], metric: bool) -> None:
    tasks = tasks_of("depth")
    given = {**SMALL, "near": 1.0, "far": 6.0, "route": "recomputed", "num_samples": 5, **options}
    regularizer = build(name, tasks, **given).eval()
    output, sample = batch(tasks, camera=True)
    shown = inspect(regularizer, output, sample)
    assert shown.metric == metric
    assert shown.opacity.min() >= 0
    assert shown.opacity.max() <= 1 + 1e-6
    if options.get("camera") == "metric" or name == "triplane-cross-view":
        seen = shown.depth[shown.opacity > 0.01]
        assert seen.min() >= 1.0 - 1e-4
        assert seen.max() <= 6.0 + 1e-4
    if options.get("depth_from") == "termination":
        torch.testing.assert_close(shown.depth, shown.maps["depth"][:, 0])
