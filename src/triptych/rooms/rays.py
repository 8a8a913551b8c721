"""Rays against the solids of a room: exact hits, found fast with a bounding-volume hierarchy, which is built here too.

Compiled by numba without fast math, from additions, multiplications, divisions and square roots alone, whose results
every IEEE machine shares: labels are the same bits everywhere. Kernels carry no annotations (numba infers types);
shapes stand in `Geometry` and in docstrings. Inner functions take arrays, one by one, and index them element by
element: a slice, or a field of a named tuple, costs two atomic reference counts, more than the arithmetic around it.

Every solid is a canonical shape under an affine map q = A p + b. A ray keeps its parameter under such a map, so with
camera rays (x, y, 1) the parameter of a hit is its depth z.
"""

import math
from typing import NamedTuple

import numpy as np

from triptych.kernels import compiled
from triptych.rooms.scene import BOX, CAPSULE, CONE, SPHERE

FAR = 1e30
PARAM, KIND, CASTS = 12, 13, 14
"""Columns of `Geometry.solids` after the twelve of the affine map."""


class Geometry(NamedTuple):
    """The room and its P solids. World axes: x and y along the walls, z up, metres; the room spans [0, size].

    A ray that hits no solid leaves the room through a side: -1 (x = 0), -2 (x = X), -3 (y = 0), -4 (y = Y), -5 (floor)
    or -6 (ceiling).
    """

    size: np.ndarray
    """(3,)"""
    solids: np.ndarray
    """(P, 15): rows of (A | b), world to canonical; shape parameter; kind; whether it throws shadows."""
    nodes: np.ndarray
    """(8 N, 6): boxes of the hierarchy per octant of ray directions, depth first, nearest child first; the three planes
    that such a ray meets first, then the three it meets last."""
    links: np.ndarray
    """(8 N, 2): the node that follows one whose box is missed, and the solid of a leaf (-1 for an inner node)."""


@compiled
def canonical(solids, i, x, y, z):
    """A world point in the canonical frame of solid i."""
    return (
        solids[i, 0] * x + solids[i, 1] * y + solids[i, 2] * z + solids[i, 3],
        solids[i, 4] * x + solids[i, 5] * y + solids[i, 6] * z + solids[i, 7],
        solids[i, 8] * x + solids[i, 9] * y + solids[i, 10] * z + solids[i, 11],
    )


@compiled
def intersect(solids, i, ox, oy, oz, dx, dy, dz, near, far):
    """The first hit with near < t < far of the ray o + t d and solid i, or `FAR`."""
    px, py, pz = canonical(solids, i, ox, oy, oz)
    vx = solids[i, 0] * dx + solids[i, 1] * dy + solids[i, 2] * dz
    vy = solids[i, 4] * dx + solids[i, 5] * dy + solids[i, 6] * dz
    vz = solids[i, 8] * dx + solids[i, 9] * dy + solids[i, 10] * dz
    kind = solids[i, KIND]
    if kind == BOX:
        return _box(px, py, pz, vx, vy, vz, near, far)
    if kind == SPHERE:
        return _sphere(px, py, pz, vx, vy, vz, near, far)
    if kind == CONE:
        return _cone(px, py, pz, vx, vy, vz, solids[i, PARAM], near, far)
    return _capsule(px, py, pz, vx, vy, vz, solids[i, PARAM], near, far)


@compiled
def _reciprocal(d):
    # A large finite number: infinity times zero would be NaN.
    return FAR if d == 0.0 else 1.0 / d


@compiled
def _box(px, py, pz, vx, vy, vz, near, far):
    ix, iy, iz = _reciprocal(vx), _reciprocal(vy), _reciprocal(vz)
    enter, leave = -px * ix - abs(ix), -px * ix + abs(ix)
    a, b = -py * iy - abs(iy), -py * iy + abs(iy)
    enter, leave = a if a > enter else enter, b if b < leave else leave
    a, b = -pz * iz - abs(iz), -pz * iz + abs(iz)
    enter, leave = a if a > enter else enter, b if b < leave else leave
    return enter if enter <= leave and near < enter < far else FAR


@compiled
def _sphere(px, py, pz, vx, vy, vz, near, far):
    a = vx * vx + vy * vy + vz * vz
    b = px * vx + py * vy + pz * vz
    root = b * b - a * (px * px + py * py + pz * pz - 1.0)
    if root < 0.0:
        return FAR
    t = (-b - math.sqrt(root)) / a
    return t if near < t < far else FAR


