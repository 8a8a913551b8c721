"""The training loop on tiny data: what it writes, what ends it, and that interruptions do not change it."""

import errno
import json
import math
import os
import re
import shutil
import signal
from functools import partial
from importlib import metadata
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from training.tiny import OPENED, RECIPE, Heads, Rectangles, change
from training_runs import Killed, assert_same_files, before_step, kill, lines, resumed, run_recipe, weights_after

from triptych import assemble, machine
from triptych.adaptation import ADAPTERS
from triptych.adaptation.base import Adapter
from triptych.backbones import create_backbone
from triptych.backbones.vit import resize_positions
from triptych.data.loading import BadSampleError
from triptych.datasets import DATASETS
from triptych.machine import Interrupted, Interruption, OutOfMemoryError, accelerated, choose_device, one_thread_each
from triptych.models.multitask import MultiTaskModel
from triptych.prediction import Predictor
from triptych.recipes.config import AdaptationConfig, ModelConfig, Recipe, read_recipe, to_json
from triptych.recipes.resolved import read_starts
from triptych.regularizers import REGULARIZERS
from triptych.regularizers.base import Regularizer
from triptych.tasks import depth, semseg
from triptych.tasks.stored import tasks_to_json
from triptych.training import loop, opening, run_folder
from triptych.training.building import build_parts
from triptych.training.checkpoint import TrainingState, list_checkpoints
from triptych.training.first_weights import describe_initialization, initialize
from triptych.training.objective import Objective
from triptych.training.parts import Parts
from triptych.training.run_folder import check_same_data
from triptych.training.sharding import synchronize_norms
from triptych.training.step import _shares, take_step
from triptych.training.validation import deployed_model
from triptych.types import Output, Sample


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    return run_recipe(RECIPE, tmp_path_factory.mktemp("runs") / "whole")


# What a run writes


def test_run_folder_holds_what_the_design_says(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        "recipe.json",
        "resolved.json",
        "tasks.json",
        "model.safetensors",
        "environment.json",
        "metrics.jsonl",
        "log.txt",
        "checkpoints",
    }
    assert [path.name for path in list_checkpoints(finished)] == ["00000004", "00000006"]
    start = json.loads((finished / "environment.json").read_text())["starts"][0]
    assert start["packages"]["torch"] == metadata.version("torch")
    assert start["data"]["train"] == {"name": "rectangles", "split": "train", "images": 12}
    assert start["images_per_step"] == 4
    assert "training" in (finished / "log.txt").read_text()


def test_metrics_lines_say_what_was_measured(finished: Path) -> None:
    train_lines, evaluations = lines(finished, "train"), lines(finished, "evaluation")
    assert [record["step"] for record in train_lines] == [4, 6]
    assert [record["step"] for record in evaluations] == [3, 6]
    # 4 of 12 images a step; a cosine over 6 steps after 2 of warm-up, at steps 4 and 6, which are 3 and 5 from 0.
    assert [record["epoch"] for record in train_lines] == pytest.approx([4 / 3, 2])
    rates = [1e-3 * (1 + math.cos(math.pi * share)) / 2 for share in (1 / 4, 3 / 4)]
    assert [record["learning_rate"] for record in train_lines] == pytest.approx(rates)
    first = train_lines[0]
    assert first["labelled"] == {"semseg": 16, "depth": 16}
    assert first["loss"] == pytest.approx(sum(first["weighted"].values()), rel=1e-5)
    assert first["weighted"] == pytest.approx(first["losses"], rel=1e-5)  # both weights are 1
    assert first["parts"] == pytest.approx({f"{name}/final": value for name, value in first["losses"].items()})
    assert evaluations[-1]["split"] == "val"
    assert evaluations[-1]["images"] == 5
    assert "semseg/mIoU" in evaluations[-1]["metrics"]
    assert all(math.isfinite(evaluations[-1]["losses"][name]) for name in ("semseg", "depth"))


def test_weighted_losses_are_weights_times_losses(tmp_path: Path) -> None:
    recipe = change(RECIPE, schedule__steps=1, weighting__weights={"semseg": 3.0, "depth": 0.5}, training__accumulate=2)
    record = lines(run_recipe(recipe, tmp_path / "run"), "train")[0]
    raw = record["losses"]
    assert record["weighted"] == pytest.approx({"semseg": 3 * raw["semseg"], "depth": 0.5 * raw["depth"]}, rel=1e-5)
    assert record["loss"] == pytest.approx(3 * raw["semseg"] + 0.5 * raw["depth"], rel=1e-5)


def test_the_deployed_weights_are_loaded_by_predictor(finished: Path) -> None:
    predictor = Predictor.load(finished)
    stored = load_file(finished / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in predictor.model.state_dict().items())


