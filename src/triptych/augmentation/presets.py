"""Augmentation presets: the published pipelines, made of the steps in `steps.py`.

A transform is called as `transform(sample, generator)`. All presets differ from the published pipelines in three ways.
Pixels outside the image are invalid in every target; some originals fill label maps with class 0 there
(`reference_quirks=True` restores that for `survey-pascal`). Pixels are resampled about their centers, targets always by
nearest neighbor; the originals shift nearest labels by up to half a pixel, and interpolate normals. And images without
a person have no human parts, but a crop that misses all persons of its image is background; the originals leave out
such crops too. Options of presets are for custom training loops (`build_transform`): no recipe uses any.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from triptych.augmentation.color import ColorJitter, PhotometricDistortion
from triptych.augmentation.steps import (
    CenterCrop,
    Chain,
    Draw,
    FitHeight,
    Flip,
    Pad,
    ScaleCrop,
    ScaleRotate,
    Select,
    Size,
    Stretch,
    Tasks,
    Transform,
    ZoomCrop,
    choose,
    uniform,
)
from triptych.lookup import named_choice

one = partial(choose, choices=(1.0,))
nowhere = partial(choose, choices=(0.0,))


def default(*, size: Size, tasks: Tasks, train: bool) -> Transform:
    """For own data and `rooms`: mirrored in half of the cases, magnified by 0.75 to 1.33, cropped or padded to `size`,
    mild colors. Evaluation takes the image as it is.
    """
    colors = PhotometricDistortion(brightness=0.08, contrast=(0.8, 1.25), saturation=(0.8, 1.25), hue=9.0)
    crop = ScaleCrop(tasks, size, scale=partial(uniform, low=0.75, high=1.33), max_share=0.9)
    return Chain((crop, Flip(tasks), colors, Pad(tasks, size))) if train else Select(tasks)


def survey(*, size: Size, tasks: Tasks, train: bool, reference_quirks: bool = False) -> Transform:
    """NYUDv2 of the multi-task survey (Vandenhende et al., 2021): mirror, magnify by 1, 1.2 or 1.5 about the center,
    stretch to `size` (480x640). Evaluation stretches, and predictions are scored at that size. A magnified image
    has no pixels from outside: `reference_quirks` has no effect here.
    """
    return _survey(size, tasks, train, partial(choose, choices=(1.0, 1.2, 1.5)), nowhere, reference_quirks)


def survey_pascal(*, size: Size, tasks: Tasks, train: bool, reference_quirks: bool = False) -> Transform:
    """PASCAL-Context of the survey: mirror, turn by up to 20 degrees, magnify by 0.75 to 1.25, stretch to 512x512."""
    scale, degrees = partial(uniform, low=0.75, high=1.25), partial(uniform, low=-20.0, high=20.0)
    return _survey(size, tasks, train, scale, degrees, reference_quirks)


def _survey(size: Size, tasks: Tasks, train: bool, scale: Draw, degrees: Draw, reference_quirks: bool) -> Transform:
    stretch = Stretch(tasks, size, mode="bicubic")
    turn = ScaleRotate(tasks, scale, degrees, zero_outside=reference_quirks)
    return Chain((Flip(tasks), turn, stretch)) if train else stretch


def atrc(*, size: Size, tasks: Tasks, train: bool) -> Transform:
    """ATRC and the InvPT line (Bruggemann et al., 2021; Ye and Xu, 2022): magnify by 0.5 to 2, crop with at most 75 %
    of one class, mirror, distort colors, pad. Sizes: 425x560 (ATRC) or 448x576 (InvPT) on NYUDv2, 512x512 on
    PASCAL-Context. Evaluation pads.
    """
    crop, pad = ScaleCrop(tasks, size, scale=partial(uniform, low=0.5, high=2.0)), Pad(tasks, size)
    return Chain((crop, Flip(tasks), PhotometricDistortion(), pad)) if train else pad


def mtan(*, size: Size, tasks: Tasks, train: bool) -> Transform:
    """MTAN's line (Liu et al., 2019), 288x384: a crop magnified by 1, 1.2 or 1.5, mirror. Evaluation stretches."""
    stretch, zoom = Stretch(tasks, size), ZoomCrop(tasks, partial(choose, choices=(1.0, 1.2, 1.5)))
    return Chain((stretch, zoom, Flip(tasks))) if train else stretch


def densemtl(*, size: Size, tasks: Tasks, train: bool, jitter: bool = False) -> Transform:
    """DenseMTL (Lopes et al., 2023): stretch to `size`, mirror; its color jitter is off in every published recipe."""
    stretch, colors = Stretch(tasks, size), (ColorJitter(),) if jitter else ()
    return Chain((stretch, Flip(tasks), *colors)) if train else stretch


def densemtl_crop(*, size: Size, tasks: Tasks, train: bool, jitter: bool = False) -> Transform:
    """DenseMTL's source domain in adaptation: fit the height, crop the width at random, mirror (VKITTI2: 512x1696
    cropped to 512x1024).
    """
    crop, colors = ScaleCrop(tasks, size, one, redraws=0), (ColorJitter(),) if jitter else ()
    steps = (FitHeight(tasks, size), crop, Flip(tasks), *colors, Pad(tasks, size))
    return Chain(steps) if train else Stretch(tasks, size)


def densemtl_video(*, size: Size, tasks: Tasks, train: bool, jitter: bool = False) -> Transform:
    """DenseMTL's depth from video: trained as `densemtl-crop` (512x1024 cropped to 512x512), evaluated on the whole
    image at the height of `size`.
    """
    return densemtl_crop(size=size, tasks=tasks, train=True, jitter=jitter) if train else FitHeight(tasks, size)


def plain(*, size: Size, tasks: Tasks, train: bool) -> Transform:
    """No augmentation: training cuts or pads around the center, evaluation takes the image as it is."""
    return Chain((CenterCrop(tasks, size), Pad(tasks, size))) if train else Select(tasks)


TRANSFORMS: dict[str, Callable[..., Transform]] = {
    "default": default,
    "survey": survey,
    "survey-pascal": survey_pascal,
    "atrc": atrc,
    "invpt": atrc,
    "mtan": mtan,
    "densemtl": densemtl,
    "densemtl-crop": densemtl_crop,
    "densemtl-video": densemtl_video,
    "none": plain,
}
"""Augmentation presets by name, as recipes name them."""


def build_transform(name: str, *, size: Size, tasks: Tasks, train: bool, **options: Any) -> Transform:
    """The transform of a preset: `transform(sample, generator)`.

    `size` is (height, width) of what training sees. The result has the targets of `tasks` alone, in their order.
    Raises `ValueError` for an unknown preset or a size that is not positive; evaluation that takes images as they are
    needs none (`(0, 0)`).

    >>> import numpy as np, torch
    >>> from triptych.tasks import depth
    >>> from triptych.types import Sample
    >>> transform = build_transform("default", size=(16, 16), tasks={"depth": depth()}, train=True)
    >>> sample = Sample(torch.rand(3, 20, 30), {"depth": torch.ones(1, 20, 30)})
    >>> tuple(transform(sample, np.random.default_rng(0)).targets["depth"].shape)
    (1, 16, 16)
    """
    preset = named_choice("transform", name, TRANSFORMS)
    built = preset(size=tuple(size), tasks=dict(tasks), train=train, **options)
    if min(size) < 1 and (any(size) or not isinstance(built, Select)):
        raise ValueError(f"transform size is {size}; give a positive (height, width), such as (448, 576).")
    return built
