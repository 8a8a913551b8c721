"""Convolutions of a concatenation, beside the concatenation convolved."""

import pytest
import torch
from torch.nn import functional as F

from triptych.decoders.layers import JoinedConvNormReLU, concatenate, conv_of_concatenation


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(
    "sizes",
    [
        [(12, 16), (6, 8), (3, 4)],
        [(13, 9), (7, 5), (4, 3), (1, 1)],
        [(9, 9), (8, 8), (3, 3), (9, 9)],  # one that is hardly smaller, one as large, in between
        [(6, 6), (12, 12)],
        [(5, 7)],
    ],
)
def test_values_and_gradients_are_those_of_the_concatenation(kernel, sizes):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    maps = [random(2, 2 + i, *size) for i, size in enumerate(sizes)]
    weight, bias = random(5, sum(x.shape[1] for x in maps), kernel, kernel), random(5)
    expected = F.conv2d(concatenate(maps), weight, bias, padding=kernel // 2)
    found = conv_of_concatenation(maps, weight, bias)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    slope = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad(found, [*maps, weight, bias], slope),
        torch.autograd.grad(expected, [*maps, weight, bias], slope),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_layer_of_joined_maps_is_the_plain_layer_of_their_concatenation():
    layer = JoinedConvNormReLU(5, 4).eval()
    maps = [torch.randn(1, 2, 8, 6), torch.randn(1, 3, 4, 3)]
    with torch.no_grad():
        torch.testing.assert_close(layer(maps), torch.nn.Sequential(*layer)(concatenate(maps)), rtol=1e-5, atol=1e-6)
