"""Runs of training on tiny data: started, ended from outside, read back and compared."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from training.tiny import change

from triptych.recipes.config import Recipe
from triptych.training import loop
from triptych.training.checkpoint import list_checkpoints
from triptych.training.loop import train

MACHINE = ("seconds", "images_per_second")


def run_recipe(recipe: Recipe, out: Path, **options: bool) -> Path:
    return train(recipe, out, device="cpu", progress=False, **options)


def lines(run: Path, kind: str = "") -> list[dict]:
    """`metrics.jsonl` without what depends on the machine."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    records = [record for record in records if kind in ("", record["kind"])]
    return [{key: value for key, value in record.items() if key not in MACHINE} for record in records]


def assert_same_files(ours: Path, theirs: Path) -> None:
    assert lines(ours) == lines(theirs)
    names = sorted(path.relative_to(theirs) for path in theirs.rglob("*.safetensors"))
    assert len(names) > 4
    for name in names:
        first, second = load_file(ours / name), load_file(theirs / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first), name


def before_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], None]) -> None:
    """Call `action` before step `step` of the next run."""
    original = loop.take_step

    def acting(*args, **kwargs):
        if kwargs["step"] == step:
            action()
        return original(*args, **kwargs)

    monkeypatch.setattr(loop, "take_step", acting)


class Killed(Exception):
    """The process ended here: nothing is saved on the way out."""


def kill() -> None:
    raise Killed


def resumed(recipe: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch, *, step: int = 5) -> tuple[Path, Path]:
    """A run that was killed before `step` and resumed, and the uninterrupted one that it equals: lines and all weights,
    bit for bit. Workers change nothing.
    """
    whole, broken = run_recipe(change(recipe, data__num_workers=0), folder / "whole"), folder / "broken"
    with monkeypatch.context() as patch:
        before_step(patch, step, kill)
        with pytest.raises(Killed):
            run_recipe(recipe, broken)
    torch.manual_seed(1234)
    run_recipe(recipe, broken, resume=True)
    assert_same_files(broken, whole)
    return broken, whole


def weights_after(recipe: Recipe, run: Path) -> dict[str, Tensor]:
    run_recipe(recipe, run)
    return load_file(list_checkpoints(run)[-1] / "model.safetensors")
