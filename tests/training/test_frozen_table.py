"""Every regularizer, weighting and adapter on a frozen and on an adapted trunk: it trains, or is refused with the
reason; a new entry of a registry is enrolled by its name.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adaptation.test_properties import ADAPTED, OPTIONS
from entries import own_entries
from regularizers.branch import FEW, OTHERS, SMALL
from safetensors.torch import load_file
from torch import Tensor, nn
from training.tiny import Rectangles, Stairs, change

from triptych.adaptation import ADAPTERS
from triptych.backbones import BACKBONES
from triptych.datasets import DATASETS
from triptych.recipes.config import Recipe
from triptych.regularizers import REGULARIZERS
from triptych.training.loop import train
from triptych.types import Camera, Sample
from triptych.weighting import WEIGHTINGS


class Pillars(Stairs):
    """Stairs with a linear layer, for low-rank updates, between them."""

    def __init__(self, *, image_size: tuple[int, int] | None = None) -> None:
        super().__init__(image_size=image_size)
        self.body.append(nn.ModuleDict({"fc1": nn.Linear(8, 8)}))

    def forward(self, image: Tensor) -> list[Tensor]:
        first = self.run(self.body[0], self.normalize(image))
        first = first + self.body[2]["fc1"](first.movedim(1, -1)).movedim(-1, 1)
        return [first, self.run(self.body[1], first)]


class Pairs(Rectangles):
    """Rectangles seen twice from one place, for what compares views."""

    name = "pairs"

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        seen = replace(sample, camera=Camera(torch.tensor([[48.0, 0, 24], [0, 48, 16], [0, 0, 1]]), torch.eye(4)))
        return replace(seen, neighbors=(seen,))


BACKBONES["pillars"] = Pillars
DATASETS["pairs"] = Pairs
PLAIN = change(
    ADAPTED,
    data__dataset="pairs",
    model__backbone="pillars",
    model__decoder="fcn",
    model__decoder_options={"width": 4},
    adaptation__name="none",
    schedule__steps=1,
    schedule__warmup_steps=0,
    training__evaluate_every=0,
    training__ema=0.0,
)
TRUNKS = {
    "frozen": {"model__freeze": ("backbone",)},
    "adapted": {"model__tuning": "lora", "model__tuning_options": {"rank": 2}},
}
REFUSED = {
    ("frozen", "adabn"): "adabn renews the statistics of batch norms, and model.freeze or model.tuning",
    ("adapted", "adabn"): "adabn renews the statistics of batch norms, and model.freeze or model.tuning",
    **{
        ("frozen", name): "reaches the network through its shared features, which model.freeze keeps"
        for name in REGULARIZERS
        if name != "mtpsl"
    },
    **{
        ("frozen", name): "no parameter that tasks share trains"
        for name in ("gradient", "pcgrad", "mgda", "upgrad", "cagrad", "imtl-g", "aligned-mtl", "graddrop")
    },
}


def recipe_of(kind: str, name: str) -> Recipe:
    if kind == "weighting":
        return change(PLAIN, weighting__name=name)
    if kind == "adapter":
        return change(PLAIN, adaptation__name=name, adaptation__options=OPTIONS.get(name, {}))
    small = OTHERS.get(name, {} if name == "second-heads" else {**SMALL, "num_samples": 2, **FEW.get(name, {})})
    return change(PLAIN, regularizer__name=name, regularizer__options=small)


ENTRIES = [
    (kind, name)
    for kind, registry in (("regularizer", REGULARIZERS), ("weighting", WEIGHTINGS), ("adapter", ADAPTERS))
    for name in own_entries(registry)
]


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize(("kind", "name"), ENTRIES, ids=[name for _, name in ENTRIES])
def test_trains_or_is_refused(kind: str, name: str, trunk: str, tmp_path: Path) -> None:
    recipe = change(recipe_of(kind, name), **TRUNKS[trunk])
    if (trunk, name) in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[trunk, name]):
            train(recipe, tmp_path / "run", device="cpu", progress=False)
        assert not (tmp_path / "run").exists()
        return
    run = train(recipe, tmp_path / "run", device="cpu", progress=False)
    stored, frozen = load_file(run / "model.safetensors"), load_file(run / "frozen.safetensors")
    assert {key for key in frozen if key.startswith("backbone.body")}
    for key, value in frozen.items():
        assert torch.equal(stored[key], value), key
    moved = load_file(next((run / "checkpoints").iterdir()) / "optimizer.safetensors")
    assert any(key.startswith("objective.model.decoder") for key in moved)
    if trunk == "adapted" and name != "one-task":
        assert any(".lora." in key for key in moved)


def test_streams_of_tasks_train_beside_one_of_each_kind(tmp_path: Path) -> None:
    """MTLoRA's heads do not read the shared maps; all entries were tried once, as above."""
    recipe = change(
        recipe_of("regularizer", "triplane"),
        model__backbone="swin_tiny",
        model__backbone_options={"depths": (2, 2), "embed_dim": 8, "num_heads": (1, 1), "window_size": 4},
        model__tuning="mtlora",
        model__tuning_options={"rank": 2, "task_rank": 2},
        weighting__name="pcgrad",
        adaptation__name="mean-teacher",
    )
    run = train(recipe, tmp_path / "run", device="cpu", progress=False)
    moved = load_file(next((run / "checkpoints").iterdir()) / "optimizer.safetensors")
    for name in ("objective.model.updates.0.semseg", "objective.model.backbone.body.layers.0", "objective.regularizer"):
        assert any(key.startswith(name) for key in moved), name
