"""A published checkpoint becomes a run folder that predicts the published numbers."""

import json
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from golden import AS_IS, golden
from networks import Pixels
from published_trees import write_nyuv2
from torch.nn import functional as F

from triptych.conversion import convert_checkpoint, survey
from triptych.conversion.base import ConversionReport, Network
from triptych.conversion.normals import turn_normals
from triptych.conversion.run_folder import convert_file, find_tasks, published_options
from triptych.decoders.baseline import FCN
from triptych.evaluation.run import evaluate_run, open_scored_split
from triptych.export.profile import profile
from triptych.export.run import export_run
from triptych.labels.axes import CAMERA
from triptych.labels.normals import Normals
from triptych.models.multitask import MultiTaskModel
from triptych.prediction import Predictor
from triptych.prediction.outputs import advise_size
from triptych.prediction.pretrained import load_model
from triptych.recipes.config import AdaptationConfig, DataConfig, Recipe, from_json
from triptych.recipes.resolved import read_run_recipe
from triptych.report.values import read_run
from triptych.tasks import depth, normals
from triptych.training.building import target_view
from triptych.types import Sample


@pytest.mark.parametrize("name", ["survey_mtl_resnet18_pascal5", "atrc_fcn_hrnet18_nyud4"])
def test_the_folder_gives_the_published_outputs(name, tmp_path):
    case = golden(name)
    torch.save({"state_dict": case.state_dict(), "epoch": 99}, tmp_path / "best_model.pth.tar")
    report = convert_file(case.family, tmp_path / "best_model.pth.tar", tmp_path / "run", normals_axes=CAMERA, **AS_IS)
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


def test_nothing_is_written_over_or_after_an_error(tmp_path):
    case = golden("atrc_fcn_hrnet18_nyud4")
    torch.save(case.state_dict() | {"surprise": torch.ones(1)}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="unknown tensors: surprise"):
        convert_file("atrc", tmp_path / "last.ckpt", tmp_path / "run", normals_axes=CAMERA)
    assert not (tmp_path / "run").exists()
    for axes, message in (((), "Give --normals-axes, three of"), (("left", "right", "up"), "axes is")):
        with pytest.raises(ValueError, match=message):
            convert_file("atrc", tmp_path / "last.ckpt", tmp_path / "run", normals_axes=axes)
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine.txt").write_text("keep")
    torch.save(case.state_dict(), tmp_path / "last.ckpt")
    with pytest.raises(FileExistsError, match="not empty"):
        convert_file("atrc", tmp_path / "last.ckpt", tmp_path / "run", normals_axes=CAMERA)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_an_image_of_any_size_is_predicted_as_published_and_no_training_size_is_made_up(tmp_path):
    case = golden("atrc_fcn_hrnet18_nyud4")
    torch.save(case.state_dict(), tmp_path / "last.ckpt")
    tasks = ("depth", "semseg", "normals", "boundary")
    axes = {"normals_axes": ("forward", "left", "down")}
    convert_file("atrc", tmp_path / "last.ckpt", tmp_path / "run", tasks=tasks, **axes, **AS_IS)
    recipe = (tmp_path / "run/recipe.json").read_text()
    written = json.loads(recipe)
    written["data"] |= {"size": [96, 128], "train_split": "train"}  # as versions before wrote it
    image = case.image()[..., :45, :61]
    bare = convert_checkpoint("atrc", case.state_dict(), tasks=case.tasks(), **axes, **AS_IS)[0]
    with torch.no_grad():
        expected = dict(bare(image).predictions)
    for text in (recipe, json.dumps(written)):
        (tmp_path / "run/recipe.json").write_text(text)
        predictor = Predictor.load(tmp_path / "run")
        assert tuple(predictor.tasks) == tasks
        for each in (predictor, Predictor(bare)):
            assert all(torch.equal(value, expected[name]) for name, value in each.raw(image).items())
        assert advise_size(predictor, "photo.jpg", (3000, 4000)) == ""
        assert read_run(tmp_path / "run").facts.keys() == {"Network"}
        for ask in (profile, partial(export_run, path=tmp_path / "network.onnx")):
            with pytest.raises(ValueError, match="does not say at which size it was trained; give --size"):
                ask(tmp_path / "run")
    card = (tmp_path / "run/README.md").read_text()
    assert "components of normals pointed forward, left, down" in (tmp_path / "run/conversion.txt").read_text()
    assert not any(word in card for word in ("96 x 128", "Seed", "random weights"))


