"""Scoring: against metrics fed by hand, in parts, with missing labels, and against constant predictions."""

import json
import math
import re
import shutil
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from training.tiny import RECIPE, Rectangles, change
from unchecked import shapes_unchecked

from triptych import assemble
from triptych.datasets import DATASETS
from triptych.decoders.base import Decoder
from triptych.evaluation import constant
from triptych.evaluation.compare import compare_runs
from triptych.evaluation.constant import ConstantPredictor
from triptych.evaluation.evaluate import evaluate
from triptych.evaluation.protocols import RULES, DataSettings, Scoring
from triptych.evaluation.run import CONSTANT, evaluate_run, open_scored_split
from triptych.evaluation.scores import Evaluation
from triptych.evaluation.tables import score_table
from triptych.lookup import named_choice
from triptych.metrics.base import Count, Metric, Total, exact_sum
from triptych.metrics.bootstrap import bootstrap, compute_sums
from triptych.prediction.predictor import Predictor
from triptych.tasks import Task, boundary, depth, human_parts, normals, nyuv2_tasks, regression, saliency, semseg
from triptych.training.loop import train
from triptych.types import Sample, valid_pixels


class Oracle:
    """Predicts from the image with a fixed error."""

    def predict(self, image: Tensor) -> dict[str, Tensor]:
        labels = (image[:, 1] > 0.5).long()
        return {"semseg": labels, "depth": 1.0 + 2 * labels[:, None].float(), "normals": torch.ones_like(image)}


@pytest.fixture(scope="module")
def dataset() -> Rectangles:
    return Rectangles(length=7, unlabelled=("depth",), every=3)


@pytest.fixture(scope="module")
def evaluation(dataset: Rectangles) -> Evaluation:
    return evaluate(Oracle(), dataset, dataset.tasks)


def test_numbers_are_those_of_the_metrics_fed_with_one_batch(dataset: Rectangles, evaluation: Evaluation) -> None:
    samples = [dataset[index] for index in range(len(dataset))]
    predictions = Oracle().predict(torch.stack([sample.image for sample in samples]))
    for name, task in dataset.tasks.items():
        metric = task.metric()
        metric.update(predictions[name], torch.stack([sample.targets[name] for sample in samples]))
        expected = {key: float(value) for key, value in metric.compute().items()}
        assert evaluation.metrics[name] == pytest.approx(expected, nan_ok=True)


def test_what_is_no_dataset_or_no_network_of_ours_is_named(dataset: Rectangles) -> None:
    class Plain(nn.Module):
        def forward(self, image: Tensor) -> dict[str, Tensor]:
            return {"depth": image[:, :1]}

    with shapes_unchecked():
        with pytest.raises(TypeError, match=r"dataset is a TensorDataset; give a triptych\.DenseDataset"):
            evaluate(Oracle(), TensorDataset(torch.zeros(2, 3)), dataset.tasks)
        with pytest.raises(TypeError, match=r"the network returns a dict; return triptych\.Output\(predictions="):
            evaluate(Plain(), dataset, {"depth": depth()})


def test_labelled_images_are_counted_by_task(evaluation: Evaluation) -> None:
    assert evaluation.labelled == {"semseg": 7, "depth": 4, "normals": 7}
    assert evaluation.keys == tuple(f"train-{index}" for index in range(7))


def test_any_subset_can_be_scored_from_the_sums(dataset: Rectangles, evaluation: Evaluation) -> None:
    some = [1, 2, 4]
    sums = {state: value[some] for state, value in evaluation.sums["depth"].items()}
    metric = depth().metric()
    for index in some:
        sample = dataset[index]
        metric.update(Oracle().predict(sample.image[None])["depth"], sample.targets["depth"][None])
    expected = {key: float(value) for key, value in metric.compute().items()}
    assert compute_sums(depth().metric(), sums) == pytest.approx(expected)


def test_a_task_without_labels_has_no_numbers_and_no_say_in_selection() -> None:
    bare = Rectangles(length=3, unlabelled=("depth",))
    result = evaluate(Oracle(), bare, bare.tasks)
    assert result.metrics["depth"] == {}
    assert result.labelled["depth"] == 0
    assert "depth/rmse" not in result.primary()
    assert result.score() == pytest.approx(
        (math.log(result.metrics["semseg"]["mIoU"]) - math.log(result.metrics["normals"]["mErr"])) / 2
    )


