"""Scoring of saved maps: published values through files, formats, pairs, and everything that can be wrong."""

import json
import re
import shutil
import typing
import unicodedata
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from boundary_maps import golden_annotators, golden_map
from PIL import Image
from published_metrics import arrays, expected
from saved_maps import save, save_bsds
from torch.nn import functional as F

from triptych.__main__ import main
from triptych.datasets.folder import Folder
from triptych.evaluation import saved_maps as maps
from triptych.evaluation.compare_files import compare_scores
from triptych.evaluation.map_encodings import Encodings
from triptych.evaluation.map_files import pair
from triptych.evaluation.offline import Score, score, score_table
from triptych.evaluation.options import ScoreOptions
from triptych.evaluation.protocols import RULES, DataSettings, find_rule
from triptych.evaluation.saved_maps import read_prediction
from triptych.labels.normals import Normals
from triptych.metrics import BoundaryMetric
from triptych.report.scores import write_page

WINDOW = np.s_[60:180, 100:240]


def run(folder: Path, protocol: str, *, html: Path | None = None, **options: object) -> Score:
    found = score(folder / "predictions", folder / "targets", protocol=protocol, quiet=True, threads=2, **options)
    if html is not None:
        write_page(found, html)
    return found


def softmax(logits: np.ndarray) -> np.ndarray:
    return torch.tensor(logits).softmax(dim=1).numpy()


def save_published(folder: Path) -> None:
    """The inputs of the golden metrics, one file per image, predictions as a code base of that line would save them."""
    inputs = arrays()
    for i in range(len(inputs["depth_pred"])):
        name = f"{i:04d}"
        for side, task, values in (
            ("predictions", "semseg", inputs["semseg40_logits"][i].argmax(0).astype(np.uint8)),
            ("targets", "semseg", inputs["semseg40_label"][i, 0].astype(np.uint8)),
            ("predictions", "parts", inputs["parts_logits"][i].argmax(0).astype(np.uint8)),
            ("targets", "human_parts", inputs["parts_label"][i, 0].astype(np.uint8)),
            ("targets", "sal", inputs["sal_label_ignore"][i, 0].astype(np.uint8)),
        ):
            save(folder / side / task / f"{name}.png", values)
        for side, task, suffix, values in (
            ("predictions", "depth", ".npy", inputs["depth_pred"][i, 0]),
            ("targets", "depth", ".mat", inputs["depth_label_ignore0"][i, 0]),
            ("predictions", "normals", ".npz", inputs["normals_pred"][i]),
            ("targets", "normals", ".npy", inputs["normals_label_ignore0"][i].transpose(1, 2, 0)),
            ("predictions", "saliency", ".npy", softmax(inputs["sal_logits2"])[i, 1]),
        ):
            save(folder / side / task / f"{name}{suffix}", values)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    save_published(folder)
    return folder


CASES = [
    ("invpt", "semseg", "mIoU_absent_zero", "mIoU_semseg40", "mIoU"),
    ("invpt", "human_parts", "mIoU_absent_zero", "mIoU_parts", "mIoU"),
    ("invpt", "depth", "rmse", "depth_pooled", "rmse"),
    ("invpt", "depth", "log_rmse", "depth_pooled", "log_rmse"),
    ("invpt", "normals", "mErr", "normals_mean", "mean"),
    ("invpt", "saliency", "maxF_invpt", "saliency_maxF_double_sigmoid", "maxF"),
    ("atrc", "semseg", "mIoU_absent_zero", "mIoU_semseg40", "mIoU"),
    ("atrc", "depth", "rmse", "depth_rmse_ignore0", "rmse"),
    ("atrc", "normals", "mErr", "normals_mean", "mean"),
    ("atrc", "saliency", "maxF", "saliency_maxF_2channel", "maxF"),
    ("survey", "depth", "rmse", "depth_offline", "rmse"),
    ("survey", "normals", "mErr", "normals_offline_8bit", "mean"),
    ("survey", "normals", "median", "normals_offline_8bit", "median"),
    ("densemtl", "semseg", "mIoU", "mIoU_semseg40", "mIoU"),
    ("densemtl", "depth", "rmse_image", "depth_per_image", "rmse"),
    ("densemtl", "depth", "absrel_image", "depth_per_image", "abs_rel"),
]


@pytest.mark.parametrize(("protocol", "task", "number", "metric", "value"), CASES)
def test_published_values_through_files(
    published: Path, protocol: str, task: str, number: str, metric: str, value: str
) -> None:
    result = run(published, protocol, task=[task], classes=40)
    # The median comes from a histogram with bins of 0.01 degrees.
    tolerance = {"abs": 0.02} if number == "median" else {"rel": 1e-5}
    assert result.tasks[task].numbers[number] == pytest.approx(expected(protocol)[metric]["values"][value], **tolerance)


