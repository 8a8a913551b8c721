"""Cross-Stitch: parameters, the unit's formula, start from single-task networks, its learning rate."""

import pytest
import torch

import triptych
from triptych.models.joined import CrossStitchUnit
from triptych.recipes.config import OptimizerConfig
from triptych.tasks import depth, nyuv2_tasks, pascal_context_tasks, saliency, semseg
from triptych.training.optim import learning_rate_factors

NYUD = nyuv2_tasks()
NYUD2 = {name: NYUD[name] for name in ("semseg", "depth")}
PASCAL = pascal_context_tasks() | {"saliency": saliency(channels=1)}
TASKS = {"semseg": semseg(5), "depth": depth()}


@pytest.mark.parametrize(
    ("backbone", "tasks", "published", "added"),
    [("resnet50", NYUD2, 79_292_841, 15_360), ("resnet18", PASCAL, 79_525_921, 24_000)],
)
def test_parameters_are_the_published_ones(backbone, tasks, published, added):
    with torch.device("meta"):
        model = triptych.create_model(
            "cross-stitch", backbone=backbone, tasks=tasks, backbone_options={"output_stride": 8}
        )
    assert sum(parameter.numel() for parameter in model.parameters()) == published
    assert sum(parameter.numel() for parameter in model.fusion.parameters()) == added


def test_unit_equals_its_formula():
    names = ["semseg", "depth", "normals"]
    unit = CrossStitchUnit(4, names)
    with torch.no_grad():
        unit.factors.normal_()
        maps = {name: torch.randn(2, 4, 3, 5) for name in names}
        mixed = unit(maps)
        factors = unit.factors.unflatten(0, (3, 3))
        stacked = torch.stack([maps[name] for name in sorted(names)])
        expected = torch.einsum("tsc,sbchw->tbchw", factors, stacked)
    assert list(mixed) == names
    for i, name in enumerate(sorted(names)):
        torch.testing.assert_close(mixed[name], expected[i])


def build(decoder, tasks=TASKS, **options):
    return triptych.create_model(
        decoder,
        backbone="resnet18",
        tasks=tasks,
        backbone_options={"widths": (4, 8, 12, 16), "output_stride": 8},
        decoder_options={"width": 8, **options},
    ).eval()


def test_without_mixing_it_is_the_single_task_networks():
    model = build("cross-stitch", alpha=1.0, beta=0.0)
    singles = {name: build("deeplab", {name: task}) for name, task in TASKS.items()}
    for single in singles.values():
        torch.nn.init.normal_(single.backbone.body.bn1.weight)
    states = {name: single.state_dict() for name, single in singles.items()}
    assert model.load_single_tasks(states) == sum(map(len, states.values()))
    image = torch.rand(1, 3, 37, 51)
    with torch.no_grad():
        output = model(image)
        for name, single in singles.items():
            torch.testing.assert_close(output.predictions[name], single(image).predictions[name])
        model.fusion[1].factors.fill_(0.5)
        assert not torch.allclose(model(image).predictions["depth"], output.predictions["depth"], atol=1e-4)
    assert [feature.shape[1] for feature in output.features] == [8, 16, 24, 32]


def test_raises_for_single_task_runs_that_do_not_fit():
    model = build("cross-stitch")
    single = build("deeplab", {"depth": TASKS["depth"]}).state_dict()
    with pytest.raises(ValueError, match="single-task runs are of depth; give one for each of semseg, depth"):
        model.load_single_tasks({"depth": single})
    with pytest.raises(ValueError, match=r"the single-task run of semseg has no decoder\.heads\.semseg"):
        model.load_single_tasks({"semseg": single, "depth": single})


def test_factors_have_a_learning_rate_of_their_own():
    factors = learning_rate_factors(build("cross-stitch"), OptimizerConfig(fusion_lr_factor=100.0))
    assert {name for name, factor in factors.items() if factor == 100.0} == {f"fusion.{i}.factors" for i in range(4)}
    assert set(factors.values()) == {1.0, 100.0}