def test_limit_spreads_over_the_dataset(dataset: Rectangles) -> None:
    assert evaluate(Oracle(), dataset, dataset.tasks, limit=3).keys == ("train-0", "train-2", "train-4")


def test_progress_counts_images(dataset: Rectangles) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(Oracle(), dataset, dataset.tasks, limit=2, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 2), (2, 2)]


def score_of(**numbers: float) -> float:
    tasks = {"semseg": semseg(2), "depth": depth()}
    metrics = {"semseg": {"mIoU": numbers["mIoU"]}, "depth": {"rmse": numbers["rmse"]}}
    return Evaluation(metrics, dict.fromkeys(tasks, 1), (), {}, tasks).score()


def test_score_differences_are_delta_mtl_to_first_order() -> None:
    gain = score_of(mIoU=0.404, rmse=0.495) - score_of(mIoU=0.4, rmse=0.5)
    assert gain == pytest.approx((0.01 + 0.01) / 2, rel=0.01)
    assert score_of(mIoU=0.4, rmse=0.5) > score_of(mIoU=0.4, rmse=0.6)
    assert score_of(mIoU=0.4, rmse=0.5) > score_of(mIoU=0.3, rmse=0.5)


def test_a_better_number_scores_higher_below_zero_too() -> None:
    task = regression("heat", metric="r2")
    scores = [
        Evaluation({"heat": {"r2": value}}, {"heat": 1}, (), {}, {"heat": task}).score()
        for value in (-5.0, -0.3, -0.01, 0.0, 0.2, 0.9)
    ]
    assert scores == sorted(set(scores))


class Bias(Metric):
    """How much too large predictions are: perfect is neither more nor less."""

    primary = "bias"
    better: ClassVar = {"bias": False}
    perfect = 0.0
    below_zero = True
    total: Total
    pixels: Count

    def update(self, prediction: Tensor, target: Tensor) -> None:
        valid = valid_pixels(target)
        self.total += exact_sum((prediction - target)[valid])
        self.pixels += valid.sum()

    def compute(self) -> dict[str, float]:
        return {"bias": float(self.total.sum() / self.pixels)}


def test_what_lies_beyond_perfect_is_as_far_from_it_as_what_falls_short() -> None:
    task = replace(depth(), metric=Bias)

    def scored(bias: float) -> Evaluation:
        return Evaluation({"depth": {"bias": bias}}, {"depth": 1}, (), {}, {"depth": task})

    assert [scored(bias).score() for bias in (-0.1, -3.0)] == [scored(bias).score() for bias in (0.1, 3.0)]
    assert scored(3.0).score() < scored(0.1).score() < scored(0.0).score()
    for bias in (-0.1, 0.1):
        assert scored(bias).gain_over({"depth": {"bias": -0.2}}) == pytest.approx(50)
    # The mean has a bias of 0, the median one of -1.5.
    assert constant_of(task, torch.tensor([[[1.0, 1.0, 1.0, 7.0]]])).item() == pytest.approx(2.5)


