"""Published MTI-Net, PAD-Net and encoder-sharing networks of the survey give the numbers of the published code."""

import pytest
import torch
from golden import AS_IS, golden, our_name

from triptych import tasks as make
from triptych.assemble import build_model
from triptych.conversion import convert_checkpoint
from triptych.recipes.config import Recipe

MTINET = ["survey_mtinet_hrnet18_nyud2", "survey_mtinet_hrnet18_nyud2_aux4", "survey_mtinet_hrnet18_nyud4"]
PADNET = ["survey_padnet_hrnet18_nyud2", "survey_padnet_hrnet18_nyud2_aux4", "survey_padnet_hrnet18_pascal5"]


def convert(case):
    options = dict(AS_IS)
    if set(case.auxiliary_tasks()) != set(case.tasks()):
        options["auxiliary_tasks"] = case.auxiliary_tasks()
    return convert_checkpoint("survey", case.state_dict(), tasks=case.tasks(), **options)


def check_case(name):
    """Everything that holds for every network; returns the case and the model."""
    case = golden(name)
    model, report = convert(case)
    assert sum(parameter.numel() for parameter in model.parameters()) == case.manifest["parameters"]
    assert set(report.used) == {key for key, *_ in case.manifest["entries"]}
    with torch.no_grad():
        case.check_predictions(model(case.image()))
    auxiliary = {k: t for k, t in case.auxiliary_tasks().items() if k not in case.tasks()}
    rebuilt = build_model(Recipe(model=report.config), case.tasks(), auxiliary)
    rebuilt.load_state_dict(model.state_dict())
    return case, model


@pytest.mark.parametrize("name", MTINET)
def test_mtinet_equals_the_published_one(name):
    case, model = check_case(name)
    with torch.no_grad():
        *initial, _ = model.decoder(model.backbone(case.image()))
    for scale, predictions in zip((3, 2, 1, 0), initial, strict=True):
        for published in case.config["auxiliary_tasks"]:
            case.check(f"scale{scale}/{published}", predictions[our_name(published)])


@pytest.mark.parametrize("name", PADNET)
def test_padnet_equals_the_published_one(name):
    case, model = check_case(name)
    with torch.no_grad():
        initial, _ = model.decoder(model.backbone(case.image()))
    for task in case.auxiliary_tasks():
        (output,) = [
            key for key in case.manifest["outputs"] if key.startswith("initial/") and our_name(key[8:]) == task
        ]
        case.check(output, initial[task])


def test_mtan_equals_the_published_one():
    check_case("survey_mtan_resnet50_nyud2")


JOINED = ["crossstitch_resnet18_pascal5", "crossstitch_resnet50_nyud2", "nddr_resnet50_nyud2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", JOINED)
def test_joined_networks_equal_the_published_ones(name):
    check_case(f"survey_{name}")


def test_raises_for_missing_auxiliary_tasks():
    case = golden("survey_mtinet_hrnet18_nyud2_aux4")
    with pytest.raises(ValueError, match=r"intermediate predictions of semseg, .*; give as auxiliary_tasks"):
        convert_checkpoint("survey", case.state_dict(), tasks=case.tasks())
    with pytest.raises(ValueError, match="the checkpoint has the tasks semseg, depth, tasks says normals"):
        convert_checkpoint("survey", case.state_dict(), tasks={"normals": make.normals()})
