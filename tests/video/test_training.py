"""Depth from video in the training loop: what is written, what is not read, what is counted, and that it learns."""

import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from training import tiny
from training.tiny import change
from training_runs import lines, run_recipe

from triptych import assemble
from triptych.__main__ import main
from triptych.backbones import BACKBONES
from triptych.backbones.resnet import ResNet
from triptych.datasets import rooms as rooms_module
from triptych.datasets.rooms import Rooms
from triptych.decoders import DECODERS
from triptych.evaluation.run import evaluate_run
from triptych.lookup import require_options
from triptych.machine import accelerated
from triptych.metrics.depth import AlignedDepthMetric
from triptych.prediction import Predictor
from triptych.prediction.calibration import Scale, describe_metric_score, write_calibration
from triptych.prediction.pretrained import hash_weights
from triptych.recipes import RECIPES
from triptych.recipes.config import (
    AdaptationConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    RegularizerConfig,
    ScheduleConfig,
    TrainingConfig,
    VideoConfig,
    to_json,
)
from triptych.tasks import depth, semseg
from triptych.training.building import build_parts
from triptych.training.step import take_step
from triptych.types import collate
from triptych.video import VIDEO

SIZE = (32, 48)
OPTIONS = {"scenes": 2, "views": 1, "path_length": 4, "size": SIZE, "neighbor_frames": (-2, 2), "progress": False}
RECIPE = Recipe(
    data=DataConfig(
        dataset="rooms",
        tasks=("semseg", "depth"),
        size=SIZE,
        batch_size=2,
        val_split="",
        options=OPTIONS,
        task_options={"depth": {"loss": "log-l1", "aligned": True}},
    ),
    model=ModelConfig(backbone="stairs", decoder="heads", decoder_options={"intermediate": True, "dropout": 0.2}),
    optimizer=OptimizerConfig(lr=1e-3, pose_lr_factor=0.5, clip_norm=5.0),
    schedule=ScheduleConfig(steps=4),
    video=VideoConfig(name="monodepth2", options={"pose_backbone": "resnet18_half"}),
    training=TrainingConfig(evaluate_every=0, checkpoint_every=2, log_every=2),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("rooms"))


