"""Baseline heads: published parameter counts, and what each layer does beside another way to compute it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import triptych
from triptych.decoders.atrc import ATRC
from triptych.decoders.atrc_search import ATRCSearch
from triptych.decoders.baseline import ASPP, FCN, DeepLab, FourLevel, HRNetDecoder
from triptych.decoders.layers import BasicBlock, BatchNorm2d, Bottleneck, SqueezeExcitation, concatenate, resize
from triptych.tasks import boundary, depth, normals, nyuv2_tasks, pascal_context_tasks, saliency, semseg

NYUD = nyuv2_tasks()
NYUD2 = {name: NYUD[name] for name in ("semseg", "depth")}
PASCAL = pascal_context_tasks()
PASCAL1 = PASCAL | {"saliency": saliency(channels=1)}
INDOOR = {task.name: task for task in (semseg(40), depth(), normals(), boundary(channels=2))}


def count(decoder, backbone, tasks, **backbone_options) -> int:
    with torch.device("meta"):
        model = triptych.create_model(decoder, backbone=backbone, tasks=tasks, backbone_options=backbone_options)
    return sum(parameter.numel() for parameter in model.parameters())


def first(tasks, number):
    return dict(list(tasks.items())[:number])


@pytest.mark.parametrize(
    ("decoder", "backbone", "tasks", "options", "single", "multi"),
    [
        ("deeplab", "resnet50", NYUD2, {"output_stride": 8}, 79_277_481, 55_769_449),
        ("deeplab", "resnet18", PASCAL1, {"output_stride": 8}, 79_501_921, 34_795_873),
        ("hrnet", "hrnet_w18_small_v2", NYUD2, {}, 7_879_971, 4_019_251),
        ("hrnet", "hrnet_w18_small_v2", PASCAL1, {}, 19_681_093, 4_238_213),
    ],
)
def test_single_and_multi_task_parameters_of_the_survey(decoder, backbone, tasks, options, single, multi):
    assert count(decoder, backbone, tasks, **options) == multi
    assert sum(count(decoder, backbone, {name: task}, **options) for name, task in tasks.items()) == single


@pytest.mark.parametrize(
    ("backbone", "tasks", "millions"),
    [("hrnet_w18_small_v2", NYUD, 4.52), ("hrnet_w18_small_v2", PASCAL, 4.68), ("hrnet_w48", NYUD, 70.0)],
)
def test_parameters_of_the_fcn_heads(backbone, tasks, millions):
    assert count("fcn", backbone, tasks) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize(("tasks", "parameters"), [(1, 58_635_880), (2, 74_761_577), (3, 90_887_788), (4, 107_013_742)])
def test_parameters_of_the_densemtl_baselines(tasks, parameters):
    assert count("deeplab", "resnet101", first(INDOOR, tasks), output_stride=16) == parameters


def test_fcn_logits_start_near_zero():
    decoder = FCN((8, 8), strides=(4, 8), tasks=NYUD)
    for head in decoder.heads.values():
        assert head[-1].bias.abs().max() == 0
        assert head[-1].weight.std() < 0.03


@pytest.mark.parametrize("decoder", [FCN, ATRC, ATRCSearch])
def test_heads_begin_as_asked(decoder):
    def weights(**options):
        torch.manual_seed(0)
        heads = decoder((128, 256), strides=(4, 8), tasks={"semseg": semseg(40)}, **options).heads["semseg"]
        return list(heads.modules())[-1]

    published, explicit, wide, default = (
        weights(),
        weights(head_std=0.01),
        weights(head_std=0.5),
        weights(head_std="default"),
    )
    assert torch.equal(published.weight, explicit.weight)
    assert published.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert wide.weight.std().item() == pytest.approx(0.5, rel=0.1)
    assert published.bias.abs().max() == wide.bias.abs().max() == 0
    # torch's: uniform between plus and minus 1 / sqrt(fan in), bias too.
    bound = default.in_channels**-0.5
    assert default.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert default.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert 0 < default.bias.abs().max() <= bound


@pytest.mark.parametrize("std", [-1.0, float("nan"), float("inf"), "small"])
def test_raises_for_a_wrong_deviation_of_heads(std):
    with pytest.raises(ValueError, match=r"head_std is .*; give the deviation .*, 0 or more, or 'default'"):
        FCN((8, 8), strides=(4, 8), tasks=NYUD, head_std=std)


def test_concatenation_resizes_to_the_finest():
    maps = [torch.rand(2, 3, 9, 7), torch.rand(2, 5, 5, 4)]
    joined = concatenate(maps)
    assert torch.equal(joined[:, :3], maps[0])
    assert torch.equal(joined[:, 3:], F.interpolate(maps[1], size=(9, 7), mode="bilinear", align_corners=False))


def test_resize_leaves_maps_of_the_right_size_alone():
    x = torch.rand(1, 2, 3, 4)
    assert resize(x, (3, 4)) is x
    assert torch.equal(resize(x, (6, 8), mode="nearest"), x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_aspp_equals_its_branches_written_out():
    aspp = ASPP(6, 4, rates=(1, 2, 3)).eval()
    for module in aspp.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, -0.1)  # most values stay above the ReLU
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    x = torch.rand(2, 6, 8, 9)

    def block(conv_norm, x):
        conv, norm = conv_norm[0], conv_norm[1]
        y = F.conv2d(x, conv.weight, padding=conv.padding, dilation=conv.dilation)
        scale = (norm.running_var + norm.eps).rsqrt()[:, None, None]
        return ((y - norm.running_mean[:, None, None]) * scale).clamp(min=0)

    branches = [block(branch, x) for branch in aspp.branches]
    pooled = block(aspp.pooling, F.adaptive_avg_pool2d(x, 1)).expand(-1, -1, 8, 9)
    expected = block(aspp.project, torch.cat([*branches, pooled], dim=1))
    assert [branch[0].dilation for branch in aspp.branches] == [(1, 1), (1, 1), (2, 2), (3, 3)]
    assert (expected > 0).float().mean() > 0.5
    with torch.no_grad():
        torch.testing.assert_close(aspp(x), expected, rtol=1e-4, atol=1e-5)
    assert [branch[0].dilation[0] for branch in ASPP(6, 4).branches] == [1, 12, 24, 36]


def test_deeplab_reads_the_last_map_only():
    decoder = DeepLab((4, 8), strides=(4, 8), tasks=NYUD2, width=8).eval()
    last = torch.rand(1, 8, 6, 6)
    a = decoder([torch.rand(1, 4, 12, 12), last])[-1]
    b = decoder([torch.rand(1, 4, 12, 12), last])[-1]
    assert torch.equal(a["depth"], b["depth"])


def test_four_level_head_works_at_a_quarter_of_the_image():
    decoder = FourLevel((16, 16, 16, 16), strides=(16,) * 4, tasks=NYUD2)
    raw = decoder([torch.rand(1, 16, 7, 9) for _ in range(4)])[-1]
    assert raw["semseg"].shape == (1, 40, 28, 36)
    head = decoder.heads["depth"]
    assert [layer.out_channels for layer in head.reduce] == [4] * 4
    assert head.mix[0].weight.shape == (16, 16, 3, 3)


def test_hrnet_head_is_linear_after_its_norm():
    """1x1 convolutions and resizing commute: doubling the logits' weights doubles the result."""
    decoder = HRNetDecoder((4, 8), strides=(4, 8), tasks={"depth": depth()}).eval()
    maps = [torch.rand(1, 4, 8, 8), torch.rand(1, 8, 4, 4)]
    before = decoder(maps)[-1]["depth"]
    with torch.no_grad():
        decoder.heads["depth"][3].weight.mul_(2)
        decoder.heads["depth"][3].bias.mul_(2)
    torch.testing.assert_close(decoder(maps)[-1]["depth"], 2 * before)