def test_survey_saliency_is_stored_as_8_bit(tmp_path: Path) -> None:
    inputs = arrays()
    probability = torch.tensor(inputs["sal_logit1"]).sigmoid().numpy()
    for form in ("float", "png"):
        for i, label in enumerate(inputs["sal_label"]):
            save(tmp_path / form / "targets" / "sal" / f"{i}.png", label[0].astype(np.uint8) * 255)
            path = tmp_path / form / "predictions" / "sal" / f"{i}"
            if form == "png":
                save(path.with_suffix(".png"), (probability[i, 0] * 255).astype(np.uint8))
            else:
                save(path.with_suffix(".npy"), probability[i, 0])
        found = run(tmp_path / form, "survey").tasks["saliency"].numbers
        values = expected("survey")["saliency_offline_8bit"]["values"]
        assert found == pytest.approx({"mIoU_survey": values["mIoU"], "maxF_survey": values["maxF"]}, rel=1e-5)


def save_boundaries(folder: Path, images: tuple[str, ...] = ("2018", "36046", "103006")) -> None:
    """Cut-outs of real maps: 8-bit predictions, annotators stacked vertically."""
    for image in images:
        save(folder / "predictions" / f"{image}.png", golden_map(image, "prediction")[WINDOW])
        stacked = np.concatenate([lines[WINDOW] for lines in golden_annotators(image)])
        save(folder / "targets" / f"{image}.png", stacked)


def test_boundary_scores_equal_the_metric(tmp_path: Path) -> None:
    save_boundaries(tmp_path)
    result = run(tmp_path, "bsds", max_dist=0.02)
    metric = BoundaryMetric("bsds", max_dist=0.02)
    for image in ("103006", "2018", "36046"):
        prediction = torch.tensor(golden_map(image, "prediction")[WINDOW] / np.float32(255))
        targets = torch.tensor(golden_annotators(image)[:, *WINDOW]).float()
        metric.update(prediction[None, None], targets[None])
    task = result.tasks["boundary"]
    assert task.numbers == metric.compute()
    assert task.facts == {
        "boundary_protocol": "bsds", "max_dist": 0.02, "ground_truth": "stored", "thresholds": 99
    }  # fmt: skip
    assert task.keys == ("103006", "2018", "36046")
    assert all(len(values) == 3 for values in task.per_image.values())


def test_threads_and_formats_leave_the_bits_alone(tmp_path: Path) -> None:
    save_boundaries(tmp_path / "png")
    first = run(tmp_path / "png", "seism", max_dist=0.02, ground_truth="stored")
    for suffix, convert in (
        (".npy", lambda levels: levels),
        (".npz", lambda levels: levels[None]),
        (".mat", lambda levels: levels / 255),
        (".png", lambda levels: levels.astype(np.uint16) * 257),
    ):
        folder = tmp_path / f"as{suffix}"
        shutil.copytree(tmp_path / "png" / "targets", folder / "targets")
        for path in sorted((tmp_path / "png" / "predictions").iterdir()):
            levels = convert(np.array(golden_map(path.stem, "prediction")[WINDOW]))
            save(folder / "predictions" / f"{path.stem}{suffix}", levels)
        other = score(folder / "predictions", folder / "targets", protocol="seism", max_dist=0.02,
                      ground_truth="stored", threads=1, quiet=True)  # fmt: skip
        assert other.tasks["boundary"].numbers == first.tasks["boundary"].numbers, suffix


def test_16_bit_maps_are_truncated_to_8_bit(tmp_path: Path) -> None:
    levels = np.array([[0, 256, 257, 513, 514, 65534, 65535]], np.uint16)
    stored = read_prediction(save(tmp_path / "a.png", levels), "boundary", Encodings())
    assert (255 * stored.values).round().int().tolist() == [[[0, 0, 1, 1, 2, 254, 255]]]


def test_boundaries_are_scored_whatever_stands_for_them(tmp_path: Path) -> None:
    """255 as pictures have it, and the labels that a published protocol outlines."""
    regions = np.zeros((32, 40), np.uint8)
    regions[:, 13:], regions[16:, 20:] = 3, 7
    lines = np.zeros(regions.shape, np.uint8)
    lines[:, 13] = lines[16, 20:] = lines[16:, 20] = 1
    save(tmp_path / "predictions" / "a.npy", lines.astype(np.float32))
    found = {}
    for kind, target in (("ones", lines), ("bytes", 255 * lines), ("regions", regions)):
        save(tmp_path / kind / "a.png", target)
        options = {"max_dist": 0.05} | ({"dataset": "nyuv2"} if kind == "regions" else {})
        result = score(
            tmp_path / "predictions", tmp_path / kind, protocol="atrc", task=("boundary",), quiet=True, **options
        )
        found[kind] = next(iter(result.tasks["boundary"].numbers.values()))
    assert found["bytes"] == found["ones"] > 0.9
    assert found["regions"] > 0.9


def test_a_palette_is_read_as_training_reads_it(tmp_path: Path) -> None:
    """A mask quantized to two shades has white at index 0; ids, and what is outlined, are indices."""
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 3:6] = 255
    shades, ids = tmp_path / "shades.png", tmp_path / "ids.png"
    quantized = Image.fromarray(np.repeat(mask[..., None], 3, -1)).quantize(2)
    assert np.asarray(quantized).tolist() == (mask == 0).astype(int).tolist()
    quantized.save(shades)
    colored = Image.fromarray((mask > 0).astype(np.uint8)).convert("P")
    colored.putpalette([255, 255, 255, 200, 0, 0])
    colored.save(ids, transparency=0)
    usual = Encodings(classes=2)
    assert (255 * read_prediction(shades, "saliency", usual).values).tolist() == [mask.tolist()]
    assert maps.read_target(shades, "saliency", usual).tolist() == (mask > 0).astype(int).tolist()
    assert maps.settle_encodings([shades], "saliency", usual).labels is False
    assert maps.read_annotators(shades, (6, 8), "stored").tolist() == [(mask > 0).astype(float).tolist()]
    assert read_prediction(ids, "semseg", usual).values.tolist() == (mask > 0).astype(int).tolist()
    assert maps.read_target(ids, "semseg", usual).tolist() == np.where(mask > 0, 1, 255).tolist()
    for recipe in ("stored", "outline"):
        lines = maps.read_annotators(ids, (6, 8), recipe).numpy()[0]
        assert np.isnan(lines[mask == 0]).all()
        assert (lines[mask > 0] == 1).all()


