"""Depth on another camera: closed form against brute force, kept only where it helps, applied where it is said."""

import errno
import json

import numpy as np
import pytest
import torch
from export_runs import save_run
from PIL import Image
from scipy.optimize import minimize
from torch import nn
from training.tiny import RECIPE, change
from unchecked import shapes_unchecked

from triptych.__main__ import main
from triptych.evaluation.calibrate import calibrate_run
from triptych.export import export_run
from triptych.export.onnx_file import open_onnx
from triptych.files import hash_file, read_tensors, save_tensors
from triptych.prediction import pretrained
from triptych.prediction.calibration import FILE, KINDS, Scale, fit_scale, read_calibration, write_calibration
from triptych.prediction.predictor import Predictor
from triptych.tasks import depth
from triptych.training.loop import train
from triptych.types import Output


def frames(count=4, factor=1.7, power=1.0, noise=0.02, seed=0):
    generator = np.random.default_rng(seed)
    found = []
    for i in range(count):
        x = np.log(generator.uniform(1, 8, 300 + 100 * i))
        found.append((x, np.log(factor) + power * x + noise * generator.standard_normal(len(x))))
    return found


@pytest.mark.parametrize("kind", ["factor", "factor and power"])
def test_the_closed_form_is_the_minimum(kind):
    found = frames(power=1.3, noise=0.2)

    def squares(parameters):
        b, a = parameters if kind == "factor and power" else (parameters[0], 1.0)
        return np.mean([((y - a * x - b) ** 2).mean() for x, y in found])

    best = minimize(squares, [0.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14}).x
    scale = KINDS[kind](found)
    np.testing.assert_allclose(np.log(scale.factor), best[0], atol=1e-5)
    if kind == "factor and power":
        np.testing.assert_allclose(scale.power, best[1], atol=1e-5)


@pytest.mark.parametrize(
    ("truth", "kept"),
    [
        ({"factor": 1.7}, "factor"),
        ({"factor": 1.7, "power": 1.4}, "factor and power"),
        ({"factor": 1.0, "noise": 0.0}, "as predicted"),
    ],
)
def test_the_simplest_scale_that_helps_is_kept(truth, kept):
    fitted = fit_scale(frames(**truth))
    assert fitted.kept in ({kept, "factor and power"} if kept == "factor" else {kept})
    np.testing.assert_allclose(fitted.scale.factor, truth["factor"], rtol=0.02)
    np.testing.assert_allclose(fitted.scale.power, truth.get("power", 1.0), atol=0.02)


def test_frames_that_disagree_keep_the_prediction():
    """One frame twice as far, one half as far: what fits one misleads on the other."""
    x = np.log(np.linspace(1, 5, 50))
    fitted = fit_scale([(x, x + np.log(2)), (x, x - np.log(2))])
    assert fitted.kept == "as predicted"
    with pytest.raises(ValueError, match="at least 2"):
        fit_scale([(x, x)])


def test_what_is_stored_comes_back(tmp_path):
    write_calibration(tmp_path, {"depth": Scale(1.5, 0.9)}, "", {})
    assert read_calibration(tmp_path) == {"depth": Scale(1.5, 0.9)}
    assert read_calibration(tmp_path / "none") == {}
    for damaged in ("{", '{"scales": {"depth": {"factor": -1, "power": 1}}}', '{"scales": {"depth": {"factor": 1}}}'):
        (tmp_path / FILE).write_text(damaged)
        with pytest.raises(ValueError, match="is no calibration"):
            read_calibration(tmp_path)


@pytest.fixture
def run(tmp_path):
    """A run whose untrained network sees depth everywhere."""
    folder = save_run(tmp_path / "run")
    predictor = Predictor.load(folder)
    biases = [value for name, value in predictor.model.named_parameters() if "depth" in name and "bias" in name]
    torch.nn.init.constant_(biases[-1], 3.0)
    predictor.save_pretrained(folder, overwrite=True)
    return folder


def write_frames(folder, predictor):
    """Images whose true depth is twice that which the network sees."""
    generator = np.random.default_rng(0)
    for i in range(3):
        image = generator.integers(0, 255, (32, 40, 3), np.uint8)
        for name in ("images", "depth"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "images" / f"{i}.png")
        np.save(folder / "depth" / f"{i}.npy", 2 * predictor(image)["depth"][0])
    return folder


@pytest.fixture
def other_camera(tmp_path, run):
    return write_frames(tmp_path / "frames", Predictor.load(run))


