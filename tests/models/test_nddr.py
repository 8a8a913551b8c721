"""NDDR-CNN: parameters, the layer's formula and start, its learning rate, order of concatenation."""

import pytest
import torch
from torch.nn import functional as F

import triptych
from triptych.models.joined import NDDRLayer
from triptych.recipes.config import OptimizerConfig
from triptych.tasks import depth, nyuv2_tasks, pascal_context_tasks, semseg
from triptych.training.optim import learning_rate_factors

NYUD = nyuv2_tasks()
NYUD2 = {name: NYUD[name] for name in ("semseg", "depth")}
TASKS = {"semseg": semseg(5), "depth": depth()}


def build(backbone="resnet18", tasks=TASKS, **options):
    return triptych.create_model(
        "nddr", backbone=backbone, tasks=tasks, backbone_options={"output_stride": 8}, decoder_options=options
    )


@pytest.mark.parametrize(
    ("backbone", "tasks", "added"), [("resnet50", NYUD2, 22.3e6), ("resnet18", pascal_context_tasks(), 8.8e6)]
)
def test_parameters_are_the_published_ones(backbone, tasks, added):
    with torch.device("meta"):
        model = build(backbone, tasks)
    assert sum(parameter.numel() for parameter in model.fusion.parameters()) == pytest.approx(added, rel=5e-3)
    if backbone == "resnet50":
        assert sum(parameter.numel() for parameter in model.parameters()) == 101_591_721


def test_layer_equals_its_formula_task_by_task():
    names = ["semseg", "depth", "normals"]
    layer = NDDRLayer(4, names).eval()
    conv, norm, _ = layer.joint
    with torch.no_grad():
        for value in (conv.weight, norm.weight, norm.bias, norm.running_mean):
            value.normal_()
        maps = {name: torch.randn(2, 4, 3, 5) for name in names}
        mixed = layer(maps)
        joined = torch.cat([maps[name] for name in sorted(names)], dim=1)
        for i, name in enumerate(sorted(names)):
            own = slice(4 * i, 4 * i + 4)
            x = F.conv2d(joined, conv.weight[own])
            x = F.batch_norm(x, norm.running_mean[own], norm.running_var[own], norm.weight[own], norm.bias[own])
            torch.testing.assert_close(mixed[name], x.relu())
    assert list(mixed) == names
    assert norm.momentum == 0.05


def test_layer_starts_as_a_weighted_sum():
    layer = NDDRLayer(3, ["b", "a"], alpha=0.8, beta=0.05)
    maps = {name: torch.rand(1, 3, 2, 2) for name in "ab"}
    with torch.no_grad():
        sums = layer.joint[0](torch.cat([maps["a"], maps["b"]], dim=1))
    torch.testing.assert_close(sums[:, :3], 0.8 * maps["a"] + 0.05 * maps["b"])
    torch.testing.assert_close(sums[:, 3:], 0.8 * maps["b"] + 0.05 * maps["a"])


def test_every_layer_mixes():
    options = {"widths": (4, 8, 12, 16), "output_stride": 8}
    model = triptych.create_model(
        "nddr", backbone="resnet18", tasks=TASKS, backbone_options=options, decoder_options={"width": 8}
    ).eval()
    image = torch.rand(1, 3, 37, 51)
    with torch.no_grad():
        before = model(image)
        for i in range(5):
            weight = model.fusion[i].joint[0].weight
            kept = weight.clone()
            # What depth (first by name) takes from semseg.
            channels = weight.shape[0] // 2
            weight[:channels, channels:] *= 3.0
            changed = model(image)
            weight.copy_(kept)
            assert not torch.equal(changed.predictions["depth"], before.predictions["depth"])
    assert len(model.fusion) == 5
    assert [feature.shape[1] for feature in before.features] == [8, 16, 24, 32]


def test_fusion_has_a_learning_rate_of_its_own():
    factors = learning_rate_factors(build(width=8), OptimizerConfig(fusion_lr_factor=100.0))
    assert {name.split(".")[0] for name, factor in factors.items() if factor == 100.0} == {"fusion"}