class Likelihood(Metric):
    """Its number is a logarithm, below 0 where it is bad."""

    primary = "likelihood"
    better: ClassVar = {"likelihood": True}

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Nothing to add."""

    def compute(self) -> dict[str, float]:
        return {"likelihood": -5.0}


def test_numbers_below_zero_that_nothing_compares_are_refused() -> None:
    task = replace(regression("heat"), metric=Likelihood)
    with pytest.raises(ValueError, match="'likelihood' of task 'heat' is -5, and checkpoints are chosen by its log"):
        Evaluation({"heat": {"likelihood": -5.0}}, {"heat": 1}, (), {}, {"heat": task}).score()
    with pytest.raises(TypeError, match="Endless is `below_zero` without the number that is `perfect`"):
        type("Endless", (Likelihood,), {"below_zero": True})


def test_a_number_that_is_not_finite_scores_worst() -> None:
    assert score_of(mIoU=math.nan, rmse=0.5) == -math.inf
    assert math.isfinite(score_of(mIoU=0.0, rmse=0.5))


# Constants


class Fixed(Rectangles):
    """Given targets in place of rectangles."""

    def __init__(self, task: Task, targets: list[Tensor]) -> None:
        super().__init__(length=len(targets))
        self.tasks, self.targets = {task.name: task}, targets

    def __getitem__(self, index: int) -> Sample:
        target = self.targets[index]
        return Sample(torch.zeros(3, *target.shape[-2:]), dict.fromkeys(self.tasks, target), self.key(index))


def constant_of(task: Task, *targets: Tensor) -> Tensor:
    return ConstantPredictor.fit(Fixed(task, list(targets)), {task.name: task}).values[task.name]


def test_checksums_tell_which_targets_changed() -> None:
    targets = [torch.full((1, 4, 6), 2.0), torch.full((1, 4, 6), math.nan)]
    moved = [targets[0], targets[1].index_fill(2, torch.tensor([2]), 1.0)]
    model = Mock(spec=["predict"], predict=lambda image: {"depth": torch.ones(1, 1, 4, 6)})
    data = [Fixed(depth(), each) for each in (targets, moved)]
    one, other = (evaluate(model, each, each.tasks).truth["depth"] for each in data)
    assert [one[key] == other[key] for key in one] == [True, False]


def test_the_constant_class_is_the_most_frequent_valid_one() -> None:
    labels = torch.tensor([[255, 255, 255, 255], [1, 1, 2, 0]])
    assert constant_of(semseg(3), labels).item() == 1


def test_the_constant_depth_minimises_the_primary_error() -> None:
    """rmse is smallest at the mean, and no candidate beats it."""
    target = torch.tensor([[[1.0, 1.0, 1.0, 7.0, torch.nan]]])
    assert constant_of(depth(), target).item() == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("pixels", "best"),
    [([0, 0, 0, 1, 1], [1.0, 0.0, 0.0]), ([0, 1, 2], [math.sqrt(1 / 3)] * 3)],
    ids=["the median", "the mean"],
)
def test_the_constant_normal_is_the_direction_of_the_smaller_error(pixels: list[int], best: list[float]) -> None:
    directions = torch.eye(3)[pixels]
    assert constant_of(normals(), directions.T.reshape(3, 1, -1)).tolist() == pytest.approx(best)


def test_constant_probabilities_say_yes_where_that_scores_best() -> None:
    """Where the mean lies below every threshold; elsewhere it scores as 1 does, and is kept."""
    for positive, best in ((2, 1.0), (64, 1 / 9)):
        labels = (torch.arange(576) < positive).reshape(24, 24).long()
        assert constant_of(saliency(), labels).item() == pytest.approx(best)
    edges = torch.zeros(1, 24, 24)
    edges[:, 12] = 1
    assert constant_of(boundary(), edges).item() == pytest.approx(1 / 24)


def test_a_constant_task_without_any_label_predicts_zeros() -> None:
    predictor = ConstantPredictor.fit(Fixed(depth(), [torch.full((1, 4, 4), torch.nan)]), {"depth": depth()})
    assert torch.equal(predictor.predict(torch.zeros(2, 3, 5, 6))["depth"], torch.zeros(2, 1, 5, 6))
    assert predictor.unknown == ("depth",)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("labelled", [range(3), range(0, 400, 3), range(400)], ids=["few", "a third", "all"])
def test_constants_are_of_images_with_a_label(labelled: range, listed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few they are; no more than 100 are read where all of those have one, as files may tell."""
    targets = [torch.full((1, 1, 1), 2.0 if index in labelled else torch.nan) for index in range(400)]
    dataset, read = Fixed(depth(), targets), list[str]()
    if listed:
        monkeypatch.setattr(Fixed, "may_be_labelled", lambda self, name: labelled)
    loader = constant.evaluation_loader

    def noted(*words, **options):
        for sample in loader(*words, **options):
            read.append(sample.image_keys[0])
            yield sample

    monkeypatch.setattr(constant, "evaluation_loader", noted)
    fitted = ConstantPredictor.fit(dataset, dataset.tasks)
    assert fitted.values["depth"].item() == 2
    assert fitted.unknown == ()
    once = dict.fromkeys(read)
    if labelled == range(400):
        assert list(once) == [dataset.key(index) for index in range(0, 400, 4)]
    elif listed:
        assert len(once) == min(len(labelled), 100)


def test_constants_are_of_labels_and_never_of_pseudo_labels() -> None:
    dataset = Fixed(depth(), [torch.full((1, 4, 4), metres) for metres in (1.0, 9.0, 9.0, 2.0, 9.0)])
    keys = [dataset.key(index) for index in (1, 2, 4)]
    dataset.pseudo_weights = {"depth": dict.fromkeys(keys, 1.0)}
    for images in (100, 2):  # the few that are looked at have labels
        fitted = ConstantPredictor.fit(dataset, dataset.tasks, images=images)
        assert fitted.values["depth"].item() == pytest.approx(1.5)


