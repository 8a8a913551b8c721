"""Saved maps that `score` could take for two things: it reads the one that is said, or asks."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from saved_maps import save

from triptych import tasks
from triptych.evaluation.offline import Score, score
from triptych.report.scores import write_page

IDS = np.arange(2, 40, dtype=np.uint8).repeat(2).reshape(4, 19)
GREY = np.full(IDS.shape, 99, np.uint8)


def run(root: Path, protocol: str = "invpt", *, targets: str = "targets", **options: object) -> Score:
    return score(root / "predictions", root / targets, protocol=protocol, quiet=True, threads=2, **options)


def describe(root: Path, text: str, **files: np.ndarray) -> None:
    """A `dataset.toml` in `root/targets` with a black photograph, and the labels of image `a` by task, as arrays."""
    save(root / "targets/images/test/a.png", np.zeros((*next(iter(files.values())).shape[-2:], 3), np.uint8))
    for task, values in files.items():
        save(root / f"targets/{task}/test/a.npy", values)
    (root / "targets/dataset.toml").write_text("[images]\nfiles = 'images/{split}/{key}.png'\n" + text)


# Folders.


def test_the_folder_of_one_task_is_not_the_ground_truth_of_others(tmp_path: Path) -> None:
    """Saliency was scored against the class ids that lay in the folder of the ground truth itself."""
    save(tmp_path / "predictions/semseg/a.png", IDS)
    save(tmp_path / "predictions/saliency/a.png", GREY)
    save(tmp_path / "targets/a.png", IDS)
    with pytest.raises(ValueError, match=r"targets has no folder of semseg .*name one --task if the maps lie in the"):
        run(tmp_path, dataset="nyuv2")
    with pytest.raises(ValueError, match=r"targets has no folder of semseg"):
        run(tmp_path, dataset="nyuv2", task=["semseg", "saliency"])
    assert set(run(tmp_path, dataset="nyuv2", task=["semseg"]).tasks) == {"semseg"}
    save(tmp_path / "targets/semseg/a.png", IDS)
    found = run(tmp_path, dataset="nyuv2")
    assert set(found.tasks) == {"semseg"}
    assert "has no folder of saliency" in found.left_out["saliency"]


def test_maps_of_one_task_may_lie_in_the_folders_themselves(tmp_path: Path) -> None:
    for side in ("predictions", "targets"):
        save(tmp_path / side / "a.png", IDS)
    assert set(run(tmp_path, dataset="nyuv2", task=["semseg"]).tasks) == {"semseg"}


@pytest.mark.parametrize("side", ["predictions", "targets"])
def test_maps_beside_folders_of_other_tasks_have_to_be_moved(tmp_path: Path, side: str) -> None:
    """Who named a task was told to name one."""
    other = {"predictions": "targets", "targets": "predictions"}[side]
    save(tmp_path / side / "a.png", IDS)
    save(tmp_path / side / "depth/a.png", np.full(IDS.shape, 2000, np.uint16))
    save(tmp_path / other / "semseg/a.png", IDS)
    with pytest.raises(ValueError, match=rf"{side} has no folder of semseg .*move its maps into .*{side}/semseg/"):
        run(tmp_path, dataset="nyuv2", task=["semseg"])


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_is_refused_beside_a_plain_folder(tmp_path: Path, split: str) -> None:
    for side in ("predictions", "targets"):
        save(tmp_path / side / "semseg/a.png", IDS)
    with pytest.raises(ValueError, match=rf"--split {split} has no effect on .*targets, which has no dataset\.toml"):
        run(tmp_path, dataset="nyuv2", split=split)


def test_the_test_split_of_a_dataset_is_scored_unless_another_is_named(tmp_path: Path) -> None:
    describe(tmp_path, "[tasks.semseg]\nfiles = 'semseg/{split}/{key}.npy'\nclasses = 40\n", semseg=IDS)
    save(tmp_path / "predictions/semseg/a.png", IDS)
    assert run(tmp_path).tasks["semseg"].keys == run(tmp_path, split="test").tasks["semseg"].keys == ("a",)
    with pytest.raises(ValueError, match="val"):
        run(tmp_path, split="val")


# Classes.


@pytest.mark.parametrize(
    ("task", "classes", "told", "words"),
    [
        ("human_parts", 5, 0, r"has 5 classes, and the protocol scores 7; .*as semseg"),
        ("human_parts", 9, 0, r"has 9 classes, and the protocol scores 7; .*as semseg"),
        ("semseg", 13, 40, r"has 13 classes, and --classes says 40; leave it out"),
    ],
)
def test_classes_of_a_dataset_are_those_of_the_metric(
    tmp_path: Path, task: str, classes: int, told: int, words: str
) -> None:
    """A class that the data do not have counts 0 in the mIoU of these protocols."""
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4) % 5
    names = [f"c{i}" for i in range(classes)]
    describe(tmp_path, f"[tasks.{task}]\nfiles = '{task}/{{split}}/{{key}}.npy'\nclasses = {names}\n", **{task: labels})
    save(tmp_path / f"predictions/{task}/a.png", labels)
    with pytest.raises(ValueError, match=rf"{task} of .*targets {words}"):
        run(tmp_path, task=[task], classes=told)
    if told:
        assert run(tmp_path).tasks[task].facts == {"classes": classes}
        assert run(tmp_path, classes=classes).tasks[task].facts == {"classes": classes}


# Sizes.


@pytest.mark.parametrize("recipe", ["thin", "outline"])
def test_half_a_prediction_is_no_prediction_for_two_annotators(tmp_path: Path, recipe: str) -> None:
    """Annotators are stacked where there are several; other ground truth of twice the height is of another size."""
    regions = np.zeros((24, 9), np.uint8)
    regions[:, 4:] = 1
    save(tmp_path / "targets/boundary/a.png", regions)
    save(tmp_path / "predictions/boundary/a.png", np.zeros((12, 9), np.uint8))
    with pytest.raises(ValueError, match=r"a\.png is 12x9, its ground truth .*a\.png 24x9"):
        run(tmp_path, "seism", ground_truth=recipe)
    for protocol, stacked in (("seism", "stored"), ("bsds", recipe)):
        found = run(tmp_path, protocol, ground_truth=stacked).tasks["boundary"]
        assert found.given.read("a")[1].shape == (2, 12, 9)
    save(tmp_path / "targets/boundary/a.npy", regions.reshape(2, 12, 9))
    (tmp_path / "targets/boundary/a.png").unlink()
    assert run(tmp_path, "seism", ground_truth=recipe).tasks["boundary"].keys == ("a",)


# Ranges of values.


@pytest.mark.parametrize("task", ["saliency", "boundary"])
@pytest.mark.parametrize(("kind", "high"), [(np.uint8, 1), (np.uint16, 1), (np.uint16, 255)])
def test_probabilities_in_a_corner_of_their_range_are_asked_for(
    tmp_path: Path, task: str, kind: type, high: int
) -> None:
    """0 and 1 as bytes were probabilities of at most 1/255, and a byte in 16 bits was 0 everywhere."""
    mask = np.zeros((12, 9), np.uint8)
    mask[:, 4] = 1
    for name, values in (("a", np.zeros_like(mask)), ("b", mask)):
        save(tmp_path / f"targets/{task}/{name}.png", 255 * mask)
        save(tmp_path / f"predictions/{task}/{name}.npy", (high * values).astype(kind))
    whole = np.iinfo(kind).max
    words = rf"b\.npy are whole numbers of at most {high}, and {whole} is .*; save 0 and {whole}, booleans or floats"
    with pytest.raises(ValueError, match=words):
        run(tmp_path, task=[task])
    for right in ((whole * mask.astype(kind)), mask > 0, mask.astype(np.float32)):
        save(tmp_path / f"predictions/{task}/b.npy", right)
        run(tmp_path, task=[task])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_empty_maps_are_no_evidence_of_a_range(tmp_path: Path, kind: type) -> None:
    save(tmp_path / "targets/saliency/a.png", np.eye(12, 9, dtype=np.uint8))
    save(tmp_path / "predictions/saliency/a.npy", np.zeros((12, 9), kind))
    assert run(tmp_path).tasks["saliency"].numbers["maxF"] < 0.5
    save(tmp_path / "targets/saliency/b.png", np.eye(12, 9, dtype=np.uint8))
    save(tmp_path / "predictions/saliency/b.npy", np.full((12, 9), np.iinfo(kind).max, kind))
    save(tmp_path / "predictions/saliency/a.npy", np.eye(12, 9, dtype=kind))  # faint, beside one that is not
    run(tmp_path)


# Units of depth.


def save_depth(root: Path, predicted: int, true: int, name: str = "a", kind: type = np.uint16) -> None:
    save(root / f"predictions/depth/{name}.npy", np.full((4, 6), predicted, kind))
    save(root / f"targets/depth/{name}.png", np.full((4, 6), true, np.uint16))


@pytest.mark.parametrize("scale", [0.0, 0.01, 0.001])
def test_predictions_may_have_another_unit_than_the_ground_truth(tmp_path: Path, scale: float) -> None:
    """Centimetres beside millimetres: one scale is wrong for one of the two, whichever is given."""
    save_depth(tmp_path, 250, 2500)
    words = r"a\.npy has a median of .* m and .*a\.png .* m; give --depth-scale, .* and --prediction-depth-scale"
    with pytest.raises(ValueError, match=words):
        run(tmp_path, depth_scale=scale)
    for told in ({}, {"depth_scale": 0.001}):
        found = run(tmp_path, prediction_depth_scale=0.01, **told)
        assert found.tasks["depth"].numbers["rmse"] == pytest.approx(0, abs=1e-6)
    assert run(tmp_path, prediction_depth_scale=0.001, depth_scale=0.001).tasks["depth"].numbers["rmse"] > 2  # believed


def test_a_scale_of_predictions_alone_leaves_the_unit_of_the_ground_truth_said(tmp_path: Path) -> None:
    save_depth(tmp_path, 250, 2500)
    said = {"whole numbers": "millimetres (--depth-scale says otherwise)"}
    assert run(tmp_path, prediction_depth_scale=0.01).tasks["depth"].facts == said
    assert run(tmp_path, prediction_depth_scale=0.01, depth_scale=0.001).tasks["depth"].facts == {}


def test_a_scale_of_predictions_is_that_of_floats_too(tmp_path: Path) -> None:
    save_depth(tmp_path, 250, 2500, kind=np.float32)
    with pytest.raises(ValueError, match="one of two units"):
        run(tmp_path)
    found = run(tmp_path, prediction_depth_scale=0.01)
    assert found.tasks["depth"].numbers["rmse"] == pytest.approx(0, abs=1e-6)


def test_floats_are_metres_and_no_scale_is_taken_for_another(tmp_path: Path) -> None:
    """Millimetres as floats on both sides had an error of 200 m, with and without a scale that changed nothing."""
    for side, value in (("predictions", 2700.0), ("targets", 2500.0)):
        save(tmp_path / f"{side}/depth/a.npy", np.full((4, 6), value, np.float32))
    with pytest.raises(ValueError, match=r"a\.npy has a median of 2700 m, as floats are metres; save metres"):
        run(tmp_path)
    with pytest.raises(ValueError, match=r"--depth-scale 0\.001 has no effect on floats such as .*a\.npy"):
        run(tmp_path, depth_scale=0.001)
    with pytest.raises(ValueError, match=r"targets/depth/a\.npy has a median of 2500 m"):
        run(tmp_path, prediction_depth_scale=0.001)
    believed = run(tmp_path, depth_scale=1.0, prediction_depth_scale=1.0)
    assert believed.tasks["depth"].numbers["rmse"] == pytest.approx(200)
    save(tmp_path / "targets/depth/a.npy", np.full((4, 6), 2500, np.uint16))
    save(tmp_path / "predictions/depth/a.npy", np.full((4, 6), 2.7, np.float32))
    found = run(tmp_path, depth_scale=0.001)  # of the ground truth
    assert found.tasks["depth"].numbers["rmse"] == pytest.approx(0.2, abs=1e-5)


def test_every_sampled_pair_is_compared(tmp_path: Path) -> None:
    for name, predicted in (("a", 2500), ("b", 2500), ("c", 250)):
        save_depth(tmp_path, predicted, 2500, name)
    with pytest.raises(ValueError, match=r"one of two units: .*c\.npy"):
        run(tmp_path)
    save_depth(tmp_path, 20, 20, "c")
    with pytest.raises(ValueError, match=r"c\.npy has a median of 0\.02 m in millimetres; give --prediction-depth-"):
        run(tmp_path)


def test_predictions_are_compared_with_a_dataset_too(tmp_path: Path) -> None:
    describe(
        tmp_path,
        "[tasks.depth]\nfiles = 'depth/{split}/{key}.npy'\nunit = 'mm'\n",
        depth=np.full((4, 6), 2500, np.uint16),
    )
    save(tmp_path / "predictions/depth/a.png", np.full((4, 6), 250, np.uint16))
    with pytest.raises(ValueError, match=r"one of two units: .*a\.png has a median of 0\.25 m and a of dataset .*2\.5"):
        run(tmp_path)
    for option in ("depth_scale", "prediction_depth_scale"):
        found = run(tmp_path, **{option: 0.01})
        assert found.tasks["depth"].numbers["rmse"] == pytest.approx(0, abs=1e-6)


def test_depth_of_8_bit_is_named(tmp_path: Path) -> None:
    save_depth(tmp_path, 25, 2500, kind=np.uint8)
    with pytest.raises(ValueError, match=r"depth .*predictions/depth/a\.npy is uint8; give --prediction-depth-scale"):
        run(tmp_path)
    found = run(tmp_path, prediction_depth_scale=0.1)
    assert found.tasks["depth"].numbers["rmse"] == pytest.approx(0, abs=1e-6)


def test_a_name_that_says_the_unit_of_predictions_asks_for_theirs(tmp_path: Path) -> None:
    save_depth(tmp_path, 12500, 2500)
    (tmp_path / "predictions/depth/a.npy").rename(tmp_path / "predictions/a.npy")
    save(tmp_path / "predictions/depth/depth_5000/a.npy", np.load(tmp_path / "predictions/a.npy"))
    save(tmp_path / "targets/depth/depth_5000/a.png", np.full((4, 6), 2500, np.uint16))
    (tmp_path / "targets/depth/a.png").unlink()
    with pytest.raises(
        ValueError, match=r"a\.npy: the name says 5000 per metre; give --prediction-depth-scale 0\.0002"
    ):
        run(tmp_path)


# Depth that is not there.


@pytest.mark.parametrize("protocol", ["invpt", "survey", "densemtl"])
def test_whole_numbers_have_no_depth_at_0(tmp_path: Path, protocol: str) -> None:
    """`triptych predict` writes 0 beyond 65.535 m into maps/, which was clamped to 1e-9 m; arrays/ has the depth."""
    true, predicted = np.full((4, 6), 60.0, np.float32), np.full((4, 6), 61.0, np.float32)
    predicted[0, :3], true[0, 1] = 70.0, np.nan  # one of the far ones without a label
    save(tmp_path / "targets/depth/a.npy", true)
    save(tmp_path / "predictions/maps/depth/a.png", tasks.depth().to_png(predicted[None]))
    save(tmp_path / "predictions/arrays/depth/a.npy", predicted)
    there = partial(score, targets=tmp_path / "targets", protocol=protocol, quiet=True)
    words = r"maps/depth/a\.png is 0, which is no value, at 2 pixels that have a label; score floats, .*arrays/"
    with pytest.raises(ValueError, match=words):
        there(tmp_path / "predictions/maps")
    there(tmp_path / "predictions/arrays")
    true[0, :3] = np.nan
    save(tmp_path / "targets/depth/a.npy", true)
    both = [there(tmp_path / "predictions" / kind) for kind in ("maps", "arrays")]
    assert both[0].tasks["depth"].numbers == pytest.approx(both[1].tasks["depth"].numbers, rel=1e-4)
    write_page(both[0], tmp_path / "page.html")  # shows where there is none


def test_black_is_no_normal(tmp_path: Path) -> None:
    """`triptych predict` writes (0, 0, 0) where there is none, which was a vector away from everything."""
    facing = np.tile(np.float32([0, 0, -1])[:, None, None], (1, 4, 6))
    hole = facing.copy()
    hole[:, 0, :2] = np.nan
    save(tmp_path / "targets/normals/a.npy", facing)
    save(tmp_path / "predictions/normals/a.png", tasks.normals().to_png(hole))
    with pytest.raises(ValueError, match=r"normals/a\.png is 0, which is no value, at 2 pixels that have a label"):
        run(tmp_path)
    save(tmp_path / "targets/normals/a.npy", hole)
    assert run(tmp_path).tasks["normals"].numbers["mErr"] < 1
