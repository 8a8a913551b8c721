"""Published baselines, converted, give the numbers of the published code."""

import pytest
import torch
from golden import AS_IS, golden

from triptych.assemble import build_model
from triptych.conversion import convert_checkpoint
from triptych.recipes.config import Recipe

CASES = {
    "survey_mtl_hrnet18_nyud2": AS_IS,
    "survey_mtl_resnet18_pascal5": AS_IS,
    "survey_mtl_resnet50_nyud2": AS_IS,
    "atrc_fcn_hrnet18_nyud4": AS_IS,
    "densemtl_mtl_SDN_nyud40": {},
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_equal_the_published_ones(name):
    case = golden(name)
    model, report = convert_checkpoint(case.family, case.state_dict(), tasks=case.tasks(), **CASES[name])
    with torch.no_grad():
        output = model(case.image())
    case.check_predictions(output)
    assert not model.training
    assert list(output.predictions) == list(case.tasks())
    assert sum(parameter.numel() for parameter in model.parameters()) == case.manifest["parameters"]
    assert set(report.used) == {key for key, *_ in case.manifest["entries"]}
    rebuilt = build_model(Recipe(model=report.config), case.tasks())
    rebuilt.load_state_dict(model.state_dict())
    with torch.no_grad():
        case.check_predictions(rebuilt.eval()(case.image()))


def test_trunk_features_equal_the_published_ones():
    case = golden("survey_mtl_hrnet18_nyud2")
    model, _ = convert_checkpoint(case.family, case.state_dict(), tasks=case.tasks(), **AS_IS)
    with torch.no_grad():
        features = model.backbone(case.image())
    for i, feature in enumerate(features):
        case.check(f"stage/backbone_{i}", feature)