def test_the_best_weights_are_deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of four evaluations scores best: its weights are in model.safetensors, and its checkpoint is kept."""
    scores = iter([0.1, 0.9, 0.5, float("-inf")])
    monkeypatch.setattr("triptych.evaluation.scores.Evaluation.score", lambda self: next(scores))
    recipe = change(RECIPE, schedule__steps=8, training__evaluate_every=2, training__keep_checkpoints=1)
    run = run_recipe(recipe, tmp_path / "run")
    assert [record["best"] for record in lines(run, "evaluation")] == [True, True, False, False]
    assert [path.name for path in list_checkpoints(run)] == ["00000004", "00000008"]
    deployed, best = load_file(run / "model.safetensors"), load_file(run / "checkpoints/00000004/model.safetensors")
    assert all(torch.equal(deployed[name], best[name]) for name in best)


def test_selection_never_opens_the_test_split(tmp_path: Path) -> None:
    OPENED.clear()
    run_recipe(change(RECIPE, schedule__steps=2), tmp_path / "run")
    assert sorted(set(OPENED)) == ["train", "val"]
    with pytest.raises(ValueError, match="chosen on the test set"):
        run_recipe(change(RECIPE, data__val_split="test"), tmp_path / "other")


def test_selection_on_training_images_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = change(RECIPE, schedule__steps=1, data__val_split="train")
    run = run_recipe(trained, tmp_path / "begun")  # where nothing tells images apart
    monkeypatch.setattr(Rectangles, "identity", Rectangles.key)
    with pytest.raises(ValueError, match=r"12 of 12 images .* are in data\.train_split 'train' and in data\.val_split"):
        run_recipe(trained, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    run_recipe(trained, run, resume=True)


def test_without_a_validation_split_the_last_weights_are_deployed(tmp_path: Path) -> None:
    run = run_recipe(change(RECIPE, schedule__steps=3, data__val_split=""), tmp_path / "run")
    deployed, last = load_file(run / "model.safetensors"), load_file(run / "checkpoints/00000003/model.safetensors")
    assert all(torch.equal(deployed[name], last[name]) for name in last)
    assert not lines(run, "evaluation")


def test_it_learns(tmp_path: Path) -> None:
    changes = {"evaluate_every": 30, "checkpoint_every": 0, "log_every": 5}
    recipe = change(RECIPE, schedule__steps=30, optimizer__lr=0.04, **{f"training__{k}": v for k, v in changes.items()})
    run = run_recipe(recipe, tmp_path / "run")
    losses = [record["loss"] for record in lines(run, "train")]
    assert losses[-1] < 0.5 * losses[0]
    assert lines(run, "evaluation")[-1]["metrics"]["semseg/mIoU"] > 0.5


# Resuming


class Jitter(Regularizer):
    """A regularizer with a parameter, a buffer and random numbers of its own."""

    def __init__(self, channels, *, strides, tasks, weight) -> None:
        super().__init__()
        self.weight = weight
        self.scale = nn.Parameter(torch.ones(channels[0]))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.generator = torch.Generator().manual_seed(3)

    def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        self.seen += len(sample.image)
        noise = torch.rand((), generator=self.generator) + self.step
        mean = output.features[0].mean(dim=(0, 2, 3)) * self.scale
        return {"depth": self.weight * noise * mean.square().sum()}


VARIANTS = {
    "average": {"training__ema": 0.9, "optimizer__name": "sgd", "data__num_workers": 2, "training__log_every": 1},
    "weighting": {"weighting__name": "uncertainty", "training__accumulate": 2, "training__channels_last": True},
    "turns": {
        "weighting__name": "one-task",
        "weighting__options": {"order": "shuffled"},
        "training__accumulate": 2,
    },
    "epochs": {"weighting__name": "dwa", "data__batch_size": 5, "schedule__steps": 8},
    "random": {"weighting__name": "random", "training__checkpoint_gradients": True, "training__precision": "bf16"},
    "regularizer": {
        "regularizer__name": "jitter",
        "weighting__name": "pcgrad",
        "model__decoder_options": {"dropout": 0.2, "intermediate": True},
        "data__auxiliary_tasks": ("normals",),
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_resumed_run_equals_the_uninterrupted_one(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before step 5, one step after the checkpoint, with an evaluation and half a log window behind it; or,
    where every step is logged, with a line that the checkpoint does not know.
    """
    monkeypatch.setitem(REGULARIZERS, "jitter", Jitter)
    resumed(change(RECIPE, **VARIANTS[variant]), tmp_path, monkeypatch)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves_and_the_resumed_run_is_the_same(
    number: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with monkeypatch.context() as patch:
        before_step(patch, 4, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Interrupted) as stop:
            run_recipe(RECIPE, run)
    assert stop.value.code == 128 + number
    assert stop.value.checkpoint == run / "checkpoints" / "00000005"
    assert "go on with --resume" in (run / "log.txt").read_text()
    assert handlers == [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    run_recipe(RECIPE, run, resume=True)
    assert lines(run) == lines(finished)


def test_a_signal_that_follows_at_once_is_the_same_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch systems signal every process, and launchers pass theirs on; a later one finds the handler of before."""
    came: list[int] = []
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        with Interruption() as interruption:
            for _ in range(2):
                signal.raise_signal(signal.SIGTERM)
            assert interruption.asked()
            monkeypatch.setattr(machine, "SAME_SIGNAL", -1.0)
            with monkeypatch.context() as patch:
                patch.setenv("TORCHELASTIC_RUN_ID", "1")  # torchrun kills what does not end
                signal.raise_signal(signal.SIGTERM)
            assert not came
            signal.raise_signal(signal.SIGTERM)
            assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_during_an_evaluation_does_not_wait_for_its_end(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = tmp_path / "run", []
    original = Rectangles.__getitem__

    def read(self: Rectangles, index: int) -> Sample:
        if self.split == "val":
            seen.append(index)
            if len(seen) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
        return original(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Rectangles, "__getitem__", read)
        with pytest.raises(Interrupted):
            run_recipe(RECIPE, run)
    assert len(seen) == 2
    assert list_checkpoints(run)[-1].name == "00000003"
    run_recipe(RECIPE, run, resume=True)
    assert lines(run) == lines(finished)


def test_a_signal_during_the_last_evaluation_leaves_it_to_the_next_start(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    original = loop.validate

    def stopped(*args):
        return original(*args) if args[2].step < 6 else False

    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", stopped)
        with pytest.raises(Interrupted):
            run_recipe(RECIPE, run)
    (run / "calibration.json").write_text("{}")  # of weights that the evaluation may replace
    run_recipe(RECIPE, run, resume=True)
    assert lines(run) == lines(finished)
    assert not (run / "calibration.json").exists()
    monkeypatch.setattr(loop, "validate", Mock(side_effect=AssertionError("the checkpoint knows its evaluation")))
    run_recipe(RECIPE, run, resume=True)
    assert lines(run) == lines(finished)
    assert_same_files(run, finished)


@pytest.mark.parametrize("failure", [BadSampleError("a damaged image", {}), MemoryError(), Killed()])
def test_an_evaluation_that_fails_costs_no_step(
    failure: BaseException, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    original = loop.validate

    def failing(*args):
        if args[2].step == 6:
            raise failure
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", failing)
        with pytest.raises((type(failure), OutOfMemoryError)):
            run_recipe(RECIPE, run)
    assert [path.name for path in list_checkpoints(run)] == ["00000002", "00000004", "00000006"]
    run_recipe(RECIPE, run, resume=True)
    assert lines(run) == lines(finished)
    assert_same_files(run, finished)


def test_a_run_killed_before_its_first_checkpoint_starts_over(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        before_step(patch, 1, kill)
        with pytest.raises(Killed):
            run_recipe(RECIPE, run)
    run_recipe(RECIPE, run, resume=True)
    assert lines(run) == lines(finished)


def test_intervals_of_checkpoints_and_log_may_change_on_resuming(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        before_step(patch, 3, kill)
        with pytest.raises(Killed):
            run_recipe(RECIPE, run)
    run_recipe(change(RECIPE, training__checkpoint_every=1, training__log_every=1), run, resume=True)
    assert [record["step"] for record in lines(run, "train")] == [3, 4, 5, 6]
    assert lines(run, "evaluation") == lines(finished, "evaluation")
    for name in ("model", "optimizer", "generators"):
        ours, theirs = (load_file(list_checkpoints(each)[-1] / f"{name}.safetensors") for each in (run, finished))
        assert all(torch.equal(ours[key], value) for key, value in theirs.items())


def test_a_finished_run_resumes_to_nothing(finished: Path) -> None:
    before = lines(finished)
    run_recipe(RECIPE, finished, resume=True)
    assert lines(finished) == before


def test_resuming_with_another_recipe_names_every_field(finished: Path) -> None:
    other = change(RECIPE, optimizer__lr=0.5, data__tasks=("depth",), data__num_workers=3)
    with pytest.raises(
        ValueError, match=r"data.tasks was .*, now \('depth',\); optimizer.lr was 0.001, now 0.5"
    ) as stop:
        run_recipe(other, finished, resume=True)
    assert "num_workers" not in str(stop.value)


def test_resuming_on_other_data_names_what_changed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    monkeypatch.setattr(
        Rectangles, "fingerprint", lambda self: {"name": "rectangles", "split": self.split, "images": 9}
    )
    with pytest.raises(ValueError, match=r"on other data: train\.images was 12, now 9; validation"):
        run_recipe(RECIPE, run, resume=True)


def test_a_run_that_noted_less_of_its_data_is_no_other(tmp_path: Path) -> None:
    """Facts that older versions did not know say no change, of a mixture's sources neither; known ones do."""
    old = {"train": {"sources": {"a": {"images": 3}}}, "validation": {"images": 2, "camera": {"fov": 60.0}}}
    (tmp_path / "environment.json").write_text(json.dumps({"starts": [{"data": old}]}))
    now = {"train": {"sources": {"a": {"images": 3, "camera": None}}}, "validation": {**old["validation"]}}
    check_same_data(tmp_path, {**now, "validation": {**old["validation"], "image_files": "{key}.png"}})
    with pytest.raises(ValueError, match=r"validation.camera was {'fov': 60.0}, now {'fov': 100.0}"):
        check_same_data(tmp_path, {**now, "validation": {"images": 2, "camera": {"fov": 100.0}}})
    with pytest.raises(ValueError, match=r"train.sources was .*'images': 3.*, now .*'images': 4"):
        check_same_data(tmp_path, {**now, "train": {"sources": {"a": {"images": 4}}}})


def test_a_run_that_began_anew_is_compared_with_the_data_that_it_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data were mended after a start that saved nothing."""
    recipe, run = change(RECIPE, schedule__steps=2), tmp_path / "run"
    before = {"name": "rectangles", "images": 9}
    with monkeypatch.context() as patch:
        patch.setattr(Rectangles, "fingerprint", lambda self: before)
        before_step(patch, 1, kill)
        with pytest.raises(Killed):
            run_recipe(recipe, run)
    for _ in range(3):
        run_recipe(recipe, run, resume=True)
        assert read_starts(run / "environment.json")[0]["data"]["train"]["images"] == 12
    monkeypatch.setattr(Rectangles, "fingerprint", lambda self: before)
    with pytest.raises(ValueError, match=r"on other data: .*train\.images was 12, now 9"):
        run_recipe(recipe, run, resume=True)


def test_a_checkpoint_of_another_model_names_what_differs(tmp_path: Path) -> None:
    recipe = change(RECIPE, schedule__steps=2, data__tasks=("semseg",))
    run = run_recipe(recipe, tmp_path / "run")
    other = change(recipe, data__tasks=("semseg", "depth"), schedule__steps=4)
    (run / "recipe.json").write_text(to_json(other))
    with pytest.raises(ValueError, match=r"missing from the file, such as decoder\.heads\.depth\.weight"):
        run_recipe(other, run, resume=True)


@pytest.mark.parametrize("other", ["checkpoint", "content", "data"])
def test_processes_that_see_other_files_are_refused(
    other: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two machines with a copy of the run each, of which one is older, or with other data."""
    run = shutil.copytree(finished, tmp_path / "run")

    def gather(own: tuple[str, str, dict]) -> list[tuple[str, str, dict]]:
        _, checkpoint, data = own
        theirs = {"checkpoint": "00000004 (012345678901)", "content": f"{checkpoint[:9]}(012345678901)"}
        images = {**data, "train": {**data["train"], "images": 11 if other == "data" else 12}}
        return [own, ("node2", theirs.get(other, checkpoint), images)]

    monkeypatch.setattr(opening, "gather_objects", gather)
    says = {
        "checkpoint": r"the last checkpoint of .*run is 00000006 \(.*\) on .* and 00000004 \(.*\) on node2; put it",
        "content": r"the last checkpoint of .*run is 00000006 \(.*\) on .* and 00000006 \(012345678901\) on node2",
        "data": r" and node2 have different data \(train\.images\); copy the same files to both\.",
    }
    with pytest.raises(ValueError, match=says[other]):
        run_recipe(RECIPE, run, resume=True)


# Run folders


def test_an_existing_run_is_never_overwritten_unless_told_to(finished: Path, tmp_path: Path) -> None:
    before = (finished / "metrics.jsonl").read_text()
    with pytest.raises(FileExistsError, match="--resume, replace it with --overwrite"):
        run_recipe(RECIPE, finished)
    assert (finished / "metrics.jsonl").read_text() == before
    run = run_recipe(change(RECIPE, schedule__steps=3), tmp_path / "run")
    for name in ("notes.txt", "evaluation-val.json", "confidence-val.json"):
        (run / name).write_text("mine")
    run_recipe(change(RECIPE, schedule__steps=2), run, overwrite=True)
    assert not list(run.glob("*-val.json"))  # of the network before
    assert [path.name for path in list_checkpoints(run)] == ["00000002"]
    assert (run / "notes.txt").read_text() == "mine"
    assert [record["step"] for record in lines(run, "train")] == [2]


def test_a_run_takes_over_what_it_left_and_nothing_of_its_neighbors(tmp_path: Path) -> None:
    long = "r" * 220
    for name in ("lr0", "lr0.1", long):
        (tmp_path / name).mkdir()
        left = run_folder.partial_path(tmp_path / name)
        left = left.with_name(left.name.replace(f"-{os.getpid()}", "-4194305"))  # of a process that is dead
        left.mkdir()
        (left / "notes.txt").write_text(name)
    for name in ("lr0", long):
        run_folder.finish_exchange(tmp_path / name)
        assert (tmp_path / name / "notes.txt").read_text() == name
    assert [path.name.split(".")[1] for path in tmp_path.glob(".*")] == ["lr0"]
    assert not list((tmp_path / "lr0.1").iterdir())


def test_a_folder_of_something_else_is_refused_even_with_overwrite(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="no run folder"):
        run_recipe(RECIPE, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_raises_for_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file"):
        run_recipe(RECIPE, tmp_path / "file")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # a superuser may write anywhere
    with pytest.raises(PermissionError, match=f"cannot write to {tmp_path}: the folder is read-only"):
        run_recipe(RECIPE, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_gives_one_line_and_leaves_older_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    original = loop.save

    def filling(*args):
        if args[2].step == 4:
            monkeypatch.setattr("triptych.files.save_file", no_space)
        return original(*args)

    def no_space(tensors, path, metadata=None):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save", filling)
        with pytest.raises(
            OSError, match=r"checkpoint of step 4 .*No space left on device; 00000002 and older"
        ) as stop:
            run_recipe(RECIPE, run)
    assert "\n" not in str(stop.value)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["00000002"]
    monkeypatch.undo()
    run_recipe(RECIPE, run, resume=True)
    assert lines(run)[-1]["step"] == 6


# Data


def test_a_loss_that_is_not_finite_names_task_step_and_samples(tmp_path: Path) -> None:
    recipe = change(RECIPE, data__options={"nan": (3,)}, training__checkpoint_every=1, data__transform="none")
    run = tmp_path / "run"
    with pytest.raises(FloatingPointError) as stop:
        run_recipe(recipe, run)
    step = int(list_checkpoints(run)[-1].name)
    message = str(stop.value)
    assert f"task 'semseg' (nan), 'depth' (nan) is not finite at step {step}" in message
    assert "train-3" in message
    assert f"The last checkpoint is {run}/checkpoints/{step:08d}, for --resume once samples are mended; " in message
    assert message in (run / "log.txt").read_text()
    assert all(value.isfinite().all() for value in load_file(list_checkpoints(run)[-1] / "model.safetensors").values())


def scaled_steps(poisoned: int) -> dict:
    """The log line of four steps with loss scaling from 4 on, in the first of which one gradient is NaN."""
    with accelerated("cpu") as accelerator:
        parts = build_parts(change(RECIPE, data__batch_size=2), accelerator)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        accelerator.scaler, parts.optimizer = scaler, AcceleratedOptimizer(parts.optimizer.optimizer, scaler=scaler)
        accelerator.unscale_gradients = partial(scaler.unscale_, parts.optimizer.optimizer)
        poison = torch.tensor(math.nan)
        next(parts.objective.model.parameters()).register_hook(lambda gradient: gradient + poison)
        state, batches = TrainingState(), parts.batches(parts.loaders(0))
        for step in range(4):
            poison.fill_(math.nan if step < poisoned else 0.0)
            state.count(take_step(parts, batches, step=step, stop=lambda: False), 1.0)
        return loop._record(parts, state, 1.0)


def test_loss_scaling_gives_up_where_it_is_not_at_fault() -> None:
    """A gradient that is not finite at a scale of 1 overflows by nothing; steps that are skipped before are counted."""
    assert scaled_steps(2)["skipped_steps"] == 2
    assert "skipped_steps" not in scaled_steps(0)
    with pytest.raises(FloatingPointError, match="the gradient is not finite at step 2 though every loss is"):
        scaled_steps(4)


def test_a_task_without_labels_contributes_exactly_nothing(tmp_path: Path) -> None:
    """Two tasks, one of them never labelled: its head stays as it was, and everything else as without it."""
    options = {"unlabelled": ("depth",)}
    recipe = change(RECIPE, schedule__steps=3, data__options=options, optimizer__weight_decay=0.0)
    run = run_recipe(recipe, tmp_path / "run")
    record = lines(run, "train")[-1]
    assert record["losses"]["depth"] is None
    assert record["labelled"] == {"semseg": 12, "depth": 0}
    assert record["loss"] == pytest.approx(record["losses"]["semseg"])
    torch.manual_seed(recipe.seed)
    dataset = assemble.build_dataset(recipe, "train")
    fresh = assemble.build_model(recipe, *assemble.build_tasks(recipe, dataset)).state_dict()
    trained = load_file(list_checkpoints(run)[-1] / "model.safetensors")
    assert torch.equal(trained["decoder.heads.depth.weight"], fresh["decoder.heads.depth.weight"])
    assert not torch.equal(trained["decoder.heads.semseg.weight"], fresh["decoder.heads.semseg.weight"])


def test_a_task_without_any_label_stops_training_after_a_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = change(RECIPE, schedule__steps=6, data__options={"unlabelled": ("depth",)})
    says = "no training image has a label of task 'depth'; correct its files"
    with pytest.raises(ValueError, match=says):
        run_recipe(recipe, tmp_path / "run")
    with monkeypatch.context() as patch:
        before_step(patch, 2, kill)
        with pytest.raises(Killed):
            run_recipe(recipe, tmp_path / "killed")
    with pytest.raises(ValueError, match=says):
        run_recipe(recipe, tmp_path / "killed", resume=True)


def test_a_task_with_few_labels_trains_to_the_end(tmp_path: Path) -> None:
    """One of three images has depth: steps of two straddle epochs, and between two ends it need not come."""
    options = {"unlabelled": ("depth",), "every": 2, "length": 3}
    recipe = change(RECIPE, data__options=options, data__batch_size=2, schedule__steps=30)
    run = run_recipe(change(recipe, training__evaluate_every=0, training__checkpoint_every=0), tmp_path / "run")
    assert lines(run, "train")[-1]["step"] == 30
    assert "had no label" not in (run / "log.txt").read_text()


def test_a_label_that_crops_miss_is_told_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Corner(Rectangles):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            sample.targets["depth"][:, :-1] = sample.targets["depth"][..., :-1] = torch.nan
            return sample

    monkeypatch.setitem(DATASETS, "rectangles", Corner)
    recipe = change(RECIPE, data__size=(16, 24), training__evaluate_every=0)
    run = run_recipe(recipe, tmp_path / "run")
    assert lines(run, "train")[-1]["labelled"]["depth"] == 0
    assert (run / "log.txt").read_text().count("task 'depth': what the first pass showed had no label of it") == 1


def test_a_task_that_no_weights_are_chosen_by_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Rectangles, "may_be_labelled", lambda self, name: () if (self.split, name) == ("val", "depth") else range(5)
    )
    run = run_recipe(change(RECIPE, schedule__steps=1), tmp_path / "run")
    assert "split val has no label of depth: weights are chosen without it" in (run / "log.txt").read_text()


def test_means_count_labelled_batches_only(tmp_path: Path) -> None:
    """Every other sample has depth; batches of one: the mean of depth is over half of the batches."""
    recipe = change(
        RECIPE,
        schedule__steps=12,
        data__batch_size=1,
        data__transform="none",
        data__options={"unlabelled": ("depth",), "every": 2},
        optimizer__lr=1e-12,
        optimizer__name="sgd",
        model__decoder_options={},
        model__backbone_options={"norm": False},
        training__log_every=12,
    )
    record = lines(run_recipe(recipe, tmp_path / "run"), "train")[-1]
    assert record["labelled"] == {"semseg": 12, "depth": 6}
    whole = change(recipe, data__options={}, data__batch_size=12, schedule__steps=1, training__log_every=1)
    labelled = [index for index in range(12) if index % 2]
    dataset = Rectangles()
    torch.manual_seed(recipe.seed)
    model = assemble.build_model(whole, *assemble.build_tasks(whole, dataset))
    expected = 0.0
    for index in labelled:
        sample = dataset[index]
        with torch.no_grad():
            raw = model(sample.image[None]).predictions["depth"]
        expected += float(model.tasks["depth"].loss(raw, sample.targets["depth"][None])) / len(labelled)
    assert record["losses"]["depth"] == pytest.approx(expected, rel=1e-4)


def test_a_damaged_sample_is_skipped_and_named(tmp_path: Path) -> None:
    recipe = change(RECIPE, data__options={"bad": (7,)}, schedule__steps=6, training__log_every=1)
    with pytest.raises(ValueError, match=r"sample 'train-7' .* truncated"):
        run_recipe(recipe, tmp_path / "strict")
    run = run_recipe(change(recipe, data__on_bad_sample="skip"), tmp_path / "lenient")
    named = [line for line in (run / "log.txt").read_text().splitlines() if "skipped sample 'train-7'" in line]
    assert len(named) == 1


# Arithmetic


NO_NORM = {
    "model__backbone_options": {"norm": False},
    "model__decoder_options": {},
    "optimizer__name": "sgd",
    "optimizer__lr": 0.01,
    "schedule__steps": 3,
    "data__val_split": "",
    "data__transform": "none",
}


@pytest.mark.parametrize("options", [{}, {"unlabelled": ("depth",), "every": 3}])
def test_four_batches_of_two_equal_one_of_eight(options: dict, tmp_path: Path) -> None:
    """Also where some of them have fewer labels of a task, or none."""
    recipe = change(RECIPE, **NO_NORM, data__options=options, training__log_every=1)
    once = weights_after(change(recipe, data__batch_size=8), tmp_path / "once")
    often = weights_after(change(recipe, data__batch_size=2, training__accumulate=4), tmp_path / "often")
    for name, value in once.items():
        torch.testing.assert_close(often[name], value, rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(*(lines(tmp_path / name, "train") for name in ("often", "once")), strict=True):
        assert ours["labelled"] == theirs["labelled"]
        for key in ("losses", "weighted", "parts"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-4)


def test_batches_count_by_their_labels_where_the_loss_does() -> None:
    few, many = Mock(spec=Sample), Mock(spec=Sample)
    tasks = {"semseg": semseg(2), "depth": depth(loss="berhu-inverse-published")}
    pixels = {few: torch.tensor([1, 1]), many: torch.tensor([3, 3])}
    objective = Mock(spec=Objective, tasks=tasks, count_pixels=pixels.get)
    parts = Mock(spec=Parts, objective=objective, accelerator=Mock(device=torch.device("cpu")))
    assert _shares(parts, [few, many]) == [{"semseg": 0.5, "depth": 1.0}, {"semseg": 1.5, "depth": 1.0}]


@pytest.mark.parametrize("weighting", ["uncertainty", "pcgrad"])
def test_accumulation_keeps_weightings_whole(weighting: str, tmp_path: Path) -> None:
    """Also where a batch has no label of a task."""
    unlabelled = {"unlabelled": ("depth",), "every": 2}
    recipe = change(RECIPE, **NO_NORM, weighting__name=weighting, data__options=unlabelled, training__log_every=1)
    once = weights_after(change(recipe, data__batch_size=8, schedule__steps=2), tmp_path / "once")
    often = change(recipe, data__batch_size=1, training__accumulate=8, schedule__steps=2)
    for name, value in weights_after(often, tmp_path / "often").items():
        torch.testing.assert_close(value, once[name], rtol=1e-4, atol=1e-6)
    last, wanted = (lines(tmp_path / name, "train")[-1]["weighted"] for name in ("often", "once"))
    assert last == pytest.approx(wanted, rel=1e-4)


def test_auxiliary_losses_and_regularizer_terms_join_their_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REGULARIZERS, "jitter", Jitter)
    recipe = change(
        RECIPE,
        schedule__steps=1,
        data__auxiliary_tasks=("normals",),
        model__decoder_options={"intermediate": True},
        weighting__auxiliary_factor=0.5,
        regularizer__name="jitter",
        regularizer__weight=2.0,
    )
    record = lines(run_recipe(recipe, tmp_path / "run"), "train")[0]
    parts, losses = record["parts"], record["losses"]
    assert list(losses) == ["semseg", "depth", "normals"]
    assert set(parts) == {
        *("semseg/final", "semseg/auxiliary", "depth/final", "depth/auxiliary", "depth/regularizer"),
        "normals/auxiliary",
    }
    for name in losses:
        assert losses[name] == pytest.approx(sum(v for k, v in parts.items() if k.startswith(name)), rel=1e-5)
    full = change(recipe, weighting__auxiliary_factor=1.0)
    again = lines(run_recipe(full, tmp_path / "full"), "train")[0]["parts"]
    assert parts["semseg/auxiliary"] == pytest.approx(0.5 * again["semseg/auxiliary"], rel=1e-5)


def test_raises_for_an_auxiliary_task_that_nothing_predicts(tmp_path: Path) -> None:
    recipe = change(RECIPE, data__auxiliary_tasks=("normals",))
    with pytest.raises(ValueError, match="predicts nothing for auxiliary task 'normals'"):
        run_recipe(recipe, tmp_path / "run")


def test_raises_for_a_regularizer_term_of_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGULARIZERS, "jitter", Jitter)
    recipe = change(RECIPE, regularizer__name="jitter", data__tasks=("semseg",))
    with pytest.raises(ValueError, match=r"term for \['depth'\], which is no task of the model; its tasks are semseg"):
        run_recipe(recipe, tmp_path / "run")


class Entropy(Adapter):
    """The mean entropy of the target's segmentation."""

    def forward(self, model: nn.Module, source: Sample, target: Sample, output: Output) -> dict[str, Tensor]:
        assert not target.targets
        assert target.key[0].startswith("other")
        logarithm = model(target.image).predictions["semseg"].log_softmax(dim=1)
        return {"entropy": -(logarithm.exp() * logarithm).sum(dim=1).mean()}


@pytest.mark.parametrize("weighting", ["fixed", "pcgrad"])
def test_adaptation_losses_join_the_total_and_reach_the_weights(
    weighting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ADAPTERS, "entropy", Entropy)
    plain = change(RECIPE, **NO_NORM, weighting__name=weighting)
    adapted = change(
        plain, adaptation=AdaptationConfig(name="entropy", dataset="rectangles", split="other"), schedule__steps=1
    )
    record = lines(run_recipe(adapted, tmp_path / "adapted"), "train")[0]
    without = lines(run_recipe(change(plain, schedule__steps=1), tmp_path / "plain"), "train")[0]
    assert 1.0 < record["adaptation"] < math.log(4)
    assert record["loss"] == pytest.approx(without["loss"] + record["adaptation"], rel=1e-5)
    assert record["losses"] == pytest.approx(without["losses"], rel=1e-5)
    assert record["gradient_norm"] != pytest.approx(without["gradient_norm"], rel=1e-3)


class Fine(Regularizer):
    """A penalty of 0.5, and a term that is always 0."""

    def __init__(self, channels, *, strides, tasks, weight) -> None:
        super().__init__()

    def penalties(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        return {"fine": torch.tensor(0.5)}

    def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        return {"depth": 0 * output.features[0].sum()}


def test_penalties_and_what_an_adapter_adds_are_logged_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTERS, "entropy", Entropy)
    monkeypatch.setitem(REGULARIZERS, "fine", Fine)
    other = AdaptationConfig(name="entropy", dataset="rectangles", split="other")
    record = lines(run_recipe(change(RECIPE, regularizer__name="fine", adaptation=other), tmp_path / "run"), "train")[0]
    assert record["penalties"] == 0.5
    assert 1.0 < record["adaptation"] < math.log(4)
    total = sum(record["weighted"].values()) + record["penalties"] + record["adaptation"]
    assert record["loss"] == pytest.approx(total, rel=1e-5)


def test_a_regularizer_that_does_nothing_in_the_first_pass_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REGULARIZERS, "fine", Fine)
    run = run_recipe(change(RECIPE, regularizer__name="fine", training__evaluate_every=0), tmp_path / "run")
    assert (run / "log.txt").read_text().count("regularizer 'fine': all its terms were 0 in the first pass") == 1


class Steps(Regularizer):
    """Its term is the number of optimizer steps so far."""

    def __init__(self, channels, *, strides, tasks, weight) -> None:
        super().__init__()

    def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        return {"depth": torch.tensor(float(self.step)) + 0 * output.features[0].sum()}


def test_regularizers_are_told_the_optimizer_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGULARIZERS, "steps", Steps)
    recipe = change(RECIPE, regularizer__name="steps", training__accumulate=2, training__log_every=1)
    records = lines(run_recipe(recipe, tmp_path / "run"), "train")
    assert [record["parts"]["depth/regularizer"] for record in records] == [0, 1, 2, 3, 4, 5]