@pytest.mark.parametrize("axes", [CAMERA, ("left", "up", "backward"), ("forward", "left", "down")])
def test_normals_are_those_that_a_reader_makes_of_the_archive_that_was_trained_on(axes):
    tasks = {"depth": depth(), "normals": normals()}
    model = MultiTaskModel(Pixels(), FCN((3,), strides=(1,), tasks=tasks, width=4, head_std="default")).eval()
    network = Network("fcn", (), lambda: None, logits=r"logits\.(\w+)\.weight")
    used = {f"logits.{name}.weight": f"decoder.heads.{name}.2.weight" for name in tasks}
    report = ConversionReport("none", "fcn", None, used, {})
    image = torch.rand(1, 3, 5, 7)
    with torch.no_grad():
        before = dict(model(image).predictions)
        turn_normals(model, network, report, {name: name for name in tasks}, axes)
        after = model(image).predictions
    assert torch.equal(after["depth"], before["depth"])
    stored = F.normalize(before["normals"])[0].permute(1, 2, 0).numpy()
    assert torch.allclose(F.normalize(after["normals"])[0], Normals(axes=axes).decode(stored), atol=1e-6)


def test_images_of_another_domain_are_seen_whole_where_the_training_size_is_not_known():
    recipe = Recipe(data=DataConfig(size=(0, 0)), adaptation=AdaptationConfig(name="adabn", dataset="images"))
    seen = target_view(recipe)(Sample(torch.rand(3, 20, 30), {}), np.random.default_rng(0))
    assert seen.image.shape == (3, 20, 30)
    stretched = replace(recipe, adaptation=replace(recipe.adaptation, transform="mtan"))
    with pytest.raises(ValueError, match="transform size is"):
        target_view(stretched)


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


def test_auxiliary_tasks_are_read_from_the_intermediate_layers_and_the_data_from_the_options(tmp_path):
    case = golden("survey_padnet_hrnet18_nyud2_aux4")
    torch.save(case.state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="predicts no normals; leave --normals-axes out"):
        convert_file("survey", tmp_path / "a.pth", tmp_path / "run", normals_axes=CAMERA, **AS_IS)
    with pytest.raises(ValueError, match="unknown dataset 'nyud'"):
        convert_file("survey", tmp_path / "a.pth", tmp_path / "run", dataset="nyud", **AS_IS)
    write_nyuv2(tmp_path / "archive")
    data: dict[str, Any] = {"dataset": "nyuv2", "root": str(tmp_path / "archive"), "dataset_options": {"reach": 4}}
    convert_file("survey", tmp_path / "a.pth", tmp_path / "run", **data, **AS_IS)
    split, scored = open_scored_split(read_run_recipe(tmp_path / "run"), "")
    assert (split, scored.root) == ("test", tmp_path / "archive")
    assert "semseg/mIoU_absent_zero" in evaluate_run(tmp_path / "run", limit=1, device="cpu", progress=False).primary()
    data["dataset_options"] = {"split": "test"}
    with pytest.raises(ValueError, match=r"data\.options has 'split', which comes from data\.train_split"):
        convert_file("survey", tmp_path / "a.pth", tmp_path / "no", **data, **AS_IS)
    model, recipe = load_model(tmp_path / "run")
    assert set(recipe.data.auxiliary_tasks) == {"normals", "boundary"}
    with torch.no_grad():
        case.check_predictions(model(case.image()))
