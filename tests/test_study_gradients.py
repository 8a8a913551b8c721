"""`studies/gradients.py`: cosines against a NumPy twin, and a trained run against gradients of the uncut network."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from regularizers.branch import SMALL
from test_studies import load
from torch import Tensor, nn
from training.tiny import RECIPE, change

from triptych.training.loop import train

study = load("gradients")
TASKS = ["semseg", "depth"]


def cosine(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.dot(one, two) / np.sqrt(np.dot(one, one) * np.dot(two, two)))


def test_cosines_are_those_of_numpy_and_nan_of_a_gradient_of_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(rows, 7, generator=generator, dtype=torch.double) for rows in (2, 3))
    expected = [[cosine(a, b) for b in two.numpy()] for a in one.numpy()]
    np.testing.assert_allclose(study.cosines(one, two).numpy(), expected, rtol=1e-12)
    two[1] = 0
    assert study.cosines(one, two).isnan().tolist() == [[False, True, False]] * 2


def test_comparison_of_known_gradients() -> None:
    """The branch of the first task pulls as its head does, that of the second the other way and twice as far."""
    heads = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    branch = torch.tensor([[1.0, 0.0], [0.0, -2.0]])
    found = study.compare(heads, branch)
    assert found["head x branch"].tolist() == [[1, 0], [0, -1]]
    assert float(found["sums"]) == pytest.approx(-1 / np.sqrt(10))
    assert float(found["ratio"]) == pytest.approx(np.sqrt(2.5))


def test_opposed_are_the_pairs_below_zero_in_every_run() -> None:
    def run(first: float, second: float, third: float) -> dict[str, Any]:
        matrix = [[1.0, first, second], [first, 1.0, third], [second, third, 1.0]]
        turned = (-np.asarray(matrix)).tolist()
        return {"tasks": ["a", "b", "c"], "weights": {"branch x branch": matrix, "head x head": turned}}

    runs = [run(-0.1, -0.2, 0.3), run(0.1, -0.3, 0.2)]
    assert study.opposed(runs, "weights") == {"branch x branch": ["a, c"], "head x head": ["b, c"]}


@pytest.fixture(scope="module", params=["triplane", "auxiliary-heads"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = change(
        RECIPE,
        regularizer__name=request.param,
        regularizer__options={**SMALL, "num_samples": 4},
        schedule__steps=2,
        weighting__weights={"semseg": 2.0, "depth": 5.0},
        training__checkpoint_every=2,
    )
    return train(recipe, tmp_path_factory.mktemp("runs") / "run", device="cpu", progress=False)


def test_gradients_at_the_weights_are_those_of_the_uncut_network(run: Path) -> None:
    """One backward pass per loss through the whole network, without the hook."""
    [(names, found)] = study.measure_batches(run, 1)
    assert names == TASKS
    model, regularizer, recipe = study.load(run)
    [sample] = study.next_batches(recipe, model.tasks, 1)
    torch.manual_seed(0)
    output = model(sample.image)
    terms = regularizer(output, sample)
    heads = {name: task.loss(output.predictions[name], sample.targets[name]) for name, task in model.tasks.items()}
    weights = recipe.weighting.weights
    head, branch = ([slopes(weights[name] * each[name], model.backbone) for name in names] for each in (heads, terms))
    for key, one, two in (("head x branch", head, branch), ("branch x branch", branch, branch)):
        expected = [[cosine(a, b) for b in two] for a in one]
        np.testing.assert_allclose(found["weights"][key], expected, atol=1e-5)
    total, other = sum(head), sum(branch)
    assert float(found["weights"]["sums"]) == pytest.approx(cosine(total, other), abs=1e-5)
    assert float(found["weights"]["ratio"]) == pytest.approx(np.linalg.norm(other) / np.linalg.norm(total), rel=1e-4)


def slopes(loss: Tensor, module: nn.Module) -> np.ndarray:
    module.zero_grad()
    loss.backward(retain_graph=True)
    found = [torch.zeros_like(each) if each.grad is None else each.grad for each in module.parameters()]
    return torch.cat([each.flatten() for each in found]).double().numpy()


def test_a_step_against_a_branch_gradient_at_the_features_lowers_its_loss_as_said(run: Path) -> None:
    """Central differences along the gradient, in double precision: its length, for each loss."""
    model, regularizer, recipe = study.load(run)
    model, regularizer = model.double().eval(), regularizer.double().eval()
    cut = study.Cut()
    handle = model.backbone.register_forward_hook(cut)
    [sample] = study.next_batches(recipe, model.tasks, 1)
    torch.manual_seed(0)
    sample = replace(sample, image=sample.image.double())
    output = model(sample.image)
    terms = list(regularizer(output, sample).values())
    rows = study.gradients(terms, output.features, cut.maps, list(model.backbone.parameters()))["features"]
    handle.remove()
    for index, row in enumerate(rows):
        step = 1e-4 * row / row.norm()
        values = []
        for sign in (1, -1):
            pieces = (sign * step).split([each.numel() for each in output.features])
            moved = [each.detach() + piece.view_as(each) for each, piece in zip(output.features, pieces, strict=True)]
            values.append(float(list(regularizer(output._replace(features=moved), sample).values())[index].detach()))
        assert (values[0] - values[1]) / 2e-4 == pytest.approx(float(row.norm()), rel=1e-4)


def test_measure_averages_over_batches_and_fills_every_column(run: Path) -> None:
    found = study.measure(run, 2)
    each = [batch for _, batch in study.measure_batches(run, 2)]
    means = np.mean([batch["features"]["head x head"].numpy() for batch in each], axis=0)
    np.testing.assert_allclose(found["features"]["head x head"], means, rtol=1e-6)
    columns = study.columns(found["features"], found["tasks"])
    assert np.isfinite(list(columns.values())).all()
    assert len(study.table({"arm": [found, found]}).splitlines()) == 4
    assert columns["depth"] == found["features"]["head x branch"][1][1]


def test_raises_for_a_run_without_a_branch(tmp_path: Path) -> None:
    run = train(change(RECIPE, schedule__steps=1), tmp_path / "run", device="cpu", progress=False)
    with pytest.raises(ValueError, match="without a regularizer"):
        study.load(run)