def test_region_maps_and_bsds_files_are_ground_truth_too(tmp_path: Path) -> None:
    prediction = golden_map("2018", "prediction")
    save(tmp_path / "predictions" / "2018.png", prediction)
    regions = golden_map("2018", "segmentation1")
    boundary = golden_annotators("2018")[0]
    numbers = []
    for name, write in {
        "boundaries": lambda path: save(path.with_suffix(".png"), boundary),
        "regions": lambda path: save(path.with_suffix(".png"), regions.astype(np.uint16)),
        "mat": lambda path: save_bsds(path.with_suffix(".mat"), [regions] * 2, [boundary.astype(np.uint8)] * 2),
    }.items():
        write(tmp_path / name / "2018")
        result = score(
            tmp_path / "predictions", tmp_path / name, protocol="seism-nonms", quiet=True,
            ground_truth="outline" if name == "regions" else "stored",
        )  # fmt: skip
        numbers.append(result.tasks["boundary"].numbers)
    assert numbers[0] == numbers[1]
    # The same annotator twice explains the same predictions: precision and recall stay.
    assert numbers[2] == pytest.approx(numbers[0])


def test_tasks_by_folder_with_the_reasons_for_others(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published / "predictions", tmp_path / "predictions")
    shutil.copytree(published / "targets", tmp_path / "targets")
    shutil.rmtree(tmp_path / "targets" / "depth")
    result = run(tmp_path, "densemtl", classes=40)
    assert set(result.tasks) == {"semseg", "normals"}
    assert set(result.left_out) == {"saliency", "human_parts", "depth"}
    assert "survey" in result.left_out["saliency"]
    assert "depth" in result.left_out["depth"]
    with pytest.raises(ValueError, match="protocol 'densemtl' has no saliency"):
        run(tmp_path, "densemtl", task=["saliency"])


def test_a_dataset_as_ground_truth(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for i in range(3):
            save(tmp_path / "data" / "images" / split / f"{i}.png", np.zeros((8, 9, 3), np.uint8))
            labels = np.full((8, 9), i % 2 + 5, np.uint8)
            labels[0] = 0
            save(tmp_path / "data" / "labels" / split / f"{i}.png", labels)
    (tmp_path / "data" / "dataset.toml").write_text(
        '[images]\nfiles = "images/{split}/{key}.*"\n'
        "[tasks.semseg]\nfiles = 'labels/{split}/{key}.png'\nclasses = ['a', 'b']\noffset = -5\ninvalid = [0]\n"
    )
    for i in range(3):
        save(tmp_path / "predictions" / "semseg" / f"{i}.png", np.zeros((8, 9), np.uint8))
    result = score(tmp_path / "predictions", tmp_path / "data", protocol="invpt", quiet=True)
    assert result.tasks["semseg"].numbers["mIoU_absent_zero"] == pytest.approx((2 / 3 + 0) / 2)
    assert result.tasks["semseg"].facts == {"classes": 2}


def test_photographs_of_a_dataset_are_not_decoded_for_its_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "data/images/test/a.png", np.zeros((8, 12, 3), np.uint8))
    save(tmp_path / "data/semseg/test/a.png", np.ones((4, 6), np.uint8))
    (tmp_path / "data/dataset.toml").write_text(
        "[images]\nfiles = 'images/{split}/{key}.png'\n"
        "[tasks.semseg]\nfiles = 'semseg/{split}/{key}.png'\nclasses = 2\nresize = true\n"
    )
    monkeypatch.setattr(Folder, "photo", Mock(side_effect=AssertionError))
    save(tmp_path / "predictions/semseg/a.png", np.ones((8, 12), np.uint8))
    found = score(tmp_path / "predictions", tmp_path / "data", protocol="invpt", quiet=True)
    assert found.tasks["semseg"].numbers["mIoU_absent_zero"] == 0.5
    save(tmp_path / "predictions/semseg/a.png", np.ones((4, 6), np.uint8))
    with pytest.raises(ValueError, match=r"is 4x6, its ground truth .* 8x12"):  # that of the image
        score(tmp_path / "predictions", tmp_path / "data", protocol="invpt", quiet=True)


