"""Color augmentation: pure functions on RGB in [0, 1], and two published random color transforms.

Neighboring views get the same change, so that a point of the scene keeps one color in all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from triptych.augmentation.kernels import adjust_on_cpu
from triptych.types import Sample

Image = Float[Tensor, "3 height width"]

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


def scale_saturation(image: Image, factor: float) -> Image:
    """Multiply the saturation of HSV by `factor`, at most to 1; hue and value stay.

    With V the largest channel, saturation is (V - min) / V, so channels move along the line to V:
    c' = V - k (V - c), with k = min(factor, 1 / saturation).
    """
    value, low = image.amax(0), image.amin(0)
    largest = value / (value - low).clamp(min=1e-6)
    return (value - (value - image) * largest.clamp(max=factor)).clamp_(min=0)


def shift_hue(image: Image, degrees: float) -> Image:
    """Turn the hue of HSV by `degrees`; saturation and value stay."""
    red, green, blue = image
    value = image.amax(0)
    chroma = value - image.amin(0)
    divisor = chroma.clamp(min=1e-6)
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    # HSV to RGB: channel n is V - C max(0, min(k, 4 - k, 1)) with k = (n + hue) mod 6, n = 5, 3, 1.
    k = (hue + degrees / 60 + image.new_tensor([5.0, 3.0, 1.0]).view(3, 1, 1)).remainder(6)
    return (value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1)).clamp_(min=0)


def adjust_colors(
    image: Image,
    *,
    brightness: float = 0.0,
    contrast_before: float = 1.0,
    saturation: float = 1.0,
    hue: float = 0.0,
    contrast_after: float = 1.0,
) -> Image:
    """Add `brightness`, multiply by `contrast_before`, scale the saturation, turn the hue by degrees, multiply by
    `contrast_after`; kept in [0, 1] at each step. In one pass where the image is on a CPU.

    >>> adjust_colors(torch.full((3, 1, 1), 0.5), brightness=0.25, contrast_after=2.0).flatten().tolist()
    [1.0, 1.0, 1.0]
    """
    if image.device.type == "cpu" and image.dtype == torch.float32:
        return adjust_on_cpu(image, brightness, contrast_before, saturation, hue, contrast_after)
    image = (image + brightness).clamp_(0, 1) if brightness != 0 else image
    image = (image * contrast_before).clamp_(max=1) if contrast_before != 1 else image
    image = scale_saturation(image, saturation) if saturation != 1 else image
    image = shift_hue(image, hue) if hue != 0 else image
    return (image * contrast_after).clamp_(max=1) if contrast_after != 1 else image


def blend(image: Image, other: Tensor | float, factor: float) -> Image:
    """Blend `factor` of the image with `1 - factor` of another; kept in [0, 1]."""
    return (factor * image + (1 - factor) * other).clamp(0, 1)


@dataclass(frozen=True)
class PhotometricDistortion:
    """SSD's photometric distortion (Liu et al., 2016) as implemented in segmentation toolboxes.

    Brightness moves by up to `brightness`, contrast is multiplied before or after saturation and hue; each of the four
    happens with probability 0.5. Published pipelines round to 8 bits after each step; this one keeps floats.
    """

    brightness: float = 32 / 255
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 36.0
    """Degrees: 18 of OpenCV's half degrees."""

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        def drawn(low: float, high: float, unchanged: float) -> float:
            return generator.uniform(low, high) if generator.random() < 0.5 else unchanged

        brightness = drawn(-self.brightness, self.brightness, 0.0)
        contrast = drawn(*self.contrast, 1.0)
        contrast_first = generator.random() < 0.5
        paint = partial(
            adjust_colors,
            brightness=brightness,
            contrast_before=contrast if contrast_first else 1.0,
            saturation=drawn(*self.saturation, 1.0),
            hue=drawn(-self.hue, self.hue, 0.0),
            contrast_after=1.0 if contrast_first else contrast,
        )
        return _repaint(sample, paint)


@dataclass(frozen=True)
class ColorJitter:
    """DenseMTL's gentle jitter: brightness, contrast, saturation and hue in random order, with probability 0.5."""

    brightness: tuple[float, float] = (0.8, 1.2)
    contrast: tuple[float, float] = (0.8, 1.2)
    saturation: tuple[float, float] = (0.8, 1.2)
    hue: float = 36.0
    """Degrees: 0.1 of a full turn."""
    probability: float = 0.5

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        if generator.random() >= self.probability:
            return sample
        brightness, contrast = generator.uniform(*self.brightness), generator.uniform(*self.contrast)
        saturation, hue = generator.uniform(*self.saturation), generator.uniform(-self.hue, self.hue)
        steps = (
            lambda image: blend(image, 0.0, brightness),
            lambda image: blend(image, _grey(image).mean(), contrast),
            lambda image: blend(image, _grey(image), saturation),
            lambda image: adjust_colors(image, hue=hue),
        )
        order = generator.permutation(len(steps))
        return _repaint(sample, lambda image: reduce(lambda x, i: steps[i](x), order, image))


def _repaint(sample: Sample, paint: Callable[[Image], Image]) -> Sample:
    """Apply a color change to a sample and its neighbors; missing views stay NaN."""
    views = (view if view.image.isnan().any() else _repaint(view, paint) for view in sample.neighbors)
    return replace(sample, image=paint(sample.image), neighbors=tuple(views))


def _grey(image: Image) -> Float[Tensor, "height width"]:
    return torch.einsum("chw,c->hw", image, image.new_tensor(LUMA))
