"""The bounding-volume hierarchy over the solids of a room."""

import numpy as np

from triptych.datasets.rooms_compiled import compiled
from triptych.datasets.rooms_rays import FAR


@compiled
def _grow(box, bounds, i):
    for k in range(3):
        box[k] = min(box[k], bounds[i, k])
        box[3 + k] = max(box[3 + k], bounds[i, 3 + k])


@compiled
def _empty_box():
    box = np.empty(6)
    box[:3], box[3:] = FAR, -FAR
    return box


@compiled
def _area(box):
    x, y, z = box[3] - box[0], box[4] - box[1], box[5] - box[2]
    return x * y + y * z + z * x


@compiled
def _sorted_along(part, bounds, axis):
    # Merge sort is stable: solids at one place keep their order on every machine.
    return part[np.argsort(bounds[part, axis] + bounds[part, 3 + axis], kind="mergesort")]


@compiled
def _best_split(part, bounds):
    """The order of solids along an axis and the position in it with the least expected work: area times count, both
    sides (surface-area heuristic; Goldsmith and Salmon, 1987).
    """
    count = len(part)
    least, best, at = FAR, part, 1
    after = np.empty(count)
    for axis in range(3):
        order = _sorted_along(part, bounds, axis)
        box = _empty_box()
        for i in range(count - 1, 0, -1):
            _grow(box, bounds, order[i])
            after[i] = _area(box) * (count - i)
        box = _empty_box()
        for i in range(count - 1):
            _grow(box, bounds, order[i])
            work = _area(box) * (i + 1) + after[i + 1]
            if work < least:
                least, best, at = work, order, i + 1
    return best, at


@compiled
def build_hierarchy(bounds):
    """Nodes and links of `Geometry` over `(P, 6)` boxes (lower corner, upper corner), P > 0."""
    count = bounds.shape[0]
    total = 2 * count - 1
    tree, child, leaf = np.empty((total, 6)), np.full((total, 2), -1), np.full(total, -1)
    order, made = np.arange(count), 1
    work = [(0, 0, count)]
    while len(work) > 0:
        node, low, high = work.pop()
        box = _empty_box()
        for i in range(low, high):
            _grow(box, bounds, order[i])
        tree[node] = box
        if high - low == 1:
            leaf[node] = order[low]
            continue
        order[low:high], at = _best_split(order[low:high].copy(), bounds)
        child[node, 0], child[node, 1] = made, made + 1
        work.append((made, low, low + at))
        work.append((made + 1, low + at, high))
        made += 2
    return _flatten(tree, child, leaf)


@compiled
def _flatten(tree, child, leaf):
    total = len(leaf)
    size = np.ones(total, np.int64)
    for node in range(total - 1, -1, -1):
        if child[node, 0] >= 0:
            size[node] += size[child[node, 0]] + size[child[node, 1]]
    nodes, links = np.empty((8 * total, 6)), np.empty((8 * total, 2), np.int64)
    for octant in range(8):
        at = octant * total
        stack = [0]
        while len(stack) > 0:
            node = stack.pop()
            for k in range(3):
                backward = (octant >> (2 - k)) & 1
                nodes[at, k], nodes[at, 3 + k] = tree[node, 3 * backward + k], tree[node, 3 - 3 * backward + k]
            links[at, 0], links[at, 1] = at + size[node], leaf[node]
            at += 1
            if child[node, 0] >= 0:
                first = _nearer(tree, child[node, 0], child[node, 1], octant)
                stack.append(child[node, 1 - first])
                stack.append(child[node, first])
    return nodes, links


@compiled
def _nearer(tree, a, b, octant):
    """Which of two boxes rays of an octant tend to meet first, 0 or 1, by their centres."""
    ahead = 0.0
    for k in range(3):
        sign = -1.0 if (octant >> (2 - k)) & 1 else 1.0
        ahead += sign * (tree[b, k] + tree[b, 3 + k] - tree[a, k] - tree[a, 3 + k])
    return 0 if ahead >= 0.0 else 1