@pytest.mark.parametrize("task", ["semseg", "human_parts"])
def test_offsets_mean_the_same_for_every_task_of_classes(tmp_path: Path, task: str) -> None:
    """Classes stored one higher are the same maps with -1 on either side; 0 has no label then."""
    truth, found = np.random.default_rng(0).integers(0, 5, (2, 8, 9)).astype(np.uint8)
    truth[0] = 255
    for root, shift in (("as they are", 0), ("from one", 1)):
        stored = np.where(truth == 255, np.uint8(255 if shift == 0 else 0), truth + np.uint8(shift))
        save(tmp_path / root / "targets" / task / "a.png", stored)
        save(tmp_path / root / "predictions" / task / "a.png", found + np.uint8(shift))
    numbers = run(tmp_path / "as they are", "invpt", classes=7).tasks[task].numbers
    moved = run(tmp_path / "from one", "invpt", classes=7, label_offset=-1, prediction_offset=-1).tasks[task].numbers
    assert moved == numbers


def test_an_offset_of_labels_is_refused_beside_a_descriptor(tmp_path: Path) -> None:
    save(tmp_path / "data/images/test/a.png", np.zeros((8, 9, 3), np.uint8))
    save(tmp_path / "data/semseg/test/a.png", np.ones((8, 9), np.uint8))
    (tmp_path / "data/dataset.toml").write_text("[tasks.semseg]\nfiles = 'semseg/{split}/{key}.png'\nclasses = 2\n")
    save(tmp_path / "predictions/semseg/a.png", np.ones((8, 9), np.uint8))
    with pytest.raises(ValueError, match=r"--label-offset -1 has no effect .* offset in \[tasks\.semseg\]"):
        score(tmp_path / "predictions", tmp_path / "data", protocol="invpt", label_offset=-1, quiet=True)


def test_saved_scores_hold_every_image(tmp_path: Path) -> None:
    save_boundaries(tmp_path)
    result = run(tmp_path, "bsds", max_dist=0.02, ci=50, out=tmp_path / "scores.json")
    saved = json.loads((tmp_path / "scores.json").read_text())
    task = saved["tasks"]["boundary"]
    assert (saved["protocol"], task["images"]) == ("bsds", 3)
    assert task["numbers"] == result.tasks["boundary"].numbers
    assert task["facts"]["max_dist"] == 0.02
    assert list(task["per_image"]) == ["103006", "2018", "36046"]
    for number, (low, high) in task["intervals"].items():
        assert low <= task["numbers"][number] <= high
    assert "95 % interval" in [column.header for column in score_table(result).columns]
    with pytest.raises(ValueError, match=r"scores\.json exists; .*--overwrite"):
        run(tmp_path, "bsds", out=tmp_path / "scores.json")


def test_scores_are_seen_whatever_comes_of_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "predictions/semseg/a.png", np.ones((8, 9), np.uint8))
    save(tmp_path / "targets/semseg/a.png", np.ones((8, 9), np.uint8))
    there = partial(score, tmp_path / "predictions", tmp_path / "targets", protocol="invpt", classes=2)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to .*file.*; name a file in another folder"):
        there(out=tmp_path / "file/scores.json")
    assert not capsys.readouterr().out
    monkeypatch.setattr("triptych.evaluation.offline.save_score", Mock(side_effect=OSError("No space left")))
    with pytest.raises(OSError, match="No space left"):
        there(out=tmp_path / "scores.json")
    assert "mIoU" in capsys.readouterr().out


class Counted(list):
    """A list that counts how often it was gone through."""

    times = 0

    def __iter__(self):
        self.times += 1
        return super().__iter__()


def test_pairing_goes_through_the_names_some_times_and_not_for_each(tmp_path: Path) -> None:
    targets = Counted(f"{i}" for i in range(50))
    pairs = pair({f"{i}": tmp_path for i in range(10, 60)}, targets, "semseg", partial=True)
    assert (len(pairs.keys), len(pairs.unpredicted), len(pairs.untargeted)) == (40, 10, 10)
    assert targets.times < 5


