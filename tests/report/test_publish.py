"""Networks on the hub, against a stand-in: what is pushed comes back the same, and a hub that is away says so."""

import json
import socket
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from export_runs import save_run
from hub import TOKEN, hub_of_the_test
from huggingface_hub import ModelCard, constants
from training.tiny import RECIPE
from unchecked import shapes_unchecked

import triptych
from triptych.__main__ import main
from triptych.backbones.timm_models import pretrained_license
from triptych.evaluation.scores import write_scores
from triptych.export import export_run
from triptych.export.onnx_file import describe_onnx
from triptych.files import hash_file
from triptych.prediction import pretrained
from triptych.prediction.calibration import Scale, write_calibration
from triptych.prediction.exported import ExportedNetwork
from triptych.prediction.predictor import Predictor
from triptych.report.publish import push_run

NAME = "someone/rooms-small"
# huggingface_hub uploads in a way that httpx2 is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def run(tmp_path):
    """A run folder with the scores of an evaluation."""
    folder = save_run(tmp_path / "run")
    recipe = replace(
        RECIPE,
        data=replace(RECIPE.data, tasks=("semseg", "depth", "normals"), root="/home/someone/secret"),
        description="Adapted by adabn to 3 images of images /home/someone/patients.",  # as older versions wrote it
    )
    (folder / "recipe.json").write_text(json.dumps(json.loads(triptych.recipes.config.to_json(recipe))))
    content = {
        "split": "test",
        "data": {"name": "rectangles", "licence": "CC0"},
        "metrics": {"semseg": {"mIoU": 0.61234567}, "depth": {"rmse": 0.5, "absrel": float("nan"), "unheard": 3.0}},
        "keys": ["a", "b", "c"],
        "labelled": {"semseg": 3, "depth": 2},
    }
    write_scores(folder / "evaluation-test.json", content, {"semseg": {"x": torch.zeros(3)}})
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with hub_of_the_test(monkeypatch, tmp_path / "cache") as hub:
        yield hub


def test_what_is_pushed_comes_back_the_same(run, hub, capsys):
    assert main(["push", str(run), NAME, "--license", "mit", "--private"]) == 0
    assert f"{hub.address}/{NAME}" in capsys.readouterr().out
    assert hub.private == {NAME: True}
    files = hub.repositories[NAME]
    assert set(files) == {pretrained.FILES[name] for name in ("recipe", "resolved", "tasks", "weights", "card")}
    image = np.random.default_rng(0).integers(0, 255, (33, 47, 3), np.uint8)
    ours, theirs = Predictor.load(run)(image), Predictor.from_pretrained(NAME)(image)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_no_folder_of_this_machine_is_told(run, hub):
    push_run(run, NAME)
    assert not any(b"/home/" in content for content in hub.repositories[NAME].values())
    assert json.loads(hub.repositories[NAME]["recipe.json"])["data"]["root"] == "secret"
    assert b"3 images of images patients." in hub.repositories[NAME]["README.md"]


def test_the_card_lists_scores_by_protocol_and_licences(run, tmp_path, capsys):
    scored = {
        "protocol": "invpt",
        "metrics": {"depth": {"rmse": 0.4}},
        "keys": {"depth": ["a"]},
        "tasks": {"depth": {"higher_is_better": {"rmse": False}}},
    }
    write_scores(tmp_path / "scored.json", scored, {})
    words = ["push", str(run), NAME, "--dry-run", str(tmp_path / "out"), "--scores", str(tmp_path / "scored.json")]
    assert main(words) == 0
    card = ModelCard.load(tmp_path / "out" / "README.md")
    found = {(each.task_name, each.metric_type, each.metric_name): each.metric_value for each in card.data.eval_results}
    assert found == {
        ("semseg", "mIoU", "semseg mIoU (Triptych's own protocol)"): 0.61235,
        ("depth", "rmse", "depth rmse (Triptych's own protocol)"): 0.5,
        ("depth", "rmse", "depth rmse (invpt protocol)"): 0.4,
    }
    assert {each.task_type for each in card.data.eval_results} == {"image-segmentation", "depth-estimation"}
    assert "| semseg | mIoU ↑ | 0.6123 | Triptych's own | rectangles test | 3 |" in card.text
    assert "| depth | rmse ↓ | 0.5 | Triptych's own | rectangles test | 2 |" in card.text  # labelled
    assert "- Trunk: trained from random weights" in card.text
    assert "`: CC0" in card.text
    assert Predictor.from_pretrained(tmp_path / "out").tasks
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "out is not empty; --dry-run writes a new folder" in error
    assert error.count("\n") == 1