def test_weightings_are_told_the_mean_losses_of_each_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, float]] = []
    monkeypatch.setattr("triptych.weighting.losses.Fixed.end_epoch", lambda self, losses: told.append(losses))
    recipe = change(RECIPE, training__log_every=3)  # 12 images, 4 a step
    records = lines(run_recipe(recipe, tmp_path / "run"), "train")
    assert told == [pytest.approx(record["losses"]) for record in records]


class Beside(Regularizer):
    """Learns large numbers from features that it does not change: its gradient never reaches the network."""

    def __init__(self, channels, *, strides, tasks, weight) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels[0]))

    def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        return {"depth": (output.features[0].detach().mean(dim=(0, 2, 3)) * 1e3 * self.scale).square().sum()}


def distances_moved(recipe: Recipe, folder: Path, *, lr: float) -> dict[str, float]:
    """How far each module's parameters went in one step, by the file of a checkpoint."""
    still, moved = (
        list_checkpoints(run_recipe(change(recipe, optimizer__lr=rate), folder / str(rate)))[-1] for rate in (0.0, lr)
    )
    return {
        path.stem: math.sqrt(
            sum(
                float((value - load_file(still / path.name)[name]).square().sum())
                for name, value in load_file(path).items()
            )
        )
        for path in moved.glob("*.safetensors")
        if path.stem in ("model", "regularizer", "weighting")
    }


