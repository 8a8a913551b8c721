"""Files of scores: one form for runs and saved maps, those of before, and what is no score."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training.tiny import RECIPE

from triptych.commands.runs import evaluate as evaluate_verb
from triptych.evaluation.compare import compare_groups, compare_runs
from triptych.evaluation.compare_files import compare_scores
from triptych.evaluation.offline import score
from triptych.evaluation.run import evaluate_run
from triptych.evaluation.scored_runs import RunGroup, read_scored_run
from triptych.evaluation.scores import FORMAT, read_scores
from triptych.files import finite, save_tensors, write_json
from triptych.metrics import SegmentationMetric
from triptych.prediction.predictor import Predictor
from triptych.report.publish import push_run
from triptych.training.loop import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(RECIPE, tmp_path_factory.mktemp("runs") / "NaN", device="cpu", progress=False)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Scores of depth maps of three images, each off by some metres."""
    for i, error in enumerate((0.1, 0.2, 0.4)):
        for side, value in (("predictions", 2 + error), ("targets", 2.0)):
            path = tmp_path / side / "depth" / f"{i}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.full((4, 5), value, np.float32))
    score(tmp_path / "predictions", tmp_path / "targets", protocol="invpt", out=tmp_path / "new.json", quiet=True)
    return tmp_path / "new.json"


def test_runs_and_saved_maps_have_one_form(run: Path, saved: Path) -> None:
    scored = evaluate_run(run, device="cpu", progress=False)
    for path, tasks in ((run / "evaluation-test.json", ["semseg", "depth"]), (saved, ["depth"])):
        found = read_scores(path)
        assert found.content["format"] == FORMAT
        assert list(found.metrics) == tasks
        sums = found.read_sums()
        for task in tasks:
            assert all(len(value) == len(found.keys[task]) for value in sums[task].values())
    assert read_scores(run / "evaluation-test.json").metrics == scored.metrics


def test_scores_of_other_weights_are_refused(run: Path, tmp_path: Path) -> None:
    """Whoever trains further, or saves another network into the folder, does not publish the old one's numbers."""
    copy = shutil.copytree(run, tmp_path / "run")
    evaluate_run(copy, split="val", limit=2, device="cpu", constant=False, progress=False)
    compare_runs([copy], split="val")
    predictor = Predictor.load(copy)
    with torch.no_grad():
        next(iter(predictor.model.parameters())).add_(1.0)
    predictor.save_pretrained(copy, overwrite=True)
    for read in (
        lambda: compare_runs([copy], split="val"),
        lambda: push_run(copy, "someone/network", dry_run=tmp_path / "card"),
    ):
        with pytest.raises(ValueError, match=f"other weights than {copy} has now; run `triptych evaluate .* --split"):
            read()
    assert not (tmp_path / "card").exists()
    path = copy / "evaluation-val.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in content.items() if name != "weights_sha256"}))
    compare_runs([copy], split="val")  # as older versions wrote it


def test_the_form_of_before_is_read(saved: Path, tmp_path: Path) -> None:
    """`triptych score` wrote no metrics and no keys, and sums as .npz."""
    now = read_scores(saved)
    content = {name: value for name, value in now.content.items() if name not in ("metrics", "keys")}
    del content["tasks"]["depth"]["truth"]
    (tmp_path / "old.json").write_text(json.dumps(content | {"format": 1}))
    flat = {f"{task}/{state}": v.numpy() for task, sums in now.read_sums().items() for state, v in sums.items()}
    np.savez_compressed(tmp_path / "old.npz", **flat)
    before = read_scores(tmp_path / "old.json")
    assert (before.metrics, before.keys) == (now.metrics, now.keys)
    for state, value in now.read_sums()["depth"].items():
        assert torch.equal(before.read_sums()["depth"][state], value)
    found = compare_scores(tmp_path / "old.json", saved, resamples=20)["depth"].numbers["rmse"]
    assert (found.difference, found.first) == (0.0, now.metrics["depth"]["rmse"])


def test_sums_of_before_are_compared_with_those_of_now(run: Path, tmp_path: Path) -> None:
    """Classes had their confusion matrix."""
    now, before = (shutil.copytree(run, tmp_path / name) for name in ("now", "before"))
    evaluate_run(now, device="cpu", constant=False, progress=False)
    sums, content = (now / "evaluation-test.safetensors"), json.loads((now / "evaluation-test.json").read_text())
    other = {name: value for name, value in load_file(sums).items() if not name.startswith("semseg/")}
    matrices = torch.randint(0, 9, (5, 4, 4))
    counts = SegmentationMetric(4).upgrade_sums({"confusion": matrices})["counts"]
    for folder, states in ((now, {"semseg/counts": counts}), (before, {"semseg/confusion": matrices})):
        write_json(
            folder / "evaluation-test.json", content | {"sums": save_tensors(folder / sums.name, other | states)}
        )
    runs = [read_scored_run(folder, "test") for folder in (now, before)]
    assert all(torch.equal(run.sums["semseg"]["counts"], counts) for run in runs)
    groups = [RunGroup(run.path.name, (run,)) for run in runs]
    found = compare_groups(*groups, "semseg")
    assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_raises_for_sums_of_another_evaluation(saved: Path, tmp_path: Path) -> None:
    """As a process that is killed between its two files leaves them."""
    np.save(tmp_path / "predictions/depth/0.npy", np.full((4, 5), 3, np.float32))
    again = tmp_path / "again.json"
    score(tmp_path / "predictions", tmp_path / "targets", protocol="invpt", out=again, quiet=True)
    read_scores(again).read_sums()
    again.with_suffix(".safetensors").replace(saved.with_suffix(".safetensors"))
    with pytest.raises(ValueError, match=r"new\.safetensors is of another evaluation than new\.json"):
        read_scores(saved).read_sums()


def test_raises_for_an_unknown_form(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "later.json"
    path.write_text(json.dumps({**read_scores(saved).content, "format": 7}))
    with pytest.raises(ValueError, match=r"later\.json is no score \(its format is 7, and this version reads 1 to 2"):
        read_scores(path)
    for text in ("{", "[]", "{}", '{"metrics": {}}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"later\.json is no score"):
            read_scores(path)


def test_scores_of_a_run_are_compared_by_its_folder(run: Path, saved: Path) -> None:
    evaluate_run(run, device="cpu", progress=False, constant=False)
    with pytest.raises(ValueError, match=r"has scores of a run; compare the run's folder"):
        compare_scores(run / "evaluation-test.json", saved)


def test_only_numbers_become_null(run: Path, tmp_path: Path) -> None:
    """A folder called NaN keeps its name."""
    evaluate_run(run, device="cpu", progress=False, constant=False)
    compare_runs([run], out=tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())["groups"] == {"NaN": [str(run)]}
    write_json(tmp_path / "x.json", {"NaN": [math.nan, math.inf, 1.0, True, "NaN", None]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"NaN": [None, None, 1.0, True, "NaN", None]}
    assert finite(math.nan) is None


def test_evaluating_with_a_report_loads_the_network_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads, load = [], Predictor.load.__func__
    monkeypatch.setattr(Predictor, "load", classmethod(lambda cls, *a, **k: loads.append(a) or load(cls, *a, **k)))
    evaluate_verb(run, device="cpu")
    assert len(loads) == 1
    assert (run / "report.html").is_file()
