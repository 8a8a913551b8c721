"""DPT against its layers written out by hand, at the published sizes, on pyramids, and what it refuses."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from triptych.assemble import build_model
from triptych.backbones import create_backbone
from triptych.decoders.dpt import DPT
from triptych.models.multitask import MultiTaskModel
from triptych.recipes.config import ModelConfig, Recipe
from triptych.tasks import depth, semseg
from triptych.weighting import WEIGHTINGS

TASKS = {"semseg": semseg(5), "depth": depth()}
Weights = dict[str, Tensor]


def conv(x: Tensor, weights: Weights, name: str, **options: int) -> Tensor:
    return F.conv2d(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), **options)


def residual(x: Tensor, weights: Weights, name: str) -> Tensor:
    inner = conv(F.relu(x), weights, f"{name}.layers.1", padding=1)
    return x + conv(F.relu(inner), weights, f"{name}.layers.3", padding=1)


def twice(x: Tensor, size: torch.Size | None = None) -> Tensor:
    size = size or torch.Size([2 * x.shape[2], 2 * x.shape[3]])
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def by_hand(weights: Weights, features: list[Tensor], trunk: str, task: str, readout: bool) -> Tensor:
    """The paper's decoder of one task, with the names of our parameters."""
    levels = []
    for index, x in enumerate(features):
        name, place = f"trunks.{trunk}.reassemble.{index}", 0
        if readout:
            x = F.gelu(conv(x, weights, f"{name}.0"))
            place = 2
        x = conv(x, weights, f"{name}.{place}")
        if index < 2:
            stride = (4, 2)[index]
            kernel = weights[f"{name}.{place + 1}.weight"]
            x = F.conv_transpose2d(x, kernel, weights[f"{name}.{place + 1}.bias"], stride=stride)
        if index == 3:
            x = conv(x, weights, f"{name}.{place + 1}", stride=2, padding=1)
        levels.append(F.conv2d(x, weights[f"trunks.{trunk}.narrow.{index}.weight"], padding=1))
    path = None
    for index in (3, 2, 1, 0):
        name = f"trunks.{trunk}.blocks.{index}"
        x = levels[3] if path is None else path + residual(levels[index], weights, f"{name}.before")
        size = levels[index - 1].shape[-2:] if index else None
        path = conv(twice(residual(x, weights, f"{name}.after"), size), weights, f"{name}.mix")
    x = twice(conv(path, weights, f"heads.{task}.first", padding=1))
    return conv(F.relu(conv(x, weights, f"heads.{task}.last.0", padding=1)), weights, f"heads.{task}.last.2")


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("readout", [False, True])
def test_it_computes_what_is_written_out_by_hand(shared: bool, readout: bool) -> None:
    torch.manual_seed(0)
    channels = 32 if readout else 16
    decoder = DPT(
        (channels,) * 4, strides=(16,) * 4, tasks=TASKS, width=6, head_width=4, shared=shared, class_token=readout
    )
    features = [torch.randn(2, channels, 3, 5) for _ in range(4)]
    [maps] = decoder(features)
    weights = dict(decoder.state_dict())
    for name, found in maps.items():
        expected = by_hand(weights, features, "shared" if shared else name, name, readout)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert found.shape[-2:] == (48, 80)


def test_shapes_are_the_published_ones() -> None:
    """ViT-B at 384: 96, 192, 384 and 768 channels at strides 4, 8, 16 and 32, fused to 256 at stride 2."""
    with torch.device("meta"):
        decoder = DPT((1536,) * 4, strides=(16,) * 4, tasks={"depth": depth()}, class_token=True)
        features = [torch.empty(1, 1536, 24, 24) for _ in range(4)]
        trunk = decoder.trunks["depth"]
        places = [tuple(each(x).shape[1:]) for each, x in zip(trunk.reassemble, features, strict=True)]
        assert places == [(96, 96, 96), (192, 48, 48), (384, 24, 24), (768, 12, 12)]
        assert trunk(features).shape == (1, 256, 192, 192)
        assert decoder(features)[0]["depth"].shape == (1, 1, 384, 384)