def test_a_constant_keeps_some_pixels_of_a_label_and_tries_some_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held at once must not grow with labels or their pixels: those of 100 photographs take gigabytes."""
    dataset = Fixed(boundary(), [(torch.rand(1, 80, 90) > 0.97).float() for _ in range(9)])
    labels: list[weakref.ref] = []
    kept: list[Tensor] = []
    loader, pixels = constant.evaluation_loader, constant._pixels

    def tracked(*words, **options):
        for sample in loader(*words, **options):
            labels.append(weakref.ref(sample.targets["boundary"]))
            assert sum(each() is not None for each in labels) <= 2
            yield sample

    monkeypatch.setattr(constant, "evaluation_loader", tracked)
    monkeypatch.setattr(constant, "_pixels", lambda target: kept.append(pixels(target)) or kept[-1])
    monkeypatch.setattr(constant, "TRIAL_IMAGES", 4)
    fitted = ConstantPredictor.fit(dataset, dataset.tasks)
    assert len(labels) == 9 + 4  # 4 of them once more
    assert max(each.untyped_storage().nbytes() for each in kept) <= 4 * constant.PIXELS
    assert fitted.values["boundary"].shape == (1,)


def test_constants_have_the_layout_of_predictions(dataset: Rectangles) -> None:
    predictor = ConstantPredictor.fit(dataset, dataset.tasks)
    maps = predictor.predict(torch.zeros(2, 3, 5, 6))
    shapes = {name: tuple(value.shape) for name, value in maps.items()}
    assert shapes == {"semseg": (2, 5, 6), "depth": (2, 1, 5, 6), "normals": (2, 3, 5, 6)}
    result = evaluate(predictor, dataset, dataset.tasks)
    assert result.metrics["semseg"]["pixel_accuracy"] > 0.4


# Runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = change(RECIPE, schedule__steps=20, optimizer__lr=0.01, training__evaluate_every=10)
    return train(recipe, tmp_path_factory.mktemp("runs") / "both", device="cpu", progress=False)


def test_evaluating_the_validation_split_again_gives_the_logged_numbers(run: Path) -> None:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = [record for record in records if record["kind"] == "evaluation" and record["best"]][-1]
    again = evaluate_run(run, split="val", device="cpu", constant=False, progress=False)
    assert again.flat() == best["metrics"]
    assert again.losses == best["losses"]


def test_images_that_were_left_out_are_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a file alone nobody sees that a score is of fewer images."""
    copied = shutil.copytree(run, tmp_path / "copied")
    recipe = json.loads((copied / "recipe.json").read_text())
    recipe["data"]["on_bad_sample"] = "skip"
    (copied / "recipe.json").write_text(json.dumps(recipe))
    read = Rectangles.__getitem__

    def damaged(self: Rectangles, index: int) -> Sample:
        if self.split == "test" and index in (1, 3):
            raise OSError(f"{self.key(index)}.png is truncated")
        return read(self, index)

    monkeypatch.setattr(Rectangles, "__getitem__", damaged)
    assert len(evaluate_run(copied, device="cpu", constant=False, progress=False).keys) == 3
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 damaged images were left out, the first of them 'test-1':" in shown
    assert "test-1.png is truncated" in shown


def test_evaluate_run_writes_numbers_constants_and_sums(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rectangles, "group", lambda self, index: f"hall {index // 2}")
    result = evaluate_run(run, device="cpu", progress=False)
    content = json.loads((run / "evaluation-test.json").read_text())
    assert content["scored_size"] == "32x48"  # of its images
    assert content["groups"] == ["hall 0", "hall 0", "hall 1", "hall 1", "hall 2"]
    assert content["metrics"]["semseg"] == pytest.approx(result.metrics["semseg"])
    assert content["constant"]["depth"]["rmse"] > 0
    assert content["losses"] == pytest.approx(result.losses)
    assert list(content["losses"]) == ["semseg", "depth"]
    shares = [share for share in content["per_class"]["semseg"].values() if share is not None]
    assert sum(shares) / len(shares) == pytest.approx(result.metrics["semseg"]["mIoU"])
    assert "depth" not in content["per_class"]
    assert content["data"]["split"] == "test"
    assert content["keys"] == [f"test-{index}" for index in range(5)]
    assert {name: list(truth) for name, truth in content["truth"].items()} == dict.fromkeys(
        result.tasks, content["keys"]
    )
    sums = load_file(run / "evaluation-test.safetensors")
    assert {name.split("/")[0] for name in sums} == {"semseg", "depth"}
    assert all(len(value) == 5 for value in sums.values())
    printed = capsys.readouterr().out
    assert "test, 5 images of 3 groups" in " ".join(printed.split())
    assert "mIoU ↑" in printed
    assert "constant" in printed


