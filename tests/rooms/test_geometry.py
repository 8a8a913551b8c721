"""Rays, depth, normals and poses against independent answers."""

import math

import numpy as np
import pytest

from triptych.rooms.frames import build_room, trace
from triptych.rooms.rays import FAR, Geometry, build_hierarchy, closest, intersect, surface
from triptych.rooms.scene import (
    BOX,
    CAPSULE,
    CONE,
    IDENTITY,
    SPHERE,
    Piece,
    Placement,
    Scene,
    Solid,
    ball,
    box,
    compose,
    cone,
    solid_arrays,
    tube,
    turn,
)
from triptych.rooms.views import Viewpoint

SIZE = (48, 64)
SIDES = 6


def geometry_of(parts, size=(4.0, 5.0, 3.0)):
    scene = Scene(size, "test")
    scene.place(Piece("box", parts), Placement(0.0, 0.0, 0.0, 1.0, 0.0))
    solids, bounds = solid_arrays(scene)
    return Geometry(np.array(size), solids, *build_hierarchy(bounds))


def implicit(part, points):
    """A function of world points (N, 3) that is negative inside a part, positive outside; the oracle of the rays."""
    q = (points - np.array(part.center)) @ np.array(part.rotation) / np.array(part.half)
    radius = np.hypot(q[:, 0], q[:, 1])
    if part.kind == BOX:
        return np.abs(q).max(1) - 1
    if part.kind == SPHERE:
        return np.linalg.norm(q, axis=1) - 1
    if part.kind == CONE:
        return np.maximum(radius - (1 + part.param) / 2 - (part.param - 1) / 2 * q[:, 2], np.abs(q[:, 2]) - 1)
    end = np.clip(q[:, 2], -part.param, part.param)
    return np.sqrt(radius**2 + (q[:, 2] - end) ** 2) - 1


def march(part, origin, direction, far):
    """First crossing into a part along a ray by dense sampling and bisection, `inf` if there is none."""
    steps = np.linspace(0, far, 4001)
    inside = implicit(part, origin + steps[:, None] * direction) < 0
    if inside[0] or not inside.any():
        return np.inf
    low, high = steps[inside.argmax() - 1], steps[inside.argmax()]
    for _ in range(60):
        middle = 0.5 * (low + high)
        if implicit(part, (origin + middle * direction)[None])[0] < 0:
            high = middle
        else:
            low = middle
    return high


TILTED = compose(turn(2, 0.7), turn(0, 0.4))
PARTS = [
    Solid(BOX, (2.0, 2.0, 1.0), (0.5, 0.3, 0.7), "x:0", TILTED),
    Solid(SPHERE, (2.0, 2.0, 1.0), (0.5, 0.3, 0.7), "x:0", TILTED),
    Solid(CONE, (2.0, 2.0, 1.0), (0.5, 0.4, 0.7), "x:0", TILTED, 0.3),
    Solid(CONE, (2.0, 2.0, 1.0), (0.3, 0.3, 0.7), "x:0", TILTED, 1.0),
    Solid(CONE, (2.0, 2.0, 1.0), (0.2, 0.2, 0.7), "x:0", TILTED, 2.0),
    Solid(CAPSULE, (2.0, 2.0, 1.0), (0.3, 0.2, 0.25), "x:0", TILTED, 1.5),
]


@pytest.mark.parametrize("part", PARTS, ids=["box", "sphere", "cone", "cylinder", "funnel", "capsule"])
def test_hits_and_normals_agree_with_marching_along_the_ray(part):
    geometry = geometry_of([part])
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(150):
        origin = generator.uniform((0.1, 0.1, 0.1), (3.9, 4.9, 2.9))
        if implicit(part, origin[None])[0] < 0.05:
            continue
        aim = generator.uniform((1.2, 1.2, 0.2), (2.8, 2.8, 1.8))
        direction = (aim - origin) / np.linalg.norm(aim - origin)
        expected = march(part, origin, direction, 6.0)
        t = intersect(geometry.solids, 0, *origin, *direction, 0.0, FAR)
        if np.isinf(expected):
            # A ray that grazes an edge may slip between the samples of the oracle.
            assert t == FAR or implicit(part, (origin + (t + 1e-3) * direction)[None])[0] > -2e-2
            continue
        hits += 1
        assert t == pytest.approx(expected, abs=1e-9)
        assert closest(*geometry, *origin, *direction, 0.0) == (t, 0)
        point = origin + t * direction
        *normal, _ = surface(geometry.solids, 0, *point)
        steps = 1e-6 * np.eye(3)
        gradient = (implicit(part, point + steps) - implicit(part, point - steps)) / 2e-6
        gradient /= np.linalg.norm(gradient)
        assert np.dot(normal, gradient) > 1 - 1e-6
        assert np.dot(normal, direction) < 0
    assert hits > 20


