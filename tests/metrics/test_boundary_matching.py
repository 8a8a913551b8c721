"""Matching against exhaustive search, and against SciPy's solvers on larger maps."""

from itertools import permutations
from math import sqrt

import numpy as np
import pytest
from boundary_maps import golden_annotators, golden_map, smooth_map
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from triptych.metrics import match_boundaries
from triptych.metrics.contours import thin, thin_nested
from triptych.metrics.matching import build_graph, disc_offsets, match_nested

FORBIDDEN = 10**6


def costs_between(prediction: np.ndarray, target: np.ndarray, radius: float) -> np.ndarray:
    """Hundredths of a pixel, rounded, `FORBIDDEN` beyond the radius; `(predicted, target)` pixels in scan order."""
    difference = np.argwhere(prediction)[:, None] - np.argwhere(target)[None]
    squared = (difference**2).sum(axis=-1)
    return np.where(squared <= radius * radius, np.rint(100 * np.sqrt(squared)), FORBIDDEN)


def best_by_exhaustion(costs: np.ndarray) -> tuple[int, float]:
    """Largest number of pairs and, for it, the least total cost, by trying every assignment."""
    if costs.shape[0] > costs.shape[1]:
        costs = costs.T
    best = (0, 0.0)
    for columns in permutations(range(costs.shape[1]), costs.shape[0]):
        chosen = costs[range(costs.shape[0]), columns]
        pairs = int((chosen < FORBIDDEN).sum())
        best = max(best, (pairs, -float(chosen[chosen < FORBIDDEN].sum())))
    return best[0], -best[1]


def cost_of_parts(costs: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> float:
    """Least cost of matching exactly these pixels with each other; `FORBIDDEN` or more if that is impossible."""
    part = costs[np.ix_(rows, columns)]
    return float(part[linear_sum_assignment(part)].sum())


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 1.5, 2.3, 6.4]))
@settings(max_examples=60)
def test_equals_exhaustive_search_on_small_maps(seed: int, radius: float) -> None:
    random = np.random.default_rng(seed)
    maps = np.zeros((2, 5, 4), bool)
    for map in maps:
        map.ravel()[random.choice(20, random.integers(0, 6), replace=False)] = True
    matched = match_boundaries(*maps, max_dist=radius / sqrt(41))
    costs = costs_between(*maps, radius)
    pairs, least = best_by_exhaustion(costs)
    assert [int(part.sum()) for part in matched] == [pairs, pairs]
    assert all((part <= map).all() for part, map in zip(matched, maps, strict=True))
    assert cost_of_parts(costs, matched[0][maps[0]], matched[1][maps[1]]) == least


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("radius", [1.5, 4.3])
def test_equals_scipy_on_lines(seed: int, radius: float) -> None:
    maps = [thin(np.abs(smooth_map(10 * seed + i, 60, 80) - 0.5) < 0.06 + 0.02 * i) for i in range(2)]
    matched = match_boundaries(*maps, max_dist=radius / 100)
    costs = costs_between(*maps, radius)
    square = np.full((sum(costs.shape),) * 2, 10.0**5)  # an unmatched pixel costs more than any detour
    square[: costs.shape[0], : costs.shape[1]] = np.where(costs < FORBIDDEN, costs, 10.0**8)
    square[costs.shape[0] :, costs.shape[1] :] = 0
    rows, columns = linear_sum_assignment(square)
    real = (rows < costs.shape[0]) & (columns < costs.shape[1])
    assert [int(part.sum()) for part in matched] == [real.sum()] * 2
    least = square[rows[real], columns[real]].sum()
    assert cost_of_parts(costs, matched[0][maps[0]], matched[1][maps[1]]) == least


def cardinality_by_scipy(prediction: np.ndarray, target: np.ndarray, radius: float) -> int:
    if not (prediction.any() and target.any()):
        return 0
    graph = csr_matrix(costs_between(prediction, target, radius) < FORBIDDEN)
    return int((maximum_bipartite_matching(graph) >= 0).sum())


