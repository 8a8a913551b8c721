"""MTI-Net: parameters, its propagation and scales beside their definitions, auxiliary tasks."""

import pytest
import torch

import triptych
from triptych.decoders.mtinet import FeaturePropagation, MTINet
from triptych.tasks import boundary, depth, normals, nyuv2_tasks, pascal_context_tasks, saliency, semseg

NYUD = nyuv2_tasks()
NYUD2 = {name: NYUD[name] for name in ("semseg", "depth")}
EXTRA = {"normals": normals(), "boundary": boundary()}
PASCAL = pascal_context_tasks() | {"saliency": saliency(channels=1)}
TASKS = {"semseg": semseg(5), "depth": depth()}


@pytest.mark.parametrize(
    ("backbone", "tasks", "auxiliary", "published"),
    [
        ("hrnet_w18_small_v2", NYUD2, {}, 8_578_179),
        ("hrnet_w18_small_v2", NYUD2, EXTRA, 14_838_121),
        ("hrnet_w18_small_v2", NYUD, {}, 17_960_945),
        ("hrnet_w18_small_v2", PASCAL, {}, 24.49e6),
        ("hrnet_w48", NYUD2, EXTRA, 143.2e6),
    ],
)
def test_parameters_are_the_published_ones(backbone, tasks, auxiliary, published):
    with torch.device("meta"):
        model = triptych.create_model(
            "mti-net", backbone=backbone, tasks=tasks, decoder_options={"auxiliary_tasks": auxiliary}
        )
    total = sum(parameter.numel() for parameter in model.parameters())
    exact = isinstance(published, int)
    assert total == published if exact else total == pytest.approx(published, rel=5e-4)


@pytest.mark.parametrize("interleaved", [True, False])
def test_propagation_weights_sum_to_one_over_what_they_compare(interleaved):
    order, channels = ["depth", "normals", "semseg"], 16
    propagate = FeaturePropagation(channels, order, interleaved=interleaved).eval()
    maps = {name: torch.randn(2, channels, 4, 5) for name in order}
    with torch.no_grad():
        joined = torch.cat([maps[name] for name in order], dim=1)
        weights = propagate.weights(joined)
        logits = propagate.mask(joined)
        for channel in range(3 * channels):
            # Neighboring channels, or the same channel of every task.
            group = (
                [channel // 3 * 3 + i for i in range(3)] if interleaved else [channel % 16 + 16 * i for i in range(3)]
            )
            expected = logits[:, channel].exp() / logits[:, group].exp().sum(dim=1)
            torch.testing.assert_close(weights[:, channel], expected)
        shared = propagate.reduce(joined * weights)
        gate = propagate.gates["normals"].squeeze(shared.mean(dim=(2, 3)))[..., None, None]
        torch.testing.assert_close(propagate(maps)["normals"], maps["normals"] + gate * shared)


def features(channels=(4, 6, 8), height=12, width=20):
    return [torch.randn(2, c, -(-height // 2**k), -(-width // 2**k)) for k, c in enumerate(channels)]


def test_scales_read_the_trunk_and_the_coarser_scale():
    decoder = MTINet((4, 6, 8), strides=(4, 8, 16), tasks=TASKS).eval()
    maps = features(height=11, width=19)
    with torch.no_grad():
        before = decoder(maps)
        after = decoder([maps[0], maps[1] + 1.0, maps[2]])
    assert [tuple(stage["depth"].shape[2:]) for stage in before] == [(3, 5), (6, 10), (11, 19), (11, 19)]
    assert torch.equal(before[0]["depth"], after[0]["depth"])
    for earlier, later in zip(before[1:], after[1:], strict=True):
        assert not torch.equal(earlier["depth"], later["depth"])


@pytest.mark.parametrize("quirks", [True, False])
def test_what_is_distilled_is_the_features_as_published_and_the_predictions_as_in_the_paper(quirks):
    decoder = MTINet((4,), strides=(4,), tasks=TASKS, reference_quirks=quirks).eval()
    maps = features((4,))
    with torch.no_grad():
        _, before = decoder(maps)
        decoder.scales[0].logits["semseg"].bias += 1.0
        _, after = decoder(maps)
    assert torch.equal(before["depth"], after["depth"]) == quirks


def test_order_decides_the_concatenation_and_is_checked():
    with pytest.raises(ValueError, match="order is depth; it must name each of semseg, depth once"):
        MTINet((4,), strides=(4,), tasks=TASKS, order=["depth"])
    decoder = MTINet((4, 6), strides=(4, 8), tasks=TASKS).eval()
    other = MTINet((4, 6), strides=(4, 8), tasks=TASKS, order=["semseg", "depth"]).eval()
    other.load_state_dict(decoder.state_dict())
    maps = features((4, 6))
    with torch.no_grad():
        assert not torch.equal(decoder(maps)[-1]["depth"], other(maps)[-1]["depth"])
