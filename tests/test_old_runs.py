"""A run folder of an older version: what it stored is what this version makes of it.

`old_runs/6769c55` was trained by the code of that commit: 30 steps on four generated rooms of 32x48 with a triplane
branch whose options are mostly left to their defaults, and no `resolved.json`. `expected.npz` holds what that code
predicted and rendered of the first test image. The checkpoint's network is the deployed one, and is copied here.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from triptych import assemble
from triptych.__main__ import main
from triptych.evaluation.run import evaluate_run
from triptych.prediction.predictor import Predictor
from triptych.recipes.config import read_recipe
from triptych.report.renderings import Renderer
from triptych.training.loop import train

STORED = Path(__file__).parent / "old_runs" / "6769c55"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = shutil.copytree(STORED, tmp_path_factory.mktemp("old") / "run")
    shutil.copy(folder / "model.safetensors", folder / "checkpoints/00000030/model.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_CACHE", str(folder.parent / "cache"))
        yield folder


@pytest.fixture(scope="module")
def image(run: Path) -> np.ndarray:
    """The first test image, `(1, 3, H, W)`."""
    return assemble.build_dataset(read_recipe(run / "recipe.json"), "test")[0].image[None]


def assert_as_stored(maps: dict[str, np.ndarray], group: str) -> None:
    with np.load(STORED / "expected.npz") as stored:
        expected = {name.removeprefix(group + "/"): stored[name] for name in stored if name.startswith(group)}
    assert maps.keys() == expected.keys()
    for name, value in expected.items():
        if value.dtype.kind == "i":
            assert (maps[name] == value).mean() > 0.999, name
        else:
            np.testing.assert_allclose(maps[name].reshape(value.shape), value, rtol=1e-3, atol=1e-4, err_msg=name)


def test_it_scores_as_it_did(run: Path) -> None:
    evaluate_run(run, device="cpu", progress=False)
    before, now = (json.loads((path / "evaluation-test.json").read_text()) for path in (STORED, run))
    assert now["data"] == before["data"]
    assert now["keys"] == before["keys"]
    for part in ("metrics", "constant"):
        for task, numbers in before[part].items():
            assert now[part][task] == pytest.approx(numbers, rel=1e-3, abs=1e-3), task


def test_it_predicts_as_it_did(run: Path, image, tmp_path: Path) -> None:
    maps = Predictor.load(run).predict(image)
    assert_as_stored({name: value[0].numpy() for name, value in maps.items()}, "prediction")
    pixels = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "room.png")
    main(["predict", str(run), str(tmp_path / "room.png"), "--out", str(tmp_path / "out"), "--products", "arrays"])
    assert_as_stored({path.parent.name: np.load(path) for path in tmp_path.rglob("*.npy")}, "prediction")


def test_it_renders_as_it_did(run: Path, image, tmp_path: Path) -> None:
    rendering = Renderer.load(run)(image)
    geometry = {"density-depth": rendering.depth, "density-opacity": rendering.opacity}
    assert_as_stored({**rendering.maps, **geometry}, "rendering")
    main(["predict", str(run), "--render", "--out", str(tmp_path / "out")])
    assert (tmp_path / "out/report.html").stat().st_size > 10_000


def test_it_is_not_resumed(run: Path) -> None:
    with pytest.raises(ValueError, match=r"has no resolved\.json, so an older version began it"):
        train(read_recipe(run / "recipe.json"), run, resume=True, device="cpu", progress=False)