@pytest.fixture(scope="module")
def finished(root: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_recipe(change(RECIPE, data__root=root), tmp_path_factory.mktemp("runs") / "whole")


def test_the_log_says_what_was_learnt_from(finished: Path) -> None:
    for line in lines(finished):
        assert line["video"].keys() == {"images", "static", "without_neighbors", "without_intrinsics"}
        assert line["video"]["images"] == line["labelled"]["depth"] == 4
        assert 0 < line["video"]["static"] < 1
        assert line["parts"]["depth/video"] == pytest.approx(line["losses"]["depth"]) != 0
        assert line["parts"]["depth/final"] == line["parts"]["depth/auxiliary"] == 0


def test_the_pose_network_is_saved_beside_the_model_and_learns_at_its_own_rate(finished: Path, root: str) -> None:
    assert not any("pose" in name for name in load_file(finished / "model.safetensors"))
    folder = sorted((finished / "checkpoints").iterdir())[-1]
    names = set(load_file(folder / "video.safetensors"))
    assert "pose.network.body.conv1.weight" in names
    recipe = change(RECIPE, data__root=root)
    tasks, auxiliary = assemble.build_tasks(recipe, assemble.build_training_set(recipe))
    from triptych.training.optim import learning_rate_factors

    video = assemble.build_video(recipe, assemble.build_model(recipe, tasks, auxiliary))
    assert set(learning_rate_factors(video, recipe.optimizer).values()) == {0.5}
    assert Predictor.load(finished).predict(torch.rand(1, 3, *SIZE))["depth"].shape == (1, 1, *SIZE)


def test_the_pose_network_is_clipped_with_the_network(root: str, tmp_path: Path) -> None:
    """One step of SGD goes as far as the norm allows, both together."""
    recipe = change(
        RECIPE,
        data__root=root,
        optimizer=OptimizerConfig(name="sgd", lr=1.0, weight_decay=0.0, clip_norm=1e-3),
        schedule=ScheduleConfig(steps=1),
    )
    runs = [run_recipe(change(recipe, optimizer__lr=lr), tmp_path / str(lr)) for lr in (0.0, 1.0)]
    squares = {}
    for name in ("model", "video"):
        still, moved = (load_file(run / f"checkpoints/00000001/{name}.safetensors") for run in runs)
        squares[name] = sum(float((value - still[key]).double().square().sum()) for key, value in moved.items())
    assert all(square > 0 for square in squares.values())
    assert sum(squares.values()) == pytest.approx(1e-6, rel=1e-2)


def test_the_pose_network_begins_alike_with_and_without_a_regularizer(root: str, tmp_path: Path) -> None:
    recipe = change(RECIPE, data__root=root)
    branch = RegularizerConfig(name="triplane", options={"width": 8, "plane_channels": 4, "hidden": 6})
    with accelerated("cpu") as accelerator:
        alone, beside = (
            build_parts(each, accelerator).objective.video.state_dict()
            for each in (recipe, replace(recipe, regularizer=branch))
        )
    assert all(torch.equal(alone[name], value) for name, value in beside.items())


def test_a_resumed_run_equals_an_uninterrupted_one(finished: Path, root: str, tmp_path: Path) -> None:
    recipe = change(RECIPE, data__root=root)
    run_recipe(replace(recipe, schedule=replace(recipe.schedule, steps=4)), tmp_path / "run")
    last = sorted((tmp_path / "run/checkpoints").iterdir())[-1]
    for path in last.iterdir():
        path.unlink()
    last.rmdir()
    run_recipe(recipe, tmp_path / "run", resume=True)
    assert lines(tmp_path / "run") == lines(finished)
    for name in ("model", "video", "optimizer"):
        paths = [folder / f"checkpoints/00000004/{name}.safetensors" for folder in (finished, tmp_path / "run")]
        first, second = map(load_file, paths)
        assert all(torch.equal(first[key], second[key]) for key in first), name
        assert first.keys() == second.keys()


def test_a_resumed_run_needs_no_weights_that_its_pose_network_began_with(root: str, tmp_path: Path) -> None:
    options = {"pose_backbone": "resnet18_half", "pose_weights": str(tmp_path / "gone.safetensors")}
    recipe = change(RECIPE, data__root=root, video=VideoConfig(name="monodepth2", options=options))
    with accelerated("cpu") as accelerator:
        with pytest.raises(FileNotFoundError, match="gone"):
            build_parts(recipe, accelerator)
        assert build_parts(recipe, accelerator, resumes=True).recipe.video == recipe.video


@pytest.mark.parametrize(
    "name", ["triplane-true-depth", "triplane-other-depth", "triplane-depth-input", "triplane-cross-view"]
)
def test_regularizers_that_need_labels_of_depth_are_refused_where_these_are_not_read(name: str, root: str) -> None:
    branch = RegularizerConfig(name=name, options={"width": 8, "plane_channels": 4, "hidden": 6})
    recipe = change(RECIPE, data__root=root, data__task_options={}, regularizer=branch)
    with accelerated("cpu") as accelerator:
        with pytest.raises(ValueError, match=f"{name}' does nothing without labels of depth, which learns from video"):
            build_parts(recipe, accelerator)
        build_parts(change(recipe, video__labels=True), accelerator)
        one = change(recipe, video=VideoConfig(), data__label_setting="one")
        apart = pytest.raises(ValueError, match="without images that have labels of depth and of another task")
        with nullcontext() if name == "triplane-cross-view" else apart:
            build_parts(one, accelerator)


def test_labels_of_the_task_are_not_read(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = change(RECIPE, data__root=root, schedule__steps=1)

    def refuse(record: np.void) -> torch.Tensor:
        raise AssertionError("depth was read")

    monkeypatch.setitem(rooms_module._TARGETS, "depth", refuse)
    line = lines(run_recipe(recipe, tmp_path / "run"))[0]
    assert line["labelled"] == {"semseg": 2, "depth": 2}
    with pytest.raises(ValueError, match="depth was read"):
        run_recipe(change(recipe, video__labels=True), tmp_path / "labels")


@pytest.mark.parametrize("fewer", [{}, {"data__train_images": 4}, {"data__label_setting": "one"}])
def test_the_task_may_have_a_name_of_its_own(root: str, fewer: dict[str, object]) -> None:
    """The dataset knows what it is, although its labels are not read."""
    source = {"dataset": "rooms", "root": root, "options": OPTIONS, "rename": {"depth": "range"}}
    recipe = change(
        RECIPE,
        data__dataset="mixed",
        data__options={"sources": {"rooms": source}},
        data__tasks=("semseg", "range"),
        data__task_options={"range": {"loss": "log-l1"}},
        video__task="range",
        **fewer,
    )
    dataset = assemble.build_training_set(recipe, unread=assemble.unread_tasks(recipe))
    assert "range" not in dataset.tasks
    tasks, _ = assemble.build_tasks(recipe, dataset)
    assert (tasks["range"].name, tasks["range"].constructor) == ("range", "depth")
    assert tasks["range"].options["loss"] == "log-l1"
    assert assemble.build_video(recipe, assemble.build_model(recipe, tasks)).final is tasks["range"]
    wrong = change(recipe, video__task="rang")
    with pytest.raises(ValueError, match=r"unknown task in video.task 'rang'; did you mean 'range'"):
        assemble.build_tasks(wrong, assemble.build_training_set(wrong, unread=assemble.unread_tasks(wrong)))


def test_labels_and_video_together(root: str, tmp_path: Path) -> None:
    recipe = change(RECIPE, data__root=root, schedule__steps=1, video__labels=True)
    [line] = lines(run_recipe(recipe, tmp_path / "run"))
    parts = [line["parts"][f"depth/{part}"] for part in ("final", "auxiliary", "video")]
    assert all(part != 0 for part in parts)
    assert line["losses"]["depth"] == pytest.approx(sum(parts), rel=1e-5)


def test_a_task_that_learns_from_video_counts_alike_in_every_batch_of_a_step(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels of others weigh by their share: here all lie in the first of two batches."""
    recipe = change(RECIPE, data__root=root, video__labels=True, training__accumulate=2)
    shares: list[dict[str, float]] = []
    with accelerated("cpu") as accelerator:
        parts = build_parts(recipe, accelerator)
        backward = parts.weighting.backward

        def record(*losses: object, **options: object) -> torch.Tensor:
            shares.append(dict(parts.weighting.shares))
            return backward(*losses, **options)

        monkeypatch.setattr(parts.weighting, "backward", record)
        sample = collate([parts.training_set[0]])
        invalid = {name: task.invalid_target(SIZE)[None] for name, task in parts.tasks.items()}
        batches = iter([(sample, None), (replace(sample, targets=invalid), None)])
        take_step(parts, batches, step=0, stop=lambda: False)
    assert shares == [{"semseg": 2.0}, {"semseg": 0.0}]


# Any folder of frames


def write_frames(folder: Path, numbers: range, *, still: bool = False) -> None:
    """Noise that moves to the left, or stands."""
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE[0], SIZE[1] + 40, 3), np.uint8)
    (folder / "frames/walk").mkdir(parents=True)
    for i in numbers:
        left = 0 if still else 2 * i
        Image.fromarray(pixels[:, left : left + SIZE[1]]).save(folder / f"frames/walk/{i:04d}.png")
    (folder / "dataset.toml").write_text(
        '[images]\nfiles = "frames/{key}.png"\n[camera]\nintrinsics = [40, 40, 24, 16]\nsize = [32, 48]\n'
    )


def folder_recipe(folder: Path) -> Recipe:
    data = replace(RECIPE.data, dataset="folder", root=str(folder), tasks=(), train_split="all")
    return replace(RECIPE, data=replace(data, options={"neighbor_frames": (-1, 1)}, transform="none"))


def test_a_folder_of_frames_without_any_label_is_enough(tmp_path: Path) -> None:
    write_frames(tmp_path / "data", range(6))
    folder = run_recipe(folder_recipe(tmp_path / "data"), tmp_path / "run")
    line = lines(folder)[-1]
    assert list(line["losses"]) == ["depth"]
    assert line["video"]["images"] == 4
    assert line["video"]["static"] < 0.9
    assert "does the camera move" not in (folder / "log.txt").read_text()
    evaluation = evaluate_run(folder, split="all", device="cpu", progress=False)
    assert (evaluation.metrics, evaluation.labelled) == ({"depth": {}}, {"depth": 0})


def test_frames_without_neighbors_are_counted(tmp_path: Path) -> None:
    write_frames(tmp_path / "data", range(3))
    (tmp_path / "data/frames/walk/0002.png").rename(tmp_path / "data/frames/walk/0009.png")
    line = lines(run_recipe(change(folder_recipe(tmp_path / "data"), data__batch_size=3), tmp_path / "run"))[0]
    assert line["video"]["images"] == 4
    assert line["video"]["without_neighbors"] == 2
    assert line["labelled"] == {"depth": 4}


def test_a_pass_without_a_usable_frame_ends_with_what_was_missing(tmp_path: Path) -> None:
    write_frames(tmp_path / "data", range(2))
    Image.new("RGB", (SIZE[1], SIZE[0] + 32)).save(tmp_path / "data/frames/walk/0001.png")
    recipe = change(folder_recipe(tmp_path / "data"), data__batch_size=1)
    says = r"video: no image of the first pass could teach 'depth' \(without neighbors: 2, without intrinsics: 0\); "
    with pytest.raises(ValueError, match=says + ".*neighbor_frames"):
        run_recipe(recipe, tmp_path / "run")


def test_a_standing_camera_is_reported(tmp_path: Path) -> None:
    write_frames(tmp_path / "data", range(4), still=True)
    folder = run_recipe(folder_recipe(tmp_path / "data"), tmp_path / "run")
    assert lines(folder)[0]["video"]["static"] == 1
    assert (folder / "log.txt").read_text().count("over 90% of the pixels look the same") == 1


def test_recipes_name_what_exists() -> None:
    for name in ("rooms-video", "cityscapes-densemtl-video"):
        recipe = RECIPES[name]
        dataset = Rooms.__new__(Rooms)
        dataset.tasks = rooms_module.rooms_tasks()
        tasks, _ = assemble.build_tasks(recipe, dataset)
        assert list(tasks) == ["semseg", "depth"]
        assert tasks["depth"].metric().primary == "rmse_aligned"
        assert assemble.unread_tasks(recipe) == ("depth",)
        assert recipe.data.options["neighbor_frames"]
        require_options("decoder", DECODERS[recipe.model.decoder], recipe.model.decoder_options)
        require_options("video", VIDEO[recipe.video.name], recipe.video.options)
    rooms_recipe = RECIPES["rooms-video"]
    tasks, _ = assemble.build_tasks(rooms_recipe, dataset)
    assert assemble.build_video(rooms_recipe, assemble.build_model(rooms_recipe, tasks)) is not None


@pytest.mark.slow
@pytest.mark.parametrize("sharded", ["false", "true"])
def test_two_processes_count_together(root: str, tmp_path: Path, sharded: str) -> None:
    """DDP and FSDP: the pose network is trained by both, and saved whole."""
    assemble.build_training_set(change(RECIPE, data__root=root))  # generated once, not by both at a time
    (tmp_path / "recipe.json").write_text(to_json(change(RECIPE, data__root=root)))
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", tiny.__file__]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_FSDP": sharded}
    done = subprocess.run(
        [*words, str(tmp_path / "run"), "--recipe", str(tmp_path / "recipe.json")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert [line["video"]["images"] for line in lines(tmp_path / "run")] == [8, 8]
    saved = load_file(tmp_path / "run/checkpoints/00000004/video.safetensors")
    assert saved["pose.network.body.conv1.weight"].shape == (64, 6, 7, 7)


# Learning

PATHS = {"scenes": 16, "views": 2, "path_length": 8, "size": (48, 64), "neighbor_frames": (-4, 4), "progress": False}
THIN = "resnet18_thin"
BACKBONES[THIN] = partial(ResNet, "resnet18", widths=(16, 32, 64, 128))


@pytest.mark.slow
@pytest.mark.parametrize("poses", ["alignment", "known"])
def test_depth_is_learnt_from_camera_paths_alone(tmp_path: Path, poses: str) -> None:
    """Without labels: after median scaling relative errors are smaller than those of a constant depth, which is what so
    few steps are sure to reach; with known poses in metres too.
    """
    recipe = change(
        RECIPE,
        data__root=str(tmp_path / "rooms"),
        data__tasks=("depth",),
        data__size=PATHS["size"],
        data__batch_size=8,
        data__transform="none",
        data__options=PATHS,
        model=ModelConfig(backbone=THIN, decoder="vit", decoder_options={"width": 16}),
        optimizer=OptimizerConfig(name="adam", lr=1e-3, weight_decay=0.0),
        schedule=ScheduleConfig(steps=100, power=0.9),
        video__options={"poses": poses, "near": 0.1, "far": 8.0, "smoothness": 0.05},
        training=TrainingConfig(evaluate_every=0, checkpoint_every=60, log_every=20),
    )
    folder = run_recipe(recipe, tmp_path / "run")
    predictor = Predictor.load(folder)
    learnt, constant = AlignedDepthMetric(), AlignedDepthMetric()
    dataset = Rooms(tmp_path / "rooms", **PATHS)
    for index in range(0, len(dataset), 5):
        sample = collate([dataset[index]])
        target = sample.targets["depth"]
        learnt.update(predictor.predict(sample.image)["depth"], target)
        constant.update(torch.full_like(target, 3.0), target)
    ours, theirs = learnt.compute(), constant.compute()
    assert ours["absrel_aligned"] < 0.95 * theirs["absrel_aligned"]
    assert (ours["absrel"] < 0.8 * theirs["absrel"]) == (poses == "known")  # images alone know no metres


def test_labels_that_are_not_read_cannot_mix_images() -> None:
    """Not a pixel would be pasted."""
    recipe = change(RECIPE, adaptation=AdaptationConfig(name="depth-mix", dataset="rooms"))
    model = assemble.build_model(recipe, {name: rooms_module.rooms_tasks()[name] for name in recipe.data.tasks})
    with pytest.raises(ValueError, match=r"by labels of depth.* set video\.labels = true, or choose adaptation 'dacs'"):
        assemble.build_adapter(recipe, model)
    for possible in (change(recipe, video__labels=True), change(recipe, adaptation__name="dacs")):
        assert assemble.build_adapter(possible, model).mixes


def test_depth_up_to_a_factor_is_handed_out_as_that(finished: Path, tmp_path: Path, capsys) -> None:
    """With every map and card, until a calibration says which factor."""
    run = shutil.copytree(finished, tmp_path / "run")
    picture = tmp_path / "a.png"
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(picture)
    for name in ("unknown", "calibrated"):
        assert main(["predict", str(run), str(picture), "--out", str(tmp_path / name), "--device", "cpu"]) == 0
        Predictor.load(run).save_pretrained(tmp_path / f"{name} card")
        told = capsys.readouterr().out, (tmp_path / f"{name} card/README.md").read_text()
        assert all(("right up to one factor" in each) == (name == "unknown") for each in told)
        write_calibration(run, {"depth": Scale(2.0)}, hash_weights(run), {})


def test_scores_in_metres_of_depth_up_to_a_factor_are_told(root: str, tmp_path: Path, capsys) -> None:
    """They choose the weights to deploy, by a factor that the run happens upon."""
    metric = change(
        RECIPE,
        data__root=root,
        data__val_split="val",
        data__task_options={"depth": {"loss": "log-l1"}},
        schedule__steps=1,
        training__evaluate_every=1,
    )
    run = run_recipe(metric, tmp_path / "run")
    says = "depth is learned from video without labels and right up to one factor, and its score, rmse, is in metres"
    assert (run / "log.txt").read_text().count(says) == 1
    capsys.readouterr()
    evaluate_run(run, split="val", device="cpu", progress=False, constant=False, limit=1)
    assert capsys.readouterr().out.count(says) == 1
    assert lines(run, "evaluation")[0]["metrics"].keys() >= {"depth/rmse"}
    tasks = {"depth": depth(), "semseg": semseg(3)}
    assert describe_metric_score(metric, tasks)
    for told in (
        describe_metric_score(metric, {"depth": depth(aligned=True)}),
        describe_metric_score(metric, {"semseg": semseg(3)}),
        describe_metric_score(change(metric, video__labels=True), tasks),
        describe_metric_score(change(metric, video__name="none"), tasks),
    ):
        assert not told


@pytest.mark.parametrize(
    ("config", "task"),
    [
        (VideoConfig("monodepth2"), "depth"),
        (VideoConfig("monodepth2", options={"poses": "alignment"}), "depth"),
        (VideoConfig("monodepth2", options={"poses": "known"}), ""),
        (VideoConfig("monodepth2", labels=True), ""),
        (VideoConfig(), ""),
    ],
)
def test_labels_and_known_poses_tell_the_scale(config: VideoConfig, task: str) -> None:
    assert config.unscaled == task
