"""A backbone of one's own that keeps its layers itself, without a `body`, is trained, loaded and adapted as others."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from triptych.backbones.base import Backbone
from triptych.backbones.weights import load_weights
from triptych.decoders import DECODERS
from triptych.models.lora import lora
from triptych.models.multitask import MultiTaskModel
from triptych.prediction.pretrained import split_trunk
from triptych.recipes.config import OptimizerConfig
from triptych.tasks import depth
from triptych.training.optim import learning_rate_factors


class Plain(Backbone):
    """One convolution and a linear layer per pixel, at stride 4."""

    channels, strides = (8,), (4,)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.proj = nn.Linear(8, 8)

    def forward(self, image):
        return [self.proj(self.stem(self.normalize(image)).movedim(1, -1)).movedim(-1, 1)]


@pytest.fixture
def model():
    plain = Plain()
    return MultiTaskModel(plain, DECODERS["fcn"](plain.channels, strides=plain.strides, tasks={"depth": depth()}))


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
def test_weights_are_matched_by_the_names_of_its_layers(tmp_path, prefix):
    trained, fresh = Plain(), Plain()
    save_file({prefix + key: value for key, value in trained.state_dict().items()}, tmp_path / "plain.safetensors")
    report = load_weights(fresh, str(tmp_path / "plain.safetensors"))
    assert (report.share, report.unexpected) == (1.0, ())
    assert all(
        torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), trained.state_dict().values(), strict=True)
    )


def test_weights_of_another_network_are_refused_by_its_name(tmp_path):
    save_file({"fc.weight": torch.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"0\.0 % of the parameters of Plain .*expected are 'stem.weight'"):
        load_weights(Plain(), str(tmp_path / "other.safetensors"))


def test_its_layers_decay_in_their_order(model):
    factors = learning_rate_factors(model, OptimizerConfig(layer_decay=0.5))
    assert (factors["backbone.stem.weight"], factors["backbone.proj.bias"]) == (0.25, 0.5)
    assert {factor for name, factor in factors.items() if not name.startswith("backbone.")} == {1.0}


def test_low_rank_updates_leave_the_rest_of_it_frozen_and_are_saved_apart(model):
    adapted = lora(model, rank=2, targets=("proj",))
    trained = {name for name, p in adapted.backbone.named_parameters() if p.requires_grad}
    assert trained == {"proj.lora.a", "proj.lora.b"}
    trunk, rest = split_trunk(adapted, ())
    assert {"backbone.stem.weight", "backbone.proj.weight"} <= set(trunk)
    assert {"backbone.proj.lora.a", "backbone.proj.lora.b"} <= set(rest)
