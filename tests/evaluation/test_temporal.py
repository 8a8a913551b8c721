"""Temporal consistency: labels agree with themselves along known motion; flow finds what moved; flicker costs."""

import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from triptych.__main__ import main
from triptych.data.base import DenseDataset
from triptych.datasets import DATASETS
from triptych.datasets.rooms import Rooms
from triptych.evaluation import temporal
from triptych.evaluation.temporal import (
    Motion,
    Pair,
    as_json,
    carry,
    flow_motion,
    known_motion,
    measure_consistency,
    score_temporal,
)
from triptych.prediction.predictor import Predictor
from triptych.recipes.config import DataConfig, Recipe
from triptych.recipes.rooms import DEMO
from triptych.tasks import boundary, depth, normals, semseg
from triptych.types import Camera, Sample

TASKS = {task.name: task for task in (semseg(20), depth(), normals(), boundary())}


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Two neighboring frames of a camera path."""
    options = {"scenes": 1, "views": 1, "size": (48, 64), "path_length": 2, "neighbor_frames": (-1,)}
    rooms = Rooms(tmp_path_factory.mktemp("rooms"), split="val", progress=False, **options)
    return rooms[1], rooms[1].neighbors[0]


def arrays(sample):
    return {name: value.numpy() for name, value in sample.targets.items()}


def measure(later, earlier, motion):
    return measure_consistency(TASKS, iter([Pair(motion, later, earlier, {}, {})]), "known").errors


def test_labels_agree_along_the_true_motion(frames):
    motion = known_motion(*frames, "depth")
    errors = measure(*map(arrays, frames), motion)
    still = motion._replace(
        rows=np.indices(motion.rows.shape)[0],
        columns=np.indices(motion.rows.shape)[1],
        seen=np.ones_like(motion.seen),
        growth=None,
        rotation=None,
    )
    unmoved = measure(*map(arrays, frames), still)
    assert motion.seen.mean() > 0.5
    assert errors["semseg"] < 0.03
    assert errors["depth"] < 0.03
    assert all(errors[name] < 0.6 * unmoved[name] for name in ("semseg", "normals", "depth"))
    # Along edges another side is met, so that the mean is not 0.
    for rotation in (motion.rotation.T, np.eye(3)):
        assert errors["normals"] < measure(*map(arrays, frames), motion._replace(rotation=rotation))["normals"]


def test_what_flickers_costs_and_a_wrong_scale_does_not(frames):
    motion = known_motion(*frames, "depth")
    later, earlier = map(arrays, frames)
    before = measure(later, earlier, motion)
    doubled = measure({"depth": 2 * later["depth"]}, {"depth": 2 * earlier["depth"]}, motion)
    assert doubled["depth"] == pytest.approx(2 * before["depth"], rel=1e-5)
    brighter = measure({"depth": later["depth"] + 0.5}, earlier, motion)
    assert brighter["depth"] > 0.4
    random = np.random.default_rng(0).integers(0, 20, later["semseg"].shape)
    assert measure({"semseg": random}, earlier, motion)["semseg"] > 0.8


def test_depth_grows_and_directions_turn_with_the_camera():
    """A camera that steps back by 1 m from a wall 2 m away, and one that turns a quarter about its own axis."""
    intrinsics = torch.tensor([[8.0, 0, 4], [0, 8, 4], [0, 0, 1]])
    image = torch.zeros(3, 8, 8)

    def sample(z, pose):
        return Sample(image, {"depth": torch.full((1, 8, 8), z)}, camera=Camera(intrinsics, pose))

    back = torch.eye(4)
    back[2, 3] = -1
    motion = known_motion(sample(3.0, back), sample(2.0, torch.eye(4)), "depth")
    carried = carry(TASKS["depth"], np.full((1, 8, 8), 4.0), motion)  # a network that sees twice the distance
    assert np.isnan(carried[:, 0]).all()  # beyond the rim of the nearer frame
    np.testing.assert_allclose(carried[np.isfinite(carried)], 6.0, rtol=1e-6)
    quarter = torch.eye(4)
    quarter[:2, :2] = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    turned = known_motion(sample(2.0, quarter), sample(2.0, torch.eye(4)), "depth")
    right = np.zeros((3, 8, 8))
    right[0] = 1
    vectors = carry(TASKS["normals"], right, turned)
    np.testing.assert_allclose(vectors[:, 4, 4], [0, -1, 0], atol=1e-6)


def test_what_is_seen_of_all_pairs_counts_and_of_several_annotators_the_mean():
    """Two pairs that swap the columns, with 3 and 1 of their 4 pixels in sight."""
    rows, columns = np.indices((2, 2))
    seen = np.array([[[True, True], [True, False]], [[False, True], [False, False]]])
    motions = [Motion(rows, columns[:, ::-1], each) for each in seen]
    later = np.array([[[0.25, 0.5], [0.75, 1.0]]], np.float32)
    earlier = np.array([[[0.5, 0.25], [0.5, 0.75]]], np.float32)  # differs by 0, 0 | 0 and out of sight
    labels = np.array([[[0, 1], [1, 1]], [[0, 0], [1, np.nan]]], np.float32), np.ones((2, 2, 2), np.float32)
    maps = [{"boundary": value} for value in (later, earlier, *labels)]
    found = measure_consistency(TASKS, (Pair(motion, *maps) for motion in motions), "known")
    assert (found.pairs, found.share, as_json(found)["share_of_pixels"]) == (2, 0.5, 0.5)
    # The first row of labels is 0 and 0.5 of 1, the third pixel agrees.
    assert found.labels == {"boundary": pytest.approx((1 + 0.5 + 0 + 0.5) / 4)}
    assert found.errors == {"boundary": pytest.approx(0.0)}


def test_motion_is_known_only_where_it_is(frames):
    later, earlier = frames
    assert known_motion(replace(later, camera=None), earlier, "depth") is None
    assert known_motion(later, earlier, "elsewhere") is None


class Hall(DenseDataset):
    """A camera that stands still before a wall, for as many frames as there are `poses`: whether each is known."""

    name = "hall"

    def __init__(self, root="", *, split="test", poses=(True, True), neighbor_frames=()):
        self.poses, self.tasks = poses, {"semseg": semseg(2), "depth": depth()}

    def __len__(self):
        return len(self.poses)

    def key(self, index):
        return f"v{index}"

    def frame(self, index, offset=0):
        targets = {"semseg": torch.zeros(8, 8, dtype=torch.int64), "depth": torch.full((1, 8, 8), 2.0)}
        camera = Camera(torch.tensor([[8.0, 0, 4], [0, 8, 4], [0, 0, 1]]), torch.eye(4) if self.poses[index] else None)
        return Sample(torch.rand(3, 8, 8), targets, self.key(index), camera, {"offset": torch.tensor(offset)})

    def __getitem__(self, index):
        return replace(self.frame(index), neighbors=(self.frame(index - 1, -1 if index else 1),))


@pytest.mark.parametrize(("poses", "pairs"), [((True, True), 1), ((True, True, False, True, True), 2)])
def test_motion_is_known_whatever_the_network_predicts(monkeypatch, poses, pairs):
    """And nothing is measured by flow under the title of known motion."""
    monkeypatch.setitem(DATASETS, "hall", Hall)
    monkeypatch.setattr(temporal, "flow_motion", None)
    recipe = Recipe(data=DataConfig(dataset="hall", options={"poses": poses}, transform="none", size=(8, 8)))
    for name, value in (("semseg", np.zeros((8, 8), np.int64)), ("depth", np.ones((1, 8, 8), np.float32))):
        network = Mock(spec=Predictor, recipe=recipe, tasks={name: TASKS[name]}, return_value={name: value})
        found = measure_consistency(network.tasks, *temporal._dataset_pairs(network, "", 0))
        assert (found.pairs, found.motion, list(found.errors), list(found.labels)) == (pairs, "known", [name], [name])


def test_flow_follows_a_shift():
    texture = ndimage.gaussian_filter(np.random.default_rng(0).random((60, 70)), 2)
    texture = (texture - texture.min()) / np.ptp(texture)
    earlier, later = texture[6:54, 6:64], texture[5:53, 9:67]  # what was at (r, c) is at (r + 1, c - 3)
    motion = flow_motion(np.stack([later] * 3), np.stack([earlier] * 3))
    middle = slice(10, 38), slice(10, 48)
    rows, columns = np.indices(earlier.shape)
    assert motion.seen[middle].mean() > 0.9
    assert np.median((motion.rows - rows)[middle]) == -1
    assert np.median((motion.columns - columns)[middle]) == 3


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Frames of a texture that moves, and maps of classes that move along."""
    folder = tmp_path_factory.mktemp("saved")
    texture = ndimage.gaussian_filter(np.random.default_rng(0).random((60, 90)), 2)
    texture = (255 * (texture - texture.min()) / np.ptp(texture)).astype(np.uint8)
    for name in ("frames", "maps/semseg"):
        (folder / name).mkdir(parents=True)
    for number in (8, 9, 10):
        shown = texture[:48, 2 * number : 2 * number + 56]
        Image.fromarray(shown).save(folder / "frames" / f"v{number}.png")
        Image.fromarray((shown > 128).astype(np.uint8)).save(folder / "maps" / "semseg" / f"v{number}.png")
    return folder


