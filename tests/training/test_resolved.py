"""Options of every part in the run folder: a later default changes no old run, and is no way to resume one."""

import inspect
import json
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from regularizers import branch
from regularizers.branch import batch, build, tasks_of
from torch import nn
from training.tiny import RECIPE, Heads, change

import triptych
from triptych import assemble
from triptych.adaptation import ADAPTERS
from triptych.backbones import create_backbone, find_backbone
from triptych.decoders import DECODERS
from triptych.evaluation.run import evaluate_run
from triptych.evaluation.scored_runs import group_runs as group
from triptych.evaluation.scored_runs import read_scored_run, recipe_differences
from triptych.files import check_signed, sign
from triptych.lookup import option_defaults
from triptych.models import ARCHITECTURES
from triptych.named_parts import resolve_options
from triptych.prediction.predictor import Predictor
from triptych.recipes import RECIPES, resolved
from triptych.recipes.config import AdaptationConfig, Recipe, RegularizerConfig, from_json, to_json
from triptych.recipes.resolved import (
    FILE,
    fill_options,
    read_resolved,
    read_run_recipe,
    write_resolved,
)
from triptych.regularizers import REGULARIZERS
from triptych.report.renderings import Renderer
from triptych.tasks import depth, semseg
from triptych.training import run_folder
from triptych.training.loop import train
from triptych.training.run_folder import check_same_options, describe_code
from triptych.weighting import WEIGHTINGS

SMALL = {"plane_channels": 4, "hidden": 6, "num_samples": 4}


