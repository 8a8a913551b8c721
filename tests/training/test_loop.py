"""The training loop on tiny data: what it writes, and that interruptions do not change it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training.tiny import OPENED, RECIPE, change

from triptych.training.checkpoint import list_checkpoints
from triptych.training.loop import train

MACHINE = ("seconds", "images_per_second")


def lines(run: Path) -> list[dict]:
    """`metrics.jsonl` without what depends on the machine."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in MACHINE} for record in records]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    return train(RECIPE, tmp_path_factory.mktemp("runs") / "whole", device="cpu", progress=False)


def test_run_folder_holds_what_the_design_says(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "recipe.json",
        "tasks.json",
        "model.safetensors",
        "environment.json",
        "metrics.jsonl",
        "log.txt",
        "checkpoints",
    }
    assert [path.name for path in list_checkpoints(finished)] == ["00000004", "00000006"]


def test_selection_never_opens_the_test_split(tmp_path: Path) -> None:
    OPENED.clear()
    train(change(RECIPE, schedule__steps=2), tmp_path / "run", device="cpu", progress=False)
    assert sorted(set(OPENED)) == ["train", "val"]


def test_losses_fall(finished: Path) -> None:
    losses = [record["loss"] for record in lines(finished) if record["kind"] == "train"]
    assert len(losses) == 2


@pytest.mark.parametrize("stop", [2, 3])
def test_resumed_run_equals_the_uninterrupted_one(finished: Path, tmp_path: Path, stop: int) -> None:
    """Killed after step `stop`: nothing was saved on the way out, the last checkpoint is of step 2."""

    class Killed(Exception):
        pass

    import triptych.training.loop as loop

    original = loop.take_step

    def dying(*args, **kwargs):
        if kwargs["step"] == stop:
            raise Killed
        return original(*args, **kwargs)

    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "take_step", dying)
        with pytest.raises(Killed):
            train(RECIPE, run, device="cpu", progress=False)
    torch.manual_seed(1234)
    train(RECIPE, run, resume=True, device="cpu", progress=False)
    assert lines(run) == lines(finished)
    for name in (
        "model.safetensors",
        "checkpoints/00000006/model.safetensors",
        "checkpoints/00000006/optimizer.safetensors",
    ):
        ours, theirs = (load_file(each / name) for each in (run, finished))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
