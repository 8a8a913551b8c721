"""Backbones state what they return, equal timm's networks, and take any image size."""

import copy
import socket

import numpy as np
import pytest
import torch
from entries import own_entries
from torch import nn
from unchecked import shapes_unchecked

from triptych.backbones import BACKBONES, create_backbone
from triptych.backbones import size as network_size
from triptych.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from triptych.backbones.vit import RotaryViT, resize_positions
from triptych.machine import declare_missing_operators

SMALL = ("resnet18", "hrnet_w18_small_v2", "vit_tiny_patch16_384", "swin_tiny", "convnext_atto", "dinov3_small")
AS_IS = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def timm_model(name, **options):
    declare_missing_operators()
    import timm

    return timm.create_model(name, pretrained=False, **options).eval()


def assert_close(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


@pytest.mark.parametrize("name", own_entries(BACKBONES))
def test_channels_and_strides_describe_the_maps(name):
    with torch.device("meta"):  # shapes only: the largest networks cost little
        backbone = create_backbone(name).eval()
    for size in ((75, 101), (33, 64)):
        features = backbone(torch.empty(2, 3, *size, device="meta"))
        assert len(features) == 4
        for feature, channels, stride in zip(features, backbone.channels, backbone.strides, strict=True):
            assert feature.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride))
    assert list(backbone.strides) == sorted(backbone.strides)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet18", 11_176_512),
        ("resnet50", 23_508_032),
        ("resnet101", 42_500_160),
        ("hrnet_w18_small_v2", 3_860_720),
        ("hrnet_w48", 65_325_120),
        ("vit_base_patch16_384", 12 * (12 * 768**2 + 13 * 768) + 769 * 768 + (1 + 1 + 24 * 24) * 768 + 2 * 768),
    ],
)
def test_parameter_counts(name, parameters):
    with torch.device("meta"):
        backbone = create_backbone(name)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == parameters


