"""Two views: relative poses, rigid motions, and which pixels both see, against loops and generated rooms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.datasets.rooms import Rooms
from triptych.rendering.poses import check_rigid, find_common_pixels, relative_pose


def rigid(seed: int) -> torch.Tensor:
    """A random camera-to-world pose."""
    random = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=random, dtype=torch.float64))
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = rotation * rotation.det().sign()
    pose[:3, 3] = torch.randn(3, generator=random, dtype=torch.float64)
    return pose


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_relative_poses_take_points_from_camera_to_camera(seed: int) -> None:
    first, second = rigid(seed), rigid(seed + 1)
    point = torch.tensor([0.3, -0.7, 2.0, 1.0], dtype=torch.float64)
    expected = torch.linalg.inv(first) @ second @ point
    torch.testing.assert_close(relative_pose(first[None], second[None])[0] @ point, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pose: pose[:3, :3].mul_(1.1), r"sample 'b'.*determinant 1\.331 and differs.*by 0\.21"),
        (lambda pose: pose[:3, 0].neg_(), r"sample 'b'.*determinant -1 "),
        (lambda pose: pose[3].copy_(torch.tensor([0.0, 0, 1, 1])), r"last row is \[0\.0, 0\.0, 1\.0, 1\.0\].*metres"),
        (lambda pose: pose[:3, 3].fill_(math.nan), r"sample 'b' is no rigid motion"),
    ],
)
def test_raises_for_poses_that_are_no_rigid_motions(change, message) -> None:
    pose = torch.stack([rigid(1), rigid(2)])
    check_rigid(pose, ["a", "b"])
    check_rigid(pose.float(), ["a", "b"])
    change(pose[1])
    with pytest.raises(ValueError, match=message):
        check_rigid(pose, ["a", "b"])


def test_common_pixels_equal_a_loop_over_rooms(tmp_path) -> None:
    """Pixel by pixel in float64, on two frames of a generated room, with some labels missing."""
    rooms = Rooms(
        tmp_path, scenes=1, views=1, path_length=8, size=(24, 32), neighbor_frames=(4,), progress=False, workers=1
    )
    sample = rooms[0]
    second = sample.neighbors[0]
    depths = [view.targets["depth"].clone() for view in (sample, second)]
    depths[0][0, 3:5, 4:9] = torch.nan
    depths[1][0, 12, 10:20] = torch.nan
    matrices = [view.camera.intrinsics[None] for view in (sample, second)]
    relative = relative_pose(sample.camera.pose[None], second.camera.pose[None])
    points, common = find_common_pixels(*(depth[None] for depth in depths), *matrices, relative, tolerance=0.05)
    K, pose, other = (m.double().numpy() for m in (matrices[0][0], sample.camera.pose, second.camera.pose))
    one, two = (depth[0].double().numpy() for depth in depths)
    agreed = 0
    for row in range(24):
        for column in range(32):
            point = np.linalg.inv(K) @ [column + 0.5, row + 0.5, 1.0] * two[row, column]
            x, y, z = np.linalg.inv(pose)[:3] @ (other @ [*point, 1.0])
            seen = False
            if z > 0:
                u, v, _ = K @ [x / z, y / z, 1.0]
                inside = 0 <= u < 32 and 0 <= v < 24
                seen = inside and bool(abs(one[int(v), int(u)] - z) <= 0.05 * z)
            agreed += seen == bool(common[0, row, column])
            if seen:
                np.testing.assert_allclose(points[0, row, column], [x, y, z], atol=1e-4)
    assert agreed >= 24 * 32 - 2  # rounding at the rims of pixels
    assert 0.4 < common.float().mean() < 0.95
    assert not common[0, 12, 10:20].any()


def test_a_view_has_everything_in_common_with_itself(tmp_path) -> None:
    sample = Rooms(tmp_path, scenes=1, views=1, size=(24, 32), progress=False, workers=1)[0]
    depth, K = sample.targets["depth"][None], sample.camera.intrinsics[None]
    _, common = find_common_pixels(depth, depth, K, K, torch.eye(4)[None], tolerance=0.01)
    assert common.all()
    behind = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0]))[None]
    _, common = find_common_pixels(depth, depth, K, K, behind, tolerance=0.05)
    assert not common.any()
