"""Published InvPT gives the numbers of the published code, in any order of the tasks and at any size."""

import pytest
import torch
from golden import AS_IS, golden, our_name

from triptych.conversion import convert_checkpoint

SMALL = "invpt_vitB_nyud4_min"
CASES = [SMALL, *[pytest.param(n, marks=pytest.mark.slow) for n in ("invpt_vitB_nyud4", "invpt_vitL_nyud4")]]
DEAD = ("scale_embed.2.", "norm_mt.", "redu_chan.0.", "invpt_stages.0.blocks.0.attn.fuse_attn.")


@pytest.mark.parametrize("name", CASES)
def test_outputs_equal_the_published_ones(name):
    case = golden(name)
    state = case.state_dict()
    model, report = convert_checkpoint("invpt", state, tasks=case.tasks(), **AS_IS)
    assert set(report.unused) == {key for key in state if any(part in key for part in DEAD)}
    assert set(report.used) == set(state) - set(report.unused)
    dead = sum(state[key].numel() for key in report.unused)
    assert sum(parameter.numel() for parameter in model.parameters()) + dead == case.manifest["parameters"]
    with torch.no_grad():
        output = model(case.image())
    case.check_predictions(output)
    for published in case.config["tasks"]:
        case.check(f"initial/{published}", output.auxiliary[0][our_name(published)])
    for i, feature in enumerate(output.features):
        case.check(f"stage/backbone_tokens_{i}", feature.flatten(2).transpose(1, 2))


@pytest.fixture(scope="module")
def case():
    return golden(SMALL)


@pytest.fixture(scope="module")
def state(case):
    return case.state_dict()


@pytest.mark.slow
def test_tasks_may_be_declared_in_another_order(case, state):
    tasks = case.tasks()
    reversed_tasks = dict(reversed(list(tasks.items())))
    for published in (state, dict(sorted(state.items()))):
        model, _ = convert_checkpoint("invpt", published, tasks=reversed_tasks, **AS_IS)
        with torch.no_grad():
            output = model(case.image())
        case.check_predictions(output)
        assert list(output.predictions) == list(reversed_tasks)
    wrong, _ = convert_checkpoint("invpt", state, tasks=tasks, order=list(reversed_tasks), **AS_IS)
    with torch.no_grad():
        output = wrong(case.image())
    with pytest.raises(AssertionError, match="differs by"):
        case.check_predictions(output)


@pytest.mark.slow
def test_positions_are_resized_only_for_another_grid(case, state):
    model, _ = convert_checkpoint("invpt", state, tasks=case.tasks(), **AS_IS)
    with torch.no_grad():
        output = model(torch.rand(1, 3, 50, 100))
    assert output.predictions["semseg"].shape == (1, 40, 50, 100)
    assert torch.equal(model.backbone.body.pos_embed, state["backbone.pos_embed"])


def test_raises_for_wrong_options(case, state):
    with pytest.raises(ValueError, match="image_size 64 x 96 makes 4 x 6 positions, the checkpoint has 16"):
        convert_checkpoint("invpt", state, tasks=case.tasks(), image_size=(64, 96))
    with pytest.raises(ValueError, match="order is semseg, depth; it must name each of semseg, depth, n"):
        convert_checkpoint("invpt", state, tasks=case.tasks(), order=["semseg", "depth"])
    with pytest.raises(ValueError, match="its keys look like invpt of 'invpt'"):
        convert_checkpoint("survey", state, tasks=case.tasks())
