"""What densities know: a fog knows nothing, a wall at the true depth everything, a fresh branch next to nothing."""

import math
from dataclasses import replace

import pytest
import torch
from regularizers.branch import SIZE, batch, build, tasks_of
from torch import Tensor, nn

from triptych.regularizers import densities
from triptych.regularizers.densities import explained_variance, fog_weights, measure_densities, ray_entropy
from triptych.rendering.volume import render_opacity, render_weights

TASKS = tasks_of("semseg", "depth")


def fog(regularizer, raw: float):
    """The same density everywhere."""
    for field in [*regularizer.fields.values(), *([regularizer.density] if regularizer.density is not None else [])]:
        if field.density is not None:
            nn.init.zeros_(field.density.weight)
            nn.init.constant_(field.density.bias, raw)
    return regularizer


@pytest.mark.parametrize("raw", [-6.0, 0.5, 3.0])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"preset": "surface"},
        {"num_samples": 33, "density_activation": "exp"},
    ],
    ids=str,
)
def test_a_homogeneous_fog_is_told_nothing_of(options: dict[str, object], raw: float) -> None:
    regularizer = fog(build("triplane", TASKS, **{"num_samples": 8, **options}), raw)
    numbers = measure_densities(regularizer, [batch(TASKS)])
    assert list(numbers) == (["shared"] if regularizer.density is not None else ["semseg", "depth"])
    for each in numbers.values():
        assert each.fog_corrected == pytest.approx(0, abs=1e-6)
        assert each.r2 == 0.0
        exponential = regularizer.chosen["density_activation"] == "exp"
        density = math.exp(raw - 1) if exponential else math.log1p(math.exp(raw - 1))
        assert each.opacity == pytest.approx(1 - math.exp(-2 * density), rel=1e-6)


def test_a_fog_in_uneven_intervals_is_one_too() -> None:
    intervals = torch.tensor([0.1, 0.7, 0.2, 1.0], dtype=torch.float64)
    weights = render_weights(torch.full((3, 4), 0.8, dtype=torch.float64), intervals)
    torch.testing.assert_close(fog_weights(render_opacity(weights), intervals), weights)
    thin = fog_weights(torch.tensor(0.0).double(), intervals)
    torch.testing.assert_close(thin / thin.sum(), intervals / intervals.sum(), rtol=1e-6, atol=0)


def test_a_wall_at_the_true_depth_explains_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sample of every ray is a wall, that nearest to a depth which the bins have."""
    regularizer = build("triplane", TASKS, num_samples=8)
    output, sample = batch(TASKS)
    torch.manual_seed(2)
    chosen = torch.randint(0, 8, (2, 7, 8))
    cells = 1.0 + 0.5 * chosen  # metres, an affine function of the bin
    rows, columns = (torch.arange(n) * cell // n for n, cell in zip(SIZE, (7, 8), strict=True))
    sample = replace(sample, targets={**sample.targets, "depth": cells[:, rows][:, :, columns][:, None]})
    wall = torch.nn.functional.one_hot(chosen, 8).double()
    monkeypatch.setattr(densities, "render_shared_weights", lambda *arguments, **how: wall)
    numbers = measure_densities(regularizer, [(output, sample)])["depth"]
    assert numbers.r2 == pytest.approx(1)
    assert numbers.opacity == 1
    assert numbers.entropy == 0
    assert -1 < numbers.fog_corrected < 0
    # Another image's depth is not explained.
    other = replace(sample, targets={**sample.targets, "depth": sample.targets["depth"].flip(0)})
    assert measure_densities(regularizer, [(output, other)])["depth"].r2 < 0.3


def test_a_fresh_branch_gives_the_untrained_row_and_stays_as_it_was() -> None:
    torch.manual_seed(1)
    regularizer = build("triplane", TASKS, num_samples=16).train()
    before, state = {k: v.clone() for k, v in regularizer.state_dict().items()}, regularizer.generator.get_state()
    numbers = measure_densities(regularizer, [batch(TASKS), batch(TASKS)])
    for each in numbers.values():
        assert abs(each.fog_corrected) < 0.01  # rows near zero: a fog
        assert 0.3 < each.opacity < 0.6
        assert each.r2 < 0.3
    assert regularizer.training
    assert torch.equal(regularizer.generator.get_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in regularizer.state_dict().items())


def test_unlabelled_images_have_no_share_and_other_numbers_stay() -> None:
    regularizer = build("triplane", TASKS, num_samples=8)
    labelled, not_labelled = batch(TASKS), batch(TASKS, labelled=False)
    both = measure_densities(regularizer, [labelled, not_labelled])["depth"]
    assert both.r2 == measure_densities(regularizer, [labelled])["depth"].r2
    alone = measure_densities(regularizer, [not_labelled])["depth"]
    assert math.isnan(alone.r2)
    assert 0 < alone.opacity < 1
    without = measure_densities(build("triplane", tasks_of("semseg")), [batch(tasks_of("semseg"))])["semseg"]
    assert math.isnan(without.r2)


def test_explained_variance_is_that_of_a_least_squares_fit() -> None:
    generator = torch.Generator().manual_seed(3)
    values, noise = torch.randn(2, 50, generator=generator, dtype=torch.float64)
    truth = 2 - 3 * values + noise
    design = torch.stack([values, torch.ones(50, dtype=torch.float64)], dim=1)
    fitted = design @ torch.linalg.lstsq(design, truth[:, None]).solution[:, 0]
    expected = 1 - (truth - fitted).square().sum() / (truth - truth.mean()).square().sum()
    assert explained_variance(values, truth) == pytest.approx(expected.item())
    truth = torch.cat([truth, torch.full((1,), math.nan)])
    assert explained_variance(torch.cat([values, values[:1]]), truth) == pytest.approx(expected.item())
    assert explained_variance(torch.ones(50), truth[:50]) == 0
    assert math.isnan(explained_variance(values, torch.ones(50)))


def test_entropy_of_weights_by_hand() -> None:
    weights = torch.tensor([[0.25, 0.25, 0.0, 0.0], [0.3, 0.3, 0.3, 0.1], [0.0, 0.0, 0.0, 0.0]])
    found = ray_entropy(weights)
    assert found[0].item() == pytest.approx(0.5)
    shares: Tensor = weights[1]
    assert found[1].item() == pytest.approx(-sum(p * math.log(p) for p in shares.tolist()) / math.log(4))
    assert found[2].isnan()


def test_raises_for_a_control_without_a_density() -> None:
    with pytest.raises(ValueError, match=r"^UniformWeights renders without a density"):
        measure_densities(build("triplane-uniform", TASKS), [batch(TASKS)])
