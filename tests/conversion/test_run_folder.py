"""A published checkpoint becomes a run folder that predicts the published numbers."""

import pytest
import torch
from golden import AS_IS, golden

from triptych.conversion import survey
from triptych.conversion.run_folder import convert_file, find_tasks, published_options
from triptych.prediction import Predictor
from triptych.prediction.pretrained import load_model
from triptych.recipes.config import from_json
from triptych.recipes.resolved import read_run_recipe


@pytest.mark.parametrize("name", ["survey_mtl_resnet18_pascal5", "atrc_fcn_hrnet18_nyud4"])
def test_the_folder_gives_the_published_outputs(name, tmp_path):
    case = golden(name)
    torch.save({"state_dict": case.state_dict(), "epoch": 99}, tmp_path / "best_model.pth.tar")
    report = convert_file(case.family, tmp_path / "best_model.pth.tar", tmp_path / "run", **AS_IS)
    model, recipe = load_model(tmp_path / "run")
    with torch.no_grad():
        case.check_predictions(model(case.image()))
    assert set(model.tasks) == set(case.tasks())
    assert {name: task.channels for name, task in model.tasks.items()} == {
        name: task.channels for name, task in case.tasks().items()
    }
    assert recipe == read_run_recipe(tmp_path / "run")
    assert report.config == from_json((tmp_path / "run/recipe.json").read_text()).model
    text = (tmp_path / "run/conversion.txt").read_text()
    assert text.startswith(report.summary)
    assert all(key in text for key in case.state_dict())


def test_the_predictor_reads_the_folder(tmp_path):
    case = golden("atrc_fcn_hrnet18_nyud4")
    torch.save(case.state_dict(), tmp_path / "last.ckpt")
    convert_file("atrc", tmp_path / "last.ckpt", tmp_path / "run", tasks=("depth", "semseg", "normals", "boundary"))
    maps = Predictor.load(tmp_path / "run")(case.image()[0])
    assert list(maps) == ["depth", "semseg", "normals", "boundary"]
    assert maps["semseg"].shape == (64, 96)


def test_nothing_is_written_over_or_after_an_error(tmp_path):
    case = golden("atrc_fcn_hrnet18_nyud4")
    torch.save(case.state_dict() | {"surprise": torch.ones(1)}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="unknown tensors: surprise"):
        convert_file("atrc", tmp_path / "last.ckpt", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine.txt").write_text("keep")
    torch.save(case.state_dict(), tmp_path / "last.ckpt")
    with pytest.raises(FileExistsError, match="not empty"):
        convert_file("atrc", tmp_path / "last.ckpt", tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def state_of(**shapes):
    return {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}


def test_tasks_and_class_counts_are_read_from_the_last_layers():
    hrnet = next(network for network in survey.CODE_BASE.networks if network.name == "hrnet")
    state = state_of(
        decoders__sal__last_layer__3__weight=(1, 2, 1, 1),
        decoders__semseg__last_layer__3__weight=(13, 2, 1, 1),
        decoders__semseg__last_layer__0__weight=(99, 2, 1, 1),
        backbone__depthwise__weight=(1, 1),
    )
    assert find_tasks(survey.CODE_BASE, hrnet, state) == ("semseg", "saliency")
    assert published_options(survey.CODE_BASE, hrnet, state, ("semseg", "saliency", "depth")) == {
        "semseg": {"classes": 13},
        "saliency": {"channels": 1},
        "depth": {},
    }
    single = state_of(decoder__last_layer__3__weight=(7, 2, 1, 1))
    assert published_options(survey.CODE_BASE, hrnet, single, ("human_parts",)) == {"human_parts": {"classes": 7}}
    with pytest.raises(ValueError, match="no task is named"):
        find_tasks(survey.CODE_BASE, hrnet, {"conv.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="predicts flow, which is none of"):
        find_tasks(survey.CODE_BASE, hrnet, state_of(decoders__flow__last_layer__3__weight=(2, 2, 1, 1)))
    with pytest.raises(ValueError, match="unknown task 'sal'"):
        published_options(survey.CODE_BASE, hrnet, state, ("sal",))


def test_other_classes_than_the_checkpoint_has_are_refused(tmp_path):
    case = golden("atrc_fcn_hrnet18_nyud4")
    torch.save(case.state_dict(), tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="has 40 classes of semseg, classes says 21"):
        convert_file("atrc", tmp_path / "last.ckpt", tmp_path / "run", classes=21)


def test_auxiliary_tasks_are_read_from_the_intermediate_layers(tmp_path):
    case = golden("survey_padnet_hrnet18_nyud2_aux4")
    torch.save(case.state_dict(), tmp_path / "a.pth")
    convert_file("survey", tmp_path / "a.pth", tmp_path / "run", **AS_IS)
    model, recipe = load_model(tmp_path / "run")
    assert set(recipe.data.auxiliary_tasks) == {"normals", "boundary"}
    with torch.no_grad():
        case.check_predictions(model(case.image()))
