"""Confidence: between 0 and 1, low where views disagree or classes are even; errors by confidence."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from export_runs import save_run
from networks import TASKS, Formula
from PIL import Image
from training.tiny import RECIPE

from triptych.__main__ import main
from triptych.assemble import create_model
from triptych.evaluation.reliability import Counts, Reliability, measure_reliability
from triptych.export.program import PROBABILITY, DeployedModel, decoded_maps
from triptych.prediction import pretrained
from triptych.prediction.confidence import ENDING, MEASURES, Confident, entropy_confidence, split_confidences
from triptych.prediction.predictor import Predictor
from triptych.report.tables import show_reliability
from triptych.tasks import depth, normals, regression, semseg
from triptych.training.loop import train


def columns(image):
    """0 at the left to 1 at the right, whatever the image shows."""
    line = torch.linspace(0, 1, image.shape[-1]).expand(*image.shape[-2:])
    return line.expand(len(image), 1, *line.shape)


def steady(image):
    return image.mean(dim=1, keepdim=True)


def test_what_mirrors_along_is_sure_and_what_does_not_is_not():
    """Depth of the image itself is the same in each view but for the zoom; depth of the column is not."""
    image = torch.full((1, 3, 20, 40), 0.5)  # sides that stay whole when they are resized

    def zoomed(image):
        # Resized by s, the view is 40 s wide, and what is seen s times nearer.
        return 60.0 / image.shape[-1] * torch.ones_like(steady(image))

    tasks = {"depth": depth()}
    sure = Confident(Predictor(Formula(tasks, depth=zoomed))).predict(image)["depth_confidence"]
    torch.testing.assert_close(sure, torch.ones_like(sure), atol=1e-4, rtol=0)
    unsure = Confident(Predictor(Formula(tasks, depth=lambda image: 1 + columns(image)))).predict(image)
    confidence = unsure["depth_confidence"][0, 0]
    assert confidence[:, 20].mean() > confidence[:, 0].mean()
    assert confidence[:, 0].mean() < 0.8


def test_normals_that_point_apart_have_no_confidence():
    tasks = {"normals": normals()}
    right = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)

    def same_side(image):
        """Always to the right: mirrored back it is to the left."""
        return right.expand(len(image), 3, *image.shape[-2:])

    maps = Confident(Predictor(Formula(tasks, normals=same_side))).predict(torch.rand(1, 3, 8, 9))
    torch.testing.assert_close(maps["normals_confidence"], torch.zeros(1, 1, 8, 9), atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [2, 5])
def test_entropy_is_none_for_one_class_and_all_for_even_ones(count):
    even = torch.full((1, count, 1, 1), 1 / count)
    one = torch.eye(count)[:1].view(1, count, 1, 1)
    assert entropy_confidence(even).item() == pytest.approx(0, abs=1e-6)
    assert entropy_confidence(one).item() == 1
    between = entropy_confidence(0.5 * even + 0.5 * one).item()
    assert 0 < between < 1


def _is_crack(raw):
    return (raw[:, 0] > 0).long()


CRACK = replace(semseg(["sound", "crack"]), channels=1, decode=_is_crack)


def test_one_channel_is_the_logit_of_the_second_of_two_classes_or_of_the_only_one():
    raw = torch.tensor([-2.0, 0.0, 3.0]).view(1, 1, 1, 3)
    two = torch.cat([torch.zeros_like(raw), raw], dim=1)
    for task, scores in ((CRACK, two), (semseg(1), raw)):
        probabilities = scores.softmax(dim=1)
        exported = decoded_maps(task.name, task, raw)[task.name + PROBABILITY]
        torch.testing.assert_close(exported, probabilities.amax(dim=1, keepdim=True))
        one_view = Predictor(Formula({"x": task}, x=lambda image: raw), scales=(1.0, 1.0))
        sure = Confident(one_view).predict(torch.zeros(1, 3, 1, 3))["x_confidence"]
        flipped = torch.stack([probabilities, probabilities.flip(-1)]).mean(dim=0)
        torch.testing.assert_close(sure, entropy_confidence(flipped))
        assert sure.isfinite().all()


def test_names_that_the_library_adds_hide_no_map():
    """A task of one's own may be called so, and is neither replaced nor taken for a confidence."""
    tasks = {"heat": regression("heat"), "heat_confidence": regression("heat_confidence")}
    predictor = Predictor(Formula(tasks, heat=steady, heat_confidence=steady))
    confident = Confident(predictor)
    for each in (predictor, confident):
        assert list(split_confidences(each, each.predict(torch.rand(1, 3, 4, 4)))[0]) == list(tasks)
    clash = {"depth": depth(), "depth_confidence": regression("depth_confidence")}
    with pytest.raises(ValueError, match="has tasks called depth_confidence, as the confidences of others"):
        Confident(Predictor(Formula(clash, depth=steady, depth_confidence=steady)))
    clash = {"parts": semseg(3), "parts_probability": regression("parts_probability")}
    clash = create_model("fcn", backbone="resnet18_half", tasks=clash, decoder_options={"width": 4})
    with pytest.raises(ValueError, match="has tasks called parts_probability, as the probabilities of its classes"):
        DeployedModel(clash)
    DeployedModel(clash, outputs="raw")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("confidence") / "run")