def test_saved_maps_are_scored_by_flow(saved, capsys):
    words = ["score", str(saved / "maps"), str(saved / "frames"), "--temporal", "--classes", "2"]
    assert main([*words, "--out", str(saved / "a.json")]) == 0
    content = json.loads((saved / "a.json").read_text())
    assert (content["pairs"], content["motion"]) == (2, "flow")
    assert content["temporal"]["semseg"] < 0.1
    assert "2 pairs of frames by TV-L1 flow" in " ".join(capsys.readouterr().out.split())
    assert main([*words, "--out", str(saved / "a.json")]) == 2
    assert main(["score", str(saved / "maps"), "--temporal"]) == 2
    assert "name the folder of the frames" in capsys.readouterr().err.splitlines()[-1]


def test_the_unit_of_saved_depth_is_told_or_said(saved, tmp_path, monkeypatch, capsys):
    """The same depth as metres, as millimetres, and as steps of 1/256 m, has the same error between frames."""
    still = np.zeros((48, 56), np.int64)
    here = np.indices(still.shape)
    monkeypatch.setattr(temporal, "flow_motion", lambda *_: Motion(here[0], here[1], still == 0))
    errors, said = {}, {}
    for name, factor, kind, options in (
        ("metres", 1, np.float32, ()),
        ("millimetres", 1000, np.uint16, ()),
        ("steps", 256, np.uint16, ("--depth-scale", "0.00390625", "--key", "depth")),
    ):
        maps = tmp_path / name / "depth"
        maps.mkdir(parents=True)
        for number in (8, 9, 10):
            values = np.full((48, 56), number * factor, kind)
            if name == "steps":
                np.savez(maps / f"v{number}.npz", depth=values, other=values)
            else:
                np.save(maps / f"v{number}.npy", values)
        words = ["score", str(maps.parent), str(saved / "frames"), "--temporal", *options]
        assert main([*words, "--out", str(tmp_path / f"{name}.json")]) == 0
        errors[name] = json.loads((tmp_path / f"{name}.json").read_text())["temporal"]["depth"]
        said[name] = "whole numbers millimetres" in capsys.readouterr().out
    assert errors == pytest.approx(dict.fromkeys(errors, 1.0))
    assert said == {"metres": False, "millimetres": True, "steps": False}