def test_a_run_is_calibrated_where_it_predicts_and_not_where_it_is_scored(run, other_camera, capsys):
    image = np.random.default_rng(1).integers(0, 255, (32, 40, 3), np.uint8)
    before = Predictor.load(run)(image)
    assert main(["calibrate", str(run), str(other_camera)]) == 0
    said = capsys.readouterr().out
    assert "predict and export apply it" in said
    stored = json.loads((run / FILE).read_text())["scales"]["depth"]
    assert stored["factor"] == pytest.approx(2, rel=1e-4)
    assert stored["frame"] == stored["seen"] == [32, 40]
    after, scored = Predictor.load(run)(image), Predictor.load(run, calibrated=False)(image)
    np.testing.assert_allclose(after["depth"], 2 * before["depth"], rtol=1e-4)
    np.testing.assert_array_equal(scored["depth"], before["depth"])
    np.testing.assert_array_equal(after["semseg"], before["semseg"])
    assert Predictor.load(run).settings() != Predictor.load(run, calibrated=False).settings()
    assert main(["calibrate", str(run), str(other_camera)]) == 0  # from the network again, not from its own result
    assert json.loads((run / FILE).read_text())["scales"]["depth"] == stored
    same = other_camera / "depth"  # a camera that the network knows
    for path in same.iterdir():
        np.save(path, np.load(path) / 2)
    capsys.readouterr()
    assert main(["calibrate", str(run), str(other_camera)]) == 0
    assert f"depth: depth x 2 of an earlier calibration is deleted with {run / FILE}" in capsys.readouterr().out
    assert not (run / FILE).exists()


def test_frames_are_seen_at_the_size_that_is_asked_for(run, tmp_path):
    folder = write_frames(tmp_path / "small", Predictor.load(run, shorter_side=16))
    calibrate_run(run, folder, shorter_side=16)
    scale = read_calibration(run)["depth"]
    assert (scale.frame, scale.seen) == ((32, 40), (16, 20))
    assert scale.factor == pytest.approx(2, rel=1e-4)


class Pinhole(nn.Module):
    """Sees a wall at 2 m in images of 24 rows, and at half of that in images of 48: things look twice as large."""

    def __init__(self, *, fixed_size=None, baked=None):
        super().__init__()
        self.tasks, self.fixed_size = {"depth": depth(loss="log-l1")}, fixed_size
        self.baked, self.is_decoded = baked, baked is not None

    def forward(self, image):
        metres = torch.full((1, 1, *image.shape[-2:]), 2.0 * 24 / image.shape[-2])
        return Output({"depth": self.baked(metres) if self.is_decoded else metres.log()}, [], [])


@pytest.mark.parametrize("power", [1.0, 0.5])
@pytest.mark.parametrize("frame", [(48, 64), (64, 48)])
def test_metres_do_not_depend_on_the_size_that_the_network_sees(power, frame):
    """The wall is 5 m away; the scale was fitted at the camera's own size, 48 x 64."""
    scale = Scale(5.0, power, frame, frame)  # 1 m becomes 5 m
    image = torch.rand(1, 3, 48, 64)
    for options in ({}, {"shorter_side": 12}, {"shorter_side": 24}, {"shorter_side": 96}, {"scales": (0.5, 1.0)}):
        seen = Predictor(Pinhole(), calibration={"depth": scale}, **options).predict(image)["depth"]
        torch.testing.assert_close(seen, torch.full_like(seen, 5.0))
    for model in (Pinhole(fixed_size=(24, 32)), Pinhole(fixed_size=(24, 32), baked=scale)):
        seen = Predictor(model, calibration={"depth": scale}, resize=True).predict(image)["depth"]
        torch.testing.assert_close(seen, torch.full_like(seen, 5.0))


@pytest.mark.parametrize("outputs", ["maps", "raw"])
def test_an_exported_file_has_the_scale(run, tmp_path, outputs):
    write_calibration(run, {"depth": Scale(2.5, 0.8)}, "", {})
    image = np.random.default_rng(1).integers(0, 255, (32, 48, 3), np.uint8)
    with shapes_unchecked():
        export_run(run, tmp_path / "model.onnx", outputs=outputs, images=1)
    expected = Predictor.load(run)(image)["depth"]
    np.testing.assert_allclose(Predictor.load(tmp_path / "model.onnx")(image)["depth"], expected, rtol=1e-3)
    plain = Predictor.load(tmp_path / "model.onnx", calibrated=False)(image)["depth"]
    own = Predictor.load(run, calibrated=False)(image)["depth"]
    np.testing.assert_allclose(plain, own if outputs == "raw" else expected, rtol=1e-3)
    if outputs == "maps":
        tensor = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        alone = open_onnx(tmp_path / "model.onnx", ("depth",))(tensor)["depth"][0]
        np.testing.assert_allclose(alone, expected, rtol=1e-3)


