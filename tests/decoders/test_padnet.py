"""PAD-Net of the survey: parameters, what is distilled, auxiliary tasks."""

import pytest
import torch
from torch.nn import functional as F

import triptych
from triptych.decoders.layers import concatenate
from triptych.decoders.padnet import PADNet
from triptych.tasks import boundary, depth, normals, nyuv2_tasks, pascal_context_tasks, saliency, semseg

NYUD = nyuv2_tasks()
NYUD2 = {name: NYUD[name] for name in ("semseg", "depth")}
EXTRA = {"normals": normals(), "boundary": boundary()}
PASCAL = pascal_context_tasks() | {"saliency": saliency(channels=1)}
TASKS = {"semseg": semseg(5), "depth": depth()}


@pytest.mark.parametrize(
    ("tasks", "auxiliary", "published"),
    [(NYUD2, {}, 7_019_056), (NYUD2, EXTRA, 12_161_332), (PASCAL, {}, 29_304_992)],
)
def test_parameters_are_the_published_ones(tasks, auxiliary, published):
    with torch.device("meta"):
        model = triptych.create_model(
            "pad-net", backbone="hrnet_w18_small_v2", tasks=tasks, decoder_options={"auxiliary_tasks": auxiliary}
        )
    assert sum(parameter.numel() for parameter in model.parameters()) == published


def small(**options):
    return PADNet((4, 6), strides=(4, 8), tasks=TASKS, width=8, **options).eval()


def features():
    return [torch.randn(2, 4, 9, 7), torch.randn(2, 6, 5, 4)]


def test_decoder_equals_its_definition():
    decoder, maps = small(), features()
    with torch.no_grad():
        fused = decoder.fuse(concatenate(maps))
        first = {name: decoder.first[name](fused) for name in TASKS}
        # With two tasks each convolution has one reader: the feature, then the gate.
        feature, gate = (
            F.conv2d(first["semseg"], weight, padding=1)
            for weight in decoder.distillation.convs["semseg"].weight.chunk(2)
        )
        distilled = first["depth"] + torch.sigmoid(gate) * feature
        expected = decoder.heads["depth"](decoder.second["depth"](distilled))
        initial, final = decoder(maps)
    torch.testing.assert_close(final["depth"], expected)
    torch.testing.assert_close(initial["depth"], decoder.initial["depth"](first["depth"]))
    assert fused.shape == (2, 10, 9, 7)


@pytest.mark.parametrize("quirks", [True, False])
def test_what_is_distilled_is_the_features_as_published_and_the_predictions_as_in_the_paper(quirks):
    decoder, maps = small(reference_quirks=quirks), features()
    with torch.no_grad():
        _, before = decoder(maps)
        decoder.initial["semseg"].bias += 1.0
        _, after = decoder(maps)
    assert torch.equal(before["depth"], after["depth"]) == quirks
