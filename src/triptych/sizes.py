"""Sizes of images and maps, also where a tracer holds them open."""

from collections.abc import Sequence

import torch


def same_size(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether two sizes are equal, for shortcuts whose long way gives the same numbers.

    While a program of free sizes is traced only what holds for all of them counts: a shortcut that is right at the
    traced size would be wrong at others.

    >>> same_size((3, 4), torch.ones(3, 4).shape)
    True
    """
    if not torch.compiler.is_exporting():
        return tuple(first) == tuple(second)
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return all(statically_known_true(a == b) for a, b in zip(first, second, strict=True))