@pytest.mark.parametrize(("mine", "theirs"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_with_accents_pair_in_any_form_of_unicode(tmp_path: Path, mine: str, theirs: str) -> None:
    for side, form in (("predictions", mine), ("targets", theirs)):
        save(tmp_path / side / "semseg" / unicodedata.normalize(form, "café.png"), np.ones((8, 9), np.uint8))
    assert run(tmp_path, "invpt", classes=2).tasks["semseg"].keys == ("café",)


def test_comparison_is_paired(tmp_path: Path) -> None:
    save_boundaries(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for path in (tmp_path / "b" / "predictions").iterdir():
        noise = 255 * (np.random.default_rng(0).random((120, 140)) < 0.03)
        save(path, np.maximum(golden_map(path.stem, "prediction")[WINDOW], noise).astype(np.uint8))
    for name in "ab":
        run(tmp_path / name, "bsds", max_dist=0.02, out=tmp_path / f"{name}.json")
    found = compare_scores(tmp_path / "a.json", tmp_path / "b.json", resamples=100)["boundary"].numbers[
        "odsF_bsds_0.02"
    ]
    saved = [json.loads((tmp_path / f"{name}.json").read_text())["tasks"]["boundary"]["numbers"] for name in "ab"]
    assert [found.first, found.second] == [numbers["odsF_bsds_0.02"] for numbers in saved]
    assert found.difference < 0
    assert found.second_better < 0.05
    same = compare_scores(tmp_path / "a.json", tmp_path / "a.json", resamples=20)["boundary"].numbers["odsF_bsds_0.02"]
    assert same[2:] == (0.0, 0.0, 0.0, 0.5)


def save_videos(folder: Path, frames: int, seed: int = 0) -> Path:
    """Depth of eight videos of equal frames, and predictions that err by one number for each; returns the folder."""
    errors = np.random.default_rng(seed).uniform(0, 1, 8)
    for video, error in enumerate(errors):
        for frame in range(frames):
            for side, depth in (("predictions", 2 + error), ("targets", 2.0)):
                save(folder / side / f"depth/{video}/{frame}.npy", np.full((5, 6), depth, np.float32))
    return folder


def test_images_of_a_group_are_drawn_together(tmp_path: Path) -> None:
    """Copies of an image add nothing: intervals over folders of copies are those over the images. So in comparisons."""
    one, four = (save_videos(tmp_path / f"{frames}", frames) for frames in (1, 4))
    single = run(one, "invpt", ci=100).tasks["depth"].intervals["rmse"]
    copies = run(four, "invpt", ci=100).tasks["depth"]
    grouped = run(four, "invpt", ci=100, group="folder").tasks["depth"]
    assert grouped.intervals["rmse"] == pytest.approx(single)
    assert copies.intervals["rmse"].high - copies.intervals["rmse"].low < 0.7 * (single.high - single.low)
    assert "intervals over 8 groups of them" in grouped.counts()
    assert "groups" not in copies.counts()

    found = {}
    for frames in (1, 4):
        for seed, group in ((0, None), (1, "folder")):  # groups that one of the files knows
            folder = save_videos(tmp_path / f"{frames}", frames, seed)
            run(folder, "invpt", group=group, out=tmp_path / f"{frames}-{seed}.json")
        compared = compare_scores(tmp_path / f"{frames}-0.json", tmp_path / f"{frames}-1.json")["depth"]
        found[frames] = compared.numbers["rmse"]
        assert (compared.images, compared.drawn) == (8 * frames, 8)
    assert found[4] == pytest.approx(found[1])


def test_groups_of_a_dataset_are_drawn_unless_others_are_named(tmp_path: Path) -> None:
    save_videos(tmp_path, 2)
    for path in list((tmp_path / "targets/depth").rglob("*.npy")):
        key = path.relative_to(tmp_path / "targets/depth").with_suffix("")
        save(tmp_path / f"data/depth/test/{key}.npy", np.load(path))
        save(tmp_path / f"data/images/test/{key}.png", np.zeros((5, 6, 3), np.uint8))
    (tmp_path / "data/dataset.toml").write_text(
        "group = 'folder'\n[images]\nfiles = 'images/{split}/{key}.png'\n"
        "[tasks.depth]\nfiles = 'depth/{split}/{key}.npy'\nscale = 1.0\n"
    )
    for group, number in ((None, 8), ("file", 16), ("folder", 8), ("time", 16)):
        found = score(tmp_path / "predictions", tmp_path / "data", protocol="invpt", ci=5, group=group, quiet=True)
        assert len(set(found.tasks["depth"].groups)) == number


def test_files_of_scores_are_compared_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_boundaries(tmp_path, ("2018",))
    run(tmp_path, "bsds", max_dist=0.02, out=tmp_path / "a.json")
    words = ["compare", str(tmp_path / "a.json")]
    assert main([*words, words[1], "--out", str(tmp_path / "out.json")]) == 0
    [found] = json.loads((tmp_path / "out.json").read_text())["differences"].values()
    assert found["boundary"]["odsF_bsds_0.02"]["difference"] == 0
    capsys.readouterr()
    for wrong in (words, [*words, words[1], "--split", "val"]):
        assert main(wrong) == 2
        assert "are compared two files at a time" in capsys.readouterr().err


def test_the_images_that_both_files_have_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of a comparison are of the common images: the count of them belongs to them."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    files = [f"{name}/invpt.json" for name in ("theirs", "ours", "some")]
    for file, there in zip(files, (range(12), range(5, 12), range(4)), strict=True):
        for image in there:
            save_depth(Path(file).parent, 2 + 0.1 * image, 2000, f"image{image}")
        run(Path(file).parent, "invpt", task=["depth"], out=Path(file))
    capsys.readouterr()
    assert main(["compare", *files, "--out", "out.json"]) == 0
    _, ours, some = capsys.readouterr().out.split("task ")
    assert all(file in table for file, table in zip(files[1:], (ours, some), strict=True))
    assert all(files[0] in table and "rmse ↓" in table for table in (ours, some))
    assert " 7 of 12 " in ours
    assert "too few images" not in ours
    assert " 4 of 12 " in some
    assert "too few images" in some
    images = json.loads(Path("out.json").read_text())["images"]
    assert images[files[1]]["depth"] == {"both": 7, "baseline": 12, "other": 7}


def test_files_that_are_there_are_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the file of sums beside scores, such as the weights of a run, nor what is compared."""
    monkeypatch.chdir(tmp_path)
    for name in ("theirs", "ours"):
        save_depth(Path(name), 2.0, 2000, "a")
        run(Path(name), "invpt", task=["depth"], out=Path(f"{name}.json"))
    Path("model.safetensors").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"model\.safetensors exists; name another file, or --overwrite it"):
        run(Path("ours"), "invpt", task=["depth"], out=Path("model.json"))
    assert Path("model.safetensors").read_bytes() == b"weights"
    kept = Path("ours.json").read_bytes()
    words = ["compare", "theirs.json", "ours.json", "--out"]
    for out in ("ours.json", "./ours.json"):
        assert main([*words, out, "--overwrite"]) == 2
        assert "is one of the files that are compared" in capsys.readouterr().err
    assert Path("ours.json").read_bytes() == kept
    assert main([*words, "out.json"]) == 0
    assert main([*words, "out.json"]) == 2
    assert "out.json exists" in capsys.readouterr().err
    assert main([*words, "out.json", "--overwrite"]) == 0


def test_a_network_is_compared_with_saved_maps_by_its_own_maps(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["runs/ours", "theirs.json"], ["theirs.json", "--baseline", "runs/ours"]):
        assert main(["compare", *words]) == 2
        error = capsys.readouterr().err
        assert "`triptych predict runs/ours IMAGES --out MAPS`" in error
        assert error.count("\n") == 1


def test_comparison_refuses_what_does_not_compare(tmp_path: Path) -> None:
    save_boundaries(tmp_path, ("2018",))
    for name, max_dist in (("a", 0.02), ("b", 0.03)):
        run(tmp_path, "bsds", max_dist=max_dist, out=tmp_path / f"{name}.json")
    with pytest.raises(ValueError, match=r"max_dist 0\.02.*max_dist 0\.03.*score both alike"):
        compare_scores(tmp_path / "a.json", tmp_path / "b.json")
    with pytest.raises(ValueError, match=r"c\.json does not exist"):
        compare_scores(tmp_path / "a.json", tmp_path / "c.json")
    (tmp_path / "d.json").write_text("{}")
    with pytest.raises(ValueError, match=r"d\.json is no score"):
        compare_scores(tmp_path / "a.json", tmp_path / "d.json")


def test_the_page_stands_alone(tmp_path: Path) -> None:
    save_boundaries(tmp_path)
    run(tmp_path, "bsds", max_dist=0.02, ci=20, html=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert len(re.findall(r'<img class="\w*" alt="[^"]+" src="data:image/', page)) == 9
    assert '<path d="M' in page
    assert not re.search(r"https?:", page)
    assert "103006" in page


def test_the_page_shows_every_task(published: Path, tmp_path: Path) -> None:
    run(published, "invpt", classes=40, html=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    for task in ("semseg", "human_parts", "saliency", "normals", "depth"):
        assert f"<h2>{task}</h2>" in page


def test_the_command_offers_every_protocol() -> None:
    offered = typing.get_args(typing.get_type_hints(ScoreOptions)["protocol"])
    assert set(offered) == set(RULES)


def test_every_rule_makes_its_metric() -> None:
    for protocol, rules in RULES.items():
        for task, rule in rules.items():
            metric = rule.metric(DataSettings(classes=5))
            names = rule.names(metric)
            assert set(names) <= set(metric.better), (protocol, task)
            assert rule.definition.endswith(".")
    assert find_rule("invpt", "boundary").metric(DataSettings("nyuv2")).primary == "odsF_seism_0.011"
    assert find_rule("survey", "boundary").metric(DataSettings("pascal-context")).primary == "odsF_seism-nonms_0.0075"


# What can be wrong.


def test_missing_predictions_are_refused_unless_partial(tmp_path: Path) -> None:
    save_boundaries(tmp_path)
    (tmp_path / "predictions" / "2018.png").unlink()
    save(tmp_path / "predictions" / "extra.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"1 of 3 images have no prediction \(2018\).*--partial"):
        run(tmp_path, "bsds")
    task = run(tmp_path, "bsds", partial=True).tasks["boundary"]
    assert task.keys == ("103006", "36046")
    assert task.counts() == "2 scored, 1 without prediction, 1 without ground truth"


def test_raises_for_sizes_that_differ(tmp_path: Path) -> None:
    save_boundaries(tmp_path, ("2018",))
    save(tmp_path / "predictions" / "2018.png", golden_map("2018", "prediction")[60:181, 100:240])
    with pytest.raises(
        ValueError, match=r"2018\.png is 121x140, its ground truth .*2018\.png 600x140; .* never resized"
    ):
        run(tmp_path, "bsds")
    save(tmp_path / "small" / "targets" / "depth" / "a.png", np.full((4, 6), 900, np.uint16))
    save(tmp_path / "small" / "predictions" / "depth" / "a.png", np.full((4, 5), 900, np.uint16))
    with pytest.raises(ValueError, match=r"4x5, its ground truth .* 4x6"):
        run(tmp_path / "small", "invpt")


def save_depth(root: Path, prediction: float, target: int, name: str = "a") -> None:
    save(root / "targets" / "depth" / f"{name}.png", np.full((4, 6), target, np.uint16))
    save(root / "predictions" / "depth" / f"{name}.npy", np.full((4, 6), prediction, np.float32))


def test_the_unit_of_whole_numbers_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_depth(tmp_path, 2.0, 2500)
    save(tmp_path / "predictions" / "material" / "a.npy", np.zeros((4, 6)))
    result = score(tmp_path / "predictions", tmp_path / "targets", protocol="invpt")
    assert result.tasks["depth"].numbers["rmse"] == pytest.approx(0.5)
    shown = " ".join(capsys.readouterr().out.split())
    assert "whole numbers millimetres (--depth-scale says otherwise)" in shown
    assert "material left out: it is named like no task" in shown
    told = score(tmp_path / "predictions", tmp_path / "targets", protocol="invpt", depth_scale=0.001, quiet=True)
    assert told.tasks["depth"].numbers == result.tasks["depth"].numbers
    assert told.tasks["depth"].facts == {}


def save_normals(root: Path, axes: tuple[str, str, str], predicted: tuple[str, str, str]) -> None:
    """Stripes that face three sides, stored along other axes on either side, the prediction some degrees away."""
    facing = F.normalize(torch.tensor([[0.6, 0.1, -0.8], [-0.5, 0.3, -0.9], [0.1, -0.8, -0.4]]), dim=1)
    truth = facing.T[:, torch.arange(12) // 4].unsqueeze(1).repeat(1, 9, 1)
    near = F.normalize(truth + torch.tensor([0.1, -0.1, 0.1])[:, None, None], dim=0)
    for side, values, order in (("targets", truth, axes), ("predictions", near, predicted)):
        save(root / side / "normals" / "a.npy", Normals(axes=order).encode(values))


def test_normals_are_compared_in_one_frame(tmp_path: Path) -> None:
    archive, camera = ("right", "forward", "up"), ("right", "down", "forward")
    save_normals(tmp_path / "ours", camera, camera)
    right = run(tmp_path / "ours", "invpt").tasks["normals"].numbers
    assert 5 < right["mErr"] < 15
    save_normals(tmp_path / "archive", archive, camera)
    with pytest.raises(ValueError, match=r"point along other axes: .*--normals-axes.*--prediction-normals-axes"):
        run(tmp_path / "archive", "invpt")
    found = run(tmp_path / "archive", "invpt", normals_axes=archive).tasks["normals"].numbers
    assert found == pytest.approx(right, rel=1e-4)
    save_normals(tmp_path / "theirs", archive, archive)
    found = run(tmp_path / "theirs", "invpt").tasks["normals"].numbers
    assert found == pytest.approx(right, rel=1e-4)  # of both alike nothing is asked
    with pytest.raises(ValueError, match=r"turned to right, forward, up"):
        run(tmp_path / "theirs", "invpt", normals_axes=archive)
    told = run(tmp_path / "archive", "invpt", normals_axes=camera, prediction_normals_axes=camera)
    assert told.tasks["normals"].numbers["mErr"] > 60  # who says both is believed
    with pytest.raises(ValueError, match=r"name one of right/left"):
        run(tmp_path / "ours", "invpt", normals_axes=("right", "left", "up"))


def test_scores_against_other_truth_do_not_compare(tmp_path: Path) -> None:
    """However it came about; and the same truth does, whether its unit was told or assumed."""
    for name in ("a", "b"):
        save_depth(tmp_path, 2.0, 2500, name=name)
    save_depth(tmp_path / "moved", 2.0, 2500, name="a")
    save_depth(tmp_path / "moved", 2.0, 2600, name="b")
    for name, root, options in (
        ("assumed", tmp_path, {}),
        ("told", tmp_path, {"depth_scale": 0.001}),
        ("scaled", tmp_path, {"depth_scale": 0.002}),
        ("moved", tmp_path / "moved", {}),
    ):
        run(root, "invpt", task=["depth"], out=tmp_path / f"{name}.json", **options)
    found = compare_scores(tmp_path / "assumed.json", tmp_path / "told.json", resamples=20)
    assert found["depth"].numbers["rmse"].difference == 0
    for name, count in (("scaled", 2), ("moved", 1)):
        with pytest.raises(ValueError, match=f"ground truth of {count} of 2 images differs"):
            compare_scores(tmp_path / "assumed.json", tmp_path / f"{name}.json", resamples=20)


def test_a_mask_is_read_alike_whether_or_not_it_holds_an_object(tmp_path: Path) -> None:
    """255 is no label in a folder of labels, and salient in one of grey values; both at once are refused."""
    empty, filled = np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint8)
    empty[0] = filled[0] = 255
    for folder, inside, margin in (("labels", 1, 255), ("grey", 255, 1)):
        filled[2] = inside
        for name, values in (("a", empty), ("b", filled), ("c", empty)):
            save(tmp_path / folder / "targets" / "saliency" / f"{name}.png", values)
            save(tmp_path / folder / "predictions" / "saliency" / f"{name}.png", np.full((4, 6), 99, np.uint8))
        score = run(tmp_path / folder, "invpt").tasks["saliency"]
        targets = {key: score.given.read(key)[1] for key in "abc"}
        assert all((target[0] == margin).all() and (target[1] == 0).all() for target in targets.values())
        assert (targets["b"][2] == 1).all()
        assert score.facts.get("whole numbers", "") == ("labels 0, 1 and 255 (unlabelled)" if inside == 1 else "")
    save(tmp_path / "labels" / "targets" / "saliency" / "c.png", np.full((4, 6), 128, np.uint8))
    with pytest.raises(ValueError, match=r"c\.png: has grey values, and other files of its folder have labels"):
        run(tmp_path / "labels", "invpt")
    assert maps._holds_labels(np.eye(4, dtype=np.float32)) is None  # is 1 in both


@pytest.mark.parametrize(
    ("prediction", "target", "name", "words"),
    [
        (2.5, 12500, "a_depth_5000", r"says 5000 per metre; give --depth-scale 0\.0002, or 0\.001 where"),
        (2.5, 20, "a", r"median of 0\.02 m in millimetres; give --depth-scale, the metres per unit"),
        (2.5, 25000, "a", r"one of two units: .*a\.npy has a median of 2\.5 m and .*a\.png has a median of 25 m"),
    ],
)
def test_a_unit_that_cannot_be_known_is_asked_for(
    tmp_path: Path, prediction: float, target: int, name: str, words: str
) -> None:
    save_depth(tmp_path, prediction, target, name)
    with pytest.raises(ValueError, match=words):
        run(tmp_path, "invpt")
    told = run(tmp_path, "invpt", depth_scale=prediction / target)
    assert told.tasks["depth"].numbers["rmse"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("names", [("512",), ("1000",), ("depth_512", "depth_513"), ("frame_256",), ("depth_1000",)])
def test_numbers_of_frames_are_no_units(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        save_depth(tmp_path, 2.5, 2500, name)
    assert run(tmp_path, "invpt").tasks["depth"].numbers["rmse"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("task", "prediction", "words"),
    [
        ("boundary", np.full((12, 9), -0.5), r"a\.npy: has values in \[-0.5, -0.5\]"),
        ("boundary", np.full((12, 9), 200.0), "divide by the largest value"),
        ("boundary", np.full((12, 9), 3, np.int64), "has int64 values; save probabilities as 8 or 16 bit"),
        ("boundary", np.where(np.eye(12, 9) > 0, np.nan, 0.5), r"a\.npy: has 9 NaN pixels"),
        ("boundary", np.zeros((2, 12, 9), np.uint8), r"has shape \(2, 12, 9\)"),
        ("saliency", np.full((12, 9), 1.5), r"values in \[1.5, 1.5\]"),
        ("depth", np.full((12, 9), np.nan, np.float32), r"a\.npy is NaN or infinite at 108 pixels"),
        ("depth", np.full((12, 9), 5, np.uint8), r"a\.npy is uint8; give --prediction-depth-scale"),
        ("normals", np.full((3, 12, 9), np.inf, np.float32), "NaN or infinite at 108 pixels"),
        ("semseg", np.full((12, 9), 7, np.uint8), r"semseg of a .*class ids 7\.\.7.*4 classes"),
        ("semseg", np.full((12, 9), 0.5), "no whole numbers"),
    ],
)
def test_raises_for_bad_maps(tmp_path: Path, task: str, prediction: np.ndarray, words: str) -> None:
    truth = {
        "boundary": np.eye(12, 9, dtype=bool),
        "saliency": np.eye(12, 9, dtype=np.uint8),
        "depth": np.ones((12, 9), np.float32),
        "normals": np.tile(np.float32([0, 0, -1]), (12, 9, 1)),
        "semseg": np.zeros((12, 9), np.uint8),
    }
    save(tmp_path / "predictions" / task / "a.npy", prediction)
    save(tmp_path / "targets" / task / "a.npy", truth[task])
    with pytest.raises(ValueError, match=words):
        run(tmp_path, "invpt", task=[task], classes=4)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    save_boundaries(tmp_path, ("2018",))
    (tmp_path / "predictions" / "2018.png").write_bytes(b"no image at all")
    with pytest.raises(OSError, match=r"predictions/2018\.png cannot be read"):
        run(tmp_path, "bsds")


def test_votes_are_not_taken_for_boundaries(tmp_path: Path) -> None:
    save(tmp_path / "predictions" / "a.png", np.zeros((12, 9), np.uint8))
    save(tmp_path / "targets" / "a.png", np.arange(108, dtype=np.uint8).reshape(12, 9) % 6)
    with pytest.raises(ValueError, match=r"targets/a\.png has more than two values \(6\); --ground-truth outline"):
        run(tmp_path, "seism")


def test_folders_and_names_that_do_not_fit(tmp_path: Path, published: Path) -> None:
    with pytest.raises(ValueError, match="unknown protocol 'invp'; did you mean 'invpt'"):
        run(published, "invp")
    with pytest.raises(ValueError, match="unknown dataset 'nyu'"):
        run(published, "invpt", dataset="nyu")
    with pytest.raises(ValueError, match="give --classes"):
        run(published, "invpt", task=["semseg"])
    with pytest.raises(ValueError, match="nowhere does not exist"):
        score(tmp_path / "nowhere", tmp_path, protocol="bsds", quiet=True)
    (tmp_path / "arrays" / "depth").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"did you mean .*arrays"):
        score(tmp_path, published / "targets", protocol="invpt", quiet=True)
    save(tmp_path / "p" / "one.png", np.zeros((4, 4), np.uint8))
    save(tmp_path / "t" / "other.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="called like 'one', ground truth like 'other'"):
        score(tmp_path / "p", tmp_path / "t", protocol="bsds", quiet=True)
    save(tmp_path / "p" / "one.npy", np.zeros((4, 4)))
    with pytest.raises(ValueError, match="have the same name"):
        score(tmp_path / "p", tmp_path / "t", protocol="bsds", quiet=True)