def test_network_and_regularizer_are_clipped_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each to the recipe's norm, the log has the norms before; the parameters of a weighting are not clipped."""
    monkeypatch.setitem(REGULARIZERS, "beside", Beside)
    alone = change(
        change(RECIPE, **NO_NORM),
        schedule__steps=1,
        schedule__warmup_steps=0,
        optimizer__weight_decay=0.0,
        optimizer__clip_norm=1e-3,
        weighting__name="uncertainty",
    )
    recipe = change(alone, regularizer__name="beside")
    moved = distances_moved(recipe, tmp_path / "both", lr=1.0)
    assert moved["model"] == pytest.approx(1e-3, rel=1e-3)
    assert moved["regularizer"] == pytest.approx(1e-3, rel=1e-3)
    assert moved["weighting"] > 0.1
    without = lines(run_recipe(alone, tmp_path / "alone"), "train")[0]
    record = lines(tmp_path / "both" / "1.0", "train")[0]
    assert record["gradient_norm"] == without["gradient_norm"] > 1e-3
    assert record["regularizer_gradient_norm"] > 1e3
    assert "regularizer_gradient_norm" not in without


def test_a_regularizer_that_teaches_nothing_leaves_the_network_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its random numbers (places on rays, and their order) are its own: dropout and augmentation draw what they drew
    without it.
    """

    class Detached(REGULARIZERS["triplane-shuffled"]):
        def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
            return super().forward(output._replace(features=[map.detach() for map in output.features]), sample)

    monkeypatch.setitem(REGULARIZERS, "detached", Detached)
    alone = change(RECIPE, data__val_split="", schedule__steps=20)
    small = {"width": 8, "plane_channels": 4, "hidden": 6, "num_samples": 4}
    with_it = change(alone, regularizer__name="detached", regularizer__options=small)
    first, second = weights_after(alone, tmp_path / "alone"), weights_after(with_it, tmp_path / "with")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_bf16_trains_close_to_float32(tmp_path: Path) -> None:
    recipe = change(RECIPE, **NO_NORM)
    full = lines(run_recipe(recipe, tmp_path / "full"), "train")[-1]
    half = lines(run_recipe(change(recipe, training__precision="bf16"), tmp_path / "half"), "train")[-1]
    assert half["loss"] != full["loss"]
    assert half["loss"] == pytest.approx(full["loss"], rel=0.02)


def test_only_devices_that_everything_runs_on_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"device is 'mps', which has no float64.*use 'cpu'"):
        choose_device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ValueError, match=r"device is 'cuda:1'.*set CUDA_VISIBLE_DEVICES=1"), accelerated("cuda:1"):
        pass


def test_the_last_of_two_jobs_in_threads_ends_what_both_use() -> None:
    """The settings of a long one are not taken from it by a short one that began before."""
    short, long = accelerated("cpu"), accelerated("cpu")
    short.__enter__()
    own = long.__enter__()
    short.__exit__(None, None, None)
    assert (own.num_processes, own.device.type) == (1, "cpu")
    with pytest.raises(ValueError, match=r"'bf16', and this process has an Accelerator, or another job, with 'cpu'"):
        accelerated("cpu", mixed_precision="bf16").__enter__()
    assert own.device.type == "cpu"
    long.__exit__(None, None, None)
    assert not AcceleratorState._shared_state
    with accelerated("cpu", mixed_precision="bf16") as other:
        assert other.mixed_precision == "bf16"


def test_threads_that_limit_torch_to_one_thread_give_it_all_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        first, second = one_thread_each(), one_thread_each()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert torch.get_num_threads() == 1
        second.__exit__(None, None, None)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_fp16_on_a_cpu_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'fp16', which needs a GPU; use 'bf16' or 'no'"):
        run_recipe(change(RECIPE, training__precision="fp16"), tmp_path / "run")


def test_batch_statistics_of_all_processes_are_refused_on_a_cpu(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sync_norms is true, which torch can on GPUs only; leave it off"):
        run_recipe(change(RECIPE, training__sync_norms=True), tmp_path / "run")


def test_synchronized_norms_keep_names_weights_and_activations() -> None:
    """timm's mobile networks hold their activations in their norms."""
    backbone = create_backbone("mobilenetv3_small_050")
    kinds = {type(module).__name__ for module in backbone.modules()}
    assert "BatchNormAct2d" in kinds
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    synchronized = synchronize_norms(backbone)
    kinds = {type(module).__name__ for module in synchronized.modules()}
    assert {"SyncBatchNormAct"} == {kind for kind in kinds if "BatchNorm" in kind}
    assert list(synchronized.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in synchronized.state_dict().items())