def test_nothing_says_of_later_weights_what_it_found_with_earlier_ones(run, other_camera, tmp_path, monkeypatch):
    """A training replaces the weights once they are read: what is then written is of those that were read."""
    weights, load = run / "model.safetensors", pretrained.load_model
    whole, before = weights.read_bytes(), hash_file(weights)

    def load_and_train_on(folder, **options):
        loaded = load(folder, **options)
        save_tensors(weights, {name: value + 1 for name, value in read_tensors(weights).items()})
        return loaded

    with monkeypatch.context() as patched, shapes_unchecked():
        patched.setattr(pretrained, "load_model", load_and_train_on)
        calibrate_run(run, other_camera)
        with pytest.raises(ValueError, match=r"calibration\.json was made with other weights than .*calibrate` again"):
            Predictor.load(run)
        assert Predictor.load(run, calibrated=False).tasks
        weights.write_bytes(whole)
        done = export_run(run, tmp_path / "model.onnx", images=1)
    assert json.loads(done.description.read_text())["weights_sha256"] == before
    weights.write_bytes(whole)
    assert Predictor.load(run).calibration


def test_scales_go_along_with_their_network_and_with_no_other(run, tmp_path):
    write_calibration(run, {"depth": Scale(2.5, 0.8)}, "", {})
    saved = Predictor.load(run).save_pretrained(tmp_path / "saved")
    assert read_calibration(saved, saved / "model.safetensors") == {"depth": Scale(2.5, 0.8)}
    packed = Predictor.load(saved).save_pretrained(tmp_path / "saved.zip")  # in float16: other bytes
    assert Predictor.load(packed).calibration == {"depth": Scale(2.5, 0.8)}
    Predictor.load(run, calibrated=False).save_pretrained(saved, overwrite=True)
    assert read_calibration(saved) == {}


def test_training_anew_or_further_drops_the_scales_of_the_weights_before(tmp_path):
    recipe = change(RECIPE, schedule__steps=2, schedule__name="constant")
    longer = change(recipe, schedule__steps=3)
    run = train(recipe, tmp_path / "run", progress=False)
    for again, options, kept in (
        (recipe, {"resume": True}, True),  # it has come to its end
        (longer, {"resume": True}, False),
        (recipe, {"overwrite": True}, False),
    ):
        write_calibration(run, {"depth": Scale(2.5, 0.8)}, "", {})
        train(again, run, progress=False, **options)
        assert bool(read_calibration(run)) == kept


def test_what_cannot_be_calibrated_is_one_line(run, other_camera, tmp_path, capsys):
    (tmp_path / "model.onnx").touch()
    packed = Predictor.load(run).save_pretrained(tmp_path / "network.zip")
    for words, message in (
        ([tmp_path / "model.onnx", other_camera], "calibrate the run"),
        ([run, tmp_path / "nowhere"], "does not exist"),
        ([packed, other_camera], f"a run folder is needed here; `unzip {packed} -d RUN` makes one"),
    ):
        assert main(["calibrate", *map(str, words)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_a_run_that_may_not_be_written_is_refused_before_its_frames_are_predicted(run, other_camera, monkeypatch):
    def refuse(**options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    monkeypatch.setattr(Predictor, "load", lambda *given, **options: pytest.fail("it was loaded"))
    with pytest.raises(OSError, match=r"cannot write to .* \(Permission denied\); .*copy it"):
        calibrate_run(run, other_camera)


def test_a_scale_of_another_size_says_so(run, tmp_path, monkeypatch):
    """A crop, another resolution: nothing tells which, and what was fitted at another size is not silently applied."""
    scale, large = Scale(5.0, 1.0, (48, 64), (48, 64)), torch.rand(1, 3, 96, 128)
    predictor = Predictor(Pinhole(), calibration={"depth": scale})
    with pytest.warns(UserWarning, match=r"saw at 48 x 64, and it sees others at 96 x 128: .*--shorter-side 48"):
        predictor.predict(large)
    predictor.predict(large)  # says it once
    seen = Predictor(Pinhole(), calibration={"depth": scale}, shorter_side=48).predict(large)["depth"]
    torch.testing.assert_close(seen, torch.full_like(seen, 5.0))
    before = Predictor(Pinhole(), calibration={"depth": Scale(5.0)}).predict(large)["depth"]  # of older versions
    torch.testing.assert_close(before, torch.full_like(before, 2.5))
    with pytest.warns(
        UserWarning, match=r"at 24 x 24.* \(export --size 48 64\)"
    ):  # which squeezes one side more than the other
        Predictor(Pinhole(fixed_size=(24, 24)), calibration={"depth": scale}, resize=True).predict(large[..., :48, :64])

    write_calibration(run, {"depth": scale}, "", {})
    assert read_calibration(run) == {"depth": scale}
    monkeypatch.setattr("triptych.export.run.exported_program", lambda *words, **options: 1 / 0)
    with pytest.warns(UserWarning, match="at 32 x 48"), pytest.raises(ZeroDivisionError):
        export_run(run, tmp_path / "model.onnx", images=1)