@pytest.mark.parametrize("seed", range(6))
def test_stays_maximum_while_thresholds_fall(seed: int) -> None:
    """Thinned sets are not nested: pixels come and go, and old searches must not mislead new ones."""
    random = np.random.default_rng(seed)
    rank = np.pad((smooth_map(seed, 40, 50) * 12).astype(np.uint8), 4)
    target = np.pad(thin(np.abs(smooth_map(seed + 50, 40, 50) - 0.5) < 0.05) & (random.random((40, 50)) < 0.7), 4)
    kept, counts = thin_nested(rank, 12)
    sizes = match_nested(kept, counts, target, 3.2)
    expected = [cardinality_by_scipy(thin(rank > k), target, 3.2) for k in range(12)]
    assert sizes.tolist() == expected
    assert max(expected) > 50


def test_removing_and_adding_at_random_stays_maximum() -> None:
    random = np.random.default_rng(7)
    target = np.pad(random.random((24, 24)) < 0.15, 3)
    inside = np.flatnonzero(np.pad(np.ones((24, 24), bool), 3))
    sets = [np.sort(random.choice(inside, random.integers(0, 200), replace=False)) for _ in range(40)]
    kept = np.concatenate(sets).astype(np.int32)
    counts = np.array([len(part) for part in sets])[::-1].copy()
    sizes = match_nested(kept, counts, target, 2.3)[::-1]
    for part, size in zip(sets, sizes, strict=True):
        prediction = np.zeros(target.shape, bool)
        prediction.ravel()[part] = True
        assert size == cardinality_by_scipy(prediction, target, 2.3)


def test_explained_pixels_do_not_depend_on_earlier_thresholds() -> None:
    rank = np.pad((smooth_map(5, 50, 60) * 8).astype(np.uint8), 4)
    target = np.pad(thin(np.abs(smooth_map(6, 50, 60) - 0.5) < 0.05), 4)
    kept, counts = thin_nested(rank, 8)
    explained = np.zeros(len(kept), np.uint8)
    match_nested(kept, counts, target, 3.2, explained)
    begin = len(kept) - counts[0]
    alone = np.zeros(counts[0], np.uint8)
    match_nested(kept[begin:], counts[:1], target, 3.2, alone)
    np.testing.assert_array_equal(explained[begin:], alone)


def test_ties_are_broken_below_the_cost_of_any_distance() -> None:
    """Tie breaks of 32768 pairs together stay below a hundredth of a pixel, and differ between annotators."""
    positions = np.array([306, 310, 313], np.int32)  # in the middle of rows of 20, so that no offset wraps
    offsets, distances = disc_offsets(4.5, 20)
    graphs = [build_graph(positions, offsets, distances, 600, salt) for salt in (1, 2)]
    for pixel in range(600):
        for i in range(graphs[0].start[pixel], graphs[0].start[pixel + 1]):
            y, x = np.divmod([pixel, positions[graphs[0].neighbors[i]]], 20)
            assert graphs[0].costs[i] >> 31 == round(100 * sqrt((y[0] - y[1]) ** 2 + (x[0] - x[1]) ** 2))
    ties = [graph.costs & (2**31 - 1) for graph in graphs]
    assert ties[0].max() * 32768 < 2**31
    assert (ties[0] != ties[1]).mean() > 0.99


def test_a_real_map_is_matched_alike_from_both_sides() -> None:
    prediction, target = thin(golden_map("2018", "prediction") >= 80), golden_annotators("2018")[0]
    there = match_boundaries(prediction, target)
    back = match_boundaries(target, prediction)
    np.testing.assert_array_equal(there[0], back[1])
    np.testing.assert_array_equal(there[1], back[0])
    assert there[0].sum() == there[1].sum() > 500


def test_distance_is_a_fraction_of_the_diagonal() -> None:
    prediction, target = np.zeros((2, 30, 40), bool)
    prediction[10, 5], target[10, 10] = True, True
    assert match_boundaries(prediction, target, max_dist=0.1)[0].sum() == 1
    assert match_boundaries(prediction, target, max_dist=0.0999)[0].sum() == 0


def test_empty_maps_and_bad_arguments() -> None:
    empty, full = np.zeros((4, 5), bool), np.ones((4, 5), bool)
    for pair in ((empty, full), (full, empty), (empty, empty)):
        assert not any(part.any() for part in match_boundaries(*pair))
    with pytest.raises(ValueError, match=r"\(4, 5\).*\(5, 4\)"):
        match_boundaries(empty, full.T)
    with pytest.raises(ValueError, match=r"max_dist -0\.1"):
        match_boundaries(empty, full, max_dist=-0.1)
