"""Outlines of labels and the oriented suppression, against slow twins."""

import math

import numpy as np
import pytest
from boundary_maps import IMAGES, expected, golden_annotators, golden_map, smooth_map
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from triptych.metrics.contours import label_outlines, oriented_suppression, thin

LABELS = arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 2))


@given(LABELS)
def test_outlines_by_the_rule(labels: np.ndarray) -> None:
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            right, below = x + 1 < width, y + 1 < height
            places = [(y, x + 1)] * right + [(y + 1, x)] * below + [(y + 1, x + 1)] * (right and below)
            others = [labels[place] for place in places]
            assert label_outlines(labels)[y, x] == any(labels[y, x] != other for other in others)


@pytest.mark.parametrize("image", IMAGES)
def test_thinned_outlines_of_regions_are_the_stored_boundaries(image: str) -> None:
    outlines = thin(label_outlines(golden_map(image, "segmentation1")))
    np.testing.assert_array_equal(outlines, golden_annotators(image)[0])
    assert outlines.sum() == expected("seism", "0.0075")[image]["sumR"]


def test_a_line_two_pixels_wide_becomes_two_lines() -> None:
    """How SEISM reads NYUv2's edge maps."""
    edges = np.zeros((20, 30), np.uint8)
    edges[9:11] = 1
    outline = thin(label_outlines(edges))
    assert (outline.sum(axis=0)[1:-1] == 2).all()
    single = np.zeros((20, 30), np.uint8)
    single[9] = 1
    assert (thin(label_outlines(single)).sum(axis=0)[2:-2] == 1).all()


def twin_suppression(map: np.ndarray) -> np.ndarray:
    """The published recipe in double precision, one pixel at a time."""
    height, width = map.shape
    padded = np.pad(map.astype(np.float64), 4, mode="symmetric")
    kernel = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 25
    rows = np.stack([np.convolve(row, kernel, mode="valid") for row in padded])
    smooth = np.stack([np.convolve(column, kernel, mode="valid") for column in rows.T], axis=1)
    y_slope, x_slope = np.gradient(smooth)
    xx, (yy, xy) = np.gradient(x_slope, axis=1), np.gradient(y_slope)
    out = map.astype(np.float64)
    for y in range(height):
        for x in range(width):
            angle = math.atan(yy[y, x] * np.sign(-xy[y, x]) / (xx[y, x] + 1e-5)) % math.pi
            for side in (-1, 1):
                u = min(max(x + side * math.cos(angle), 0), width - 1.001)
                v = min(max(y + side * math.sin(angle), 0), height - 1.001)
                j, i, du, dv = int(u), int(v), u - int(u), v - int(v)
                corners = map[i : i + 2, j : j + 2].astype(np.float64)
                if 1.01 * map[y, x] < [1 - dv, dv] @ corners @ [1 - du, du]:
                    out[y, x] = 0
    edge = np.minimum(np.arange(width), np.arange(width)[::-1]), np.minimum(np.arange(height), np.arange(height)[::-1])
    return out * np.minimum(edge[0] / 5, 1) * np.minimum(edge[1] / 5, 1)[:, None]


def test_suppression_equals_its_twin_but_for_rounding() -> None:
    """Single precision decides a few flat pixels otherwise; the golden counts pin these."""
    map = np.float32(smooth_map(2, 70, 90))
    ours, twin = oriented_suppression(map), twin_suppression(map)
    same = (ours > 0) == (twin > 0)
    assert same.mean() > 0.998
    np.testing.assert_allclose(ours[same], twin[same], rtol=1e-6)
    assert 0.1 < (ours > 0).mean() < 0.5


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (2, 2), (3, 20), (11, 4)])
def test_suppression_of_small_maps(size: tuple[int, int]) -> None:
    map = np.float32(smooth_map(3, *size)) if min(size) > 1 else np.full(size, np.float32(0.5))
    kept = oriented_suppression(map)
    assert kept.shape == size
    assert ((kept >= 0) & (kept <= map)).all()


def test_suppression_leaves_its_argument_alone() -> None:
    map = np.float32(smooth_map(4, 20, 20))
    before = map.copy()
    oriented_suppression(map)
    np.testing.assert_array_equal(map, before)