@compiled
def _cone(px, py, pz, vx, vy, vz, top, near, far):
    best = FAR
    if vz != 0.0:
        # Only the cap that faces the ray can be hit first.
        z, radius = (-1.0, 1.0) if vz > 0.0 else (1.0, top)
        t = (z - pz) / vz
        x, y = px + t * vx, py + t * vy
        if near < t < far and x * x + y * y <= radius * radius:
            best = t
    # Side: x^2 + y^2 = (m + s z)^2.
    m, s = 0.5 * (1.0 + top), 0.5 * (top - 1.0)
    r, rv = m + s * pz, s * vz
    a = vx * vx + vy * vy - rv * rv
    b = px * vx + py * vy - r * rv
    root = b * b - a * (px * px + py * py - r * r)
    if root >= 0.0 and a != 0.0:
        root = math.sqrt(root)
        t = (-b - root) / a
        if near < t < far and t < best and abs(pz + t * vz) <= 1.0:
            best = t
        t = (-b + root) / a
        if near < t < far and t < best and abs(pz + t * vz) <= 1.0:
            best = t
    return best


@compiled
def _capsule(px, py, pz, vx, vy, vz, long, near, far):
    a = vx * vx + vy * vy
    b = px * vx + py * vy
    root = b * b - a * (px * px + py * py - 1.0)
    # The capsule lies in the endless cylinder and in its two end spheres together with the cylinder between them.
    if root < 0.0:
        return FAR
    if a > 0.0:
        t = (-b - math.sqrt(root)) / a
        if abs(pz + t * vz) <= long:
            return t if near < t < far else FAR
    low = _sphere(px, py, pz + long, vx, vy, vz, near, far)
    high = _sphere(px, py, pz - long, vx, vy, vz, near, far)
    return low if low < high else high


@compiled
def shell(size, ox, oy, oz, dx, dy, dz):
    """Exit of a ray from inside the room: `(t, side)`."""
    best, side = FAR, -5
    if dx != 0.0:
        t = (size[0] - ox) / dx if dx > 0.0 else -ox / dx
        if t < best:
            best, side = t, -2 if dx > 0.0 else -1
    if dy != 0.0:
        t = (size[1] - oy) / dy if dy > 0.0 else -oy / dy
        if t < best:
            best, side = t, -4 if dy > 0.0 else -3
    if dz != 0.0:
        t = (size[2] - oz) / dz if dz > 0.0 else -oz / dz
        if t < best:
            best, side = t, -6 if dz > 0.0 else -5
    return best, side


@compiled
def _meets(nodes, n, ox, oy, oz, ix, iy, iz, far):
    """Whether a ray passes through the box of node n before `far`; the octant of the node is that of the ray."""
    enter, leave = (nodes[n, 0] - ox) * ix, (nodes[n, 3] - ox) * ix
    a, b = (nodes[n, 1] - oy) * iy, (nodes[n, 4] - oy) * iy
    enter, leave = a if a > enter else enter, b if b < leave else leave
    a, b = (nodes[n, 2] - oz) * iz, (nodes[n, 5] - oz) * iz
    enter, leave = a if a > enter else enter, b if b < leave else leave
    return leave >= enter and leave >= 0.0 and enter < far


@compiled
def closest(size, solids, nodes, links, ox, oy, oz, dx, dy, dz, near):
    """The nearest hit of a ray that starts inside the room: `(t, solid)`, or `(t, side)` with a negative side."""
    best, found = shell(size, ox, oy, oz, dx, dy, dz)
    ix, iy, iz = _reciprocal(dx), _reciprocal(dy), _reciprocal(dz)
    count = links.shape[0] // 8
    node = count * ((4 if dx < 0.0 else 0) + (2 if dy < 0.0 else 0) + (1 if dz < 0.0 else 0))
    end = node + count
    while node < end:
        if _meets(nodes, node, ox, oy, oz, ix, iy, iz, best):
            solid = links[node, 1]
            if solid >= 0:
                t = intersect(solids, solid, ox, oy, oz, dx, dy, dz, near, best)
                if t < best:
                    best, found = t, solid
            node += 1
        else:
            node = links[node, 0]
    return best, found