def test_every_process_scores_the_averaged_statistics_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which have 7 everywhere here; training goes on with the running ones, that are shared too."""
    monkeypatch.setattr(torch.distributed, "broadcast", lambda buffer, source: buffer.fill_(7))
    with accelerated("cpu") as accelerator:
        parts = build_parts(change(RECIPE, training__ema=0.5, data__val_split=""), accelerator)
        monkeypatch.setattr(Accelerator, "num_processes", 2)
        model = parts.objective.model
        with deployed_model(parts) as deployed:
            assert all((buffer == 7).all() for buffer in deployed.buffers())
            parameters = {name: value.detach() for name, value in deployed.named_parameters()}
            assert all(torch.equal(value, parts.average.tensors[name]) for name, value in parameters.items())
        assert all((buffer == 7).all() for buffer in model.buffers())


def test_a_mistake_in_the_recipe_leaves_no_run_folder(tmp_path: Path) -> None:
    for wrong in ({"data__transform": "nothing"}, {"data__size": (0, 0)}, {"data__num_workers": -1}):
        with pytest.raises(ValueError, match=r"nothing|data\.size|data\.num_workers"):
            run_recipe(change(RECIPE, **wrong), tmp_path / "run")
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["schedule__steps", "data__batch_size", "training__accumulate", "training__log_every"])
def test_counts_below_one_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name.replace('__', '.')} is 0; give at least 1"):
        run_recipe(change(RECIPE, **{name: 0}), tmp_path / "run")


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = run_recipe(change(RECIPE, schedule__steps=4, training__trackers=("tensorboard",)), tmp_path / "run")
    events = accumulator.EventAccumulator(str(run / "trackers" / "triptych"))
    events.Reload()
    logged = {event.step: event.value for event in events.Scalars("train/losses/semseg")}
    expected = {record["step"]: record["losses"]["semseg"] for record in lines(run, "train")}
    assert logged == pytest.approx(expected, rel=1e-6)


def test_raises_for_an_unknown_tracker(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown tracker 'mlflow'; choose from tensorboard, wandb"):
        run_recipe(change(RECIPE, training__trackers=("mlflow",)), tmp_path / "run")


def test_a_finished_run_continues_for_more_steps_where_the_schedule_says_what_they_are(tmp_path: Path) -> None:
    steady = {"schedule__name": "step", "schedule__milestones": (4,)}
    short, long = (change(RECIPE, **steady, schedule__steps=steps) for steps in (4, 6))
    run_recipe(short, tmp_path / "run")
    run_recipe(long, tmp_path / "run", resume=True)
    assert read_recipe(tmp_path / "run/recipe.json").schedule.steps == 6
    whole = run_recipe(long, tmp_path / "whole")
    last = "checkpoints/00000006/{}.safetensors"
    for name in ("model", "optimizer"):
        assert (tmp_path / "run" / last.format(name)).read_bytes() == (whole / last.format(name)).read_bytes()
    with pytest.raises(ValueError, match=r"schedule.steps was 6, now 4\. Resume"):
        run_recipe(short, tmp_path / "run", resume=True)
    falling = run_recipe(change(RECIPE, schedule__steps=4), tmp_path / "falling")
    with pytest.raises(ValueError, match=r"schedule.steps was 4, now 6 \(.* depend the rates of .* cosine\)"):
        run_recipe(RECIPE, falling, resume=True)


def test_predictions_that_are_not_finite_end_the_run_at_their_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Heads.forward

    def broken(self: Heads, features: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        stages = forward(self, features)
        return stages if self.training else [{**stage, "depth": stage["depth"] * torch.nan} for stage in stages]

    recipe, run = change(RECIPE, training__evaluate_every=2), tmp_path / "run"
    before_step(monkeypatch, 3, lambda: monkeypatch.setattr(Heads, "forward", broken))
    messages = []
    for again in (False, True):
        with pytest.raises(FloatingPointError) as stop:
            run_recipe(recipe, run, resume=again)
        messages.append(str(stop.value))
    assert "validation of step 4 has a loss of task 'depth' (nan) that is not finite" in messages[0]
    way_on = f"With --resume it ends here again; .* from the deployed weights \\(model.initialize_from {run}\\)\\.$"
    assert re.search(way_on, messages[0])
    assert messages[1] == messages[0]
    assert "\n" not in messages[0]


# Starting from another run


def test_fine_tuning_takes_what_fits_and_reports_the_rest(finished: Path, tmp_path: Path) -> None:
    recipe = change(
        RECIPE,
        schedule__steps=1,
        optimizer__lr=0.0,
        optimizer__weight_decay=0.0,
        data__tasks=("semseg", "normals"),
        model__initialize_from=(str(finished),),
    )
    run = run_recipe(recipe, tmp_path / "run")
    start, tuned = load_file(finished / "model.safetensors"), load_file(run / "model.safetensors")
    assert torch.equal(tuned["backbone.body.0.0.weight"], start["backbone.body.0.0.weight"])
    assert torch.equal(tuned["decoder.heads.semseg.weight"], start["decoder.heads.semseg.weight"])
    report = json.loads((run / "environment.json").read_text())["starts"][0]["initialized"]
    assert report["missing"] == ["decoder.heads.normals.weight", "decoder.heads.normals.bias"]
    assert report["unexpected"] == ["decoder.heads.depth.bias", "decoder.heads.depth.weight"]
    log = (run / "log.txt").read_text()
    assert f"initialized from {finished}: {report['matched']} tensors fit" in log
    assert f"not in {finished}, so still random: 2 tensors, such as decoder.heads.normals.weight" in log
    assert f"of {finished} and not used: 2 tensors, such as decoder.heads.depth.bias" in log


def test_fine_tuning_leaves_heads_of_other_shapes_random(finished: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    start.mkdir()
    for name in ("recipe.json", "tasks.json"):
        shutil.copy(finished / name, start)
    weights = load_file(finished / "model.safetensors")
    weights["decoder.heads.semseg.weight"] = torch.zeros(9, 8, 1, 1)
    save_file(weights, start / "model.safetensors")
    recipe = change(RECIPE, schedule__steps=1, model__initialize_from=(str(start),))
    run = run_recipe(recipe, tmp_path / "run")
    report = json.loads((run / "environment.json").read_text())["starts"][0]["initialized"]
    assert report["reshaped"] == ["decoder.heads.semseg.weight"]
    assert load_file(run / "model.safetensors")["decoder.heads.semseg.weight"].shape[0] == 4


def test_fine_tuning_brings_position_embeddings_to_the_grid_of_the_new_network(tmp_path: Path) -> None:
    """Grids of 2 x 8 and 8 x 2 patches have as many places."""

    def build(size: tuple[int, int]) -> tuple[Recipe, MultiTaskModel]:
        config = ModelConfig(backbone="vit_tiny_patch16_224", backbone_options={"taps": (1,), "image_size": size})
        return Recipe(model=config), assemble.build_model(Recipe(model=config), {"depth": depth()})

    recipe, old = build((32, 128))
    Predictor(old, recipe=recipe).save_pretrained(tmp_path)
    _, new = build((128, 32))
    assert initialize(new, (str(tmp_path),))["reshaped"] == []
    expected = resize_positions(old.backbone.body.pos_embed, (2, 8), (8, 2))
    assert torch.equal(new.backbone.body.pos_embed, expected)


@pytest.mark.parametrize(
    ("task", "options"), [("semseg", {"classes": ["3", "2", "1", "0"]}), ("depth", {"loss": "log-l1"})]
)
def test_fine_tuning_leaves_heads_that_said_something_else_random(
    task: str, options: dict, finished: Path, tmp_path: Path
) -> None:
    """Of the same shape, from a run with other classes, or with another form of depth."""
    start = tmp_path / "start"
    start.mkdir()
    for name in ("recipe.json", "model.safetensors"):
        shutil.copy(finished / name, start)
    entries = json.loads((finished / "tasks.json").read_text())
    for entry in entries["tasks"]:
        entry["options"] |= options if entry["name"] == task else {}
    (start / "tasks.json").write_text(json.dumps(entries))
    recipe = change(RECIPE, data__val_split="")
    dataset = Rectangles()
    model = assemble.build_model(recipe, *assemble.build_tasks(recipe, dataset))
    fresh, before = {k: v.clone() for k, v in model.state_dict().items()}, load_file(start / "model.safetensors")
    report = initialize(model, (str(start),))
    heads = [f"decoder.heads.{task}.weight", f"decoder.heads.{task}.bias"]
    assert report["differing"] == {task: heads}
    for name, value in model.state_dict().items():
        assert torch.equal(value, fresh[name] if name in heads else before[name]), name
    assert any(f"task '{task}', whose classes" in line for line in describe_initialization(report))
    frozen = change(recipe, model__initialize_from=(str(start),), model__freeze=(f"decoder.heads.{task}",))
    with pytest.raises(ValueError, match=rf"keep 2 tensors at random values, such as {heads[0]}"):
        run_recipe(frozen, tmp_path / "run")


@pytest.mark.parametrize("architecture", ["cross-stitch", "nddr"])
def test_joined_networks_start_from_single_task_runs(architecture: str, tmp_path: Path) -> None:
    small = {"model__backbone": "resnet18", "model__backbone_options": {"widths": (8, 8, 8, 8)}, "schedule__steps": 1}
    still = change(RECIPE, **small, optimizer__lr=0.0, optimizer__weight_decay=0.0, model__decoder_options={"width": 8})
    singles = [
        run_recipe(change(still, model__decoder="deeplab", data__tasks=(name,)), tmp_path / name)
        for name in ("semseg", "depth")
    ]
    names = tuple(str(single) for single in singles)
    run = run_recipe(change(still, model__decoder=architecture, model__initialize_from=names), tmp_path / "joined")
    joined = load_file(run / "model.safetensors")
    for single, task in zip(singles, ("semseg", "depth"), strict=True):
        own = load_file(single / "model.safetensors")
        for key, value in own.items():
            if key.startswith("backbone.") and not key.endswith(("running_mean", "running_var", "num_batches_tracked")):
                assert torch.equal(joined[key.replace("backbone.", f"backbones.{task}.", 1)], value), key
    (singles[1] / "tasks.json").write_text(
        tasks_to_json({"depth": depth(loss="log-l1")}, {"depth": {"loss": "log-l1"}})
    )
    with pytest.raises(ValueError, match=r"task 'depth' of .* says something else"):
        run_recipe(change(still, model__decoder=architecture, model__initialize_from=names), tmp_path / "other")
    half = change(still, model__decoder=architecture, model__initialize_from=(names[0], names[0]))
    with pytest.raises(ValueError, match="single-task runs are of semseg; give one for each of semseg, depth"):
        run_recipe(half, tmp_path / "half")


def test_fine_tuning_another_backbone_is_refused(finished: Path, tmp_path: Path) -> None:
    recipe = change(RECIPE, model__backbone="resnet18", model__initialize_from=(str(finished),))
    with pytest.raises(ValueError, match=r"another backbone: 0 of \d+ tensors"):
        run_recipe(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_smaller_backbone_of_the_same_family_is_another_backbone(tmp_path: Path) -> None:
    """All tensors of a ResNet-18 have a namesake of the same shape in a ResNet-34."""
    options = {"model__backbone_options": {"widths": (8, 8, 8, 8)}, "schedule__steps": 1, "data__tasks": ("semseg",)}
    deep = run_recipe(change(RECIPE, model__backbone="resnet34", **options), tmp_path / "deep")
    shallow = change(RECIPE, model__backbone="resnet18", model__initialize_from=(str(deep),), **options)
    with pytest.raises(ValueError, match=r"another backbone: 126 of 126 tensors fit it, not backbone\.body\.layer1\.2"):
        run_recipe(shallow, tmp_path / "run")
