"""Thinning against scikit-image's independent implementation, which equals bwmorph 'thin'."""

import numpy as np
import pytest
from boundary_maps import golden_map, smooth_map
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.morphology import thin as scikit_thin

from triptych.metrics.contours import thin, thin_nested

MASKS = arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))


@given(MASKS)
def test_equals_scikit_image_on_any_small_mask(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(thin(mask), scikit_thin(mask))


@pytest.mark.parametrize("density", [0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_equals_scikit_image_on_random_masks(density: float) -> None:
    mask = np.random.default_rng(0).random((90, 131)) < density
    np.testing.assert_array_equal(thin(mask), scikit_thin(mask))


@pytest.mark.parametrize("threshold", [1, 40, 100, 180])
def test_equals_scikit_image_on_a_real_map(threshold: int) -> None:
    mask = golden_map("36046", "prediction") >= threshold
    np.testing.assert_array_equal(thin(mask), scikit_thin(mask))


@given(MASKS)
def test_thinning_twice_changes_nothing(mask: np.ndarray) -> None:
    once = thin(mask)
    np.testing.assert_array_equal(thin(once), once)


def test_nested_sets_are_thinned_as_each_one_alone() -> None:
    rank = np.pad((smooth_map(1, 60, 75) * 9).astype(np.uint8), 1)
    kept, counts = thin_nested(rank, 9)
    for k, part in zip(reversed(range(9)), np.split(kept, np.cumsum(counts[::-1])[:-1]), strict=True):
        np.testing.assert_array_equal(np.sort(part), np.flatnonzero(thin(rank > k)))
        assert counts[k] == len(part)


def test_nothing_and_single_pixels() -> None:
    assert not thin(np.zeros((4, 5), bool)).any()
    dot = np.zeros((3, 3), bool)
    dot[1, 1] = True
    np.testing.assert_array_equal(thin(dot), dot)
    assert thin(np.ones((1, 1), bool)).all()
