"""Properties of every adapter; a new entry in `ADAPTERS` is enrolled by its name."""

from pathlib import Path

import pytest
import torch
from adaptation.networks import ALL_TASKS, SIZE, TASKS, batch, network, unlabelled, weights
from safetensors.torch import load_file
from training.tiny import RECIPE, change
from training_runs import lines, resumed, run_recipe

from triptych.adaptation import ADAPTERS
from triptych.adaptation.base import Adapter
from triptych.models.multitask import MultiTaskModel
from triptych.recipes.config import AdaptationConfig
from triptych.tasks import Task
from triptych.training.checkpoint import list_checkpoints
from triptych.types import Sample

NAMES = [name for name, entry in ADAPTERS.items() if entry.__module__.startswith("triptych.")]
SURE: dict[str, object] = {"threshold": 0.1}
OPTIONS: dict[str, dict[str, object]] = {
    "advent-mt": {"width": 4},
    "mean-teacher": SURE,
    "dacs": SURE,
    "depth-mix": SURE,
}
"""Options that make an adapter quick, or let a tiny network's teacher speak."""
every_adapter = pytest.mark.parametrize("name", NAMES)
every_learning_adapter = pytest.mark.parametrize("name", [name for name in NAMES if ADAPTERS[name].has_losses])


def build(name: str, model: MultiTaskModel, tasks: dict[str, Task] = TASKS, **options: object) -> Adapter:
    options = OPTIONS.get(name, {}) | options
    return ADAPTERS[name](model, size=SIZE, weights=weights(tasks), seed=0, **options).train()


def losses(adapter: Adapter, model: MultiTaskModel, source: Sample, target: Sample) -> torch.Tensor:
    return torch.stack(list(adapter(model, source, target, model(source.image)).values())).sum()


@every_learning_adapter
@pytest.mark.parametrize("tasks", [TASKS, ALL_TASKS], ids=["three", "six"])
def test_gradients_are_finite_and_reach_the_whole_network(name: str, tasks: dict[str, Task]) -> None:
    model = network(tasks)
    adapter = build(name, model, tasks)
    total = losses(adapter, model, batch(tasks), unlabelled())
    assert total > 0
    total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert float(model.backbone.body[0].weight.grad.abs().max()) > 0


@every_learning_adapter
def test_a_source_batch_without_labels_gives_finite_gradients(name: str) -> None:
    model = network()
    source = batch()
    targets = {key: task.invalid_target(SIZE).expand_as(source.targets[key]) for key, task in TASKS.items()}
    losses(build(name, model), model, Sample(source.image, targets, source.key), unlabelled()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert model.backbone.body[0].weight.grad.any()  # from the target's images


@every_learning_adapter
def test_a_step_leaves_no_gradient_in_the_adapter_and_its_own_none_in_the_model(name: str) -> None:
    model = network()
    adapter = build(name, model)
    losses(adapter, model, batch(), unlabelled()).backward()
    assert all(parameter.grad is None for parameter in adapter.parameters())
    assert not any(parameter.requires_grad for parameter in adapter.parameters())
    model.zero_grad()
    own = adapter.own_parameters()
    for parameter in own:
        parameter.requires_grad_(True)
    if terms := adapter.own_losses():
        torch.stack(list(terms.values())).sum().backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in own)
    assert bool(terms) == bool(own)
    assert all(parameter.grad is None for parameter in model.parameters())


@every_adapter
def test_building_one_draws_nothing_and_leaves_the_model_alone(name: str) -> None:
    model = network().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    adapter = build(name, model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in adapter.parameters()}


@every_learning_adapter
def test_the_same_seed_gives_the_same_losses_and_the_generator_goes_on(name: str) -> None:
    torch.manual_seed(3)
    model, source, target = network().eval(), batch(), unlabelled()
    values = []
    for _ in range(2):
        torch.manual_seed(1)
        adapter = build(name, model)
        torch.manual_seed(torch.randint(1000, ()).item())
        values.append(losses(adapter, model, source, target).item())
    assert values[0] == values[1]


ADAPTED = change(
    RECIPE,
    data__tasks=("semseg", "depth", "normals"),
    data__transform="none",
    model__decoder_options={"dropout": 0.2, "intermediate": True},
    adaptation=AdaptationConfig(dataset="rectangles", split="other"),
)


@every_adapter
@pytest.mark.parametrize("weighting", ["fixed", pytest.param("pcgrad", marks=pytest.mark.slow)])
def test_a_resumed_run_equals_the_uninterrupted_one(
    name: str, weighting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both orders of images, the network, its optimizer, the adapter and its optimizer: bit for bit."""
    recipe = change(
        ADAPTED,
        adaptation__name=name,
        adaptation__options=OPTIONS.get(name, {}),
        weighting__name=weighting,
        training__accumulate=2 if weighting == "fixed" else 1,
        training__ema=0.9 if weighting == "fixed" else 0.0,
    )
    _, whole = resumed(recipe, tmp_path, monkeypatch)
    files = {path.stem for path in list_checkpoints(whole)[-1].glob("*.safetensors")}
    record = lines(whole, "train")[-1]
    assert (record["adaptation"] or 0) > 0 or not ADAPTERS[name].has_losses
    assert ("adapter_optimizer" in files) == (record["adapter"] is not None)
    saved = load_file(whole / "model.safetensors")
    assert not any("adapter" in key or "discriminator" in key or "teacher" in key for key in saved)


@every_adapter
def test_raises_for_an_unknown_option(name: str, tmp_path: Path) -> None:
    recipe = change(ADAPTED, adaptation__name=name, adaptation__options={"wieght": 1.0})
    with pytest.raises(ValueError, match=r"has no option 'wieght'; its options are (?!.*\b(seed|size|weights)\b)"):
        run_recipe(recipe, tmp_path / "run")
