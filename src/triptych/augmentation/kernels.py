"""Kernels of augmentation: resampling through straight views, counting classes, and changing colors.

`rows` and `columns` are positions in `source`, one per row and column of `output`; maps are `(planes, height, width)`.
Colors are changed in one pass for all steps, 20 times faster than as many passes over planes.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

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
    """Count each id between these rows and columns of `(height, width)`."""
    counts = np.zeros(max(labels[top:bottom, left:right].max(), 255) + 1, np.int64)
    for i in range(top, bottom):
        line = labels[i, left:right]
        for j in range(line.size):
            counts[line[j]] += 1
    return counts


def adjust_on_cpu(
    image: Float[Tensor, "3 height width"],
    brightness: float,
    before: float,
    saturation: float,
    degrees: float,
    after: float,
) -> Float[Tensor, "3 height width"]:
    """`adjust_colors` for float32 images in the memory of the CPU."""
    pixels = image.contiguous().numpy().reshape(3, -1)
    found = np.empty_like(pixels)
    _adjust(pixels, found, *np.array([brightness, before, saturation, degrees / 60, after], np.float32))
    return torch.from_numpy(found).view(image.shape)


ZERO, ONE, FOUR, SIX = (np.float32(value) for value in (0, 1, 4, 6))
TWO, TINY = np.float32(2), np.float32(1e-6)


@compiled
def _adjust(pixels, found, brightness, before, saturation, sextants, after):  # type: ignore[no-untyped-def]
    for i in range(pixels.shape[1]):
        red, green, blue = pixels[0, i], pixels[1, i], pixels[2, i]
        if brightness != ZERO:
            red = min(max(red + brightness, ZERO), ONE)
            green = min(max(green + brightness, ZERO), ONE)
            blue = min(max(blue + brightness, ZERO), ONE)
        if before != ONE:
            red, green, blue = min(red * before, ONE), min(green * before, ONE), min(blue * before, ONE)
        if saturation != ONE:
            value, low = max(red, max(green, blue)), min(red, min(green, blue))
            factor = min(value / max(value - low, TINY), saturation)
            red = max(value - (value - red) * factor, ZERO)
            green = max(value - (value - green) * factor, ZERO)
            blue = max(value - (value - blue) * factor, ZERO)
        if sextants != ZERO:
            value = max(red, max(green, blue))
            chroma = value - min(red, min(green, blue))
            divisor = max(chroma, TINY)
            if value == red:
                hue = (green - blue) / divisor
            elif value == green:
                hue = (blue - red) / divisor + TWO
            else:
                hue = (red - green) / divisor + FOUR
            hue += sextants
            red = _channel(hue, np.float32(5), value, chroma)
            green = _channel(hue, np.float32(3), value, chroma)
            blue = _channel(hue, np.float32(1), value, chroma)
        if after != ONE:
            red, green, blue = min(red * after, ONE), min(green * after, ONE), min(blue * after, ONE)
        found[0, i], found[1, i], found[2, i] = red, green, blue


@compiled
def _channel(hue, number, value, chroma):  # type: ignore[no-untyped-def]
    k = hue + number
    k -= SIX * np.floor(k / SIX)
    return max(value - chroma * min(max(min(k, FOUR - k), ZERO), ONE), ZERO)
