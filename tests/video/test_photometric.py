"""Photometric loss: against loops over pixels, hand-computed cases, and what automasking is for."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from triptych.video.views import edge_aware_smoothness, minimum_error, photometric_error, ssim


def images(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    first = torch.rand(2, 3, 7, 9, generator=random, dtype=torch.float64)
    return first, (first + 0.3 * torch.rand(first.shape, generator=random, dtype=torch.float64)).clamp(0, 1)


@pytest.mark.parametrize("seed", [0, 1])
def test_ssim_is_that_of_scikit_image(seed: int) -> None:
    first, second = images(seed)
    found = ssim(first, second)
    for one, other, ours in zip(first.flatten(0, 1), second.flatten(0, 1), found.flatten(0, 1), strict=True):
        _, theirs = structural_similarity(
            one.numpy(), other.numpy(), win_size=3, data_range=1.0, use_sample_covariance=False, full=True
        )
        np.testing.assert_allclose(ours[1:-1, 1:-1], theirs[1:-1, 1:-1], atol=1e-9)  # rims are padded otherwise


def test_the_error_weighs_structure_and_colour() -> None:
    black, white = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    similarity = 1e-4 / (1 + 1e-4)
    expected = 0.85 * (1 - similarity) / 2 + 0.15
    torch.testing.assert_close(photometric_error(black, white), torch.full((1, 1, 4, 4), expected))


def test_a_point_hidden_in_one_view_is_judged_by_the_other() -> None:
    errors = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).view(2, 1, 1, 1, 2)
    torch.testing.assert_close(minimum_error(errors).error.flatten(), torch.tensor([0.2, 0.1]))
    assert not minimum_error(errors).static.any()


def test_pixels_that_look_the_same_without_motion_teach_nothing() -> None:
    moved = torch.tensor([0.3, 0.3, 0.3]).view(1, 1, 1, 1, 3).requires_grad_()
    still = torch.tensor([0.2, 0.4, 0.3]).view(1, 1, 1, 1, 3)
    minimum = minimum_error(moved, still)
    assert minimum.static.flatten().tolist() == [True, False, True]
    torch.testing.assert_close(minimum.error.flatten(), torch.tensor([0.2, 0.3, 0.3]))
    minimum.error[..., :2].sum().backward()
    assert moved.grad.flatten().tolist() == [0.0, 1.0, 0.0]


def test_smoothness_equals_a_loop() -> None:
    random = torch.Generator().manual_seed(2)
    disparity = torch.rand(2, 1, 4, 5, generator=random, dtype=torch.float64) + 0.1
    image = torch.rand(2, 3, 4, 5, generator=random, dtype=torch.float64)
    for b in range(2):
        d, colours = (disparity[b, 0] / disparity[b].mean()).tolist(), image[b].tolist()
        totals = []
        for down, right in ((0, 1), (1, 0)):
            terms = []
            for y in range(4 - down):
                for x in range(5 - right):
                    edge = sum(abs(c[y][x] - c[y + down][x + right]) for c in colours) / 3
                    terms.append(abs(d[y][x] - d[y + down][x + right]) * math.exp(-edge))
            totals.append(sum(terms) / len(terms))
        assert edge_aware_smoothness(disparity, image)[b].item() == pytest.approx(sum(totals), rel=1e-5)


def test_smoothness_does_not_see_the_scale_of_depth() -> None:
    disparity, image = torch.rand(1, 1, 6, 6) + 0.1, torch.rand(1, 3, 6, 6)
    torch.testing.assert_close(
        edge_aware_smoothness(disparity, image), edge_aware_smoothness(50 * disparity, image), rtol=1e-4, atol=0
    )
