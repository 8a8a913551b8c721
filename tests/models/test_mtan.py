"""MTAN: parameters, its stages written out, what it asks of a backbone."""

import pytest
import torch
from torch.nn import functional as F

import triptych
from triptych.tasks import depth, nyuv2_tasks, pascal_context_tasks, saliency, semseg

NYUD = nyuv2_tasks()
NYUD2 = {name: NYUD[name] for name in ("semseg", "depth")}
PASCAL = pascal_context_tasks() | {"saliency": saliency(channels=1)}
TASKS = {"semseg": semseg(5), "depth": depth()}


def count(decoder, backbone, tasks):
    with torch.device("meta"):
        model = triptych.create_model(decoder, backbone=backbone, tasks=tasks, backbone_options={"output_stride": 8})
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameters_are_the_published_ones():
    assert count("mtan", "resnet50", NYUD2) == 72_052_713
    assert count("mtan", "resnet18", PASCAL) - count("deeplab", "resnet18", PASCAL) == pytest.approx(1.8e6, rel=0.03)


def small(stride=8):
    options = {"widths": (4, 8, 12, 16), "output_stride": stride}
    return triptych.create_model(
        "mtan", backbone="resnet18", tasks=TASKS, backbone_options=options, decoder_options={"width": 8}
    ).eval()


def test_network_equals_its_definition():
    model, image = small(), torch.rand(2, 3, 48, 64)
    with torch.no_grad():
        x, attended = model.backbone.pool(model.backbone.stem(image)), None
        for i, (first, last) in enumerate(model.backbone.stages):
            before = first(x)
            x = last(before)
            mask = model.attention[i]["depth"](before if i == 0 else torch.cat([before, attended], dim=1))
            attended = mask * x
            if i < 3:
                attended = model.refine[i](attended)
            if i == 0:
                attended = F.max_pool2d(attended, 2)
            assert 0 <= mask.min() <= mask.max() <= 1
        raw = model.decoder.heads["depth"](attended)
        expected = F.interpolate(raw, size=(48, 64), mode="bilinear", align_corners=False)
        torch.testing.assert_close(model(image).predictions["depth"], expected)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_masks_of_a_task_are_its_own_and_refinement_is_shared(stride):
    model, image = small(stride), torch.rand(1, 3, 37, 51)
    with torch.no_grad():
        before = model(image).predictions
        model.attention[0]["depth"][4].bias += 1.0
        after = model(image).predictions
        assert torch.equal(before["semseg"], after["semseg"])
        assert not torch.equal(before["depth"], after["depth"])
        model.refine[0].bn3.bias += 1.0
        assert not torch.equal(model(image).predictions["semseg"], after["semseg"])
    assert model.shared_modules == [model.backbone, model.refine]


def test_other_backbones_are_refused_by_name():
    with pytest.raises(ValueError, match="mtan shares inside the stages of a ResNet, backbone is a HRNet"):
        triptych.create_model("mtan", backbone="hrnet_w18_small_v2", tasks=TASKS)
