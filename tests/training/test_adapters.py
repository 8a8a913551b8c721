"""Runs with low-rank updates: what they store, and how they are resumed, merged, shared and exported."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from training.test_freezing import assert_same
from training.test_processes import finish, last, start
from training.tiny import RECIPE, change

import triptych
from triptych.backbones import create_backbone
from triptych.models.lora import update_names
from triptych.prediction.pretrained import load_model
from triptych.recipes.config import Recipe
from triptych.training.checkpoint import list_checkpoints
from triptych.training.loop import train

SWIN = {"depths": (2, 2), "embed_dim": 8, "num_heads": (1, 1), "window_size": 4}
LORA = change(
    RECIPE,
    model__backbone="swin_tiny",
    model__backbone_options=SWIN,
    model__decoder="fcn",
    model__decoder_options={"width": 8},
    model__tuning="lora",
    model__tuning_options={"rank": 2},
    training__ema=0.9,
    optimizer__lr=1e-2,
)
MTLORA = change(LORA, model__tuning="mtlora", model__tuning_options={"rank": 4, "task_rank": 2})
TUNED = {"lora": LORA, "mtlora": MTLORA}


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a trunk in a file."""
    torch.manual_seed(7)
    body = create_backbone("swin_tiny", **SWIN).body
    path = tmp_path_factory.mktemp("trunk") / "swin.safetensors"
    save_file({name: value.clone() for name, value in body.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def runs(trunk: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each tuning."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: train(change(recipe, model__weights=str(trunk)), folder / name, device="cpu", progress=False)
        for name, recipe in TUNED.items()
    }


@pytest.fixture(params=TUNED)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_trunk_stays_and_no_checkpoint_holds_it(name: str, runs: dict[str, Path], trunk: Path) -> None:
    stored, deployed = last(runs[name], "model"), load_file(runs[name] / "model.safetensors")
    model, _ = load_model(runs[name])
    assert update_names(model) <= set(stored)
    for key, value in load_file(trunk).items():
        assert torch.equal(deployed[f"backbone.body.{key}"], value), key
        assert f"backbone.body.{key}" not in stored
    frozen = load_file(runs[name] / "frozen.safetensors")
    assert set(frozen) | set(stored) == set(deployed)
    state = json.loads((list_checkpoints(runs[name])[-1] / "state.json").read_text())
    assert state["frozen"]["backbone"] == "swin_tiny"
    assert len(state["frozen"]["sha256"]) == 64


def test_a_resumed_run_computes_the_same_without_the_weights_it_began_with(
    name: str, trunk: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "swin.safetensors"
    weights.write_bytes(trunk.read_bytes())
    recipe = change(TUNED[name], schedule__name="constant", schedule__warmup_steps=0, model__weights=str(weights))
    whole = train(recipe, tmp_path / "whole", device="cpu", progress=False)
    train(change(recipe, schedule__steps=2), tmp_path / "run", device="cpu", progress=False)
    weights.unlink()
    resumed = train(recipe, tmp_path / "run", resume=True, device="cpu", progress=False)
    for part in ("model", "average", "optimizer"):
        assert_same(last(resumed, part), last(whole, part))


def test_a_run_does_not_resume_on_another_trunk(tmp_path: Path) -> None:
    recipe = change(LORA, schedule__name="constant", schedule__warmup_steps=0)
    run = train(change(recipe, schedule__steps=2), tmp_path / "run", device="cpu", progress=False)
    path = run / "frozen.safetensors"
    save_file({name: value + 1 for name, value in load_file(path).items()}, path)
    with pytest.raises(ValueError, match=r"is not the frozen part that the checkpoint stands on \(swin_tiny, SHA-256"):
        train(recipe, run, resume=True, device="cpu", progress=False)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"frozen\.safetensors does not exist"):
        train(recipe, run, resume=True, device="cpu", progress=False)


def test_merged_networks_predict_the_same_and_are_saved(name: str, runs: dict[str, Path], tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (37, 50, 3), np.uint8)
    plain = triptych.Predictor.load(runs[name])
    merged = triptych.Predictor.load(runs[name], merge=True)
    assert not update_names(merged.model)
    again = triptych.Predictor.load(merged.save_pretrained(tmp_path / "merged"))
    for task, value in plain(image).items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(merged(image)[task], value, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(again(image)[task], merged(image)[task])
    twice = triptych.Predictor.load(tmp_path / "merged", merge=True)  # as exporting it does
    assert_same(twice.model.state_dict(), merged.model.state_dict())


def test_adapters_alone_are_small_and_need_their_trunk(
    name: str, runs: dict[str, Path], trunk: Path, tmp_path: Path
) -> None:
    whole = triptych.Predictor.load(runs[name])
    alone = whole.save_pretrained(tmp_path / "alone", adapters_only=True)
    assert not (alone / "model.safetensors").exists()
    stored = load_file(alone / "adapters.safetensors")
    assert not [key for key in load_file(trunk) if f"backbone.body.{key}" in stored]
    assert_same(triptych.Predictor.load(alone).model.state_dict(), whole.model.state_dict())
    assert_same(triptych.Predictor.load(alone, trunk=str(runs[name])).model.state_dict(), whole.model.state_dict())
    other = tmp_path / "other.safetensors"
    save_file({key: value + 1e-6 for key, value in load_file(trunk).items()}, other)
    with pytest.raises(
        ValueError, match=r"stand on another trunk: swin_tiny with SHA-256 .*; give trunk= to Predictor"
    ):
        triptych.Predictor.load(alone, trunk=str(other))


def test_adapters_of_a_random_trunk_name_no_source(tmp_path: Path) -> None:
    run = train(change(LORA, schedule__steps=1), tmp_path / "run", device="cpu", progress=False)
    alone = triptych.Predictor.load(run).save_pretrained(tmp_path / "alone", adapters_only=True)
    with pytest.raises(ValueError, match=r"their trunk \(swin_tiny, SHA-256 .*\) is not known by a name or a file"):
        triptych.Predictor.load(alone)
    assert triptych.Predictor.load(alone, trunk=str(run)).tasks


def test_a_trained_trunk_is_not_left_out(tmp_path: Path) -> None:
    run = train(change(RECIPE, schedule__steps=1), tmp_path / "run", device="cpu", progress=False)
    with pytest.raises(ValueError, match="the whole trunk of this network was trained; save it whole"):
        triptych.Predictor.load(run).save_pretrained(tmp_path / "alone", adapters_only=True)


def test_updates_begin_on_the_trunk_of_another_run(tmp_path: Path) -> None:
    full = change(LORA, model__tuning="full", model__tuning_options={}, schedule__steps=2)
    old = train(full, tmp_path / "old", device="cpu", progress=False)
    recipe = change(LORA, model__initialize_from=(str(old),), schedule__steps=1)
    new = train(recipe, tmp_path / "new", device="cpu", progress=False)
    before, after = load_file(old / "model.safetensors"), load_file(new / "frozen.safetensors")
    assert after
    assert_same(after, {name: before[name] for name in after})


def test_a_network_with_updates_gets_one_more_task_when_they_are_merged(runs: dict[str, Path], tmp_path: Path) -> None:
    recipe = change(LORA, model__tuning="full", model__tuning_options={}, schedule__steps=1)
    unmerged = change(recipe, model__initialize_from=(str(runs["lora"]),))
    with pytest.raises(ValueError, match=r"has low-rank updates .* start from the merged network: Predictor\.load"):
        train(unmerged, tmp_path / "new", device="cpu", progress=False)
    merged = triptych.Predictor.load(runs["lora"], merge=True)
    recipe = change(
        recipe,
        data__tasks=("semseg", "depth", "normals"),
        model__initialize_from=(str(merged.save_pretrained(tmp_path / "merged")),),
        model__freeze=("backbone", "heads.semseg", "heads.depth"),
    )
    new = triptych.Predictor.load(train(recipe, tmp_path / "new", device="cpu", progress=False))
    image = torch.rand(1, 3, 32, 48)
    for name, value in merged.predict(image).items():
        assert torch.equal(new.predict(image)[name], value), name


def test_merged_streams_of_tasks_stay_with_one_more_task(runs: dict[str, Path], tmp_path: Path) -> None:
    merged = triptych.Predictor.load(runs["mtlora"], merge=True)
    recipe = change(
        MTLORA,
        schedule__steps=1,
        data__tasks=("semseg", "depth", "normals"),
        model__initialize_from=(str(merged.save_pretrained(tmp_path / "merged")),),
        model__freeze=("backbone", "heads.semseg", "heads.depth"),
    )
    full = change(recipe, model__tuning="full", model__tuning_options={})
    with pytest.raises(ValueError, match=r"the head of semseg, the head of depth of .*tuning is mtlora and not full"):
        train(full, tmp_path / "new", device="cpu", progress=False)
    recipe = change(recipe, model__tuning_options={"merged": True})
    new = triptych.Predictor.load(train(recipe, tmp_path / "new", device="cpu", progress=False))
    image = torch.rand(1, 3, 32, 48)
    for name, value in merged.predict(image).items():
        assert torch.equal(new.predict(image)[name], value), name


def test_adapters_whose_trunk_is_not_here_say_what_to_give(runs: dict[str, Path], tmp_path: Path) -> None:
    away = tmp_path / "away.safetensors"
    alone = triptych.Predictor.load(runs["lora"]).save_pretrained(tmp_path / "alone", adapters_only=True)
    with pytest.raises(FileNotFoundError, match=r"adapters alone, .*away\.safetensors does not exist; give trunk= to"):
        triptych.Predictor.load(alone, trunk=str(away))


def test_updates_of_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="freezes the updates that tuning 'lora' trains"):
        train(change(LORA, model__freeze=("backbone",)), tmp_path / "run", device="cpu", progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{}, {"ACCELERATE_USE_FSDP": "true"}], ids=["DDP", "FSDP"])
def test_updates_train_in_two_processes(name: str, variables: dict[str, str], tmp_path: Path) -> None:
    check_updates(TUNED[name], tmp_path / "run", processes=2, **variables)


@pytest.mark.slow
def test_updates_train_when_compiled(tmp_path: Path) -> None:
    """Of one block: compiling a whole trunk takes minutes."""
    recipe = change(LORA, model__backbone="vit_tiny_patch16_384", model__backbone_options={"taps": (1,)})
    check_updates(change(recipe, training__compile=True), tmp_path / "run")


def check_updates(recipe: Recipe, run: Path, processes: int = 1, **variables: str) -> None:
    """Updates moved, and nothing that is frozen."""
    finish(start(run, recipe, processes=processes, **variables))
    stored, frozen = load_file(run / "model.safetensors"), load_file(run / "frozen.safetensors")
    assert frozen
    assert_same({key: stored[key] for key in frozen}, frozen)
    assert any(key.endswith("lora.b") and value.abs().max() > 0 for key, value in stored.items())


@pytest.mark.slow
def test_exports_hold_merged_weights(name: str, runs: dict[str, Path], tmp_path: Path) -> None:
    from triptych.export.run import export_run

    done = export_run(runs[name], tmp_path / "net.pt2", images=2)
    program = torch.export.load(done.path)
    assert not [key for key in program.state_dict if ".lora." in key or key.endswith((".a", ".b"))]
    image = np.random.default_rng(0).random((3, 32, 48), np.float32)
    ours = triptych.Predictor.load(runs[name]).predict(torch.from_numpy(image)[None])["depth"]
    theirs = program.module()(torch.from_numpy(image)[None])
    found = theirs["depth"] if isinstance(theirs, dict) else next(x for x in theirs if x.shape == ours.shape)
    torch.testing.assert_close(found, ours, rtol=1e-3, atol=1e-4)
