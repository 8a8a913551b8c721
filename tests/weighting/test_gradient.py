"""Gradient balancing against closed forms and NumPy twins."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from weighting_cases import TASKS, WEIGHTS, Network, batch, gradients, make

from triptych.weighting.gradient import GradientBalancing, aggregators, project_weights, solve_cagrad


def balance(rows: Sequence[Sequence[float]], aggregator: str, **options) -> list[float]:
    """The direction that linear losses with these gradients get, through `backward`."""
    names = [f"task {i}" for i in range(len(rows))]
    weighting = GradientBalancing(names, weights=dict.fromkeys(names, 1.0), aggregator=aggregator, **options)
    parameter = nn.Parameter(torch.zeros(len(rows[0])))
    losses = {name: (parameter * torch.tensor(row)).sum() + 1 for name, row in zip(names, rows, strict=True)}
    weighting.backward(losses, [parameter])
    return parameter.grad.tolist()


CONFLICT = [[1.0, 0.0], [-1.0, 1.0]]
"""Two gradients with a product of -1 and squared norms 1 and 2."""


@pytest.mark.parametrize(
    ("aggregator", "wanted"),
    [
        # Each gradient less its part along the other: (1, 0) + (-1, 1) / 2, and (-1, 1) + (1, 0).
        ("pcgrad", [0.5, 1.5]),
        # The same two projections, averaged.
        ("upgrad", [0.25, 0.75]),
        # The mean (0, 1/2) conflicts with neither.
        ("dual-projection", [0.0, 0.5]),
        # The shortest vector of the segment: 3/5 of the first and 2/5 of the second.
        ("mgda", [0.2, 0.4]),
        # Equal products with both unit gradients: d . (1, 0) = d . (-1, 1) / sqrt 2, weights summing to 1.
        ("imtl-g", [3 - 2 * np.sqrt(2), np.sqrt(2) - 1]),
        ("mean", [0.0, 0.5]),
        ("sum", [0.0, 1.0]),
    ],
)
def test_two_conflicting_tasks(aggregator: str, wanted: list[float]) -> None:
    assert balance(CONFLICT, aggregator) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize(
    "aggregator", ["pcgrad", "upgrad", "dual-projection", "mgda", "cagrad", "aligned-mtl", "config"]
)
def test_no_task_gets_worse(aggregator: str) -> None:
    """What these methods promise for two tasks, whatever the scales."""
    for seed in range(5):
        rows = np.random.default_rng(seed).standard_normal((2, 6)) * [[1.0], [10.0]]
        options = {"c": 1.0} if aggregator == "cagrad" else {}
        assert (rows @ balance(rows.tolist(), aggregator, **options) > -1e-3).all()


@pytest.mark.parametrize("aggregator", [name for name in aggregators() if name != "mgda"])
def test_agreeing_tasks_are_combined(aggregator: str) -> None:
    """Without a conflict the direction helps both."""
    direction = balance([[1.0, 0.2], [0.5, 1.0]], aggregator)
    assert all(value > 0 for value in direction)


def test_equal_projections() -> None:
    rows = torch.randn(3, 8, dtype=torch.float64)
    direction = torch.tensor(balance(rows.float().tolist(), "imtl-g"), dtype=torch.float64)
    projections = (rows @ direction) / rows.norm(dim=1)
    torch.testing.assert_close(projections, projections[:1].expand(3), rtol=1e-4, atol=1e-5)


def test_aligned_gradients_have_equal_singular_values() -> None:
    """Two orthogonal gradients are brought to the length of the shorter."""
    assert balance([[3.0, 0.0], [0.0, 1.0]], "aligned-mtl") == pytest.approx([0.5, 0.5])


def twin_pcgrad(rows: np.ndarray, order: Sequence[Sequence[int]]) -> np.ndarray:
    """Algorithm 1 of Yu et al. 2020, vector by vector; `order[i]` is the order in which task i meets the others."""
    total = np.zeros(rows.shape[1])
    for i, row in enumerate(rows):
        projected = row.copy()
        for j in order[i]:
            product = projected @ rows[j]
            if j != i and product < 0:
                projected = projected - product / (rows[j] @ rows[j]) * rows[j]
        total += projected
    return total


def task_rows() -> np.ndarray:
    """Gradients of the weighted losses of the small network, flat."""
    network = Network()
    inputs, targets = batch()
    outputs = network(inputs)
    rows = []
    for name in TASKS:
        loss = WEIGHTS[name] * (outputs[name] - targets[name]).square().mean()
        parts = torch.autograd.grad(loss, list(network.shared.parameters()), retain_graph=True)
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows).double().numpy()


def shared_direction(result: dict[str, Tensor]) -> np.ndarray:
    return torch.cat([value.flatten() for name, value in result.items() if name.startswith("shared")]).double().numpy()


def test_pcgrad_of_a_network() -> None:
    rows = task_rows()
    assert (rows @ rows.T).min() < 0, "the tasks must conflict"
    with torch.random.fork_rng():
        torch.manual_seed(11)  # the first aggregation with this seed
        order = [torch.randperm(3).tolist() for _ in TASKS]
    np.testing.assert_allclose(
        shared_direction(gradients(make("pcgrad", seed=11))), twin_pcgrad(rows, order), rtol=1e-4, atol=1e-6
    )


def test_heads_get_the_weighted_sum() -> None:
    balanced, summed = gradients(make("pcgrad")), gradients(make("fixed"))
    for name, gradient in balanced.items():
        same = torch.allclose(gradient, summed[name])
        assert same == name.startswith("heads"), name


def test_cagrad_by_brute_force() -> None:
    """Two tasks: the weights of the simplex are one number."""
    for seed in range(5):
        rows = np.random.default_rng(seed).standard_normal((2, 5)) * [[1.0], [4.0]]
        mean = rows.mean(axis=0)
        grid = np.linspace(0, 1, 20001)[:, None]
        combined = grid * rows[0] + (1 - grid) * rows[1]
        radius = 0.4 * np.linalg.norm(mean)
        best = combined[(combined @ mean + radius * np.linalg.norm(combined, axis=1)).argmin()]
        wanted = mean + radius / np.linalg.norm(best) * best
        np.testing.assert_allclose(solve_cagrad(rows @ rows.T, 0.4) @ rows, wanted, rtol=2e-3, atol=2e-3)


def test_projection_is_the_closest_point_of_the_cone() -> None:
    """Against many points of the cone where no task gets worse."""
    generator = np.random.default_rng(0)
    for _ in range(10):
        rows, weights = generator.standard_normal((3, 4)), generator.uniform(0, 1, 3)
        vector = weights @ rows
        projected = project_weights(weights, rows @ rows.T) @ rows
        assert (rows @ projected > -1e-8).all()
        points = generator.standard_normal((4000, 4)) * 2
        points = points[(points @ rows.T >= 0).all(axis=1)]
        assert len(points)
        # Closest: no point of the cone lies beyond the projected one, seen from the vector.
        assert ((points - projected) @ (vector - projected) <= 1e-8).all()


@pytest.mark.parametrize("name", ["pcgrad", "upgrad", "mgda", "cagrad", "imtl-g", "aligned-mtl"])
def test_half_precision_keeps_the_direction(name: str) -> None:
    """The forward pass runs in bfloat16, and the backward pass is called inside autocast too: the aggregation itself
    must not be cast."""

    class Half(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, inputs: Tensor) -> dict[str, Tensor]:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return {name: value.float() for name, value in self.module(inputs).items()}

    full = shared_direction(gradients(make(name)))
    half = shared_direction(gradients(make(name), wrap=Half))
    cosine = full @ half / np.linalg.norm(full) / np.linalg.norm(half)
    assert cosine > 0.999
    assert np.linalg.norm(half) == pytest.approx(np.linalg.norm(full), rel=0.02)


def test_aggregation_is_not_autocast() -> None:
    rows = torch.randn(3, 40)
    weighting = make("mgda")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = weighting.aggregate(rows)
    assert torch.equal(inside, weighting.aggregate(rows))


def test_random_numbers_of_others_stay() -> None:
    network = Network()
    outputs = network(torch.ones(2, 4))
    state = torch.get_rng_state()
    make("graddrop").backward(
        {name: (output - 1).square().sum() for name, output in outputs.items()}, list(network.shared.parameters())
    )
    assert torch.equal(torch.get_rng_state(), state)


def test_random_aggregators_draw_anew() -> None:
    rows = torch.randn(3, 400)
    weighting = make("graddrop")
    first = weighting.aggregate(rows)
    assert not torch.equal(first, weighting.aggregate(rows))
    weighting.steps -= 2
    assert torch.equal(first, weighting.aggregate(rows))


def test_infinite_gradients_stay_infinite() -> None:
    """fp16: the scaler must see them and skip the step."""
    assert not np.isfinite(balance([[np.inf, 1.0], [1.0, 1.0]], "pcgrad")).all()


def test_frozen_and_unused_parameters() -> None:
    used, frozen, unused = (nn.Parameter(torch.ones(2), requires_grad=i != 1) for i in range(3))
    weighting = make("pcgrad")
    weighting.backward({name: (used * frozen).sum() for name in TASKS}, [used, frozen, unused])
    assert used.grad is not None
    assert frozen.grad is None
    assert unused.grad is None


def test_errors() -> None:
    with pytest.raises(ValueError, match="unknown aggregator 'pc-grad'; did you mean 'pcgrad'"):
        make("gradient", aggregator="pc-grad")
    with pytest.raises(ValueError, match="no parameter that tasks share trains"):
        make("pcgrad").backward({"a": torch.ones((), requires_grad=True)}, [])
    with pytest.raises(ValueError, match="c is -1"):
        make("cagrad", c=-1.0)
