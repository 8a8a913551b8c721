"""A dry run says what the run will take, and leaves nothing behind."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from training.tiny import RECIPE, Rectangles, Stairs, change

from triptych.__main__ import main
from triptych.datasets import DATASETS
from triptych.machine import OutOfMemoryError
from triptych.recipes.config import AdaptationConfig, to_json
from triptych.training.loop import train
from triptych.training.rehearsal import rehearse
from triptych.training.step import take_step
from triptych.types import Sample

PARTLY = change(RECIPE, data__options={"unlabelled": ("depth",), "every": 3}, training__ema=0.9)


def test_it_counts_what_the_run_writes_and_what_the_training_set_holds(tmp_path: Path) -> None:
    found = rehearse(PARTLY, device="cpu")
    run = train(PARTLY, tmp_path / "run", device="cpu", progress=False)
    written = sum(path.stat().st_size for path in run.rglob("*.safetensors"))
    assert found.disk == pytest.approx(written, rel=0.3)  # beside headers and generators, which tiny weights are not
    assert found.images == {"training": 12, "validation": 5, "test": 5}
    assert found.labelled == {"semseg": 12, "depth": 8}
    assert found.parameters["network"][0] == found.parameters["network"][1]
    assert found.seconds_per_step > 0


def test_frozen_parameters_are_told_from_trained_ones() -> None:
    shortest = change(PARTLY, model__freeze=("backbone",), schedule__steps=1, schedule__warmup_steps=0)
    found = rehearse(shortest, device="cpu")  # of fewer steps than a rehearsal takes
    every, trained = found.parameters["network"]
    assert 0 < trained < every
    assert found.steps == 1


def test_steps_are_timed_on_features_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of all epochs but the first one are; memory is that of all images."""
    frozen = {"model__freeze": ("backbone",), "model__decoder": "fcn", "model__decoder_options": {"width": 8}}
    recipe = change(RECIPE, **frozen, data__transform="none", data__batch_size=2, training__cache_features=True)
    passed, steps = [], []
    forward = Stairs.forward
    monkeypatch.setattr(Stairs, "forward", lambda self, image: passed.append(len(image)) or forward(self, image))

    def step(*arguments: object, **options: object) -> object:
        done = take_step(*arguments, **options)
        steps.append(len(passed))
        return done

    monkeypatch.setattr("triptych.training.rehearsal.take_step", step)
    found = rehearse(recipe, device="cpu")
    assert steps == [2, 4, 6, 6, 6, 6]
    assert found.kept_features == 12 * 4 * (8 * 16 * 24 + 16 * 8 * 12)
    assert found.filling >= 0
    assert rehearse(change(recipe, training__cache_features=False), device="cpu").kept_features == 0


def test_discriminators_are_trained_and_their_memory_is_stored(tmp_path: Path) -> None:
    adaptation = AdaptationConfig(name="advent-mt", dataset="rectangles", split="other", options={"width": 24})
    adapted = change(RECIPE, adaptation=adaptation, schedule__steps=3, data__val_split="", data__transform="none")
    found = rehearse(adapted, device="cpu")
    every, trained = found.parameters["adapter"]
    run = train(adapted, tmp_path / "run", device="cpu", progress=False)
    told = json.loads((run / "environment.json").read_text())["starts"][0]["parameters"]["adapter"]
    assert every == trained == told > 0
    written = sum(path.stat().st_size for path in run.rglob("*.safetensors"))
    assert found.disk == pytest.approx(written, rel=0.2)


def test_what_training_would_raise_is_raised_and_nothing_else() -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        rehearse(change(RECIPE, model__initialize_from=("nowhere",)), device="cpu")
    damaged = change(RECIPE, data__options={"bad": (3,)}, data__on_bad_sample="skip")
    assert rehearse(damaged, device="cpu").labelled["depth"] == 11


def test_an_image_of_the_validation_split_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory counts, and what fails there ends a training at its first evaluation."""
    original = Rectangles.__getitem__

    def read(self: Rectangles, index: int) -> Sample:
        if self.split == "val":
            raise MemoryError("Unable to allocate 7.2 GB")
        return original(self, index)

    rehearse(change(RECIPE, data__val_split=""), device="cpu")
    monkeypatch.setattr(Rectangles, "__getitem__", read)
    with pytest.raises(OutOfMemoryError, match=r"7\.2 GB\); images of the validation split are scored whole"):
        rehearse(RECIPE, device="cpu")


class OwnLoss(Rectangles):
    """Depth is trained by a loss that no constructor gives back."""

    def __init__(self, root: str = "", **options: object) -> None:
        super().__init__(root, **options)
        self.tasks["depth"] = replace(self.tasks["depth"], loss=lambda raw, target: (raw - 1).square().mean())


def test_a_task_that_cannot_be_stored_is_refused_before_there_is_a_folder(tmp_path: Path, monkeypatch) -> None:
    begun = train(change(RECIPE, schedule__steps=1), tmp_path / "begun", device="cpu", progress=False)
    stored = (begun / "tasks.json").read_bytes()
    monkeypatch.setitem(DATASETS, "rectangles", OwnLoss)
    for refused in (partial(rehearse, RECIPE), partial(train, RECIPE, tmp_path / "run", progress=False)):
        with pytest.raises(ValueError, match=r"task 'depth' cannot be rebuilt from .* its loss is "):
            refused(device="cpu")
    assert not (tmp_path / "run").exists()
    # A run of before goes on, with what it stored.
    train(change(RECIPE, schedule__steps=1), begun, resume=True, device="cpu", progress=False)
    assert (begun / "tasks.json").read_bytes() == stored
    assert "tasks.json stays as it is: task 'depth' cannot be rebuilt" in (begun / "log.txt").read_text()


def test_the_command_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (tmp_path / "recipe.json").write_text(to_json(PARTLY))
    monkeypatch.chdir(tmp_path)
    main(["train", "recipe.json", "--dry-run", "--device", "cpu"])
    assert "in 8 of the 12 training images looked at" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]


def test_a_folder_is_needed_otherwise(tmp_path: Path, capsys) -> None:
    (tmp_path / "recipe.json").write_text(to_json(PARTLY))
    assert main(["train", str(tmp_path / "recipe.json")]) == 2
    assert "--out is missing; name the run folder to create" in capsys.readouterr().err
