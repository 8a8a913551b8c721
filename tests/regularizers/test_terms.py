"""Renderings at the labels' size."""

import pytest
import torch

from triptych.decoders.layers import resize
from triptych.regularizers.terms import LARGEST_BY_MATRIX, enlarge

SIDES = ((3, 4), (1, 1), (12, LARGEST_BY_MATRIX), (2, LARGEST_BY_MATRIX + 1))


@pytest.mark.parametrize("size", [(24, 40), (7, 9), (1, 100)], ids=str)
@pytest.mark.parametrize("side", SIDES, ids=str)
def test_enlarging_is_resizing(side: tuple[int, int], size: tuple[int, int]) -> None:
    found = []
    for one in (enlarge, resize):
        torch.manual_seed(0)
        raw = torch.randn(2, 3, *side, dtype=torch.float64, requires_grad=True)
        maps = one(raw, size)
        found.append((maps, *torch.autograd.grad(maps.sin().sum(), raw)))
    for ours, other in zip(*found, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-12, atol=1e-12)


def test_a_map_of_that_size_stays_as_it_is() -> None:
    raw = torch.randn(1, 2, 3, 4)
    assert enlarge(raw, (3, 4)) is raw


def test_half_precision_is_rounded_once() -> None:
    """Under autocast, too, where matrix products round their factors."""
    raw = torch.randn(1, 2, 5, 6).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = enlarge(raw, (20, 24))
    assert torch.equal(found, resize(raw.float(), (20, 24)).bfloat16())
