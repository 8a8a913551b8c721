"""Convolutions on the small grid equal convolutions of upsampled maps, values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from triptych.decoders.layers import compose, conv_of_bilinear, conv_of_nearest


def plain_bilinear(maps, weights, size, dilation):
    total = torch.zeros(())
    for x, weight in zip(maps, weights, strict=True):
        resized = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        total = total + F.conv2d(resized, weight, padding=dilation, dilation=dilation)
    return total


def doubles(*shapes):
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(
    ("sizes", "size"), [([(3, 5)], (6, 10)), ([(2, 3), (4, 6), (8, 12)], (16, 24)), ([(3, 4), (1, 1)], (7, 5))]
)
def test_bilinear_equals_resizing_first(sizes, size, dilation):
    maps = doubles(*((2, 3 + i, *low) for i, low in enumerate(sizes)))
    weights = doubles(*((4, 3 + i, 3, 3) for i in range(len(sizes))))
    ours, plain = (
        conv_of_bilinear(maps, weights, size, dilation=dilation),
        plain_bilinear(maps, weights, size, dilation),
    )
    assert torch.allclose(ours, plain, atol=1e-12)
    direction = torch.randn_like(plain)
    ours_gradients = torch.autograd.grad(ours, [*maps, *weights], direction)
    plain_gradients = torch.autograd.grad(plain, [*maps, *weights], direction)
    for a, b in zip(ours_gradients, plain_gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 2), (6, 7)])
def test_nearest_equals_doubling_first(size):
    x, weight = doubles((2, 3, *size), (4, 3, 3, 3))
    ours = conv_of_nearest(x, weight)
    plain = F.conv2d(F.pad(F.interpolate(x, scale_factor=2.0), (1, 1, 1, 1), mode="reflect"), weight)
    assert torch.allclose(ours, plain, atol=1e-12)
    direction = torch.randn_like(plain)
    ours_gradients = torch.autograd.grad(ours, [x, weight], direction)
    plain_gradients = torch.autograd.grad(plain, [x, weight], direction)
    for a, b in zip(ours_gradients, plain_gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_composed_convolution_equals_the_two():
    x, weight, first = doubles((2, 5, 6, 7), (4, 3, 3, 3), (3, 5, 1, 1))
    plain = F.conv2d(F.conv2d(x, first), weight, padding=1)
    assert torch.allclose(F.conv2d(x, compose(weight, first), padding=1), plain, atol=1e-12)