class Wide(Heads):
    """Heads with a layer whose width is an option."""

    def __init__(self, channels, *, strides, tasks, width: int = 8) -> None:
        super().__init__(channels, strides=strides, tasks=tasks)
        self.inner = nn.Conv2d(channels[0], width, 1)
        self.heads = nn.ModuleDict({name: nn.Conv2d(width, task.channels, 1) for name, task in tasks.items()})

    def forward(self, features):
        return [{name: head(self.inner(features[0]).relu()) for name, head in self.heads.items()}]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    DECODERS["wide"] = Wide
    recipe = change(RECIPE, model__decoder="wide", model__decoder_options={}, schedule__steps=4)
    recipe = change(recipe, regularizer=RegularizerConfig(name="triplane", options={**SMALL, "preset": "surface"}))
    folder = train(recipe, tmp_path_factory.mktemp("runs") / "run", device="cpu", progress=False)
    evaluate_run(folder, device="cpu", constant=False, progress=False)
    return folder


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version with other defaults."""
    monkeypatch.setitem(inspect.unwrap(Wide.__init__).__kwdefaults__, "width", 16)
    monkeypatch.setitem(inspect.unwrap(REGULARIZERS["triplane"].__init__).__kwdefaults__, "width", 32)


def test_a_run_stores_every_option_and_the_version(run: Path) -> None:
    resolved = read_resolved(run)
    assert resolved.version == triptych.__version__
    assert resolved.options["model.decoder_options"] == {"width": 8}
    assert resolved.options["model.backbone_options"] == {"image_size": None, "norm": True}
    assert resolved.options["data.options"]["length"] == 12
    options = resolved.options["regularizer.options"]
    assert (options["width"], options["num_samples"], options["schedule_steps"]) == (256, 4, 4)
    assert (options["density"], options["depth_from"]) == ("shared", "termination")  # of the preset
    assert read_run_recipe(run).model.decoder_options == {"width": 8}
    assert from_json((run / "recipe.json").read_text()).model.decoder_options == {}


@pytest.mark.usefixtures("later")
def test_a_later_default_changes_no_old_run(run: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(run)
    assert predictor.model.decoder.inner.out_channels == 8
    assert Renderer.load(run).regularizer.encoder.trunk is not None
    before = json.loads((run / "evaluation-test.json").read_text())
    evaluate_run(run, device="cpu", constant=False, progress=False)
    assert json.loads((run / "evaluation-test.json").read_text()) == before
    saved = predictor.save_pretrained(tmp_path / "saved")
    assert Predictor.load(saved).model.decoder.inner.out_channels == 8
    bare = shutil.copytree(run, tmp_path / "bare")
    (bare / FILE).unlink()
    with pytest.raises(ValueError, match="does not fit this model"):
        Predictor.load(bare)


def stored(folder: Path) -> dict:
    return check_signed(json.loads((folder / FILE).read_text()))


@pytest.mark.usefixtures("later")
def test_comparing_names_defaults_that_differ(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    content = stored(other)
    content["options"]["model.decoder_options"]["width"] = 4
    (other / FILE).write_text(json.dumps(sign(content)))
    groups = group([read_scored_run(path, "test") for path in (run, other)])
    assert recipe_differences(groups) == {"model.decoder_options.width": [8, 4]}


def test_options_that_came_or_went_without_changing_anything_are_no_difference(run: Path, tmp_path: Path) -> None:
    """A run of before `norm` came, and of when `one_size` was stored, as of Swin, and given in recipes too."""
    other = shutil.copytree(run, tmp_path / "other")
    content = stored(other)
    content["options"]["model.backbone_options"] = {"image_size": None, "one_size": "its windows are shifted"}
    (other / FILE).write_text(json.dumps(sign(content)))
    saved = json.loads((other / "recipe.json").read_text())
    saved["model"]["backbone_options"]["one_size"] = "its windows are shifted"
    (other / "recipe.json").write_text(json.dumps(saved))
    assert recipe_differences(group([read_scored_run(path, "test") for path in (run, other)])) == {}
    train(from_json((run / "recipe.json").read_text()), other, resume=True, device="cpu", progress=False)


def test_options_of_old_runs_have_the_names_that_they_have_now(tmp_path: Path) -> None:
    """In the recipe, in the options of a run, and of a target domain."""
    now = RECIPES["rooms-cvm"]
    now = change(now, adaptation=AdaptationConfig(dataset="rooms", dataset_options={"neighbor_frames": (2,)}))
    then = to_json(now).replace("neighbor_frames", "neighbour_frames")
    assert then.count("neighbour_frames") == 2
    assert from_json(then) == now
    (tmp_path / "recipe.json").write_text(then)
    options = {"data.options": {"neighbour_frames": [5], "look": "b"}}
    content = {"version": "0.1.0", "commit": None, "options": options}
    (tmp_path / FILE).write_text(json.dumps(sign(content)))
    read = read_run_recipe(tmp_path)
    assert read.data.options == now.data.options | {"look": "b"}
    assert read.adaptation == now.adaptation


@pytest.mark.usefixtures("later")
def test_another_default_is_no_way_to_resume(run: Path) -> None:
    recipe = from_json((run / "recipe.json").read_text())
    with pytest.raises(
        ValueError, match=r"began: model.decoder_options.width was 8, now 16; regul.*width was 256"
    ) as it:
        train(recipe, run, resume=True, device="cpu", progress=False)
    assert "\n" not in str(it.value)


def test_another_version_or_none_is_no_way_to_resume(run: Path, tmp_path: Path) -> None:
    recipe = from_json((run / "recipe.json").read_text())
    older = shutil.copytree(run, tmp_path / "older")
    content = stored(older) | {"version": "0.0.9", "commit": "0123456789abcdef"}
    (older / FILE).write_text(json.dumps(sign(content)))
    with pytest.raises(ValueError, match=r"which version 0\.0\.9 \(0123456789\) began: this is .*Resume it with that"):
        train(recipe, older, resume=True, device="cpu", progress=False)
    (older / FILE).unlink()
    with pytest.raises(ValueError, match=r"it has no resolved\.json, so an older version began it"):
        train(recipe, older, resume=True, device="cpu", progress=False)
    assert Predictor.load(older).recipe.model.decoder_options == {}


@pytest.mark.parametrize(
    ("began", "now", "message"),
    [
        ({"__main__": ""}, {"train_mine": ""}, ""),
        ({"__main__": ""}, {}, ""),
        ({}, {"my_lab": "1.0"}, ""),
        ({"my_lab": "1.0"}, {"my_lab": "1.1"}, "began: plug-in my_lab was '1.0', now '1.1'. Resume"),
        ({"my_lab": "1.0"}, {"other": "1.0"}, "began: plug-in my_lab was '1.0', now None. Resume"),
    ],
)
def test_versions_of_plugins_are_compared_and_not_how_they_were_loaded(
    began: dict, now: dict, message: str, tmp_path: Path
) -> None:
    (tmp_path / "recipe.json").write_text(to_json(Recipe(plugins=began)))
    write_resolved(tmp_path, {})
    with pytest.raises(ValueError, match=message) if message else nullcontext():
        check_same_options(tmp_path, {}, now)


def test_another_commit_of_the_version_is_said_where_a_run_is_resumed(tmp_path: Path, monkeypatch) -> None:
    write_resolved(tmp_path, {})
    begun = read_resolved(tmp_path).commit
    assert describe_code(tmp_path) == []
    monkeypatch.setattr(run_folder, "code_commit", lambda: "fedcba98")
    assert describe_code(tmp_path) == ([] if begun is None else [
        f"begun at commit {begun}, resumed at fedcba98: 'If you upgrade' in CHANGELOG.md has what goes on differently "
        "in between"
    ])  # fmt: skip


def test_the_commit_is_never_that_of_another_repository_around_the_package(tmp_path: Path, monkeypatch) -> None:
    """A virtual environment lies within one's own repository as a rule, and is no part of it."""

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        return subprocess.run(["git", "-C", str(tmp_path), *who, *words], capture_output=True, text=True).stdout.strip()

    package = tmp_path / ".venv/triptych"
    (package / "recipes").mkdir(parents=True)
    (package / "__init__.py").touch()
    git("init")
    git("commit", "--allow-empty", "-m", "mine")
    monkeypatch.setattr(resolved, "__file__", str(package / "recipes/resolved.py"))
    assert resolved.code_commit.__wrapped__() is None
    git("add", ".")
    git("commit", "-m", "theirs")
    assert resolved.code_commit.__wrapped__() == git("rev-parse", "HEAD") != ""