@pytest.mark.parametrize("rotation", [IDENTITY, TILTED], ids=["upright", "tilted"])
@pytest.mark.parametrize("part", PARTS, ids=["box", "sphere", "cone", "cylinder", "funnel", "capsule"])
def test_bounds_hold_all_of_a_solid(part, rotation):
    part = part._replace(rotation=rotation)
    scene = Scene((4.0, 5.0, 3.0), "test")
    scene.place(Piece("box", [part]), Placement(0.0, 0.0, 0.0, 1.0, 0.0))
    _, bounds = solid_arrays(scene)
    points = np.random.default_rng(0).uniform((0.5, 0.5, 0.0), (3.5, 3.5, 2.0), (200_000, 3))
    inside = points[implicit(part, points) < 0]
    assert len(inside) > 1000
    assert (inside >= bounds[0, :3]).all()
    assert (inside <= bounds[0, 3:]).all()


def test_the_hierarchy_finds_what_a_search_of_all_solids_finds():
    room = build_room(("hierarchy", 1), look="a", camera="a", views=1, path_length=1)
    size, solids, _, links = room.geometry
    assert sorted(solid for solid in links[: len(links) // 8, 1] if solid >= 0) == list(range(len(solids)))
    generator = np.random.default_rng(1)
    found = 0
    for _ in range(400):
        origin = generator.uniform(0.05, 0.95, 3) * size
        direction = generator.normal(size=3)
        direction[generator.random(3) < 0.1] = 0.0
        if not direction.any():
            continue
        t, hit = closest(*room.geometry, *origin, *direction, 1e-6)
        alone = [intersect(solids, i, *origin, *direction, 1e-6, FAR) for i in range(len(solids))]
        with np.errstate(divide="ignore", invalid="ignore"):
            walls = np.where(direction > 0, (size - origin) / direction, -origin / direction)
        expected = min(min(alone), np.nanmin(np.where(direction == 0, np.inf, walls)))
        assert t == pytest.approx(expected, rel=1e-12)
        found += hit >= 0
    assert found > 100


def view(position, target):
    return Viewpoint(position, target, 0.0, 0.8)


def rays(camera, size=SIZE):
    """Camera-frame rays (H, W, 3) with z = 1 through the pixel centres."""
    height, width = size
    k = camera.intrinsics(size)
    x = (np.arange(width) + 0.5 - k[0, 2]) / k[0, 0]
    y = (np.arange(height) + 0.5 - k[1, 2]) / k[1, 1]
    return np.stack([*np.meshgrid(x, y), np.ones(size)], axis=-1)


def trace_parts(parts, camera):
    room = build_room(("empty",), look="a", camera="a", views=1, path_length=1)
    return trace(room._replace(geometry=geometry_of(parts)), camera, SIZE)


def test_a_wall_straight_ahead_is_at_one_depth():
    far_away = box((0.1, 0.2), (0.1, 0.2), (0.0, 0.1), "x:0")
    hits = trace_parts([far_away], view((2.0, 1.5, 1.5), (2.0, 5.0, 1.5)))
    wall = hits.solid == -4
    assert wall.sum() > 500
    assert np.abs(hits.depth[wall] - 3.5).max() < 1e-12
    assert np.array_equal(np.unique(hits.normal[wall], axis=0), [[0.0, -1.0, 0.0]])
    floor = hits.solid == -5
    assert np.allclose(hits.depth[floor] * rays(view((2.0, 1.5, 1.5), (2.0, 5.0, 1.5)))[floor][:, 1], 1.5, atol=1e-12)


def test_a_sphere_agrees_with_its_equation():
    center, radius = np.array([2.1, 3.4, 1.3]), 0.6
    camera = view((1.7, 1.0, 1.6), (2.0, 3.0, 1.4))
    hits = trace_parts([ball((2.1, 3.4, 1.3), (radius, radius, radius), "x:0")], camera)
    pose = camera.pose()
    directions = rays(camera) @ pose[:3, :3].T
    offset = pose[:3, 3] - center
    a, b = (directions**2).sum(-1), directions @ offset
    root = b**2 - a * (offset @ offset - radius**2)
    seen = root > 0
    assert np.array_equal(seen, hits.solid == 0)
    assert seen.sum() > 100
    depth = ((-b - np.sqrt(np.where(seen, root, 0))) / a)[seen]
    assert np.abs(hits.depth[seen] - depth).max() < 1e-12
    expected = (pose[:3, 3] + depth[:, None] * directions[seen] - center) / radius
    assert np.abs(hits.normal[seen] - expected).max() < 1e-9


def test_shapes_are_where_their_measures_say():
    parts = [box((0.0, 1.0), (0.0, 2.0), (0.5, 0.6), "x"), cone(1.0, 2.0, (0.0, 0.4), 0.3, 0.1, "x")]
    parts += [tube((0.0, 0.0, 0.2), (0.0, 1.0, 0.2), 0.2, "x")]
    inside = np.array([[0.99, 1.99, 0.59], [1.15, 2.0, 0.2], [0.0, 1.19, 0.2]])
    outside = np.array([[0.99, 1.99, 0.61], [1.25, 2.0, 0.2], [0.0, 1.21, 0.2]])
    for part, within, beyond in zip(parts, inside, outside, strict=True):
        assert implicit(part, within[None])[0] < 0 < implicit(part, beyond[None])[0]


@pytest.fixture(scope="module")
def room():
    return build_room(("geometry", 3), look="a", camera="a", views=2, path_length=4)


def test_normals_agree_with_depth_inside_flat_faces(room):
    for path in room.paths:
        camera = path[0]
        hits = trace(room, camera, SIZE)
        points = hits.depth[..., None] * rays(camera)
        across = points[1:-1, 2:] - points[1:-1, :-2]
        along = points[2:, 1:-1] - points[:-2, 1:-1]
        estimate = np.cross(along, across)
        estimate /= np.linalg.norm(estimate, axis=-1, keepdims=True)
        key = hits.solid * 8 + hits.face
        middle = key[1:-1, 1:-1]
        same = (
            (key[1:-1, 2:] == middle)
            & (key[1:-1, :-2] == middle)
            & (key[2:, 1:-1] == middle)
            & (key[:-2, 1:-1] == middle)
        )
        flat = same & (hits.face[1:-1, 1:-1] < 6)
        normal = hits.normal[1:-1, 1:-1] @ camera.pose()[:3, :3]
        angle = np.degrees(np.arccos(np.clip(np.abs((estimate * normal).sum(-1)), 0, 1)))
        assert flat.mean() > 0.3
        assert angle[flat].max() < 0.01


def reproject(camera, hits, other):
    """Points of one view in another: (x, y) pixel and depth z, (N,) each."""
    world = (hits.depth[..., None] * rays(camera)).reshape(-1, 3) @ camera.pose()[:3, :3].T + camera.pose()[:3, 3]
    local = (world - other.pose()[:3, 3]) @ other.pose()[:3, :3]
    k = other.intrinsics(SIZE)
    return k[0, 0] * local[:, 0] / local[:, 2] + k[0, 2], k[1, 1] * local[:, 1] / local[:, 2] + k[1, 2], local[:, 2]


@pytest.mark.parametrize(("first", "second", "shared"), [((0, 0), (0, 3), 0.6), ((0, 0), (1, 0), 0.1)])
def test_points_of_one_view_lie_on_the_surfaces_of_another(room, first, second, shared):
    camera, other = room.paths[first[0]][first[1]], room.paths[second[0]][second[1]]
    hits, there = trace(room, camera, SIZE), trace(room, other, SIZE)
    x, y, z = reproject(camera, hits, other)
    inside = (z > 0.1) & (x > 0) & (x < SIZE[1]) & (y > 0) & (y < SIZE[0])
    rotation, position = np.array(other.rotation()), np.array(other.position)
    k = other.intrinsics(SIZE)
    agree = 0
    for n in np.flatnonzero(inside):
        # The very ray of the second camera through that point: nothing is nearer, unless it hides the point.
        d = rotation @ ((x[n] - k[0, 2]) / k[0, 0], (y[n] - k[1, 2]) / k[1, 1], 1.0)
        t, hit = closest(*room.geometry, *position, *d, 1e-6)
        assert t <= z[n] + 1e-6
        if hit == hits.solid.ravel()[n] and t > z[n] - 1e-6:
            agree += 1
    assert agree > shared * SIZE[0] * SIZE[1]
    # And the depth map itself: the nearest pixel agrees on flat walls, floor and ceiling within its own slope.
    row, column = y[inside].astype(int), x[inside].astype(int)
    same = (there.solid[row, column] == hits.solid.ravel()[inside]) & (there.solid[row, column] < 0)
    assert np.median(np.abs(there.depth[row, column] - z[inside])[same]) < 0.03


def test_rotations_are_rotations_and_look_ahead(room):
    for path in room.paths:
        for camera in path:
            rotation = np.array(camera.rotation())
            assert np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-12
            assert np.linalg.det(rotation) == pytest.approx(1)
            forward = np.subtract(camera.target, camera.position)
            assert rotation[:, 2] @ forward == pytest.approx(math.dist(camera.target, camera.position))
            # y points down and x to the right: the camera is not upside down, nor mirrored.
            assert rotation[2, 1] < -0.5
            assert abs(rotation[2, 0]) < 0.1


def test_cameras_keep_clear_of_everything():
    for number in range(12):
        room = build_room(("clear", number), look="b", camera="b", views=2, path_length=8)
        for path in room.paths:
            for camera in path:
                assert trace(room, camera, (18, 24)).depth.min() > 0.08
