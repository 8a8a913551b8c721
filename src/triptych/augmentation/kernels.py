"""The loops that move pixels to where straight windows show them, and count classes there.

`rows` and `columns` are places in `source`, one per row and column of `output`; all maps are `(planes, height, width)`.
"""

import numpy as np

from triptych.kernels import compiled


@compiled
def take_nearest(source, rows, columns, output):  # type: ignore[no-untyped-def]
    """The source pixel of each row and column."""
    for plane in range(output.shape[0]):
        for i in range(output.shape[1]):
            line, place = source[plane, rows[i]], output[plane, i]
            for j in range(output.shape[2]):
                place[j] = line[columns[j]]


@compiled
def take_linear(source, rows, below, columns, beside, output):  # type: ignore[no-untyped-def]
    """Between the pixel of each row and column and the next ones, by the fractions `below` and `beside`."""
    height, width = source.shape[1:]
    # One pixel more, so that the last one has a next one.
    line = np.empty(width + 1, source.dtype)
    for plane in range(output.shape[0]):
        for i in range(output.shape[1]):
            upper, lower = source[plane, rows[i]], source[plane, min(rows[i] + 1, height - 1)]
            part, place = below[i], output[plane, i]
            for j in range(width):
                line[j] = upper[j] + part * (lower[j] - upper[j])
            line[width] = line[width - 1]
            for j in range(output.shape[2]):
                here, there = line[columns[j]], line[columns[j] + 1]
                place[j] = here + beside[j] * (there - here)


@compiled
def count_classes(labels, top, bottom, left, right):  # type: ignore[no-untyped-def]
    """How often each id from 0 to 255 occurs between these rows and columns of `(height, width)`."""
    counts = np.zeros(256, np.int64)
    for i in range(top, bottom):
        line = labels[i, left:right]
        for j in range(line.size):
            counts[line[j] & 255] += 1
    return counts
