"""The bounding-volume hierarchy over the solids of a room.

Written with loops over elements: array expressions would double the time to compile it.
"""

import numpy as np

from triptych.kernels import compiled
from triptych.rooms.rays import FAR


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
    """Insertion sort of `order[low:high]` by the centres along an axis: stable, and short for nearly sorted parts."""
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
    """Which of two boxes rays of an octant tend to meet first, 0 or 1, by their centres."""
    ahead = 0.0
    for k in range(3):
        sign = -1.0 if (octant >> (2 - k)) & 1 else 1.0
        ahead += sign * (tree[b, k] + tree[b, 3 + k] - tree[a, k] - tree[a, 3 + k])
    return 0 if ahead >= 0.0 else 1
