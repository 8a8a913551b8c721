"""`backbone auto`: by what can be loaded, said in the log and written into the recipe; names and licences of timm."""

from pathlib import Path

import pytest
from torch import nn
from training.tiny import RECIPE, change

from triptych.__main__ import main
from triptych.backbones import create_backbone, weights
from triptych.recipes import RECIPES
from triptych.recipes.config import read_recipe
from triptych.training.building import settle
from triptych.training.loop import train

AUTO = change(RECIPE, model__backbone="auto", model__decoder="fcn", model__decoder_options={"width": 4})


def let_load(monkeypatch: pytest.MonkeyPatch, *there: str) -> None:
    """As if the pretrained weights of these alone could be loaded."""

    def pretrained(timm_name: str) -> dict:
        for name in there:
            backbone = create_backbone(name)
            if backbone.timm_name == timm_name:
                return backbone.body.state_dict()
        raise FileNotFoundError(f"pretrained weights of {timm_name} are not on this machine")

    monkeypatch.setattr(weights, "_pretrained", pretrained)


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        (("dinov2_small", "resnet18"), ("dinov2_small", "timm")),
        (("resnet18",), ("resnet18", "timm")),
        ((), ("resnet18", "")),
    ],
)
def test_the_first_that_can_be_loaded_is_chosen(
    there: tuple[str, ...], chosen: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_load(monkeypatch, *there)
    recipe, [why] = settle(AUTO, "cpu")
    assert (recipe.model.backbone, recipe.model.weights) == chosen
    assert why.startswith(f"model.backbone auto: {chosen[0]}")


def test_the_run_says_what_was_chosen_and_goes_on_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_load(monkeypatch)
    short = change(AUTO, schedule__steps=1, data__val_split="")
    run = train(short, tmp_path / "run", device="cpu", progress=False)
    assert read_recipe(run / "recipe.json").model.backbone == "resnet18"
    assert "resnet18 with random weights, because" in (run / "log.txt").read_text()
    let_load(monkeypatch, "dinov2_small")  # another day
    train(short, run, resume=True, device="cpu", progress=False)
    assert read_recipe(run / "recipe.json").model.backbone == "resnet18"


def test_weights_of_no_named_backbone_are_refused() -> None:
    with pytest.raises(ValueError, match="name the backbone of these weights"):
        settle(change(AUTO, model__weights="some.pth"), "cpu")


def test_a_default_does_not_depend_on_the_network() -> None:
    assert not [name for name, recipe in RECIPES.items() if recipe.model.backbone == "auto"]


def test_a_report_of_pretrained_weights_names_their_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    let_load(monkeypatch, "resnet18")
    backbone: nn.Module = create_backbone("resnet18", weights="timm")
    assert backbone.load_report.source == "timm resnet18.tv_in1k (licence bsd-3-clause)"


def test_models_of_timm_are_listed_with_their_licences(capsys: pytest.CaptureFixture) -> None:
    assert main(["list", "backbones", "--timm", "vit_small*dinov3*"]) == 0
    out = capsys.readouterr().out
    assert "vit_small_patch16_dinov3.lvd1689m" in out
    assert "dinov3-license" in out
    assert main(["list", "backbones", "--timm", "no such thing"]) == 2
    assert "no pretrained model of timm fits" in capsys.readouterr().err
    assert main(["list", "--timm", "resnet*"]) == 2
    assert "--timm lists backbones" in capsys.readouterr().err
