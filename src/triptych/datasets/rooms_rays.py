"""Rays against the solids of a room: exact hits, and a bounding-volume hierarchy to find them fast.

Compiled by numba without fast math: only additions, multiplications, divisions and square roots, whose results every IEEE machine
shares, so that labels are the same bits everywhere. Kernels carry no annotations (numba infers them); their shapes are in `Geometry`.

Every solid is a canonical shape under an affine map, `q = affine[:, :3] p + affine[:, 3]`. A ray keeps its parameter under such a map, so with camera
rays `(x, y, 1)` the parameter of a hit is its depth z.
"""

import math
from typing import NamedTuple

import numpy as np

from triptych.datasets.rooms_compiled import compiled

BOX, SPHERE, CONE, CAPSULE = 0, 1, 2, 3
"""Canonical shapes: [-1, 1]^3; the unit sphere; a capped cone along z from radius 1 at z = -1 to radius `param` at z = 1 (1: a cylinder);
a capsule of radius 1 whose axis runs from z = -param to z = param."""

FAR = 1e30
WALL_LEFT, WALL_RIGHT, WALL_FRONT, WALL_BACK, FLOOR, CEILING = -1, -2, -3, -4, -5, -6
"""What a ray hits when it hits no solid: a side of the room (x = 0, x = X, y = 0, y = Y, z = 0, z = Z)."""


class Geometry(NamedTuple):
    """The room and its P solids. World axes: x and y along the walls, z up, metres; the room spans [0, size]."""

    size: np.ndarray  # (3,)
    kind: np.ndarray  # (P,) int64
    affine: np.ndarray  # (P, 3, 4) world to canonical
    param: np.ndarray  # (P,)
    casts: np.ndarray  # (P,) bool: throws shadows
    boxes: (
        np.ndarray
    )  # (8, N, 6) nodes of the hierarchy in depth-first order, nearest child first, per octant of ray directions
    skip: np.ndarray  # (8, N) the node that follows a node whose box is missed
    leaf: np.ndarray  # (8, N) the solid of a leaf, -1 for an inner node


@compiled
def intersect(kind, affine, param, ox, oy, oz, dx, dy, dz, near, far):
    """The first hit with `near < t < far` of the ray o + t d, or `FAR`."""
    px = affine[0, 0] * ox + affine[0, 1] * oy + affine[0, 2] * oz + affine[0, 3]
    py = affine[1, 0] * ox + affine[1, 1] * oy + affine[1, 2] * oz + affine[1, 3]
    pz = affine[2, 0] * ox + affine[2, 1] * oy + affine[2, 2] * oz + affine[2, 3]
    vx = affine[0, 0] * dx + affine[0, 1] * dy + affine[0, 2] * dz
    vy = affine[1, 0] * dx + affine[1, 1] * dy + affine[1, 2] * dz
    vz = affine[2, 0] * dx + affine[2, 1] * dy + affine[2, 2] * dz
    if kind == BOX:
        return _box(px, py, pz, vx, vy, vz, near, far)
    if kind == SPHERE:
        return _sphere(px, py, pz, vx, vy, vz, near, far)
    if kind == CONE:
        return _cone(px, py, pz, vx, vy, vz, param, near, far)
    return _capsule(px, py, pz, vx, vy, vz, param, near, far)


@compiled
def _box(px, py, pz, vx, vy, vz, near, far):
    enter, leave = -FAR, FAR
    for p, v in ((px, vx), (py, vy), (pz, vz)):
        if v == 0.0:
            if p < -1.0 or p > 1.0:
                return FAR
        else:
            a, b = (-1.0 - p) / v, (1.0 - p) / v
            if a > b:
                a, b = b, a
            if a > enter:
                enter = a
            if b < leave:
                leave = b
    if enter <= leave and near < enter < far:
        return enter
    return FAR


@compiled
def _sphere(px, py, pz, vx, vy, vz, near, far):
    a = vx * vx + vy * vy + vz * vz
    b = px * vx + py * vy + pz * vz
    c = px * px + py * py + pz * pz - 1.0
    root = b * b - a * c
    if root < 0.0:
        return FAR
    t = (-b - math.sqrt(root)) / a
    return t if near < t < far else FAR


