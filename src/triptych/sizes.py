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


def ceil_div(side: int, divisor: int) -> int:
    """`side / divisor`, rounded up.

    Not `-(-side // divisor)`: translated to ONNX the division of a negative number rounds towards zero.

    >>> [ceil_div(side, 4) for side in (7, 8, 9)]
    [2, 2, 3]
    """
    return (side + divisor - 1) // divisor


def round_up(side: int, multiple: int) -> int:
    """The next multiple, or `side` itself.

    >>> [round_up(side, 4) for side in (7, 8, 9)]
    [8, 8, 12]
    """
    return ceil_div(side, multiple) * multiple
