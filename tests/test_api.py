"""The public names: documented, found, light to import, open to parts of one's own."""

import importlib.util
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from training.tiny import Heads, Stairs
from unchecked import shapes_unchecked

import triptych
from triptych.named_parts import REGISTRIES
from triptych.tasks import depth, regression, semseg

ROOT = Path(__file__).parents[1]


def test_the_page_of_names_is_complete() -> None:
    spec = importlib.util.spec_from_file_location("api", ROOT / "docs" / "api.py")
    api = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(api)
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert page == api.make_page(), "run python docs/api.py"
    for name in triptych.__all__:
        assert f"| `{name}` | " in page
    assert "|  |" not in page  # every name says what it is


def test_every_name_is_what_it_is_called() -> None:
    for module in (triptych, triptych.metrics):
        for name in module.__all__:
            value = getattr(module, name)
            assert getattr(value, "__name__", name) == name
            assert not isinstance(value, type(sys))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        triptych.nothing  # noqa: B018


def test_the_citation_names_the_version() -> None:
    assert f"\nversion: {triptych.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_names_recipes_and_the_command_line_import_no_torch() -> None:
    code = "import sys, triptych, triptych.metrics, triptych.recipes, triptych.__main__; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_own_parts_are_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in REGISTRIES:
        assert triptych.available(kind)
        monkeypatch.setitem(REGISTRIES, kind, dict(REGISTRIES[kind]))
    triptych.register("tasks", "heat", lambda: regression("heat"))
    assert "heat" in triptych.available("tasks")
    triptych.register("decoders", "heads", Heads)  # again the same
    with pytest.raises(ValueError, match=r"decoders has a 'invpt' already \(triptych.decoders.invpt\)"):
        triptych.register("decoders", "invpt", Heads)
    with pytest.raises(ValueError, match="unknown kind 'decoder'; did you mean 'decoders'"):
        triptych.register("decoder", "mine", Heads)


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_kind_can_be_registered_and_refuses_what_it_cannot_use(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dict(REGISTRIES[kind])
    monkeypatch.setitem(REGISTRIES, kind, dict(known))
    triptych.register(kind, "mine", known[sorted(known)[0]])
    assert "mine" in triptych.available(kind)
    with pytest.raises(TypeError, match=f"{kind} takes a .*; 'other' is 3"):
        triptych.register(kind, "other", 3)


def test_tasks_that_are_no_tasks_get_help() -> None:
    with (
        shapes_unchecked(),
        pytest.raises(TypeError, match=r"tasks is \['semseg'\]; expected Task objects by name, such as"),
    ):
        triptych.create_model("fcn", backbone="resnet18", tasks=["semseg"])


def test_a_predictor_takes_a_list_of_images_of_any_size() -> None:
    tasks = {"semseg": semseg(4), "depth": depth()}
    stairs = Stairs()
    model = triptych.MultiTaskModel(stairs, Heads(stairs.channels, strides=stairs.strides, tasks=tasks))
    predictor = triptych.Predictor(model)
    images = [np.full((32, 48, 3), 90, np.uint8), torch.rand(3, 20, 24)]
    found = predictor(images)
    assert [maps["semseg"].shape for maps in found] == [(32, 48), (20, 24)]
    for image, maps in zip(images, found, strict=True):
        for name, value in predictor(image).items():
            np.testing.assert_array_equal(maps[name], value)
    assert predictor([]) == []


def test_recipes_are_loaded_by_name_or_path(tmp_path: Path) -> None:
    from triptych.recipes.config import to_json

    recipe = triptych.load_recipe("rooms-demo")
    (tmp_path / "recipe.json").write_text(to_json(recipe))
    assert triptych.load_recipe(tmp_path / "recipe.json") == recipe
    with pytest.raises(ValueError, match="unknown recipe 'rooms-dmo'; did you mean 'rooms-demo'"):
        triptych.load_recipe("rooms-dmo")


def test_a_loaded_recipe_is_the_callers_own() -> None:
    """Its tables can be edited in place: no other recipe, and none that is loaded later, changes with it."""
    changed, other = triptych.load_recipe("rooms-demo"), triptych.load_recipe("rooms-mti-net")
    before = {recipe.model.decoder: deepcopy(recipe) for recipe in (changed, other)}
    changed.data.options["scenes"] = 2
    changed.model.decoder_options["width"] = 4
    changed.adaptation.optimizer.lr_factors["backbone"] = 0.5
    assert triptych.load_recipe("rooms-demo") == before[changed.model.decoder]
    assert other == before[other.model.decoder]
