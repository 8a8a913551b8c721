"""Cached features: the same training, with one pass of every image through the frozen trunk."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training.test_freezing import FROZEN, assert_same
from training.test_processes import finish, last, start
from training.tiny import Stairs, change

from triptych.training import feature_cache
from triptych.training.loop import train

PLAIN = change(FROZEN, data__transform="none", data__batch_size=1, model__decoder_options={"width": 8})
CACHED = change(PLAIN, training__cache_features=True)


def test_cached_training_computes_the_same(tmp_path: Path) -> None:
    """Batches of one, because an image passes the trunk alone where features are kept."""
    plain, cached = (
        train(recipe, tmp_path / name, device="cpu", progress=False)
        for name, recipe in (("plain", PLAIN), ("cached", CACHED))
    )
    assert_same(load_file(cached / "model.safetensors"), load_file(plain / "model.safetensors"))


def test_every_image_passes_the_trunk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = []
    forward = Stairs.forward
    monkeypatch.setattr(Stairs, "forward", lambda self, image: passed.append(len(image)) or forward(self, image))
    recipe = change(
        CACHED, data__batch_size=4, schedule__steps=9, data__val_split="", training__evaluate_every=0
    )  # three epochs of 12 images
    train(recipe, tmp_path / "run", device="cpu", progress=False)
    assert passed == [1] * 12


def test_a_resumed_run_computes_the_same(tmp_path: Path) -> None:
    recipe = change(CACHED, data__batch_size=4, schedule__name="constant", schedule__warmup_steps=0)
    whole = train(recipe, tmp_path / "whole", device="cpu", progress=False)
    train(change(recipe, schedule__steps=2), tmp_path / "run", device="cpu", progress=False)
    resumed = train(recipe, tmp_path / "run", resume=True, device="cpu", progress=False)
    assert_same(last(resumed, "model"), last(whole, "model"))


@pytest.mark.slow
def test_two_processes_and_compiled_code_keep_features(tmp_path: Path) -> None:
    finish(start(tmp_path / "two", change(CACHED, data__batch_size=2), processes=2))
    finish(start(tmp_path / "compiled", change(CACHED, training__compile=True)))
    plain = train(PLAIN, tmp_path / "plain", device="cpu", progress=False)
    ours, theirs = last(tmp_path / "compiled", "model"), last(plain, "model")
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"data__transform": "default"},
            "data.transform 'default' changes images at random; use data.transform 'none'",
        ),
        ({"data__transform": "mtan"}, "data.transform 'mtan' changes images at random"),
        ({"model__freeze": ()}, "needs a trunk that stays as it is, and this one trains"),
        ({"model__freeze": ("backbone.body.0",)}, "needs a trunk that stays as it is"),
        (
            {"model__decoder": "cross-stitch", "model__backbone": "resnet18", "model__freeze": ("backbone", "fusion")},
            "needs a trunk apart from its tasks",
        ),
        (
            {"model__cross_view": "cvm", "model__cross_view_options": {"width": 4, "layers": 1, "planes": 2}},
            "'cvm' \\(model.cross_view\\) sees the frames around them",
        ),
    ],
)
def test_features_that_cannot_be_kept(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        train(change(CACHED, **changes), tmp_path / "run", device="cpu", progress=False)
    assert not (tmp_path / "run").exists()


def test_features_that_do_not_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "available_memory", lambda: 1000.0)
    with pytest.raises(MemoryError, match=r"keeps .* GB for 12 images, .* are free; leave it out"):
        train(CACHED, tmp_path / "run", device="cpu", progress=False)
    features = feature_cache.FeatureCache(2)
    features.maps["a"] = [torch.zeros(100)]
    features._check_memory()  # 800 bytes
    monkeypatch.setattr(feature_cache, "processes_here", lambda: 2)
    with pytest.raises(MemoryError, match="in each of 2 processes"):
        features._check_memory()
