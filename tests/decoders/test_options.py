"""Numbers among the options of decoders."""

import inspect
from collections.abc import Sequence

import pytest
import torch
from entries import own_entries
from test_models import OPTIONS, TASKS

from triptych.decoders import DECODERS

VALUES = {int: (-3, 0, 1), int | None: (-3, 0, 1), Sequence[int]: ((-3,), (0,), (1,))}
"""By annotation of an option."""


@pytest.mark.parametrize("name", own_entries(DECODERS))
def test_a_number_is_refused_or_computes(name: str) -> None:
    """And negative ones are refused."""
    channels, strides, build = (8, 8, 16, 16), (4, 8, 16, 32), DECODERS[name]
    small = {"dpt": {"width": 8}} | OPTIONS
    features = [torch.zeros(2, c, 64 // s, 64 // s) for c, s in zip(channels, strides, strict=True)]
    for option in inspect.signature(build).parameters.values():
        for value in VALUES.get(option.annotation, ()) if option.default is not option.empty else ():
            options = small.get(name, {}) | {option.name: value}
            try:
                decoder = build(channels, strides=strides, tasks=TASKS, **options)
            except ValueError:
                continue
            assert value not in (-3, (-3,)), option.name
            assert set(decoder.eval()(features)[-1]) == set(TASKS), option.name
