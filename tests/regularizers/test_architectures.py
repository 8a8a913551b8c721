"""The regularizer beside every decoder and architecture: it supervises what they share, and they never notice.

A new entry in `DECODERS` or `ARCHITECTURES` is enrolled by its name.
"""

import pytest
import torch
from regularizers.branch import SMALL
from safetensors.torch import load, save
from test_models import NAMES, OPTIONS
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from triptych.assemble import build_regularizer, create_model
from triptych.models.multitask import MultiTaskModel
from triptych.recipes.config import Recipe, RegularizerConfig
from triptych.tasks import boundary, depth, normals, semseg
from triptych.training.objective import Objective
from triptych.types import Sample

TASKS = {task.name: task for task in (semseg(4), depth(), normals(), boundary())}
SIZE = (50, 70)
CONFIG = RegularizerConfig(name="triplane", options={**SMALL, "num_samples": 3, "route": "recomputed"})


class Operations(TorchDispatchMode):
    """Every operation that runs, with the shapes that it reads: the graph as it is executed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[tuple[int, ...], ...]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        shapes = tuple(tuple(value.shape) for value in args if isinstance(value, Tensor))
        self.seen.append((str(func), shapes))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def inference_graph(model: MultiTaskModel, image: Tensor) -> list[tuple[str, tuple[tuple[int, ...], ...]]]:
    with Operations() as operations:
        model.eval()(image)
    return operations.seen


def build(name: str) -> MultiTaskModel:
    torch.manual_seed(1)
    return create_model(
        name,
        backbone="resnet18",
        backbone_options={"widths": (8, 16, 24, 32)},
        decoder_options=OPTIONS.get(name),
        tasks=TASKS,
    )


QUICK = ("vit", "mti-net", "invpt", "densemtl", "mtan")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES]
)
def test_every_architecture_is_the_same_with_and_without(name: str) -> None:
    """After a step with the regularizer: keys and bytes of the saved model, and the operations of inference."""
    plain, model = build(name), build(name)
    regularizer = build_regularizer(Recipe(regularizer=CONFIG), model)
    assert save(model.state_dict()) == save(plain.state_dict())
    targets = {
        key: torch.rand(2, task.target_channels, *SIZE) if task.target_channels else torch.randint(0, 4, (2, *SIZE))
        for key, task in TASKS.items()
    }
    targets["boundary"] = targets["boundary"].round()
    sample = Sample(torch.rand(2, 3, *SIZE), targets)
    model.train()
    losses = Objective(model, regularizer=regularizer)(sample)
    assert [part for part in losses.parts if part.endswith("/regularizer")] == [f"{task}/regularizer" for task in TASKS]
    # The regularizer alone reaches every parameter that the tasks share on the way to the lifted features.
    output = model(sample.image)
    torch.stack(list(regularizer(output, sample).values())).sum().backward()
    shared = [p for module in model.shared_modules for p in module.parameters() if p.grad is not None]
    assert len(shared) > 10
    assert all(p.grad.isfinite().all() for p in shared)
    stored = load(save(model.state_dict()))
    assert list(model.state_dict()) == list(plain.state_dict())
    assert stored.keys() == load(save(plain.state_dict())).keys()
    plain.load_state_dict(stored)
    image = torch.rand(1, 3, *SIZE)
    assert inference_graph(model, image) == inference_graph(plain, image)
    with torch.no_grad():
        one, other = model.eval()(image).predictions, plain.eval()(image).predictions
    assert all(torch.equal(one[task], other[task]) for task in TASKS)
    assert not any(module._forward_hooks for module in model.modules())