def test_batch_norm_of_one_value_uses_running_statistics_and_keeps_them():
    ours, theirs = BatchNorm2d(3).train(), nn.BatchNorm2d(3)
    nn.init.uniform_(ours.running_mean)
    theirs.load_state_dict(ours.state_dict())
    one = torch.rand(1, 3, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value"):
        theirs.train()(one)
    assert torch.equal(ours(one), theirs.eval()(one))
    assert torch.equal(ours.running_mean, theirs.running_mean)
    many = torch.rand(4, 3, 2, 2)
    assert torch.equal(ours(many), theirs.train()(many))
    assert torch.equal(ours.running_mean, theirs.running_mean)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_residual_blocks_start_from_their_skip(block):
    same, wider = block(8, 8), block(8, 16)
    assert isinstance(same.downsample, nn.Identity)
    last = same.bn2 if block is BasicBlock else same.bn3
    nn.init.zeros_(last.weight)
    x = torch.randn(2, 8, 5, 6)
    assert torch.equal(same(x), x.clamp(min=0))
    assert wider(x).shape == (2, 16, 5, 6)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_residual_blocks_equal_torchvisions(block):
    """timm's blocks are torchvision's, with the same names."""
    from triptych.backbones.timm_models import build_timm

    name = "resnet18" if block is BasicBlock else "resnet50"
    oracle = build_timm(name, num_classes=0).layer1[0 if block is BasicBlock else 1].eval()
    nn.init.uniform_((oracle.bn2 if block is BasicBlock else oracle.bn3).weight)
    ours = block(*([64, 64] if block is BasicBlock else [256, 256])).eval()
    ours.load_state_dict(oracle.state_dict())
    x = torch.randn(1, ours.conv1.in_channels, 6, 5)
    torch.testing.assert_close(ours(x), oracle(x))


def test_squeeze_excitation_scales_channels():
    layer = SqueezeExcitation(32)
    x = torch.rand(2, 32, 4, 5)
    gates = torch.sigmoid(layer.squeeze[2](F.relu(layer.squeeze[0](x.flatten(2).mean(2)))))
    torch.testing.assert_close(layer(x), x * gates[..., None, None])
    assert layer.squeeze[0].out_features == 2
    assert SqueezeExcitation(8).squeeze[0].out_features == 1
