"""Published ATRC networks give the numbers of the published code."""

import pytest
import torch
from golden import AS_IS, golden, our_name

from triptych.assemble import build_model
from triptych.conversion import convert_checkpoint
from triptych.recipes.config import Recipe


def genotype(case):
    codes = case.config["genotype"]
    return {our_name(t): {our_name(s): code for s, code in row.items()} for t, row in codes.items()}


# The first takes its genotype from those that are known.
@pytest.mark.parametrize("name", ["atrc_hrnet18_nyud4_released", "atrc_hrnet18_nyud4_contexts"])
def test_outputs_equal_the_published_ones(name):
    case = golden(name)
    options = {"genotype": genotype(case)} if name.endswith("contexts") else {}
    model, report = convert_checkpoint("atrc", case.state_dict(), tasks=case.tasks(), **options, **AS_IS)
    assert sum(parameter.numel() for parameter in model.parameters()) == case.manifest["parameters"]
    assert set(report.used) == {key for key, *_ in case.manifest["entries"]}
    with torch.no_grad():
        output = model(case.image())
    case.check_predictions(output)
    (regions,) = output.auxiliary
    for published in case.config["auxiliary_outputs"]:
        case.check(f"auxiliary/{published}", regions[our_name(published)])
    rebuilt = build_model(Recipe(model=report.config), case.tasks())
    rebuilt.load_state_dict(model.state_dict())


def test_raises_for_a_genotype_that_does_not_fit():
    case = golden("atrc_hrnet18_nyud4_contexts")
    with pytest.raises(ValueError, match="has contexts of normals from depth, normals, semseg, genotype says boundary"):
        convert_checkpoint("atrc", case.state_dict(), tasks=case.tasks())