def test_a_pyramid_keeps_its_sizes_and_every_level_is_read() -> None:
    torch.manual_seed(0)
    decoder = DPT((4, 6, 8, 10), strides=(4, 8, 16, 32), tasks=TASKS, width=8)
    sizes = [(15, 20), (8, 10), (4, 5), (2, 3)]  # as of an image of 60 x 80
    features = [
        torch.randn(1, number, *size, requires_grad=True) for number, size in zip((4, 6, 8, 10), sizes, strict=True)
    ]
    [maps] = decoder(features)
    assert maps["depth"].shape == (1, 1, 60, 80)
    maps["depth"].sum().backward()
    assert all(feature.grad is not None and feature.grad.abs().max() > 0 for feature in features)
    assert all(
        parameter.grad is not None and parameter.grad.abs().max() > 0
        for name, parameter in decoder.named_parameters()
        if "depth" in name
    )


@pytest.mark.parametrize("shared", [False, True])
def test_what_all_tasks_read_is_shared_and_balanced_beside_a_frozen_trunk_too(shared: bool) -> None:
    trunk = create_backbone("resnet18", widths=(4, 4, 4, 4))
    model = MultiTaskModel(trunk, DPT(trunk.channels, strides=trunk.strides, tasks=TASKS, width=8, shared=shared))
    predictions = model(torch.rand(2, 3, 64, 64)).predictions
    reached = []
    for raw in predictions.values():
        gradients = torch.autograd.grad(raw.sum(), list(model.parameters()), retain_graph=True, allow_unused=True)
        reached.append({p for p, found in zip(model.parameters(), gradients, strict=True) if found is not None})
    listed = {p for module in model.shared_modules for p in module.parameters()}
    assert reached[0] & reached[1] <= listed
    assert not listed & (reached[0] ^ reached[1])
    model.freeze(["backbone"])
    weighting = WEIGHTINGS["pcgrad"](tuple(TASKS), weights=dict.fromkeys(TASKS, 1.0))
    with nullcontext() if shared else pytest.raises(ValueError, match="no parameter that tasks share trains"):
        weighting.check(list(listed), ())


def test_sharing_costs_one_trunk() -> None:
    def count(shared: bool) -> int:
        decoder = DPT((16,) * 4, strides=(16,) * 4, tasks=TASKS, width=8, shared=shared)
        return sum(parameter.numel() for parameter in decoder.trunks.parameters())

    assert count(shared=False) == 2 * count(shared=True)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2"])
def test_the_class_token_follows_every_patch(name: str) -> None:
    torch.manual_seed(0)
    plain = create_backbone(name, image_size=(32, 48)).eval()
    both = create_backbone(name, image_size=(32, 48), class_token=True).eval()
    both.load_state_dict(plain.state_dict())
    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        for alone, joined in zip(plain(image), both(image), strict=True):
            patch, token = joined.chunk(2, dim=1)
            assert torch.equal(patch, alone)
            assert torch.equal(token, token[..., :1, :1].expand_as(token))
            assert not torch.allclose(token, alone)
    assert both.channels == tuple(2 * number for number in plain.channels)


@pytest.mark.parametrize("strides", [(16, 16), (8, 8, 16, 32)])
def test_other_maps_are_refused(strides: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="dpt takes four maps of one stride"):
        DPT((8,) * len(strides), strides=strides, tasks=TASKS)


def test_a_readout_needs_the_class_token() -> None:
    with pytest.raises(ValueError, match="give the backbone class_token = true"):
        DPT((15,) * 4, strides=(16,) * 4, tasks=TASKS, class_token=True)


@pytest.mark.parametrize(
    ("backbone", "given", "read"),
    [("vit_tiny_patch16_224", True, False), ("vit_tiny_patch16_224", False, True), ("convnext_atto", False, True)],
)
def test_a_class_token_is_given_and_read_or_neither(backbone: str, given: bool, read: bool) -> None:
    """Networks that were trained with one alone can be read."""

    def build(given: bool, read: bool, **how: bool) -> None:
        options, others = {"class_token": True} if given else {}, {"class_token": read, "width": 8}
        config = ModelConfig(decoder="dpt", backbone=backbone, backbone_options=options, decoder_options=others)
        with torch.device("meta"):
            build_model(Recipe(model=config), TASKS, **how)

    with pytest.raises(ValueError, match=f"'dpt' has class_token {read} and backbone '{backbone}' {given}; give"):
        build(given, read)
    build(given, given)
    build(given, read, stored=True)
