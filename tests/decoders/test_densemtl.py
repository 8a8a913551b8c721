"""DenseMTL: the attention block, the exchange and the pyramid decoders against their definitions."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from triptych.decoders.densemtl import XTAM, CrossTaskExchange, DenseMTL
from triptych.decoders.padnet import PADNetPlus
from triptych.decoders.pyramid import PyramidDecoder
from triptych.tasks import boundary, depth, normals, semseg

TASKS = {task.name: task for task in (semseg(40), depth(), normals(), boundary(channels=2))}
RESNET101 = ((64, 256, 512, 1024, 2048), (2, 4, 8, 16, 16))


def take(number):
    return dict(list(TASKS.items())[:number])


def randomize(module):
    """Weights at which no branch is hidden: alpha is not zero and norms are not the identity."""
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif "alpha" in name or "running_mean" in name or value.ndim == 1:
                value.normal_(0.1, 0.5)
    return module.eval()


def explicit_message(xtam, target, source):
    """The steps of the definition one by one, attention as a matrix."""
    step = xtam.downscale
    extracted = F.relu(F.conv2d(source, xtam.extract.weight, xtam.extract.bias, padding=1))
    feature, gate = xtam.gated.weight.chunk(2)
    gated = F.conv2d(extracted, feature, padding=1) * torch.sigmoid(F.conv2d(extracted, gate, padding=1))
    pooled = F.max_pool2d(extracted, step)
    query = xtam.query(F.interpolate(target, scale_factor=1 / step, mode="nearest")).flatten(2)
    key, value = xtam.key(pooled).flatten(2), xtam.value(pooled).flatten(2)
    attention = torch.einsum("bcq,bck->bqk", query, key).div(query.shape[1] ** 0.5).softmax(dim=2)
    found = torch.einsum("bqk,bck->bcq", attention, value).view_as(pooled)
    found = F.interpolate(found, scale_factor=float(step), mode="nearest") * xtam.alpha
    return xtam.project(torch.cat([gated, found], dim=1))


@pytest.mark.parametrize("downscale", [1, 2, 4])
def test_message_equals_its_definition(downscale):
    xtam = randomize(XTAM(6, downscale=downscale))
    target, source = 3 * torch.randn(2, 6, 8, 12), 3 * torch.randn(2, 6, 8, 12)
    with torch.no_grad():
        torch.testing.assert_close(xtam(target, source), explicit_message(xtam, target, source), rtol=1e-4, atol=1e-5)


def test_gradients_of_the_message_are_those_of_its_definition():
    xtam = randomize(XTAM(6, downscale=2)).double()
    maps = [torch.randn(2, 6, 4, 6, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    inputs = [*maps, *xtam.parameters()]
    ours, expected = (
        torch.autograd.grad(message.square().sum(), inputs) for message in (xtam(*maps), explicit_message(xtam, *maps))
    )
    for gradient, reference in zip(ours, expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-10, atol=1e-10)


def test_message_at_odd_sizes_ignores_what_lies_outside():
    """The map ends where it ends: at 9 x 6 every location of the last, partial window is read and written."""
    xtam = randomize(XTAM(4))
    target, source = torch.randn(1, 4, 9, 6), torch.randn(1, 4, 9, 6)
    with torch.no_grad():
        message = xtam(target, source)
        assert message.shape == target.shape
        changed = source.clone()
        changed[..., -1, -1] += 5.0
        assert not torch.equal(xtam(target, changed)[..., 0, 0], message[..., 0, 0])


def test_a_fresh_message_does_not_depend_on_the_target():
    xtam = XTAM(4).eval()
    source = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(xtam(torch.randn(1, 4, 8, 8), source), xtam(torch.randn(1, 4, 8, 8), source))
        xtam.alpha.fill_(1.0)
        assert not torch.equal(xtam(torch.randn(1, 4, 8, 8), source), xtam(torch.randn(1, 4, 8, 8), source))


def test_exchange_adds_something_non_negative_to_each_task():
    exchange = randomize(CrossTaskExchange(4, TASKS))
    maps = {name: torch.randn(1, 4, 8, 8) for name in TASKS}
    with torch.no_grad():
        joined = exchange(maps)
    for name, before in maps.items():
        assert (joined[name] >= before - 1e-6).all()
        assert not torch.equal(joined[name], before)


def test_exchange_of_one_task_is_the_identity():
    maps = {"depth": torch.randn(1, 4, 8, 8)}
    exchange = CrossTaskExchange(4, ["depth"])
    assert exchange(maps) == maps
    assert list(exchange.parameters()) == []


def test_what_the_attention_lets_through_can_be_read():
    decoder = DenseMTL((4, 4), strides=(4, 8), tasks=take(3), widths=(4, 8))
    assert decoder.attention_scales()["depth"] == {"normals": 0.0, "semseg": 0.0}
    with torch.no_grad():
        message = decoder.exchange.messages["depth"]["normals"]
        message.alpha.copy_(torch.tensor([1.0, -1.0, 0.5, -0.5] * 2).reshape(1, 8, 1, 1))
    assert decoder.attention_scales() == {
        "semseg": {"depth": 0.0, "normals": 0.0},
        "depth": {"normals": 0.75, "semseg": 0.0},
        "normals": {"depth": 0.0, "semseg": 0.0},
    }
    text = decoder.describe()
    assert "depth" in text
    assert "0.7500" in text
    assert text.endswith("mean |alpha| over 6 messages: 0.1250")


def test_one_task_has_no_attention_to_describe():
    decoder = DenseMTL((4, 4), strides=(4, 8), tasks=take(1), widths=(4, 8))
    assert decoder.attention_scales() == {}
    assert decoder.describe() == "one task, no messages"


@pytest.mark.parametrize(
    ("number", "decoder_and_encoder", "exchange"),
    [(2, 87_404_114, 773_120), (3, 111_011_608, 2_318_592), (4, 135_391_516, 4_636_672)],
)
def test_parameters_are_the_published_ones(number, decoder_and_encoder, exchange):
    with torch.device("meta"):
        decoder = DenseMTL(RESNET101[0], strides=RESNET101[1], tasks=take(number))
    total = sum(parameter.numel() for parameter in decoder.parameters())
    assert total + 42_500_160 == decoder_and_encoder  # with ResNet-101's own
    assert sum(parameter.numel() for parameter in decoder.exchange.parameters()) == exchange


def test_decoder_equals_its_definition():
    """One task: upsample, concatenate with the skip, pad by reflection, convolve, level by level."""
    channels, strides = (3, 4, 5, 6, 7), (2, 4, 8, 16, 16)
    decoder = DenseMTL(channels, strides=strides, tasks=take(1), widths=(4, 5, 6)).eval()
    features = [torch.randn(1, c, 32 // s, 64 // s) for c, s in zip(channels, strides, strict=True)]

    def convolve(conv, x):
        return F.elu(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), conv.weight, conv.bias))

    with torch.no_grad():
        levels, x, predictions = decoder.decoders["semseg"], features[-1], []
        for level in (4, 3, 2, 1, 0):
            x = levels[level].into(x) if level == 4 else convolve(levels[level].into, x)
            if level < 4:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            if level > 0:
                x = torch.cat([x, features[level - 1]], dim=1)
            x = convolve(levels[level].conv, x)
            if level < 2:
                predictions.append(decoder.outputs[str(level)]["semseg"](x))
        for ours, expected in zip(decoder(features), predictions, strict=True):
            torch.testing.assert_close(ours["semseg"], expected, rtol=1e-4, atol=1e-5)


LAYOUTS = {
    "published": ((2, 4, 8, 16, 16), [0.5, 1]),
    "pyramid": ((4, 8, 16, 32), [0.5, 1]),
    "dilated": ((4, 8, 8, 8), [0.5, 1]),
    "plain": ((16, 16, 16, 16), [0.5, 1]),
    "one level": ((8,), [0.5, 1]),
    "gap": ((4, 32), [0.5, 1]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_outputs_reach_the_size_of_the_image_on_any_pyramid(layout):
    strides, scales = LAYOUTS[layout]
    decoder = DenseMTL((4,) * len(strides), strides=strides, tasks=take(2), widths=(4,))
    stages = decoder([torch.randn(2, 4, 64 // s, 96 // s) for s in strides])
    for stage, scale in zip(stages, scales, strict=True):
        assert {tuple(raw.shape[2:]) for raw in stage.values()} == {(int(64 * scale), int(96 * scale))}


def test_every_feature_is_read():
    strides = (2, 4, 8, 16, 16)
    decoder = DenseMTL((4,) * 5, strides=strides, tasks=take(2), widths=(4,)).eval()
    features = [torch.randn(1, 4, 32 // s, 32 // s, requires_grad=True) for s in strides]
    decoder(features)[-1]["depth"].sum().backward()
    assert all(feature.grad.abs().sum() > 0 for feature in features)


def test_the_half_size_prediction_precedes_the_exchange():
    decoder = DenseMTL((4,) * 4, strides=(4, 8, 16, 32), tasks=take(2), widths=(4,)).eval()
    features = [torch.randn(1, 4, 64 // s, 64 // s) for s in (4, 8, 16, 32)]
    with torch.no_grad():
        before = decoder(features)
        decoder.exchange.join["depth"][1].bias += 1.0
        after = decoder(features)
    assert torch.equal(before[0]["depth"], after[0]["depth"])
    assert not torch.equal(before[1]["depth"], after[1]["depth"])
    assert torch.equal(before[1]["semseg"], after[1]["semseg"])


def test_raises_for_wrong_arguments():
    def build(strides=(4, 8, 16, 32), **options):
        return DenseMTL((4,) * len(strides), strides=strides, tasks=take(2), **options)

    with pytest.raises(ValueError, match=r"strides \(4, 8, 4\) .* finest first"):
        build((4, 8, 4))
    with pytest.raises(ValueError, match="exchange_level is 5; this pyramid has levels 1 to 4"):
        build(exchange_level=5)
    with pytest.raises(ValueError, match=r"scales are \(1, 2\); they must hold 0 and lie below 5"):
        build(scales=(1, 2))
    with pytest.raises(ValueError, match=r"scales are \(0,\), all finer than exchange_level 1: auxiliary tasks"):
        build(scales=(0,), auxiliary_tasks={"normals": TASKS["normals"]})
    assert issubclass(DenseMTL, PyramidDecoder)


def test_auxiliary_tasks_send_messages_and_stop_at_the_exchange():
    strides, auxiliary = (4, 8, 16, 32), {"normals": TASKS["normals"]}
    decoder = DenseMTL((4,) * 4, strides=strides, tasks=take(2), widths=(4,), auxiliary_tasks=auxiliary)
    half, full = decoder([torch.randn(2, 4, 64 // s, 64 // s) for s in strides])
    assert (list(half), list(full)) == (["semseg", "depth", "normals"], ["semseg", "depth"])
    assert set(decoder.exchange.messages) == {"semseg", "depth"}
    assert set(decoder.exchange.messages["depth"]) == {"semseg", "normals"}
    assert list(decoder.decoders["normals"][0].parameters()) == []
    assert decoder.outputs["0"].keys() == {"semseg", "depth"}


@pytest.mark.parametrize("decoder", [DenseMTL, PADNetPlus])
def test_options_of_a_pyramid(decoder):
    def build(**options):
        torch.manual_seed(0)
        return decoder((64, 64), strides=(8, 16), tasks=take(2), widths=(64, 64, 64), **options)

    def parts(built, kind):
        return [module for module in built.modules() if isinstance(module, kind)]

    def dilations(built):
        return {module.dilation[0] for module in parts(built, nn.Conv2d)} - {1}

    published, changed = build(), build(aspp_rates=(2, 3, 5), dropout=0.25, init="he")
    same = build(aspp_rates=(6, 12, 18), dropout=0.5, init="default")
    assert all(torch.equal(value, same.state_dict()[key]) for key, value in published.state_dict().items())
    assert (dilations(published), {module.p for module in parts(published, nn.Dropout)}) == ({6, 12, 18}, {0.5})
    assert (dilations(changed), {module.p for module in parts(changed, nn.Dropout)}) == ({2, 3, 5}, {0.25})
    for level in changed.decoders["depth"]:
        fan_in = level.conv.weight[0].numel()
        assert level.conv.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
        assert level.conv.bias.abs().max() == 0
    # Nothing but the convolutions without a norm begins otherwise.
    kept, other = published.outputs.state_dict(), changed.outputs.state_dict()
    assert {key: value.abs().max() <= 1 / 8 for key, value in other.items()} == dict.fromkeys(kept, True)
    with pytest.raises(ValueError, match="unknown init of a pyramid 'hee'; did you mean 'he'"):
        build(init="hee")
