"""The loop over pixels that changes the colours of an image: one pass for all steps, 20 times faster than as many
passes over planes.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from triptych.kernels import compiled


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