def test_exported_files_of_the_run_go_along(run, tmp_path, capsys):
    same = save_run(tmp_path / "same")
    for folder in (run, same):
        write_calibration(folder, {"depth": Scale(2.0)}, "", {})
    with shapes_unchecked():
        file = export_run(same, tmp_path / "model.onnx", images=1).path
    description = ExportedNetwork(file).metadata
    description["recipe"]["data"]["root"] = "/home/someone/secret"
    describe_onnx(file, description)
    scored = {
        "protocol": "invpt",
        "metrics": {"depth": {"rmse": 0.4}},
        "keys": ["a"],
        "weights_sha256": hash_file(file),
    }
    write_scores(tmp_path / "of_file.json", scored | {"tasks": {"depth": {"higher_is_better": {"rmse": False}}}}, {})
    words = ["push", str(run), NAME, "--dry-run", str(tmp_path / "out"), "--exported", str(file)]
    assert main([*words, "--scores", str(tmp_path / "of_file.json")]) == 0
    for path in (tmp_path / "out").iterdir():
        assert b"/home/" not in path.read_bytes()
    image = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    theirs = Predictor.load(tmp_path / "out/model.onnx")(image)
    for name, values in Predictor.load(run)(image).items():
        np.testing.assert_allclose(theirs[name], values, atol=1e-4)
    assert json.loads((tmp_path / "out/model.onnx.json").read_text())["recipe"]["data"]["root"] == "secret"
    card = (tmp_path / "out/README.md").read_text()
    assert "| `model.onnx` | fp32 | 32 x 48 | maps |" in card
    assert "triptych-runtime model.onnx photo.jpg --resize" in card
    assert "| weights | depth | rmse ↓ | 0.5 |" in card
    assert "| `model.onnx`, calibrated | depth | rmse ↓ | 0.4 |" in card
    assert "depth rmse (invpt protocol, model.onnx, calibrated)" in card
    Predictor.load(run).save_pretrained(tmp_path / "saved")
    for text in (card, (tmp_path / "saved/README.md").read_text()):
        assert "- Metres of depth are scaled (depth x 2) by `triptych calibrate`" in text

    describe_onnx(file, description | {"weights_sha256": "0"})
    (tmp_path / "model.pt2").touch()
    for wrong, message in (
        ([file], "other weights"),
        ([tmp_path / "model.pt2"], "end with .onnx"),
        ([file, tmp_path / "other/model.onnx"], "several exported files are called model.onnx"),
    ):
        assert main([*words[:4], str(tmp_path / "no"), "--exported", *map(str, wrong)]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "no").exists()


def test_the_trunks_licence_is_that_of_its_weights(tmp_path):
    own = replace(RECIPE.model, backbone="resnet18", decoder="fcn", decoder_options={"width": 8})
    tasks = {"depth": triptych.tasks.depth()}
    model = triptych.create_model("fcn", backbone="resnet18", tasks=tasks, decoder_options={"width": 8})
    recipe = replace(RECIPE, data=replace(RECIPE.data, tasks=("depth",), task_options={}))
    stated = {"timm": "resnet18.tv_in1k` of timm, licence: bsd-3-clause", "/w/x.pth": "weights of `x.pth`, whose"}
    for i, (weights, said) in enumerate(stated.items()):
        chosen = replace(recipe, model=replace(own, weights=weights))
        run, out = pretrained.save_folder(tmp_path / f"run{i}", model, chosen), tmp_path / f"out{i}"
        push_run(run, NAME, dry_run=out)
        for card in (run / "README.md", out / "README.md"):
            assert said in card.read_text()
    assert pretrained_license("resnet18.tv_in1k") == "bsd-3-clause"

    chosen = replace(
        recipe, model=replace(own, weights="timm", initialize_from=("/w/other",))
    )  # which overwrote timm's
    push_run(pretrained.save_folder(tmp_path / "next", model, chosen), NAME, dry_run=tmp_path / "pushed")
    card = (tmp_path / "pushed/README.md").read_text()
    assert "weights of `timm, other`, whose licence is not known here" in card
    assert "base_model" not in card


def test_a_pushed_trunk_starts_a_new_network(tmp_path, hub):
    tasks = {"depth": triptych.tasks.depth()}
    options = {"tasks": tasks, "decoder_options": {"width": 8}}
    model = triptych.create_model("fcn", backbone="resnet18_half", **options)
    recipe = replace(
        RECIPE,
        data=replace(RECIPE.data, tasks=("depth",)),
        model=replace(RECIPE.model, backbone="resnet18_half", decoder="fcn", decoder_options={"width": 8}),
    )
    push_run(pretrained.save_folder(tmp_path / "run", model, recipe), NAME)
    again = triptych.create_model("fcn", backbone="resnet18_half", weights=f"hub:{NAME}", **options)
    for name, value in model.backbone.state_dict().items():
        torch.testing.assert_close(again.backbone.state_dict()[name], value)
    with pytest.raises(FileNotFoundError, match="give the path"):
        triptych.create_model("fcn", backbone="resnet18_half", weights="hub:someone/else", **options)


def test_a_hub_that_is_away_says_so_at_once(run, hub, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    started = time.monotonic()
    assert main(["push", str(run), NAME]) == 2
    assert main(["predict", NAME, "photo.jpg"]) == 2
    assert time.monotonic() - started < 8
    pushed, asked, loaded = capsys.readouterr().err.splitlines()[-3:]
    assert f"{NAME} is no folder here" in asked
    assert "was not uploaded" in pushed
    assert "--dry-run FOLDER" in pushed
    assert "give its path" in loaded
    assert f"{nowhere} cannot be reached" in pushed
    assert f"{nowhere}/{NAME}/resolve/main/model.safetensors cannot be reached" in loaded
    assert "HF_HUB_OFFLINE" not in pushed + loaded
    assert "hf auth login" not in pushed


def test_who_is_not_let_in_is_told_the_way(run, hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", TOKEN + "x")
    assert main(["push", str(run), NAME]) == 2
    error = capsys.readouterr().err
    assert "hf auth login" in error
    assert hub.repositories == {}


@pytest.mark.parametrize("name", ["alone", "a/b/c", "some one/x"])
def test_names_are_checked_before_anything(run, hub, name, capsys):
    assert main(["push", str(run), name]) == 2
    assert "organisation/name" in capsys.readouterr().err
    assert hub.requests == []
