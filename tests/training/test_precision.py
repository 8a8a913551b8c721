"""Precision `auto`: chosen by the processor, said in the recipe and the log, and the same as asking for it by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from training.tiny import RECIPE, change

from triptych import machine
from triptych.prediction import Predictor
from triptych.recipes.config import read_recipe
from triptych.training.loop import train

SHORT = change(RECIPE, schedule__steps=2, training__precision="auto", data__val_split="")


@pytest.mark.parametrize(("native", "chosen"), [(True, "bf16"), (False, "no")])
def test_a_run_says_what_was_chosen(native: bool, chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_multiplies_bfloat16", lambda: native)
    run = train(SHORT, tmp_path / "auto", device="cpu", progress=False)
    assert read_recipe(run / "recipe.json").training.precision == chosen
    assert f"precision {chosen}" in (run / "log.txt").read_text()
    named = train(change(SHORT, training__precision=chosen), tmp_path / "named", device="cpu", progress=False)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    maps = [[Predictor.load(each, precision="auto")(image) for image in images] for each in (run, named)]
    for first, second in zip(*maps, strict=True):
        assert all(np.array_equal(first[name], value) for name, value in second.items())
    assert Predictor.load(run, precision="auto").autocast is {"bf16": torch.bfloat16, "no": torch.float32}[chosen]


def test_a_run_begun_with_auto_resumes_with_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_multiplies_bfloat16", lambda: True)
    run = train(SHORT, tmp_path / "run", device="cpu", progress=False)
    monkeypatch.setattr(machine, "_multiplies_bfloat16", lambda: False)
    train(SHORT, run, resume=True, device="cpu", progress=False)
    assert read_recipe(run / "recipe.json").training.precision == "bf16"
    with pytest.raises(ValueError, match=r"training\.precision was 'bf16', now 'no'"):
        train(change(SHORT, training__precision="no"), run, resume=True, device="cpu", progress=False)