@compiled
def blocked(solids, nodes, links, ox, oy, oz, dx, dy, dz, far):
    """Whether a shadow-casting solid lies on o + t d for 0 < t < far."""
    ix, iy, iz = _reciprocal(dx), _reciprocal(dy), _reciprocal(dz)
    count = links.shape[0] // 8
    node = count * ((4 if dx < 0.0 else 0) + (2 if dy < 0.0 else 0) + (1 if dz < 0.0 else 0))
    end = node + count
    while node < end:
        if _meets(nodes, node, ox, oy, oz, ix, iy, iz, far):
            solid = links[node, 1]
            if (
                solid >= 0
                and solids[solid, CASTS] != 0.0
                and intersect(solids, solid, ox, oy, oz, dx, dy, dz, 0.0, far) < far
            ):
                return True
            node += 1
        else:
            node = links[node, 0]
    return False


@compiled
def surface(solids, solid, x, y, z):
    """Outward unit normal at a point of a solid or side, in world axes, and which face it is: `(nx, ny, nz, face)`.

    `face` tells the parts of one solid apart: 2 * axis + sign for boxes, 4 and 5 for the caps of a cone, 6 for what is
    curved; a side is its own face.
    """
    if solid < 0:
        inward = 1.0 if solid % 2 else -1.0
        axis = (-solid - 1) // 2
        return inward if axis == 0 else 0.0, inward if axis == 1 else 0.0, inward if axis == 2 else 0.0, 0
    mx, my, mz = canonical(solids, solid, x, y, z)
    face, kind = 6, solids[solid, KIND]
    if kind == BOX:
        ax, ay, az = abs(mx), abs(my), abs(mz)
        if ax >= ay and ax >= az:
            mx, my, mz, face = math.copysign(1.0, mx), 0.0, 0.0, 0 if mx < 0.0 else 1
        elif ay >= az:
            mx, my, mz, face = 0.0, math.copysign(1.0, my), 0.0, 2 if my < 0.0 else 3
        else:
            mx, my, mz, face = 0.0, 0.0, math.copysign(1.0, mz), 4 if mz < 0.0 else 5
    elif kind == CONE:
        top = solids[solid, PARAM]
        slope = 0.5 * (top - 1.0)
        r = 0.5 * (1.0 + top) + slope * mz
        # At a rim the cap and the side meet; what is inside the side by more than rounding is the cap.
        if abs(mz) > 1.0 - 1e-9 and mx * mx + my * my < r * r - 1e-9:
            face = 5 if mz > 0.0 else 4
            mx, my, mz = 0.0, 0.0, math.copysign(1.0, mz)
        else:
            mz = -slope * r
    elif kind == CAPSULE:
        mz -= min(max(mz, -solids[solid, PARAM]), solids[solid, PARAM])
    nx = solids[solid, 0] * mx + solids[solid, 4] * my + solids[solid, 8] * mz
    ny = solids[solid, 1] * mx + solids[solid, 5] * my + solids[solid, 9] * mz
    nz = solids[solid, 2] * mx + solids[solid, 6] * my + solids[solid, 10] * mz
    scale = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz)
    return nx * scale, ny * scale, nz * scale, face


@compiled
def ray(rotation, intrinsics, column, row):
    """World direction with unit depth through a point of the image, in pixels."""
    x = (column - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (row - intrinsics[1, 2]) / intrinsics[1, 1]
    return (
        rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2],
        rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2],
        rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2],
    )


@compiled
def probe(geometry, position, rotation, intrinsics, height, width):
    """Depth z and what is hit (a solid, or a negative side) at the pixel centers of a view: `(H, W)` each."""
    size, solids, nodes, links = geometry
    depth = np.empty((height, width))
    solid = np.empty((height, width), np.int64)
    for row in range(height):
        for column in range(width):
            dx, dy, dz = ray(rotation, intrinsics, column + 0.5, row + 0.5)
            depth[row, column], solid[row, column] = closest(
                size, solids, nodes, links, position[0], position[1], position[2], dx, dy, dz, 1e-6
            )
    return depth, solid


@compiled
def _clear(box):
    for k in range(3):
        box[k], box[3 + k] = FAR, -FAR


@compiled
def _grow(box, bounds, i):
    for k in range(3):
        box[k] = min(box[k], bounds[i, k])
        box[3 + k] = max(box[3 + k], bounds[i, 3 + k])