def test_predictions_are_those_without_confidence(run):
    predictor = Predictor.load(run, tile=24)
    image = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    plain, confident = predictor.predict(image), Confident(predictor).predict(image)
    assert list(confident) == [*plain, *(name + ENDING for name in plain)]
    for name, values in plain.items():
        torch.testing.assert_close(confident[name], values)
        sure = confident[name + ENDING]
        assert sure.shape == (2, 1, 32, 40)
        assert float(sure.min()) >= 0
        assert float(sure.max()) <= 1


def test_values_without_a_unit_have_none():
    tasks = {"albedo": regression("albedo"), "semseg": TASKS["semseg"]}
    model = Formula(tasks, albedo=steady, semseg=lambda image: image)
    assert list(Confident(Predictor(model)).predict(torch.rand(1, 3, 8, 8))) == [
        "albedo",
        "semseg",
        "semseg_confidence",
    ]
    assert set(MEASURES) == {"labels", "probability", "length", "direction"}


def test_the_verb_writes_them_like_other_maps(run, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 40, 3), np.uint8)).save(tmp_path / "a.png")
    words = ["predict", str(run), str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--confidence"]
    assert main([*words, "--products", "arrays", "maps", "pictures", "panels"]) == 0
    stored = np.load(tmp_path / "out" / "arrays" / "depth_confidence" / "a.npy")
    assert stored.shape == (1, 32, 40)
    assert (tmp_path / "out" / "maps" / "semseg_confidence" / "a.png").is_file()


def test_fifths_are_cut_exactly():
    """Against sorting: five groups of equal size, in the order of confidence."""
    generator = np.random.default_rng(0)
    confidence, error = generator.random(10_000) ** 0.2, generator.random(10_000)
    counts = Counts()
    for part in range(4):
        counts.add(confidence[part::4], error[part::4])
    ends, errors = counts.fifths()
    order = np.argsort(confidence)
    expected = [error[group].mean() for group in np.split(order, 5)]
    np.testing.assert_allclose(errors, expected, atol=0.01)
    np.testing.assert_allclose(ends, [confidence[group].max() for group in np.split(order, 5)], atol=1e-3)
    counts.add(np.array([0.5]), np.array([np.nan]))
    assert counts.pixels.sum() == 10_000


def test_all_of_one_confidence_is_one_error_in_every_fifth():
    counts = Counts()
    counts.add(np.full(50, 0.7), np.linspace(0, 1, 50))
    assert counts.fifths()[1] == pytest.approx([0.5] * 5)


def test_the_report_has_the_table(tmp_path, capsys, monkeypatch):
    small = replace(RECIPE, schedule=replace(RECIPE.schedule, steps=2))
    run = train(small, tmp_path / "run", device="cpu", progress=False)
    found = measure_reliability(Predictor.load(run), split="val", images=2)
    assert found.images == 2
    before, load = (run / "model.safetensors").read_bytes(), pretrained.load_model

    def load_and_train_on(folder, **options):
        loaded = load(folder, **options)
        (folder / "model.safetensors").write_bytes(b"")
        return loaded

    with monkeypatch.context() as patched:
        patched.setattr(pretrained, "load_model", load_and_train_on)
        assert main(["evaluate", str(run), "--split", "val", "--confidence", "--device", "cpu"]) == 0
    assert "Error by confidence, 5 images" in " ".join(capsys.readouterr().out.split())
    content = json.loads((run / "confidence-val.json").read_text())
    assert set(content["errors"]) == set(found.errors)
    assert content["weights_sha256"] == hashlib.sha256(before).hexdigest()
    assert "least sure fifth" in (run / "report.html").read_text()
    assert show_reliability(None) == ""
    assert "0.25" in show_reliability(Reliability(TASKS, {}, {"depth": [0.25] * 5}, 3))