@compiled
def _cone(px, py, pz, vx, vy, vz, param, near, far):
    best = FAR
    if vz != 0.0:
        for z, radius in ((-1.0, 1.0), (1.0, param)):
            t = (z - pz) / vz
            x, y = px + t * vx, py + t * vy
            if near < t < far and t < best and x * x + y * y <= radius * radius:
                best = t
    # Side: x^2 + y^2 = (m + s z)^2
    m, s = 0.5 * (1.0 + param), 0.5 * (param - 1.0)
    r, rv = m + s * pz, s * vz
    a = vx * vx + vy * vy - rv * rv
    b = px * vx + py * vy - r * rv
    c = px * px + py * py - r * r
    root = b * b - a * c
    if root >= 0.0 and a != 0.0:
        root = math.sqrt(root)
        for sign in (-1.0, 1.0):
            t = (-b + sign * root) / a
            z = pz + t * vz
            if near < t < far and t < best and -1.0 <= z <= 1.0:
                best = t
    return best


@compiled
def _capsule(px, py, pz, vx, vy, vz, param, near, far):
    a = vx * vx + vy * vy
    b = px * vx + py * vy
    c = px * px + py * py - 1.0
    best = FAR
    root = b * b - a * c
    if a > 0.0 and root >= 0.0:
        t = (-b - math.sqrt(root)) / a
        z = pz + t * vz
        if near < t < far and -param <= z <= param:
            best = t
    for end in (-param, param):
        t = _sphere(px, py, pz - end, vx, vy, vz, near, far)
        if t < best:
            best = t
    return best


@compiled
def shell(size, ox, oy, oz, dx, dy, dz):
    """Where a ray from inside leaves the room: `(t, side)`."""
    t, side = FAR, FLOOR
    for axis in range(3):
        o = ox if axis == 0 else (oy if axis == 1 else oz)
        d = dx if axis == 0 else (dy if axis == 1 else dz)
        if d > 0.0:
            s = (size[axis] - o) / d
            if s < t:
                t, side = s, -2 * axis - 2
        elif d < 0.0:
            s = -o / d
            if s < t:
                t, side = s, -2 * axis - 1
    return t, side


@compiled
def closest(geometry, ox, oy, oz, dx, dy, dz, near):
    """The nearest hit of a ray that starts inside the room: `(t, solid)`, or `(t, side)` with a negative side."""
    best, found = shell(geometry.size, ox, oy, oz, dx, dy, dz)
    ix, iy, iz = _inverse(dx), _inverse(dy), _inverse(dz)
    octant = (4 if dx < 0.0 else 0) + (2 if dy < 0.0 else 0) + (1 if dz < 0.0 else 0)
    boxes, skip, leaf = geometry.boxes[octant], geometry.skip[octant], geometry.leaf[octant]
    node, count = 0, leaf.shape[0]
    while node < count:
        if not _meets(boxes[node], ox, oy, oz, ix, iy, iz, best):
            node = skip[node]
            continue
        solid = leaf[node]
        if solid >= 0:
            t = intersect(
                geometry.kind[solid], geometry.affine[solid], geometry.param[solid], ox, oy, oz, dx, dy, dz, near, best
            )
            if t < best:
                best, found = t, solid
        node += 1
    return best, found


@compiled
def blocked(geometry, ox, oy, oz, dx, dy, dz, far):
    """Whether a shadow-casting solid lies on o + t d for 0 < t < far."""
    ix, iy, iz = _inverse(dx), _inverse(dy), _inverse(dz)
    octant = (4 if dx < 0.0 else 0) + (2 if dy < 0.0 else 0) + (1 if dz < 0.0 else 0)
    boxes, skip, leaf = geometry.boxes[octant], geometry.skip[octant], geometry.leaf[octant]
    node, count = 0, leaf.shape[0]
    while node < count:
        if not _meets(boxes[node], ox, oy, oz, ix, iy, iz, far):
            node = skip[node]
            continue
        solid = leaf[node]
        if solid >= 0 and geometry.casts[solid]:
            t = intersect(
                geometry.kind[solid], geometry.affine[solid], geometry.param[solid], ox, oy, oz, dx, dy, dz, 0.0, far
            )
            if t < far:
                return True
        node += 1
    return False


