"""Volume rendering of a generated room, whose geometry and labels are known exactly."""

import pytest
import torch
from torch import Tensor

from triptych.datasets.rooms import Rooms
from triptych.rendering import cameras
from triptych.rendering.poses import find_common_pixels, relative_pose
from triptych.rendering.volume import (
    composite,
    distortion,
    expected_depth,
    render_opacity,
    render_weights,
    sample_distances,
    sample_intervals,
)
from triptych.types import Sample, collate

SIZE = (30, 40)
NEAR, FAR, COUNT = 0.2, 12.0, 700
THICKNESS = 0.3
"""Metres behind the seen surface that are known to be solid."""


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Sample:
    root = tmp_path_factory.mktemp("rooms")
    options = {"scenes": 2, "views": 1, "path_length": 6, "neighbor_frames": (3,), "size": SIZE}
    rooms = Rooms(root, **options, progress=False, workers=1)
    return collate([rooms[0], rooms[7]])


def solid(points: Tensor, view: Sample) -> tuple[Tensor, Tensor]:
    """Where points in a camera's frame lie just behind what it sees, and the label of the pixel before them."""
    depth = view.targets["depth"][:, 0]
    pixels = torch.einsum("bij,b...j->b...i", view.camera.intrinsics, points / points[..., 2:].clamp(min=0.05))
    column, row = pixels[..., 0].floor(), pixels[..., 1].floor()
    inside = (column >= 0) & (column < SIZE[1]) & (row >= 0) & (row < SIZE[0]) & (points[..., 2] > 0.05)
    index = torch.where(inside, row * SIZE[1] + column, 0).long().flatten(1)
    seen = depth.flatten(1).gather(1, index).view_as(column)
    behind = points[..., 2] - seen
    labels = view.targets["semseg"].flatten(1).gather(1, index).view_as(index).view_as(column)
    return inside & (behind >= 0) & (behind < THICKNESS), labels


def render(frames: Sample, source: Sample, pose: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Expected depth, opacity, class weights and spread along the first view's rays, of what `source` says is solid."""
    rays = cameras.metric_rays(frames.camera.intrinsics, SIZE, SIZE)
    distances = sample_distances(COUNT, near=NEAR, far=FAR, batch=2)
    points = cameras.points_on_rays(rays, distances)
    moved = torch.einsum("bij,bhwsj->bhwsi", pose[:, :3, :3], points) + pose[:, None, None, None, :3, 3]
    inside, labels = solid(moved, source)
    intervals = sample_intervals(distances, last=(FAR - NEAR) / COUNT)[:, None, None]
    weights = render_weights(inside * 1e3, intervals)
    shares = composite(weights, torch.nn.functional.one_hot(labels, 20).to(weights.dtype))
    along = distances[:, None, None].expand_as(weights)
    spread = distortion(weights, along, intervals.expand_as(weights))
    return expected_depth(weights, distances[:, None, None]), render_opacity(weights), shares, spread


def test_a_room_is_rendered_as_it_was_seen(frames: Sample) -> None:
    depth, opacity, shares, spread = render(frames, frames, torch.eye(4).repeat(2, 1, 1))
    assert opacity.min() > 0.99
    # The first sample behind the surface: half a sample late on average, one at most.
    step = (FAR - NEAR) / COUNT
    late = depth - frames.targets["depth"][:, 0]
    assert late.min() > -1e-4
    assert late.max() < 1.1 * step
    assert torch.equal(shares.argmax(dim=-1), frames.targets["semseg"])
    assert spread.max() < step


def test_a_room_seen_by_one_camera_is_rendered_for_another(frames: Sample) -> None:
    """Where both cameras see the surface, depth and class are those of exact labels that rendering never read."""
    other = frames.neighbors[0]
    pose = relative_pose(other.camera.pose, frames.camera.pose)
    depth, opacity, shares, _ = render(frames, other, pose)
    depths = other.targets["depth"], frames.targets["depth"]
    matrices = other.camera.intrinsics, frames.camera.intrinsics
    _, common = find_common_pixels(*depths, *matrices, pose, tolerance=0.03)
    assert 0.5 < common.float().mean() < 0.98
    found = common & (opacity > 0.9)
    assert found.sum() > 0.97 * common.sum()
    error = (depth - frames.targets["depth"][:, 0]).abs() / frames.targets["depth"][:, 0]
    assert error[found].median() < 0.01
    assert error[found].quantile(0.9) < 0.04
    agreement = (shares.argmax(dim=-1) == frames.targets["semseg"])[found].float().mean()
    assert agreement > 0.95