def test_scores_of_an_unfinished_training_say_so(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopped = tmp_path / "stopped"
    shutil.copytree(run, stopped)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (stopped / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] <= 10))
    for path, said in ((run, False), (stopped, True)):
        evaluate_run(path, limit=1, overwrite=True, device="cpu", constant=False, progress=False)
        assert ("the training is not finished (step 10 of 20)" in capsys.readouterr().out) == said


def test_a_constant_fails_before_the_scoring_or_not_at_all(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image is read once for both; a constant that cannot be fitted says so first, and can be left out."""
    read = []
    original = Rectangles.__getitem__

    def counted(self: Rectangles, index: int) -> Sample:
        read.append((self.split, index))
        return original(self, index)

    monkeypatch.setattr(assemble, "scored_size", lambda *_: "native")  # which looks at some images
    monkeypatch.setattr(Rectangles, "__getitem__", counted)
    scored = evaluate_run(run, device="cpu", progress=False)
    assert [index for split, index in read if split == "test"] == [0, 1, 2, 3, 4]
    read.clear()
    monkeypatch.setattr(ConstantPredictor, "fit", Mock(side_effect=ValueError("damaged")))
    with pytest.raises(ValueError, match=r"cannot be fitted on train \(damaged\); --no-constant leaves it out"):
        evaluate_run(run, device="cpu", progress=False)
    assert not read
    assert evaluate_run(run, device="cpu", progress=False, constant=False).flat() == scored.flat()


def test_a_task_without_labels_has_a_row() -> None:
    tasks = {"semseg": semseg(2), "depth": depth()}
    scored = Evaluation({"semseg": {"mIoU": 0.5}, "depth": {}}, {"semseg": 3, "depth": 0}, (), {}, tasks)
    for reference, cells in ((None, [["0.5"], ["no labels"]]), (scored, [["0.5", "0.5"], ["no labels", "-"]])):
        columns = [list(column.cells) for column in score_table("", scored, reference).columns]
        assert columns[0] == ["semseg", "depth"]
        assert columns[1] == ["mIoU ↑", "rmse ↓"]
        assert [list(row) for row in zip(*columns[2:-1], strict=True)] == cells
        assert columns[-1] == ["3", "0"]


def test_a_constant_without_a_label_has_no_numbers(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(run, tmp_path / "run"))
    fitted = ConstantPredictor({"semseg": torch.tensor(0), "depth": torch.zeros(1)}, unknown=["depth"])
    monkeypatch.setattr(ConstantPredictor, "fit", Mock(return_value=fitted))
    scored = evaluate_run(run, device="cpu", progress=False)
    saved = json.loads((run / "evaluation-test.json").read_text())["constant"]
    assert (saved["depth"], saved["semseg"]["mIoU"] > 0) == ({}, True)
    assert scored.columns()[CONSTANT]["depth"] == {}
    cells = {
        line.split("│")[2].strip(): line.split("│")[4].strip()
        for line in capsys.readouterr().out.split("\n")
        if "│" in line
    }
    assert cells["rmse ↓"] == "-"
    assert float(cells["mIoU ↑"]) > 0


class TwoSplits(Rectangles):
    """Rectangles without a test split."""

    def __init__(self, root: str = "", *, split: str = "train", **options: object) -> None:
        named_choice("split of two-splits", split, {"train": 0, "val": 0})
        super().__init__(root, split=split, **options)


def test_without_a_test_split_the_validation_split_is_scored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(DATASETS, "two-splits", TwoSplits)
    recipe = change(RECIPE, data__dataset="two-splits", schedule__steps=1, training__evaluate_every=0)
    run = train(recipe, tmp_path / "run", device="cpu", progress=False)
    assert evaluate_run(run, device="cpu", constant=False, progress=False).split == "val"
    assert "val" in capsys.readouterr().out
    assert compare_runs([run])["split"] == "val"
    with pytest.raises(ValueError, match="unknown split of two-splits 'test'"):
        evaluate_run(run, split="test", device="cpu", progress=False)
    alone = change(recipe, data__val_split="")
    with pytest.raises(ValueError, match=r"have no split 'test' \(unknown split .*name one with --split"):
        open_scored_split(alone)
    with pytest.raises(ValueError, match="no split 'dev' to choose the weights on; add one"):
        train(change(recipe, data__val_split="dev", training__evaluate_every=1), tmp_path / "other", device="cpu")


def test_classes_in_another_order_are_not_scored(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = assemble.build_dataset

    def permuted(recipe, split):
        dataset = build(recipe, split)
        first, *rest = dataset.tasks["semseg"].classes
        dataset.tasks = dataset.tasks | {"semseg": replace(dataset.tasks["semseg"], classes=(*rest, first))}
        return dataset

    monkeypatch.setattr(assemble, "build_dataset", permuted)
    with pytest.raises(ValueError, match="semseg: the classes of test have another order than when the network was"):
        evaluate_run(run, device="cpu", constant=False, progress=False)


def test_what_a_decoder_says_of_itself_is_printed(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Decoder, "describe", lambda self: f"[b] a decoder of {len(self.tasks)} tasks")
    evaluate_run(run, device="cpu", constant=False, progress=False)
    assert capsys.readouterr().out.endswith("[b] a decoder of 2 tasks\n")


def test_delta_mtl_against_single_task_runs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    singles = []
    for name in ("semseg", "depth"):
        recipe = change(RECIPE, data__tasks=(name,), schedule__steps=10, training__evaluate_every=10)
        singles.append(train(recipe, tmp_path / name, device="cpu", progress=False))
    with pytest.raises(FileNotFoundError, match="was not scored on test; run `triptych evaluate"):
        evaluate_run(run, single_task=singles, device="cpu", progress=False)
    for single in singles:
        evaluate_run(single, device="cpu", constant=False, progress=False)
    with pytest.raises(ValueError, match="no single-task run for depth"):
        evaluate_run(run, single_task=singles[:1], device="cpu", progress=False)
    result = evaluate_run(run, single_task=singles, device="cpu", constant=False, progress=False)
    numbers = [json.loads((single / "evaluation-test.json").read_text())["metrics"] for single in singles]
    better = result.metrics["semseg"]["mIoU"] / numbers[0]["semseg"]["mIoU"] - 1
    nearer = 1 - result.metrics["depth"]["rmse"] / numbers[1]["depth"]["rmse"]
    stored = json.loads((run / "evaluation-test.json").read_text())["delta_mtl"]
    assert stored == pytest.approx(100 * (better + nearer) / 2)
    column = result.columns()["single-task networks"]
    assert column["depth"] == numbers[1]["depth"]
    assert column["semseg"] == {name: value for name, value in numbers[0]["semseg"].items() if value is not None}
    scores = singles[1] / "evaluation-test.json"
    *keys, last = (content := json.loads(scores.read_text()))["keys"]
    scores.write_text(json.dumps(content | {"keys": keys, "skipped": {last: "damaged"}}))
    # Only scoring shows that this network reads the image: its scores stay.
    assert evaluate_run(run, single_task=singles, device="cpu", constant=False, progress=False).single_task is None
    assert re.search(r"no delta_mtl: .*depth was scored on other images of test \(1 differ\)", capsys.readouterr().out)


def test_a_run_is_scored_by_the_protocol_that_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    evaluate_run(run, device="cpu", constant=False, progress=False)
    result = evaluate_run(other, protocol="densemtl", overwrite=True, device="cpu", progress=False)
    assert [*result.primary()] == ["semseg/mIoU", "depth/rmse_image"]
    content = json.loads((other / "evaluation-test.json").read_text())
    assert content["protocol"] == "densemtl"
    printed = capsys.readouterr().out
    assert "protocol densemtl" in printed
    assert f"depth: {RULES['densemtl']['depth'].definition}" in printed
    assert result.columns().keys() == {"network (test, protocol densemtl)", "constant predictor"}
    with pytest.raises(ValueError, match=r"the protocol .* is none in .*both, densemtl in .*other"):
        compare_runs([run, other])
    assert [*compare_runs([other])["values"]] == ["semseg", "depth"]
    with pytest.raises(ValueError, match="unknown protocol 'dense'"):
        evaluate_run(other, protocol="dense", device="cpu", progress=False)


def test_scores_are_not_replaced_by_less_or_others_unasked(run: Path, tmp_path: Path) -> None:
    """A look at some images, or at another protocol, costs hours of scoring otherwise."""
    copy = shutil.copytree(run, tmp_path / "run")
    path = copy / "evaluation-val.json"
    path.unlink(missing_ok=True)
    score = partial(evaluate_run, copy, split="val", device="cpu", constant=False, progress=False)
    looked = score(limit=1)
    whole = score()
    assert len(looked.keys) < len(whole.keys)
    before = path.read_bytes()
    for options in ({"limit": 1}, {"protocol": "densemtl"}):
        with pytest.raises(
            ValueError, match=rf"{path} has scores of {len(whole.keys)} images by protocol 'none', .*--over"
        ):
            score(**options)
    assert path.read_bytes() == before
    score(limit=1, overwrite=True)
    score(limit=len(whole.keys) + 1)
    path.write_text(path.read_text().replace(whole.weights_sha256, "0" * 64))
    score(limit=1)  # scores of other weights are worth nothing


def test_protocols_of_native_sizes_score_labels_as_they_are(tmp_path: Path) -> None:
    """What the network sees is stretched as in training, and its maps are resized back."""
    recipe = change(RECIPE, data__transform="mtan", data__size=(16, 24), training__evaluate_every=0, schedule__steps=1)
    run = train(recipe, tmp_path / "run", device="cpu", progress=False)
    other = shutil.copytree(run, tmp_path / "other")
    own, native = (
        evaluate_run(folder, protocol=name, device="cpu", constant=False, progress=False)
        for folder, name in ((run, "densemtl"), (other, "survey"))
    )
    pixels = [int(each.sums["semseg"]["counts"][:, 1].sum()) for each in (own, native)]  # labelled
    assert pixels == [5 * 16 * 24, 5 * 32 * 48]
    assert json.loads((other / "evaluation-test.json").read_text())["scored_size"] == "32x48"
    stretched = Predictor.load(other, device="cpu", resize=True)
    expected = evaluate(stretched, assemble.build_dataset(recipe, "test"), stretched.tasks, scoring=Scoring("survey"))
    assert native.metrics == expected.metrics
    with pytest.raises(ValueError, match="such numbers do not compare"):
        compare_runs([run, other])
    again = evaluate_run(run, protocol="survey", overwrite=True, device="cpu", progress=False)
    assert again.metrics == native.metrics
    assert compare_runs([run, other])["images"] == 5


def test_labels_beyond_the_range_of_a_protocol_do_not_decide_its_number() -> None:
    """One pixel of disparity that rounds to nothing is 121 km, which a score over all labels is made of."""

    class Far(Rectangles):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            depth = sample.targets["depth"].clone()
            depth[0, 0, 0] = 121_240.0
            return replace(sample, targets=sample.targets | {"depth": depth})

    pair = [
        {name: evaluate(Oracle(), data, data.tasks, scoring=scoring).primary() for name, data in sets.items()}
        for sets in [{"far": Far(length=3), "near": Rectangles(length=3)}]
        for scoring in (None, Scoring("densemtl"))
    ]
    assert pair[0]["far"]["depth/rmse"] > 1000 * pair[0]["near"]["depth/rmse"]
    assert pair[1]["far"]["depth/rmse_image"] == pytest.approx(pair[1]["near"]["depth/rmse_image"], rel=1e-2)


@pytest.mark.parametrize("protocol", ["survey", "atrc", "invpt", "densemtl"])
def test_protocols_score_the_maps_of_a_network_as_they_score_saved_ones(protocol: str) -> None:
    """A network's own tasks, with the protocol's numbers, under the classes' names."""
    tasks = nyuv2_tasks(["wall", "floor"])
    settings = DataSettings("nyuv2", classes=2)
    generator = torch.Generator().manual_seed(3)
    raw = {name: torch.randn(1, task.channels, 24, 32, generator=generator) for name, task in tasks.items()}
    predictions = {name: task.decode(raw[name]) for name, task in tasks.items()}
    targets = {
        "semseg": torch.randint(2, (1, 24, 32), generator=generator),
        "depth": 1 + torch.rand(1, 1, 24, 32, generator=generator),
        "normals": torch.nn.functional.normalize(torch.randn(1, 3, 24, 32, generator=generator), dim=1),
        "boundary": (torch.rand(1, 1, 24, 32, generator=generator) > 0.8).float(),
    }
    scoring = Scoring(protocol, DataSettings("nyuv2"))
    stored = scoring.store(predictions)
    for name, task in scoring.apply(tasks).items():
        rule, metric = RULES[protocol][name], task.metric()
        saved = rule.metric(settings)
        metric.update(stored[name], targets[name])
        saved.update(rule.store(predictions[name][0])[None], targets[name])
        assert metric.primary == rule.names(saved)[0]
        assert set(metric.better) == set(rule.names(saved))
        found, expected = metric.compute(), saved.compute()
        assert {number: found[number] for number in metric.better} == pytest.approx(
            {number: expected[number] for number in metric.better}, nan_ok=True
        )
        beside_nothing = {state: torch.stack([torch.zeros_like(sum), sum]) for state, sum in metric.sums().items()}
        assert bootstrap(task.metric(), beside_nothing, resamples=9).keys() == metric.better.keys()
    assert [*scoring.apply(tasks)["semseg"].metric().per_class()] == ["wall", "floor"]


def test_what_a_protocol_has_no_rule_for_is_said_or_keeps_its_own_number(tmp_path: Path) -> None:
    scoring = Scoring("densemtl-video", DataSettings())
    tasks = {"normals": normals(), "semseg": semseg(3)}
    assert scoring.apply(tasks)["normals"].metric is tasks["normals"].metric
    assert scoring.describe(scoring.apply(tasks), "native")[0].startswith(
        "normals: protocol densemtl-video has no rule"
    )
    assert any("native size" in line for line in Scoring("survey").describe({}, "480x640"))
    with pytest.raises(ValueError, match="unknown protocol 'inpt'; did you mean 'invpt'"):
        train(change(RECIPE, data__protocol="inpt"), tmp_path / "run", device="cpu", progress=False)
    assert not (tmp_path / "run").exists()
    parts = Scoring("invpt").apply({"human_parts": human_parts(["background", "dog"])})
    with pytest.raises(ValueError, match="human_parts has 2 classes, and protocol 'invpt' scores 7; score by the"):
        parts["human_parts"].metric()


def test_a_module_is_scored_through_predictor(dataset: Rectangles) -> None:
    recipe = change(RECIPE, data__tasks=())
    model = assemble.build_model(recipe, dataset.tasks)
    model.train()
    result = evaluate(model, dataset, dataset.tasks, limit=2)
    assert model.training
    assert set(result.metrics) == set(dataset.tasks)


def test_a_task_is_scored_by_the_labels_of_its_key() -> None:
    """`depth()` takes no name, so that two depths are naturally called so."""

    class TwoDepths(Rectangles):
        def __init__(self) -> None:
            super().__init__(length=2)
            self.tasks |= {"far": depth()}

        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return replace(sample, targets=sample.targets | {"far": sample.targets["depth"] + 100})

    both = TwoDepths()
    model = assemble.build_model(change(RECIPE, data__tasks=()), both.tasks)
    assert {name: task.name for name, task in model.tasks.items()} == {name: name for name in both.tasks}
    result = evaluate(model, both, {"far": depth()})
    assert result.losses["far"] > 90  # of its labels around 100 m, not of those around 2
    with pytest.raises(ValueError, match="rectangles has no labels of near; its tasks are semseg, depth, normals, far"):
        evaluate(model, both, {"near": depth()})


def test_losses_are_means_over_labelled_images_of_what_the_raw_maps_cost(dataset: Rectangles) -> None:
    """In evaluation mode, at the labels' size; several views are averaged in other units and have none."""
    model = assemble.build_model(change(RECIPE, data__tasks=()), dataset.tasks)
    result = evaluate(model, dataset, dataset.tasks)
    expected: dict[str, list[float]] = {name: [] for name in dataset.tasks}
    model.eval()
    for sample in (dataset[index] for index in range(len(dataset))):
        with torch.no_grad():
            raw = model(sample.image[None]).predictions
        for name, task in dataset.tasks.items():
            if sample.targets[name].isfinite().any():
                expected[name].append(float(task.loss(raw[name], sample.targets[name][None])))
    assert {name: len(values) for name, values in expected.items()} == {"semseg": 7, "depth": 4, "normals": 7}
    assert result.losses == pytest.approx({name: sum(values) / len(values) for name, values in expected.items()})
    mirrored = evaluate(Predictor(model, flip=True), dataset, dataset.tasks, limit=1)
    assert mirrored.losses == evaluate(Oracle(), dataset, dataset.tasks, limit=1).losses == {}
    nothing = Rectangles(length=2, unlabelled=("depth",))
    assert "depth" not in evaluate(model, nothing, dataset.tasks).losses
