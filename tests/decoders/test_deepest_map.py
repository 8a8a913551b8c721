"""Every output depends on the deepest feature map from the first step on: small recipes, fresh weights, dropout off.

At random weights a decoder can all but lose the map that sees most of the image, and then learns from the finer ones
alone; scores after a short training do not say so. A decoder or architecture is enrolled by its recipe on `rooms`.
"""

from functools import cache

import pytest
import torch
from entries import own_entries
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.assemble import build_model
from triptych.backbones.resnet import ResNet
from triptych.datasets.rooms import rooms_tasks
from triptych.decoders import DECODERS
from triptych.models import ARCHITECTURES
from triptych.models.multitask import MultiTaskModel
from triptych.recipes import RECIPES
from triptych.recipes.config import Recipe

FLOOR = 0.2
"""Share of what differs between two images' outputs that goes with their deepest maps. DenseMTL's and PAD-Net+'s
decoders had 0.002 to 0.009 with torch's initialization; others have 0.4 to 1.
"""

SMALL = {
    name: recipe
    for name, recipe in RECIPES.items()
    if name.startswith("rooms-") and not recipe.regularizer.used and not recipe.video.used
}


@cache
def two_images() -> Tensor:
    """Blobs of color, some large and some small."""
    torch.manual_seed(7)
    blobs = [F.interpolate(torch.rand(2, 3, n, n), size=(96, 128), mode="bicubic") for n in (3, 6, 12, 48)]
    return torch.stack(blobs).mean(dim=0).clamp(0, 1)


def build(recipe: Recipe) -> MultiTaskModel:
    """The recipe's network as it starts training, batch norms and all, but for dropout."""
    names = recipe.data.tasks or tuple(rooms_tasks())
    torch.manual_seed(0)
    model = build_model(recipe, {name: rooms_tasks()[name] for name in names}).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.eval()
    return model


def outputs(model: MultiTaskModel) -> dict[str, Tensor]:
    torch.manual_seed(0)  # for what is drawn in a forward pass
    with torch.no_grad():
        output = model(two_images())
    stages = [output.predictions, *output.auxiliary]
    return {f"{name}, stage {i}": raw for i, stage in enumerate(stages) for name, raw in stage.items()}


def exchange_shares(model: MultiTaskModel) -> dict[str, float]:
    """By output, the deviation of what changes when two images swap their deepest maps, over that between the images'
    outputs.
    """
    before = outputs(model)
    trunks = [module for module in model.modules() if isinstance(module, ResNet)]
    handles = [trunk.stages[-1][-1].register_forward_hook(lambda _, __, x: x.flip(0)) for trunk in trunks]
    after = outputs(model)
    for handle in handles:
        handle.remove()
    return {name: float((after[name] - raw).std() / (raw[0] - raw[1]).std()) for name, raw in before.items()}


def test_every_decoder_and_architecture_has_a_small_recipe():
    known = DECODERS | ARCHITECTURES
    tested = {known[recipe.model.decoder] for recipe in SMALL.values()}
    assert [name for name in own_entries(known) if known[name] not in tested] == []


@pytest.mark.parametrize("name", SMALL)
def test_the_deepest_map_reaches_every_output(name):
    shares = exchange_shares(build(SMALL[name]))
    assert shares
    assert min(shares.values()) > FLOOR, f"{name}: {shares}"