@pytest.mark.parametrize("name", ["resnet18", "resnet10t", "convnext_atto", "efficientnet_b0", "regnety_002"])
def test_features_equal_timms(name):
    backbone = create_backbone(name, **({"stage_norms": False} if name == "convnext_atto" else {})).eval()
    oracle = timm_model(backbone.timm_name, features_only=True, feature_cls="getter")
    oracle.model.load_state_dict(backbone.body.state_dict(), strict=False)
    image = torch.rand(1, 3, 64, 96)
    mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
    with torch.no_grad():
        expected = [x for x in oracle((image - mean) / std) if x.shape[-1] <= 96 // 4]
        assert_close(backbone(image), expected)


def test_a_network_of_one_size_says_so():
    backbone = create_backbone("deit_tiny_patch16_224", depth=1)
    assert backbone(torch.rand(1, 3, 224, 224))[-1].shape[-2:] == (14, 14)
    with pytest.raises(
        ValueError, match=r"failed on images of 64 x 96 \(Input height .*take one size alone \(img_size"
    ):
        backbone(torch.rand(1, 3, 64, 96))


def test_swin_equals_timm_where_every_window_is_whole():
    backbone = create_backbone("swin_tiny", stage_norms=False, **AS_IS).eval()
    oracle = timm_model("swin_tiny_patch4_window7_224", img_size=448, num_classes=0)
    oracle.load_state_dict(backbone.body.state_dict(), strict=False)
    image = torch.rand(1, 3, 448, 448)
    with torch.no_grad():
        expected = oracle.forward_intermediates(image, intermediates_only=True)
        assert_close(backbone(image), expected)


@pytest.mark.parametrize(
    ("name", "timm_name"),
    [
        ("vit_tiny_patch16_224", "vit_tiny_patch16_224"),
        ("vit_small_patch14_reg4_dinov2", "vit_small_patch14_reg4_dinov2"),
        ("dinov3_small", "vit_small_patch16_dinov3"),
    ],
)
def test_transformers_equal_timm(name, timm_name):
    backbone = create_backbone(name, image_size=(112, 112), taps=(2, 5, 12), **AS_IS).eval()
    oracle = timm_model(timm_name, num_classes=0, global_pool="", img_size=112)
    oracle.load_state_dict(backbone.body.state_dict())
    image = torch.rand(2, 3, 112, 112)
    with torch.no_grad():
        expected = oracle.forward_intermediates(image, indices=[1, 4], intermediates_only=True)
        expected += oracle.forward_intermediates(image, indices=[11], intermediates_only=True, norm=True)
        assert_close(backbone(image), expected)


@pytest.mark.parametrize("batch", [1, 4])
def test_learnt_rotations_are_each_blocks_own(batch, monkeypatch):
    """Four blocks: their rotations could be taken for those of a batch of four."""
    sizes = {"depth": 4, "embed_dim": 32, "num_heads": 2, "dynamic_img_size": True}
    monkeypatch.setattr(RotaryViT, "timm_options", sizes)
    name = "vit_small_patch16_rope_mixed_224"
    backbone = create_backbone(name, taps=(1, 2, 3), norm="none", **AS_IS).eval()
    for parameter in backbone.body.blocks.parameters():
        nn.init.normal_(parameter, std=0.3)  # as they begin, blocks do next to nothing
    oracle = timm_model(name, num_classes=0, global_pool="", **sizes)
    oracle.load_state_dict(backbone.body.state_dict(), strict=False)
    image = torch.rand(batch, 3, 48, 64)
    with torch.no_grad():
        assert_close(backbone(image), oracle.forward_intermediates(image, indices=[0, 1, 2], intermediates_only=True))


def test_a_trunk_of_which_few_blocks_stay_is_not_too_large_for_their_weights(monkeypatch):
    monkeypatch.setattr(network_size, "SLACK", 0)
    count = sum(value.numel() for value in create_backbone("vit_tiny_patch16_224", taps=(1,)).state_dict().values())
    with network_size.built_for(count):
        create_backbone("vit_tiny_patch16_224", taps=(1,))
    with pytest.raises(ValueError, match=f"where {count} are stored"), network_size.built_for(count):
        create_backbone("vit_tiny_patch16_224")


@pytest.mark.parametrize(("norm", "normed"), [("last", [False, True]), ("all", [True, True]), ("none", [False, False])])
def test_norm_of_the_taps(norm, normed):
    backbone = create_backbone("vit_tiny_patch16_224", taps=(1, 2), norm=norm).eval()
    with torch.no_grad():
        features = backbone(torch.rand(1, 3, 32, 32))
    for feature, expected in zip(features, normed, strict=True):  # LayerNorm with fresh weights: mean 0, variance 1
        unit = feature.mean(1).abs().max() < 1e-4 and (feature.var(1, unbiased=False) - 1).abs().max() < 1e-2
        assert bool(unit) == expected
    assert len(backbone.body.blocks) == 2  # what no tap reads is gone


def bicubic_matrix(old: int, new: int, coefficient: float = -0.75) -> np.ndarray:
    """Rows of interpolation weights: Keys' kernel at half-pixel centres, borders repeated."""
    matrix = np.zeros((new, old))
    for row in range(new):
        centre = (row + 0.5) * old / new - 0.5
        for tap in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            t, a = abs(centre - tap), coefficient
            inner = (a + 2) * t**3 - (a + 3) * t**2 + 1
            outer = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
            matrix[row, min(max(tap, 0), old - 1)] += inner if t <= 1 else outer if t < 2 else 0.0
    return matrix


@pytest.mark.parametrize(("old", "new"), [((4, 6), (7, 9)), ((8, 8), (5, 3))])
def test_positions_are_resized_bicubically_without_antialiasing(old, new):
    positions = torch.rand(1, 1 + old[0] * old[1], 5)
    grid = positions[0, 1:].reshape(*old, 5).double().numpy()
    expected = np.einsum("ih,hwc,jw->ijc", bicubic_matrix(old[0], new[0]), grid, bicubic_matrix(old[1], new[1]))
    resized = resize_positions(positions, old, new)
    assert torch.equal(resized[:, :1], positions[:, :1])
    np.testing.assert_allclose(resized[0, 1:].reshape(*new, 5), expected, atol=1e-5)


def test_positions_matter_and_are_interpolated_for_other_sizes():
    backbone = create_backbone("vit_tiny_patch16_224", image_size=(48, 64), taps=(1,)).eval()
    assert backbone.body.pos_embed.shape == (1, 1 + 3 * 4, 192)
    grey = torch.full((1, 3, 96, 128), 0.5)
    with torch.no_grad():
        feature = backbone(grey)[0]
    assert feature.shape == (1, 192, 6, 8)
    assert feature.std(dim=(2, 3)).max() > 1e-3  # equal patches differ by their position alone


@pytest.mark.parametrize("name", SMALL)
def test_normalisation_is_the_backbones_own(name):
    torch.manual_seed(1)
    backbone = create_backbone(name).eval()
    torch.manual_seed(1)
    bare = create_backbone(name, **AS_IS).eval()
    image = torch.rand(1, 3, 64, 64)
    mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
    with torch.no_grad():
        assert_close(backbone(image), bare((image - mean) / std))
        assert not torch.allclose(backbone(image)[0], bare(image)[0])
    assert "mean" not in backbone.state_dict()


def test_dilation_keeps_the_weights_and_the_field_of_view():
    """Strided maps are the dilated ones at every second position, where no block of dilation 2 has mixed them yet."""
    plain, dilated = create_backbone("resnet18").eval(), create_backbone("resnet18", output_stride=16).eval()
    dilated.load_state_dict(plain.state_dict())
    assert dilated.strides == (4, 8, 16, 16)
    image = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        strided = plain.stages[3][0](plain(image)[2])
        full = dilated.stages[3][0](dilated(image)[2])
    # The first block's first 3x3 keeps dilation 1 and loses its stride; its second one has dilation 2.
    torch.testing.assert_close(full[..., ::2, ::2], strided, rtol=1e-4, atol=1e-4)


def test_stem_and_blocks_are_in_reach():
    backbone = create_backbone("resnet18", include_stem=True).eval()
    assert backbone.channels == (64, 64, 128, 256, 512)
    assert backbone.strides == (2, 4, 8, 16, 32)
    image = torch.rand(1, 3, 45, 70)
    with torch.no_grad():
        features = backbone(image)
        stem = backbone.stem(image)
        x = backbone.pool(stem)
        by_hand = [stem]
        for stage in backbone.stages:
            for block in stage:
                x = block(x)
            by_hand.append(x)
    assert all(torch.equal(a, b) for a, b in zip(features, by_hand, strict=True))


def test_hrnet_resizes_once_or_twice():
    torch.manual_seed(2)
    once = create_backbone("hrnet_w18_small_v2").eval()
    twice = create_backbone("hrnet_w18_small_v2", double_resize=True).eval()
    twice.load_state_dict(once.state_dict())
    whole, odd = torch.rand(1, 3, 64, 96), torch.rand(1, 3, 53, 70)
    with torch.no_grad():
        assert_close(once(whole), twice(whole))
        assert not torch.allclose(once(odd)[0], twice(odd)[0], rtol=1e-3)


def test_hrnet_interpolates_between_branches():
    """Directly to the finer branch's size, or by the factor first; timm repeats pixels there."""
    once = create_backbone("hrnet_w18_small_v2").eval()
    twice = create_backbone("hrnet_w18_small_v2", double_resize=True).eval()
    coarse = torch.rand(1, 36, 4, 5)
    with torch.no_grad():
        for backbone, steps in ((once, [(7, 9)]), (twice, [(8, 10), (7, 9)])):
            path = backbone.body.stage2[0].fuse_layers[0][1]
            expected = path[1](path[0](coarse))
            for size in steps:
                expected = nn.functional.interpolate(expected, size=size, mode="bilinear", align_corners=False)
            torch.testing.assert_close(backbone.bring(path, coarse, (7, 9), 1), expected)


def test_batch_norm_momentum_of_hrnet():
    backbone = create_backbone("hrnet_w18_small_v2", momentum=0.01)
    assert {m.momentum for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {0.01}


@pytest.mark.parametrize("name", SMALL)
def test_checkpointing_changes_nothing_but_memory(name):
    plain = create_backbone(name).train()
    saving = copy.deepcopy(plain)
    saving.set_checkpointing()
    image = torch.rand(2, 3, 64, 64)
    kept = []
    for backbone in (plain, saving):
        stored = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=stored: (s.append(x.numel()), x)[1], lambda x: x):
            features = backbone(image)
        sum(feature.square().mean() for feature in features).backward()
        kept.append(sum(stored))
    assert kept[1] < 0.6 * kept[0]
    for ours, theirs in zip(saving.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(saving.buffers(), plain.buffers(), strict=True):  # each batch counts once in the statistics
        torch.testing.assert_close(ours, theirs)


def test_recomputing_is_refused_where_a_batch_would_count_twice():
    backbone = create_backbone("mobilenetv3_small_050").train()
    with pytest.raises(ValueError, match=r"mobilenetv3_small_050 has batch norm, .* leave checkpoint_gradients off"):
        backbone.set_checkpointing()
    backbone.set_checkpointing(False)
    backbone.eval().set_checkpointing()  # as frozen norms are: nothing is counted


def test_networks_that_timm_cannot_recompute_say_so():
    backbone = create_backbone("pit_ti_224").train()
    with pytest.raises(ValueError, match=r"recomputes no activations of pit_ti_224; leave checkpoint_gradients off"):
        backbone.set_checkpointing()
    backbone.set_checkpointing(False)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient(name):
    backbone = create_backbone(name).train()
    sum(feature.square().mean() for feature in backbone(torch.rand(2, 3, 64, 64))).backward()
    assert [key for key, parameter in backbone.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", own_entries(BACKBONES))
def test_layers_hold_every_parameter_once_but_tokens(name):
    with torch.device("meta"):
        backbone = create_backbone(name)
    listed = [parameter for layer in backbone.layers() for parameter in layer.parameters()]
    assert len(listed) == len({id(parameter) for parameter in listed})
    left = {key for key, p in backbone.named_parameters() if all(p is not other for other in listed)}
    assert left <= {f"body.{token}" for token in ("pos_embed", "cls_token", "reg_token")}


@pytest.mark.parametrize("name", SMALL)
def test_channels_last_gives_the_same(name):
    backbone = create_backbone(name).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = backbone(image)
        last = backbone.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))
        assert_close(last, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_compiled_and_exported_equal_eager(name):
    backbone = create_backbone(name).eval()
    image = torch.rand(1, 3, 61, 93)
    with torch.no_grad(), shapes_unchecked():
        expected = backbone(image)
        assert_close(torch.compile(backbone, fullgraph=True, backend="aot_eager")(image), expected)
        assert_close(torch.export.export(backbone, (image,)).module()(image), expected)
    torch._dynamo.reset()


def test_drop_path_grows_with_depth():
    rates = [
        block.drop_path1.drop_prob
        for block in create_backbone("vit_tiny_patch16_224", drop_path_rate=0.2).body.blocks[1:]
    ]
    np.testing.assert_allclose(rates, np.linspace(0, 0.2, 12)[1:])
    image = torch.rand(1, 3, 64, 64)
    dropping, plain = create_backbone("swin_tiny", drop_path_rate=0.9), create_backbone("swin_tiny")
    assert torch.equal(plain(image)[3], plain(image)[3])
    assert not torch.equal(dropping(image)[3], dropping(image)[3])


def test_unknown_names_get_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'hrnet_w18_small_v2'"):
        create_backbone("hrnet_w18_smal_v2")
    with pytest.raises(ValueError, match="or any feature model of timm"):
        create_backbone("no such thing")


def test_raises_for_wrong_options():
    with pytest.raises(ValueError, match="output_stride of a ResNet is 4; choose 8, 16 or 32"):
        create_backbone("resnet18", output_stride=4)
    with pytest.raises(ValueError, match="no option 'taps'; its options are output_stride, include_stem"):
        create_backbone("resnet18", taps=(1, 2))
    with pytest.raises(ValueError, match="choose rising block numbers from 1 to 12"):
        create_backbone("vit_tiny_patch16_224", taps=(3, 13))
    with pytest.raises(ValueError, match="unknown norm of the taps 'first'"):
        create_backbone("vit_tiny_patch16_224", norm="first")


@pytest.mark.parametrize("name", ["convnext_atto", "swin_tiny"])
def test_options_of_a_recipe_open_no_file_and_ask_no_address(name, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: asked.append(address))
    monkeypatch.setattr(torch, "load", lambda path, **_: asked.append(path))
    place = tmp_path / "weights.pth"
    place.write_bytes(b"weights")
    for options in (
        {"checkpoint_path": str(place)},
        {"pretrained": True},
        {"pretrained": True, "pretrained_cfg": {"file": str(place)}},
        {"pretrained": True, "pretrained_cfg_overlay": {"file": str(place)}},
        {"pretrained": True, "pretrained_cfg": {"url": "http://127.0.0.1:9/weights.pth", "hf_hub_id": None}},
        {"cache_dir": str(tmp_path)},
    ):
        with pytest.raises(ValueError, match=f"backbone '{name}.*' has no option .*said by weights"):
            create_backbone(name, **options)
    assert not asked
