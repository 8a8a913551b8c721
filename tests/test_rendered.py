"""`predict --render`: the renderings of a run's regularizer, read from its checkpoints, as a page."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from regularizers.branch import SMALL
from safetensors.torch import load_file
from torch.nn import functional as F
from training.tiny import RECIPE, Rectangles, change

from triptych.__main__ import main
from triptych.assemble import build_regularizer
from triptych.prediction import Predictor
from triptych.report.renderings import PAGE, Renderer, align, find_checkpoint, render_run
from triptych.training.loop import train
from triptych.types import Camera

OPTIONS = {**SMALL, "num_samples": 6, "route": "recomputed", "density": "shared", "depth_from": "termination"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = change(
        RECIPE,
        regularizer__name="triplane",
        regularizer__options=OPTIONS,
        optimizer__lr=0.02,
        schedule__steps=6,
        training__checkpoint_every=3,
        training__keep_checkpoints=2,
    )
    return train(recipe, tmp_path_factory.mktemp("runs") / "run", device="cpu", progress=False)


def test_renderings_are_those_of_the_checkpoint(run) -> None:
    """Against the regularizer's own forward pass, with weights read by hand."""
    renderer = Renderer.load(run)
    sample = Rectangles(split="test")[0]
    image = sample.image[None]
    rendering = renderer(image)
    folder = find_checkpoint(run)
    predictor = Predictor.load(run)
    model = predictor.model
    model.load_state_dict(load_file(folder / "model.safetensors"))
    regularizer = build_regularizer(predictor.recipe, model).eval()
    regularizer.load_state_dict(load_file(folder / "regularizer.safetensors"))
    with torch.no_grad():
        from triptych.types import Sample

        rendered = regularizer.render(model(image), Sample(image, {}))
        for name, task in model.tasks.items():
            raw = F.interpolate(regularizer.raw(name, rendered[name]), size=(32, 48), mode="bilinear")
            np.testing.assert_array_equal(rendering.maps[name], task.decode(raw)[0].numpy())
    np.testing.assert_allclose(rendering.depth, rendering.maps["depth"], atol=1e-5)
    assert rendering.geometry == "depth"
    assert "Depths are metres" in rendering.note
    assert rendering.opacity.shape == (1, 32, 48)
    assert list(rendering.views) == ["camera to the left", "camera to the right"]
    assert all(view["semseg"].shape == (32, 48) for view in rendering.views.values())


def test_a_larger_image_is_rendered_at_the_size_of_training_and_shown_at_its_own(run) -> None:
    renderer = Renderer.load(run)
    image = F.interpolate(Rectangles(split="test")[0].image[None], size=(96, 144), mode="nearest")
    rendering = renderer(image, Camera(torch.eye(3)[None]))
    assert rendering.maps["depth"].shape == (1, 96, 144)
    small = renderer(F.interpolate(image, size=(32, 48), mode="bilinear", antialias=True))
    shrunk = F.interpolate(torch.from_numpy(rendering.opacity)[None], size=(32, 48), mode="area")[0].numpy()
    assert np.abs(shrunk - small.opacity).mean() < 0.02


def test_the_checkpoint_is_that_of_the_deployed_step(run, tmp_path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    folders = sorted((copied / "checkpoints").iterdir())
    assert [int(folder.name) for folder in folders] == [3, 6]
    state = json.loads((folders[-1] / "state.json").read_text())
    for step, expected in ((3, 3), (6, 6), (4, 6)):
        state["best"] = {"step": step, "metrics": {}}
        (folders[-1] / "state.json").write_text(json.dumps(state))
        assert int(find_checkpoint(copied).name) == expected
    state["best"] = None
    (folders[-1] / "state.json").write_text(json.dumps(state))
    assert int(find_checkpoint(copied).name) == 6


def test_expected_depths_are_aligned_by_least_squares() -> None:
    generator = np.random.default_rng(0)
    depth = generator.normal(size=(1, 6, 7))
    reference = 3 * depth - 2 + 0.1 * generator.normal(size=depth.shape)
    reference[0, 0, :3] = np.nan
    seen = np.ones(depth.shape, bool)
    seen[0, 5] = False
    reference[0, 5] = 1e3  # not seen
    aligned = align(depth, reference, seen)
    known = np.isfinite(reference) & seen
    slope, offset = np.polyfit(depth[known], reference[known], 1)
    np.testing.assert_allclose(aligned, slope * depth + offset)
    assert align(depth, np.full_like(reference, np.nan), seen) is depth


def test_the_page_shows_every_rendering_beside_target_and_prediction(run, tmp_path) -> None:
    log: list[str] = []
    path = render_run(Predictor.load(run), run, (), tmp_path / "out", count=2, log=log.append)
    text = path.read_text(encoding="utf-8")
    assert log == [f"page to look at: {path}"]
    assert text.count('class="example"') == 2
    for phrase in (
        "What the density says",
        "true depth",
        "predicted depth",
        "expected depth of the density",
        "opacity",
        "semseg, rendered",
        "depth, rendered",
        "camera to the left",
        "camera to the right",
    ):
        assert text.count(f">{phrase}<") >= 2, phrase
    assert 'data-map="depth rendered"' in text
    assert 'data-map="camera' not in text  # other pixels than those of the image
    with pytest.raises(FileExistsError, match=r"report\.html exists.*--overwrite"):
        render_run(Predictor.load(run), run, (), tmp_path / "out", log=log.append)


def test_image_files_are_rendered_without_targets(run, tmp_path, capsys) -> None:
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "photo.png")
    out = tmp_path / "out"
    arguments = [str(run), str(tmp_path / "photo.png"), "--out", str(out), "--render", "--device", "cpu"]
    assert main(["predict", *arguments, "--products", "panels"]) == 0
    assert (out / "panels" / "photo.png").is_file()
    text = (out / PAGE).read_text(encoding="utf-8")
    assert ">true depth<" not in text
    assert ">expected depth of the density<" in text
    assert main(["predict", str(run), "--device", "cpu"]) == 2
    assert "no images to predict" in capsys.readouterr().err


def test_what_cannot_be_rendered_is_said(run, tmp_path) -> None:
    plain = change(RECIPE, schedule__steps=1)
    without = train(plain, tmp_path / "without", device="cpu", progress=False)
    with pytest.raises(ValueError, match=r"without a regularizer.*rooms-demo-3d"):
        Renderer.load(without)
    flat = change(plain, regularizer__name="decoder-2d", regularizer__options={"width": 8, "plane_channels": 4})
    control = train(flat, tmp_path / "control", device="cpu", progress=False)
    with pytest.raises(ValueError, match=r"'decoder-2d', which has no volume"):
        Renderer.load(control)
    saved = Predictor.load(run).save_pretrained(tmp_path / "saved")
    with pytest.raises(FileNotFoundError, match=r"no checkpoints.*never hold the regularizer"):
        Renderer.load(saved)
    metric = change(plain, regularizer__name="triplane", regularizer__options={**SMALL, "camera": "metric"})
    text = (tmp_path / "without" / "recipe.json").read_text()
    assert not re.search('"triplane"', text)
    renderer = Renderer.load(run)
    renderer.regularizer = build_regularizer(metric, renderer.model).eval()
    with pytest.raises(ValueError, match=r"camera, unknown here; pass --fov"):
        renderer(torch.rand(1, 3, 32, 48))
    camera = Camera(torch.tensor([[[40.0, 0, 24], [0, 40.0, 16], [0, 0, 1]]]))
    assert "metres" in renderer(torch.rand(1, 3, 32, 48), camera).note
