"""Boundaries and saliency against brute force and hand-made cases."""

import numpy as np
import pytest

from triptych.rooms.frames import build_room, label, trace
from triptych.rooms.labels import camera_normals, find_boundaries, find_salient
from triptych.rooms.scene_files import frame_type

SIZE = (30, 40)


def slow_boundaries(depth, normal, instances, intrinsics, rotation):
    """The rule, pixel by pixel, with points in the world instead of slopes."""
    height, width = depth.shape
    out = np.zeros((height, width), np.uint8)

    def ray(row, column):
        return rotation @ np.linalg.solve(intrinsics, (column + 0.5, row + 0.5, 1.0))

    def off_plane(a, b):
        """Depth along the ray of b between the point of b and the tangent plane at a."""
        point, towards = depth[a] * ray(*a), ray(*b)
        facing = normal[a] @ towards
        return np.inf if facing >= 0 else abs(depth[b] - normal[a] @ point / facing)

    for row in range(height):
        for column in range(width):
            for b in ((row, column + 1), (row + 1, column)):
                a = (row, column)
                if b[0] == height or b[1] == width:
                    continue
                limit = 0.05 + 0.03 * min(depth[a], depth[b])
                jump = abs(depth[a] - depth[b]) > 0.05 and min(off_plane(a, b), off_plane(b, a)) > limit
                out[a] |= instances[a] != instances[b] or jump
    return out


@pytest.mark.parametrize("number", [0, 1, 2])
def test_boundaries_follow_their_rule(number):
    room = build_room(("labels", number), look="a", camera="a", views=1, path_length=1)
    camera = room.paths[0][0]
    hits = trace(room, camera, SIZE)
    record = np.zeros(1, frame_type(SIZE))
    label(room, camera, hits, record)
    record = record[0]
    instances = record["instances"].astype(np.int64)
    arguments = (hits.depth, hits.normal, instances, camera.intrinsics(SIZE), np.array(camera.rotation()))
    expected = slow_boundaries(*arguments)
    assert np.array_equal(record["boundary"], expected)
    # With one instance everywhere only jumps in depth are left.
    jumps = find_boundaries(hits.depth, hits.normal, np.ones_like(instances), *arguments[3:])
    assert np.array_equal(jumps, slow_boundaries(hits.depth, hits.normal, np.ones_like(instances), *arguments[3:]))
    assert 0 < jumps.sum() < expected.sum()


def flat(depth):
    """Arguments of a view straight onto surfaces that face the camera."""
    normal = np.zeros((*depth.shape, 3))
    normal[..., 2] = -1
    intrinsics = np.array([[20.0, 0, depth.shape[1] / 2], [0, 20.0, depth.shape[0] / 2], [0, 0, 1]])
    return depth, normal, np.ones(depth.shape, np.int64), intrinsics, np.eye(3)


def test_a_step_in_depth_is_one_pixel_wide():
    depth = np.full((6, 8), 3.0)
    depth[:, 4:] = 2.0
    boundary = find_boundaries(*flat(depth))
    assert boundary[:, 3].all()
    assert boundary.sum() == 6
    small = np.full((6, 8), 3.0)
    small[:, 4:] = 2.9
    assert find_boundaries(*flat(small)).sum() == 0


def test_a_steep_plane_is_no_boundary():
    # A floor seen at a grazing angle: depth falls by metres per row, and nothing jumps.
    intrinsics = np.array([[20.0, 0, 4], [0, 20.0, 0], [0, 0, 1]])
    y = (np.arange(6) + 0.5) / 20
    depth = np.repeat((1.5 / y)[:, None], 8, axis=1)
    normal = np.zeros((6, 8, 3))
    normal[..., 1] = -1
    assert np.abs(np.diff(depth[:, 0])).max() > 5
    assert find_boundaries(depth, normal, np.ones((6, 8), np.int64), intrinsics, np.eye(3)).sum() == 0


def test_figures_are_salient_before_all_else():
    names = ["floor", "ceiling", "wall", "wall", "wall", "wall", "sofa", "person", "person"]
    instances = np.full((40, 50), 1)
    instances[10:30, 10:40] = 7
    instances[2:12, 2:6] = 8
    instances[0, 49] = 9  # too small to count
    salient = find_salient(instances, names)
    assert np.array_equal(salient, instances == 8)


def test_without_figures_the_most_prominent_object_is_salient():
    names = ["floor", "ceiling", "wall", "wall", "wall", "wall", "rug", "chair", "table", "box"]
    instances = np.full((40, 50), 1)
    instances[:, 25:] = 3
    instances[18:22, 20:30] = 7  # a rug in the middle
    instances[0:8, 0:8] = 8  # a chair in the corner
    instances[24:31, 20:28] = 9  # a table near the middle, smaller than the chair
    salient = find_salient(instances, names)
    assert np.array_equal(salient, instances == 9)
    assert not find_salient(np.full((40, 50), 1), names).any()


def test_camera_normals_are_turned_into_the_camera():
    generator = np.random.default_rng(0)
    normal = generator.normal(size=(4, 5, 3))
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    rotation = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    expected = (normal @ rotation).transpose(2, 0, 1)
    assert np.abs(camera_normals(normal, rotation) / 32767 - expected).max() < 0.51 / 32767