@compiled
def _inverse(d):
    # A large finite number: infinity times zero would be NaN.
    if d == 0.0:
        return FAR
    return 1.0 / d


@compiled
def _meets(box, ox, oy, oz, ix, iy, iz, far):
    a, b = (box[0] - ox) * ix, (box[3] - ox) * ix
    enter, leave = (a, b) if ix > 0.0 else (b, a)
    a, b = (box[1] - oy) * iy, (box[4] - oy) * iy
    if iy < 0.0:
        a, b = b, a
    enter = a if a > enter else enter
    leave = b if b < leave else leave
    a, b = (box[2] - oz) * iz, (box[5] - oz) * iz
    if iz < 0.0:
        a, b = b, a
    enter = a if a > enter else enter
    leave = b if b < leave else leave
    return leave >= enter and leave >= 0.0 and enter < far


@compiled
def surface(geometry, solid, x, y, z):
    """Outward unit normal (world) and canonical position of a point on a solid or side: `(nx, ny, nz, qx, qy, qz, face)`.

    `face` tells the flat parts of one solid apart (0 to 5 for boxes and sides: axis * 2 + sign; caps of a cone 4 and 5; curved parts 6).
    """
    if solid < 0:
        side = -solid - 1
        axis, sign = side // 2, 1.0 - 2.0 * (side % 2)
        return (
            sign if axis == 0 else 0.0,
            sign if axis == 1 else 0.0,
            sign if axis == 2 else 0.0,
            2.0 * x / geometry.size[0] - 1.0,
            2.0 * y / geometry.size[1] - 1.0,
            2.0 * z / geometry.size[2] - 1.0,
            side,
        )
    affine, kind, param = geometry.affine[solid], geometry.kind[solid], geometry.param[solid]
    qx = affine[0, 0] * x + affine[0, 1] * y + affine[0, 2] * z + affine[0, 3]
    qy = affine[1, 0] * x + affine[1, 1] * y + affine[1, 2] * z + affine[1, 3]
    qz = affine[2, 0] * x + affine[2, 1] * y + affine[2, 2] * z + affine[2, 3]
    mx, my, mz, face = qx, qy, qz, 6
    if kind == BOX:
        ax, ay, az = abs(qx), abs(qy), abs(qz)
        mx, my, mz = 0.0, 0.0, 0.0
        if ax >= ay and ax >= az:
            mx, face = math.copysign(1.0, qx), 0 if qx < 0.0 else 1
        elif ay >= az:
            my, face = math.copysign(1.0, qy), 2 if qy < 0.0 else 3
        else:
            mz, face = math.copysign(1.0, qz), 4 if qz < 0.0 else 5
    elif kind == CONE:
        s = 0.5 * (param - 1.0)
        r = 0.5 * (1.0 + param) + s * qz
        inside = qx * qx + qy * qy < (r - 1e-9) * (r - 1e-9)
        if qz > 1.0 - 1e-9 and inside:
            mx, my, mz, face = 0.0, 0.0, 1.0, 5
        elif qz < -1.0 + 1e-9 and inside:
            mx, my, mz, face = 0.0, 0.0, -1.0, 4
        else:
            mz = -s * r
    elif kind == CAPSULE:
        mz = qz - min(max(qz, -param), param)
    nx = affine[0, 0] * mx + affine[1, 0] * my + affine[2, 0] * mz
    ny = affine[0, 1] * mx + affine[1, 1] * my + affine[2, 1] * mz
    nz = affine[0, 2] * mx + affine[1, 2] * my + affine[2, 2] * mz
    scale = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz)
    return nx * scale, ny * scale, nz * scale, qx, qy, qz, face


