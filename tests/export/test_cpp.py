"""The programs of the docs in C++ and C: compiled as the page says, they predict what Python predicts."""

import re
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


def compile_as_written(source: str, folder: Path) -> None:
    """Run the commands of docs/deploy.md that compile a program, with this interpreter; they write `folder`/predict."""
    text = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    found = next((block for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S) if source in block), None)
    assert found, f"docs/deploy.md has no command that compiles {source}"
    assert len((ROOT / source).read_text().splitlines()) < 100
    words = found.replace("python ", f"{sys.executable} ").replace(source, str(ROOT / source))
    built = subprocess.run(["bash", "-e", "-c", words], cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-3000:]


def check_program(program: Path, file: Path, run: Path, folder: Path) -> None:
    """It writes what the run predicts, and says what is wrong with a picture in one line."""
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(picture).save(folder / "photo.ppm")
    words = [str(word) for word in (program, file, folder / "photo.ppm", f"{folder}/out_")]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    for name, values in Predictor.load(run)(picture).items():
        np.testing.assert_allclose(np.load(folder / f"out_{name}.npy")[0], values, atol=1e-5)

    Image.fromarray(picture[:-8, :-8]).save(folder / "small.ppm")
    small = subprocess.run([*words[:2], str(folder / "small.ppm"), f"{folder}/no_"], capture_output=True, text=True)
    assert small.returncode == 1
    assert "error: " in small.stderr
    assert not list(folder.glob("no_*"))

    (folder / "photo.ppm").write_bytes(b"P5 2 2 255\n0000")
    wrong = subprocess.run(words, capture_output=True, text=True)
    assert wrong.returncode == 1
    assert "is no binary PPM" in wrong.stderr
    assert wrong.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_the_program_on_libtorch_predicts_what_python_predicts(tmp_path: Path) -> None:
    with shapes_unchecked():
        run = save_run(tmp_path / "run")
        done = export_run(run, tmp_path / "model.aoti.pt2")
    assert max(proof.difference for proof in done.proof.tasks.values()) < 1e-4
    compile_as_written("examples/cpp/predict.cpp", tmp_path)
    check_program(tmp_path / "predict", done.path, run, tmp_path)


HEADER = "#include <onnxruntime_c_api.h>"
"""Where Debian's libonnxruntime-dev has it, or in a folder of CPATH, in which the compiler looks too."""


@pytest.mark.slow
def test_the_program_on_onnxruntime_predicts_what_python_predicts(tmp_path: Path) -> None:
    words = ["gcc", "-E", "-xc", "-", "-I/usr/include/onnxruntime"]
    if shutil.which("gcc") is None or subprocess.run(words, input=HEADER.encode(), capture_output=True).returncode:
        pytest.skip("needs gcc and onnxruntime_c_api.h (libonnxruntime-dev of Debian 13, or a folder of it in CPATH)")
    with shapes_unchecked():
        run = save_run(tmp_path / "run")
        done = export_run(run, tmp_path / "model.onnx")
    compile_as_written("examples/c/predict.c", tmp_path)
    check_program(tmp_path / "predict", done.path, run, tmp_path)