def test_the_calibration_for_another_camera_is_not_of_its_own_data(monkeypatch):
    asked = []

    def load(*_, **options):
        asked.append(options.get("calibrated", True))
        raise ValueError("enough")

    monkeypatch.setattr(temporal.Predictor, "load", load)
    for frames in (None, Path("frames")):
        with pytest.raises(ValueError, match="enough"):
            score_temporal(Path(__file__), frames)
    assert asked == [False, True]


def test_a_received_file_of_one_size_is_scored_on_data_that_lie_here(monkeypatch):
    """As `evaluate` does: other images are resized to it, and the data are where they are said to be."""
    recipe = Recipe(data=DataConfig(dataset="hall", root="there"))
    network = Mock(spec=Predictor, recipe=recipe, tasks=TASKS, fixed_size=(4, 4), resize=False)
    monkeypatch.setattr(temporal.Predictor, "load", lambda *_, **options: network)
    monkeypatch.setattr(temporal, "_dataset_pairs", Mock(side_effect=ValueError("enough")))
    with pytest.raises(ValueError, match="enough"):
        score_temporal(Path(__file__), root="here")
    assert network.resize
    assert network.recipe.data.root == "here"


def test_what_does_not_fit_is_one_line(saved, tmp_path, capsys):
    (tmp_path / "frames").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "frames" / "v1.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "frames" / "other.png")
    for frames, message in ((tmp_path / "frames", "no map of semseg"), (saved / "frames" / "v8.png", "no two")):
        assert main(["score", str(saved / "maps"), str(frames), "--temporal"]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


@pytest.mark.slow
def test_a_run_is_scored_on_the_known_motion_of_its_rooms(tmp_path, capsys):
    from triptych.training.loop import train

    options = {**DEMO.data.options, "scenes": 2, "views": 1, "size": (48, 64)}
    small = replace(
        DEMO,
        data=replace(DEMO.data, size=(48, 64), options=options),
        schedule=replace(DEMO.schedule, steps=2),
        training=replace(DEMO.training, evaluate_every=0),
    )
    run = train(small, tmp_path / "run", device="cpu", progress=False)
    assert main(["score", str(run), "--temporal", "--out", str(tmp_path / "a.json")]) == 0
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["motion"] == "known"
    assert set(content["temporal"]) == {"semseg", "human_parts", "saliency", "normals", "depth", "boundary"}
    assert set(content["labels"]) <= set(content["temporal"])  # no figure may be in sight
    assert content["labels"]["semseg"] < 0.05
    capsys.readouterr()
    assert main(["score", str(run), "--temporal", "--limit", "1"]) == 2
    assert (
        "none of the 1 frames that --limit leaves of split 'test' of rooms has one before it" in capsys.readouterr().err
    )
