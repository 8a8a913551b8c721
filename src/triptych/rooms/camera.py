"""What a camera makes of light: exposure, vignetting, noise, tone curve, eight bits."""

import math

import numpy as np

from triptych.kernels import compiled
from triptych.rooms.textures import hashed_bits

BALANCE, BRIGHTNESS, VIGNETTING, SHOT_NOISE, READ_NOISE = 0, 3, 4, 5, 6
"""Columns of a camera's flaws: white balance (3), brightness, vignetting at the corners, variance of the noise per unit
of light, and its deviation in the dark."""


@compiled
def expose(image, flaws):
    """The exposure that brings the mean square root of a linear image's brightness to a fixed level."""
    total = 0.0
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            y = 0.25 * image[row, column, 0] + 0.6 * image[row, column, 1] + 0.15 * image[row, column, 2]
            total += math.sqrt(min(y, 4.0))
    mean = total / (image.shape[0] * image.shape[1])
    return 0.42 * 0.42 / (mean * mean + 1e-9) * flaws[BRIGHTNESS]


@compiled
def develop(image, flaws, exposure, seed, out):
    """The picture of a linear image `(H, W, 3)`, into `out` `(3, H, W)` uint8."""
    height, width = image.shape[0], image.shape[1]
    for row in range(height):
        for column in range(width):
            x, y = (2.0 * column + 1.0 - width) / width, (2.0 * row + 1.0 - height) / height
            gain = exposure * (1.0 - flaws[VIGNETTING] * 0.5 * (x * x + y * y))
            for k in range(3):
                value = gain * flaws[BALANCE + k] * image[row, column, k]
                deviation = math.sqrt(flaws[SHOT_NOISE] * value + flaws[READ_NOISE] * flaws[READ_NOISE])
                value = max(value + deviation * _normal(3 * column + k, row, seed), 0.0)
                # Filmic curve (Narkowicz, 2015), then the sRGB curve by square roots (Taylor, 2010).
                value = value * (2.51 * value + 0.03) / (value * (2.43 * value + 0.59) + 0.14)
                root = math.sqrt(min(value, 1.0))
                second = math.sqrt(root)
                display = 0.585122381 * root + 0.783140355 * second - 0.368262736 * math.sqrt(second)
                out[k, row, column] = np.uint8(min(max(255.0 * display + 0.5, 0.0), 255.0))


@compiled
def _normal(a, b, seed):
    """Nearly normal with unit variance: the sum of the four bytes of a hash."""
    bits = hashed_bits(a, b, seed)
    total = (bits & 255) + ((bits >> 8) & 255) + ((bits >> 16) & 255) + (bits >> 24)
    # A byte has the variance (256^2 - 1) / 12.
    return (total - 510.0) * 0.00676590
