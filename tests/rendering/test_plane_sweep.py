"""Plane sweep: against loops in float64, and on a generated room with true depth and poses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rendering.test_reprojection import OTHER_K, SIZE, K, bilinear, scene
from torch import Tensor
from torch.nn import functional as F

from triptych.datasets.rooms import Rooms
from triptych.rendering.plane_sweep import sweep_planes
from triptych.rendering.poses import find_common_pixels, relative_pose
from triptych.rendering.reprojection import NEAREST, backproject, invert_motion, move_points
from triptych.types import Sample, collate

INVERSE_DEPTHS = torch.tensor([1e-4, 0.2, 0.7, 2.0, 10.0], dtype=torch.float64)


@settings(max_examples=6)
@given(st.integers(0, 1000))
def test_a_sweep_equals_a_loop_over_pixels_and_planes(seed: int) -> None:
    """Every feature is interpolated and multiplied, one by one; some points lie behind or beside the other view."""
    image, _, motion = scene(seed)
    motion = motion.clone()
    motion[:, :3, 3] *= 3  # far enough that near planes fall behind the other camera
    others, _, _ = scene(seed + 1)
    swept = sweep_planes(image, others, K, OTHER_K, motion, INVERSE_DEPTHS, SIZE)
    seen = 0
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            ray = np.linalg.inv(K[0].numpy()) @ [column + 0.5, row + 0.5, 1.0]
            for plane, inverse in enumerate(INVERSE_DEPTHS.tolist()):
                point = motion[0].numpy() @ [*(ray / ray[2] / inverse), 1.0]
                x, y, _ = OTHER_K[0].numpy() @ (point[:3] / point[2])
                inside = point[2] > NEAREST and 0 <= x <= SIZE[1] and 0 <= y <= SIZE[0]
                expected = 0.0
                if inside:
                    features = [bilinear(others[0, i].numpy(), x, y) for i in range(2)]
                    expected = float(image[0, :, row, column].numpy() @ features) / 2**0.5
                assert bool(swept.in_view[0, plane, row, column]) == inside
                assert swept.similarity[0, plane, row, column].item() == pytest.approx(expected, abs=1e-5)
                seen += inside
    assert 0 < seen < swept.in_view.numel()


def test_gradients_are_those_of_finite_differences() -> None:
    image, _, motion = scene(3)
    others, _, _ = scene(4)

    def similarity(features: Tensor, other: Tensor) -> Tensor:
        return sweep_planes(features, other, K, OTHER_K, motion, INVERSE_DEPTHS, SIZE).similarity

    assert torch.autograd.gradcheck(similarity, (image.requires_grad_(), others.requires_grad_()))


def test_half_precision_moves_no_place() -> None:
    """Features may be coarse; where they are looked up may not."""
    image, _, motion = scene(5)
    found = sweep_planes(image.bfloat16(), image.bfloat16(), K, OTHER_K, motion, INVERSE_DEPTHS, SIZE)
    exact = sweep_planes(image, image, K, OTHER_K, motion, INVERSE_DEPTHS, SIZE)
    assert torch.equal(found.in_view, exact.in_view)
    torch.testing.assert_close(found.similarity.double(), exact.similarity, rtol=0, atol=0.02)


ROOM = (48, 64)
PLANES = torch.linspace(0.08, 1.0, 16)
"""Depths from 1 m to 12.5 m."""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A frame and the one eight steps later, whose camera stands half a metre beside."""
    root = tmp_path_factory.mktemp("rooms")
    options = {"scenes": 1, "views": 1, "path_length": 16, "neighbor_frames": (8,), "size": ROOM}
    return collate([Rooms(root, **options, progress=False, workers=1)[0]])


def place_features(view: Sample) -> Tensor:
    """Of the point in the world that each pixel shows: alike where the places are (Rahimi and Recht, 2007)."""
    random = torch.Generator().manual_seed(0)
    rates, phases = 4 * torch.randn(3, 128, generator=random), 2 * torch.pi * torch.rand(128, generator=random)
    points = move_points(backproject(view.targets["depth"], view.camera.intrinsics), view.camera.pose)
    return (points @ rates + phases).cos().movedim(-1, 1)


def photo_features(view: Sample) -> Tensor:
    """Patches of 7 x 7 pixels, whose products are normalized cross-correlations."""
    patches = F.unfold(F.pad(view.image, (3, 3, 3, 3), mode="replicate"), 7).view(1, -1, *ROOM)
    return F.normalize(patches - patches.mean(dim=1, keepdim=True), dim=1)


def share_at_true_depth(room: Sample, features, motion: Tensor) -> float:
    """Of the pixels that both views see: how many have their highest similarity within one plane of their depth."""
    other, depth = room.neighbors[0], room.targets["depth"]
    intrinsics, theirs = room.camera.intrinsics, other.camera.intrinsics
    back = relative_pose(other.camera.pose, room.camera.pose)
    _, common = find_common_pixels(other.targets["depth"], depth, theirs, intrinsics, back, tolerance=0.05)
    swept = sweep_planes(features(room), features(other), intrinsics, theirs, motion, PLANES, ROOM)
    best = swept.similarity.masked_fill(~swept.in_view, -torch.inf).argmax(dim=1)
    true = (1 / depth[:, 0] - PLANES[0]) / (PLANES[1] - PLANES[0])
    assert common.float().mean() > 0.5
    return ((best - true).abs() <= 1)[common].float().mean().item()


def test_true_poses_peak_at_true_depth(room: Sample) -> None:
    """Features of the place 0.993, photometric patches 0.773 of the pixels; the other direction 0.085 and 0.055."""
    motion = relative_pose(room.neighbors[0].camera.pose, room.camera.pose)
    assert share_at_true_depth(room, place_features, motion) > 0.98
    assert share_at_true_depth(room, photo_features, motion) > 0.75
    for features in (place_features, photo_features):
        assert share_at_true_depth(room, features, invert_motion(motion)) < 0.15
        assert share_at_true_depth(room, features, torch.eye(4)[None]) < 0.05