def test_the_recipe_has_the_last_word(run: Path, tmp_path: Path) -> None:
    """An option that is written into `recipe.json` later, such as another place of the data."""
    moved = shutil.copytree(run, tmp_path / "moved")
    recipe = from_json((moved / "recipe.json").read_text())
    (moved / "recipe.json").write_text(to_json(change(recipe, data__options={"length": 3})))
    assert read_run_recipe(moved).data.options["length"] == 3


def test_raises_for_a_damaged_file(run: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(run, tmp_path / "damaged")
    for text in ("{", "[]", '{"version": "1", "commit": null}', '{"version": "1", "commit": null, "options": 3}'):
        (damaged / FILE).write_text(text)
        with pytest.raises(ValueError, match=r"damaged/resolved.json holds no resolved options"):
            Predictor.load(damaged)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_resolved_and_read_back(name: str, tmp_path: Path) -> None:
    """And resolving what is resolved changes nothing."""
    recipe = RECIPES[name]
    options = resolve_options(recipe)
    write_resolved(tmp_path, options)
    (tmp_path / "recipe.json").write_text(to_json(recipe))
    whole = read_run_recipe(tmp_path)
    assert whole == fill_options(recipe, options)
    assert resolve_options(whole) == options


def assert_same_shapes(one: nn.Module, other: nn.Module) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert {name: value.shape for name, value in first.items()} == {name: v.shape for name, v in second.items()}


@pytest.mark.parametrize("name", sorted(set(REGULARIZERS) - {"second-heads"}))
def test_a_regularizer_takes_all_its_options(name: str) -> None:
    tasks = tasks_of("semseg", "depth", "normals")
    few = {"num_samples": 1} if name in ("triplane-single-sample", "triplane-depth-input") else {"num_samples": 4}
    small = branch.OTHERS.get(name, {**branch.SMALL, **few})
    plain = build(name, tasks, **small)
    config = RegularizerConfig(name=name, options=small)
    options = resolve_options(Recipe(regularizer=config), plain)["regularizer.options"]
    again = build(name, tasks, **options)
    assert_same_shapes(plain, again)
    output, sample = batch(tasks, camera=True)
    assert all(term.isfinite() for term in again(output, sample).values())


@pytest.mark.parametrize("name", sorted({**DECODERS, **ARCHITECTURES}))
def test_a_network_takes_all_its_options(name: str) -> None:
    tasks = {key: task for key, task in triptych.nyuv2_tasks().items() if key in ("semseg", "depth")}
    recipe = change(Recipe(), model__backbone="resnet18_half", model__decoder=name)
    whole = change(recipe, model__decoder_options=resolve_options(recipe)["model.decoder_options"])
    with torch.device("meta"):
        assert_same_shapes(*(assemble.build_model(each, tasks) for each in (recipe, whole)))


@pytest.mark.parametrize(
    "name", ["resnet18", "hrnet_w18_small_v2", "vit_tiny_patch16_384", "swin_tiny", "convnext_atto"]
)
def test_a_backbone_takes_all_its_options(name: str) -> None:
    with torch.device("meta"):
        assert_same_shapes(create_backbone(name), create_backbone(name, **option_defaults(find_backbone(name))))


@pytest.mark.parametrize("name", sorted(WEIGHTINGS))
def test_a_weighting_takes_all_its_options(name: str) -> None:
    options = resolve_options(change(Recipe(), weighting__name=name))["weighting.options"]
    weights = {"semseg": 1.0, "depth": 1.0}
    assert_same_shapes(*(WEIGHTINGS[name](tuple(weights), weights=weights, **each) for each in ({}, options)))


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_an_adapter_takes_all_its_options(name: str) -> None:
    tasks = {key: task for key, task in triptych.nyuv2_tasks().items() if key in ("semseg", "depth")}
    model = assemble.build_model(change(RECIPE, model__decoder_options={}), tasks)
    recipe = Recipe(adaptation=AdaptationConfig(name=name))
    options = resolve_options(recipe)["adaptation.options"]
    given = {"size": (32, 48), "weights": dict.fromkeys(tasks, 1.0)}
    assert_same_shapes(*(ADAPTERS[name](model, **given, **each) for each in ({}, options)))


def test_parts_follow_the_length_and_the_seed_of_their_run() -> None:
    """The schedule of a search, and draws of weightings; unless their options say otherwise."""
    recipe = change(
        Recipe(seed=3),
        model__decoder="atrc-search",
        model__decoder_options={"width": 8},
        schedule__steps=50,
        training__accumulate=4,
    )
    assert resolve_options(recipe)["model.decoder_options"]["steps"] == 200
    own = change(recipe, model__decoder_options={"width": 8, "steps": 7})
    tasks = {"semseg": semseg(4), "depth": depth()}
    steps = [assemble.build_model(each, tasks).decoder.architecture.steps for each in (recipe, own)]
    assert steps == [200, 7]
    for name in ("random", "one-task", "graddrop", "pcgrad"):
        weighted = change(recipe, weighting__name=name)
        assert resolve_options(weighted)["weighting.options"]["seed"] == 3
        told = change(weighted, weighting__options={"seed": 5})
        assert [assemble.build_weighting(each, tasks).seed for each in (weighted, told)] == [3, 5]
