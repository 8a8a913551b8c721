"""Maps come back where the image has them, whatever the backbone padded."""

from dataclasses import replace

import pytest
import torch
from accelerate.utils import convert_to_fp32
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel.distributed import _find_tensors
from unchecked import shapes_unchecked

from triptych.backbones.base import Backbone
from triptych.backbones.cells import pad_image, predict_maps
from triptych.decoders.base import Decoder
from triptych.models.multitask import MultiTaskModel
from triptych.recipes.config import AdaptationConfig, Recipe
from triptych.tasks import depth


class Patches(Backbone):
    """Means over whole patches of the padded image, as a transformer sees it."""

    channels, strides, multiple = (3,), (16,), 16

    def forward(self, image: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        padded = F.pad(image, (0, -width % 16, 0, -height % 16), mode="replicate")
        return [F.avg_pool2d(padded, 16)]


class First(Decoder):
    """The first channel as it is."""

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        return [{"depth": features[0][:, :1]}]


@pytest.mark.parametrize("size", [(64, 96), (60, 90), (49, 81)])
def test_a_ramp_comes_back_as_the_same_ramp(size: tuple[int, int]) -> None:
    """Pixel u of a horizontal ramp holds u; means over patches, resized, must still say u, away from the borders."""
    backbone = Patches()
    model = MultiTaskModel(backbone, First(backbone.channels, strides=backbone.strides, tasks={"depth": depth()}))
    ramp = torch.arange(size[1], dtype=torch.float32).expand(1, 3, *size)
    found = model(ramp).predictions["depth"]
    assert found.shape == (1, 1, *size)
    # Patches that hold padding are the last column's; between whole patches the ramp is linear.
    whole = size[1] // 16 * 16
    torch.testing.assert_close(found[0, 0, :, 8 : whole - 8], ramp[0, 0, :, 8 : whole - 8], rtol=0, atol=1e-4)


class Levels(Backbone):
    """Means over cells of 4 and of 32 pixels; those at the end are of what is left of the image."""

    channels, strides = (3, 3), (4, 32)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(image, stride, ceil_mode=True) for stride in self.strides]


@pytest.mark.parametrize("size", [(64, 96), (60, 90), (49, 81), (97, 171)])
@pytest.mark.parametrize("backbone", [Patches(), Levels()], ids=["patches", "levels"])
def test_regularizers_read_features_where_the_image_has_them(backbone: Backbone, size: tuple[int, int]) -> None:
    """Features of a ramp, enlarged to the image as regularizers do, are the ramp, away from the borders."""
    model = MultiTaskModel(backbone, First(backbone.channels, strides=backbone.strides, tasks={"depth": depth()}))
    model.set_training_sizes([(64, 96)])
    ramp = torch.arange(size[1], dtype=torch.float32).expand(1, 3, *size)
    seen = model.on_image(model(pad_image(model, ramp)), size)
    for features, stride in zip(seen.features, backbone.strides, strict=True):
        found = F.interpolate(features, size=size, mode="bilinear")
        inner = slice(stride, size[1] // stride * stride - stride)
        torch.testing.assert_close(found[..., inner], ramp[..., inner], rtol=0, atol=1.0)


class Coarse(Decoder):
    """The coarse level at the size of the fine one, as decoders join levels."""

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        fine, coarse = features
        return [{"depth": F.interpolate(coarse[:, :1], size=fine.shape[-2:], mode="bilinear")}]


def coarse_model(trained: tuple[int, int]) -> MultiTaskModel:
    backbone = Levels()
    model = MultiTaskModel(backbone, Coarse(backbone.channels, strides=backbone.strides, tasks={"depth": depth()}))
    model.set_training_sizes([trained])
    return model


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (49, 81), (1, 127)])
def test_levels_lie_on_each_other_at_any_size(size: tuple[int, int]) -> None:
    """A ramp at the coarse level, away from the borders; without padding its cells are drawn over the fine ones."""
    ramp = torch.arange(size[1], dtype=torch.float32).expand(1, 3, *size)
    found = predict_maps(coarse_model((64, 96)), ramp)["depth"]
    assert found.shape == (1, 1, *size)
    inner = slice(16, size[1] // 32 * 32 - 16)
    assert (found - ramp[:, :1])[..., inner].abs().max() < 3  # the finest level's own cells


def test_a_wrapped_network_predicts_as_it_does_alone() -> None:
    image, model = torch.rand(1, 3, 49, 81), coarse_model((64, 96))
    assert torch.equal(predict_maps(nn.Sequential(model), image)["depth"], predict_maps(model, image)["depth"])


def test_a_size_of_the_target_domain_is_a_size_of_training() -> None:
    recipe = Recipe(adaptation=AdaptationConfig(name="dacs", dataset="rooms", size=(75, 128)))
    model = coarse_model((96, 128))
    model.set_training_sizes(recipe.training_sizes)
    assert model.pad_to == 1
    model.set_training_sizes(replace(recipe, adaptation=AdaptationConfig()).training_sizes)
    assert model.pad_to == 32


def test_a_network_trained_on_displaced_levels_sees_them_again() -> None:
    image = torch.rand(1, 3, 64, 80)
    model = coarse_model((64, 80))
    assert torch.equal(predict_maps(model, image)["depth"], model(image).predictions["depth"])


class Two(Decoder):
    """The image's mean twice: on the way at a quarter of its size, and in the end."""

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        return [{"depth": F.avg_pool2d(features[0][:, :1], 4)}, {"depth": features[0][:, :1]}]


def test_intermediate_predictions_are_resized_as_they_are_read():
    model = MultiTaskModel(Patches(), Two((3,), strides=(16,), tasks={"depth": depth()}))
    resized = []
    model.resize, plain = lambda raw, size: resized.append(raw.shape) or plain(raw, size), model.resize
    with shapes_unchecked():  # the checks read what they check
        (stage,) = model(torch.rand(1, 3, 64, 128)).auxiliary
    assert resized == [(1, 1, 4, 8)]  # the final one alone
    assert list(stage) == ["depth"]
    assert len(stage) == 1
    assert stage["depth"].shape == (1, 1, 64, 128)
    assert resized == [(1, 1, 4, 8), (1, 1, 1, 2)]


def test_wrappers_find_the_tensors_of_intermediate_predictions():
    """Else DistributedDataParallel takes the heads for unused, and accelerate cannot convert the output."""
    model = MultiTaskModel(Patches(), Two((3,), strides=(16,), tasks={"depth": depth()}))
    with shapes_unchecked():
        output = model(torch.rand(1, 3, 64, 128))
        (stage,) = output.auxiliary
        assert any(found is stage.raw["depth"] for found in _find_tensors(output))
        (converted,) = convert_to_fp32(output).auxiliary
        assert torch.equal(converted["depth"], stage["depth"])