@compiled
def _area(box):
    x, y, z = box[3] - box[0], box[4] - box[1], box[5] - box[2]
    return x * y + y * z + z * x


@compiled
def _sort(order, low, high, bounds, axis):
    """Insertion sort of `order[low:high]` by the centers along an axis: stable, and short for nearly sorted parts."""
    for n in range(low + 1, high):
        i = order[n]
        place = bounds[i, axis] + bounds[i, 3 + axis]
        m = n - 1
        while m >= low and bounds[order[m], axis] + bounds[order[m], 3 + axis] > place:
            order[m + 1] = order[m]
            m -= 1
        order[m + 1] = i


@compiled
def _split(order, low, high, bounds, after, box):
    """Order part of the solids along the best axis; returns where to cut it.

    The best has the least expected work: area of the bounds times count, both sides (surface-area heuristic; Goldsmith
    and Salmon, 1987).
    """
    least, best, cut = FAR, 0, low + 1
    for axis in range(3):
        _sort(order, low, high, bounds, axis)
        _clear(box)
        for n in range(high - 1, low, -1):
            _grow(box, bounds, order[n])
            after[n] = _area(box) * (high - n)
        _clear(box)
        for n in range(low, high - 1):
            _grow(box, bounds, order[n])
            work = _area(box) * (n + 1 - low) + after[n + 1]
            if work < least:
                least, best, cut = work, axis, n + 1
    _sort(order, low, high, bounds, best)
    return cut


@compiled
def build_hierarchy(bounds):
    """Nodes and links of `Geometry` over `(P, 6)` boxes (lower corner, upper corner), P > 0."""
    count = bounds.shape[0]
    total = 2 * count - 1
    # Nodes of the tree: bounds; first and second child, solid of a leaf, number of nodes below and with it.
    tree, links = np.empty((total, 6)), np.full((total, 4), -1, np.int64)
    order, after, work, part = np.arange(count), np.empty(count), np.empty((total, 2), np.int64), np.empty(6)
    work[0, 0], work[0, 1], made = 0, count, 1
    for node in range(total):
        low, high = work[node, 0], work[node, 1]
        _clear(part)
        for n in range(low, high):
            _grow(part, bounds, order[n])
        for k in range(6):
            tree[node, k] = part[k]
        if high - low == 1:
            links[node, 2] = order[low]
            continue
        cut = _split(order, low, high, bounds, after, part)
        links[node, 0], links[node, 1] = made, made + 1
        work[made, 0], work[made, 1], work[made + 1, 0], work[made + 1, 1] = low, cut, cut, high
        made += 2
    for node in range(total - 1, -1, -1):
        links[node, 3] = 1
        if links[node, 0] >= 0:
            links[node, 3] += links[links[node, 0], 3] + links[links[node, 1], 3]
    return _flatten(tree, links, work)


@compiled
def _flatten(tree, links, stack):
    """The tree depth first, once per octant of ray directions."""
    total = tree.shape[0]
    nodes, jumps = np.empty((8 * total, 6)), np.empty((8 * total, 2), np.int64)
    for octant in range(8):
        at, height = octant * total, 1
        stack[0, 0] = 0
        while height > 0:
            height -= 1
            node = stack[height, 0]
            for k in range(3):
                backward = (octant >> (2 - k)) & 1
                nodes[at, k], nodes[at, 3 + k] = tree[node, 3 * backward + k], tree[node, 3 - 3 * backward + k]
            jumps[at, 0], jumps[at, 1] = at + links[node, 3], links[node, 2]
            at += 1
            if links[node, 0] >= 0:
                first = _nearer(tree, links[node, 0], links[node, 1], octant)
                stack[height, 0], stack[height + 1, 0] = links[node, 1 - first], links[node, first]
                height += 2
    return nodes, jumps


@compiled
def _nearer(tree, a, b, octant):
    """Which of two boxes rays of an octant tend to meet first, 0 or 1, by their centers."""
    ahead = 0.0
    for k in range(3):
        sign = -1.0 if (octant >> (2 - k)) & 1 else 1.0
        ahead += sign * (tree[b, k] + tree[b, 3 + k] - tree[a, k] - tree[a, 3 + k])
    return 0 if ahead >= 0.0 else 1