@compiled
def _grow(tree, node, bounds, order, low, high):
    for k in range(3):
        tree[node, k], tree[node, 3 + k] = FAR, -FAR
        for i in range(low, high):
            tree[node, k] = min(tree[node, k], bounds[order[i], k])
            tree[node, 3 + k] = max(tree[node, 3 + k], bounds[order[i], 3 + k])


@compiled
def _area(box):
    x, y, z = box[3] - box[0], box[4] - box[1], box[5] - box[2]
    return x * y + y * z + z * x


@compiled
def _best_split(bounds, order, low, high):
    """Surface-area heuristic: the axis and position with the least expected work."""
    count = high - low
    cost, best_axis, best_at = FAR, 0, 1
    right = np.empty(count)
    box = np.empty(6)
    for axis in range(3):
        part = order[low:high].copy()
        part = part[np.argsort(bounds[part, axis] + bounds[part, 3 + axis], kind="mergesort")]
        for direction in range(2):
            for k in range(3):
                box[k], box[3 + k] = FAR, -FAR
            for step in range(count - 1):
                i = count - 1 - step if direction == 0 else step
                for k in range(3):
                    box[k] = min(box[k], bounds[part[i], k])
                    box[3 + k] = max(box[3 + k], bounds[part[i], 3 + k])
                if direction == 0:
                    right[i] = _area(box) * (count - i)
                else:
                    total = _area(box) * (i + 1) + right[i + 1]
                    if total < cost:
                        cost, best_axis, best_at = total, axis, i + 1
    return best_axis, best_at


@compiled
def build_hierarchy(bounds):
    """Bounding-volume hierarchy over `(P, 6)` boxes: `(boxes, skip, leaf)` of `Geometry`."""
    count = bounds.shape[0]
    total = max(2 * count - 1, 0)
    tree = np.empty((total, 6))
    child = np.full((total, 2), -1)
    axis_of = np.zeros(total, np.int64)
    solid = np.full(total, -1)
    order = np.arange(count)
    work = [(0, 0, count)]
    made = 1
    while len(work) > 0 and count > 0:
        node, low, high = work.pop()
        _grow(tree, node, bounds, order, low, high)
        if high - low == 1:
            solid[node] = order[low]
            continue
        axis, at = _best_split(bounds, order, low, high)
        part = order[low:high].copy()
        order[low:high] = part[np.argsort(bounds[part, axis] + bounds[part, 3 + axis], kind="mergesort")]
        axis_of[node] = axis
        child[node, 0], child[node, 1] = made, made + 1
        work.append((made, low, low + at))
        work.append((made + 1, low + at, high))
        made += 2
    boxes = np.empty((8, total, 6))
    skip = np.empty((8, total), np.int64)
    leaf = np.empty((8, total), np.int64)
    size = np.ones(total, np.int64)
    for node in range(total - 1, -1, -1):
        if child[node, 0] >= 0:
            size[node] = 1 + size[child[node, 0]] + size[child[node, 1]]
    for octant in range(8):
        stack = [0]
        at = 0
        while len(stack) > 0 and total > 0:
            node = stack.pop()
            boxes[octant, at] = tree[node]
            skip[octant, at] = at + size[node]
            leaf[octant, at] = solid[node]
            at += 1
            if child[node, 0] >= 0:
                far_first = (octant >> (2 - axis_of[node])) & 1
                stack.append(child[node, 1 - far_first])
                stack.append(child[node, far_first])
    return boxes, skip, leaf


@compiled
def probe(geometry, position, rotation, intrinsics, height, width):
    """Depth z and what is hit (a solid, or a negative side) at the pixel centres of a view: `(H, W)` each."""
    depth = np.empty((height, width))
    solid = np.empty((height, width), np.int64)
    for row in range(height):
        for column in range(width):
            x = (column + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
            y = (row + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
            dx = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2]
            dy = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2]
            dz = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2]
            depth[row, column], solid[row, column] = closest(
                geometry, position[0], position[1], position[2], dx, dy, dz, 1e-6
            )
    return depth, solid
