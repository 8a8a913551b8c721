"""The C++ program of the docs: compiled against the installed torch, it predicts what Python predicts."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from export_runs import save_run
from PIL import Image
from training.tiny import SIZE
from unchecked import shapes_unchecked

from triptych.export import export_run
from triptych.prediction import Predictor

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "examples/cpp/predict.cpp"


def compile_command(binary: Path) -> list[str]:
    """The command of docs/deploy.md, with this interpreter and another name of the program."""
    text = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    found = re.search(r"^TORCH=.*?\n(g\+\+.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found, "docs/deploy.md has no command that compiles"
    torch = subprocess.check_output([sys.executable, "-c", "import torch; print(torch.__path__[0])"], text=True).strip()
    words = shlex.split(found[1].replace("\\\n", " ").replace("$TORCH", torch))
    return [str(binary) if word == "predict" else word for word in words]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_the_program_predicts_what_python_predicts(tmp_path: Path) -> None:
    assert len(SOURCE.read_text().splitlines()) < 100
    with shapes_unchecked():
        run = save_run(tmp_path / "run")
        done = export_run(run, tmp_path / "model.aoti.pt2")
    assert max(proof.difference for proof in done.proof.tasks.values()) < 1e-4
    built = subprocess.run(compile_command(tmp_path / "predict"), cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-3000:]

    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "photo.ppm")
    words = [tmp_path / "predict", done.path, tmp_path / "photo.ppm", f"{tmp_path}/out_"]
    ran = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    for name, values in Predictor.load(run)(picture).items():
        np.testing.assert_allclose(np.load(tmp_path / f"out_{name}.npy")[0], values, atol=1e-5)

    (tmp_path / "photo.ppm").write_bytes(b"P5 2 2 255\n0000")
    wrong = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert wrong.returncode == 1
    assert "is no binary PPM" in wrong.stderr
