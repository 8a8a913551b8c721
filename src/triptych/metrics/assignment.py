"""Sparse assignment of least cost by shortest augmenting paths.

Every row gets one column. Rows are served one after the other: a Dijkstra search over reduced costs ends at the nearest
free column, and dual prices keep all reduced costs non-negative (Jonker and Volgenant, Computing 38, 1987).
"""

from typing import no_type_check

import numpy as np

from triptych.kernels import compiled


@compiled
@no_type_check
def _push(keys, values, count, key, value):
    """Add to a binary heap."""
    i = count
    while i > 0:
        above = (i - 1) >> 1
        if keys[above] <= key:
            break
        keys[i], values[i] = keys[above], values[above]
        i = above
    keys[i], values[i] = key, value


@compiled
@no_type_check
def _pop(keys, values, count):
    """Remove the smallest of a binary heap of `count`."""
    key, value = keys[0], values[0]
    last_key, last_value = keys[count - 1], values[count - 1]
    i = 0
    while True:
        below = 2 * i + 1
        if below >= count - 1:
            break
        if below + 1 < count - 1 and keys[below + 1] < keys[below]:
            below += 1
        if keys[below] >= last_key:
            break
        keys[i], values[i] = keys[below], values[below]
        i = below
    keys[i], values[i] = last_key, last_value
    return key, value


@compiled
@no_type_check
def assign(first, columns, costs, num_columns):
    """The row of every column (-1: none) in the assignment of all rows with the least total cost.

    Row r may take `columns[first[r]:first[r + 1]]` at integer `costs`. An assignment of all rows must exist.
    """
    num_rows = len(first) - 1
    row_price, column_price = np.zeros(num_rows, np.int64), np.zeros(num_columns, np.int64)
    row, column = np.full(num_columns, -1, np.int32), np.full(num_rows, -1, np.int32)
    for r in range(num_rows):  # every row takes its cheapest column if that is free
        cheapest = first[r]
        for i in range(first[r] + 1, first[r + 1]):
            if costs[i] < costs[cheapest]:
                cheapest = i
        row_price[r] = costs[cheapest]
        if row[columns[cheapest]] < 0:
            row[columns[cheapest]] = r
            column[r] = columns[cheapest]
    distance, parent = np.empty(num_columns, np.int64), np.empty(num_columns, np.int32)
    reached, settled = np.full(num_columns, -1, np.int32), np.full(num_columns, -1, np.int32)
    keys, values = np.empty(len(costs) + 1, np.int64), np.empty(len(costs) + 1, np.int32)
    path = np.empty(num_columns, np.int32)
    for source in range(num_rows):
        if column[source] >= 0:
            continue
        count = num_path = 0
        r, base = source, np.int64(0)
        while True:
            for i in range(first[r], first[r + 1]):
                c = columns[i]
                if settled[c] == source:
                    continue
                candidate = base + costs[i] - row_price[r] - column_price[c]
                if reached[c] != source or candidate < distance[c]:
                    reached[c], distance[c], parent[c] = source, candidate, r
                    _push(keys, values, count, candidate, c)
                    count += 1
            while True:
                base, c = _pop(keys, values, count)
                count -= 1
                if settled[c] != source:
                    break
            settled[c] = source
            if row[c] < 0:
                break
            path[num_path] = c
            num_path += 1
            r = row[c]
        row_price[source] += base
        for p in path[:num_path]:
            column_price[p] -= base - distance[p]
            row_price[row[p]] += base - distance[p]
        while True:
            r = parent[c]
            row[c] = r
            column[r], c = c, column[r]
            if r == source:
                break
    return row
