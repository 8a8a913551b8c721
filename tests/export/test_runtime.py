"""The runtime in an environment of its own, where there is no torch."""

import json
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
MEASURE = """
import json, re, sys, time
started = time.perf_counter()
from triptych_runtime import Network
network = Network(sys.argv[1], threads=1)
start = time.perf_counter() - started
memory = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
maps = network(sys.argv[2])
import numpy as np
np.savez(sys.argv[3], **maps)
print(json.dumps({"seconds": start, "mb": memory, "torch": "torch" in sys.modules}))
"""


def call(*words: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_an_environment_without_torch_predicts_the_same(tmp_path: Path) -> None:
    with shapes_unchecked():
        run = save_run(tmp_path / "run")
        file = export_run(run, tmp_path / "model.onnx").path
    assert call(sys.executable, "-m", "venv", tmp_path / "bare").returncode == 0
    python = tmp_path / "bare/bin/python"
    installed = call(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", ROOT / "runtime")
    if "No matching distribution" in installed.stderr or "Connection" in installed.stderr:
        pytest.skip(f"the package index is out of reach: {installed.stderr.splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    assert "No module named 'torch'" in call(python, "-c", "import torch").stderr

    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "photo.png")
    done = call(python, "-c", MEASURE, file, tmp_path / "photo.png", tmp_path / "maps.npz")
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    size = call("du", "-sm", *(tmp_path / "bare/lib").glob("python*/site-packages")).stdout.split()[0]
    pip = call("du", "-smc", *(tmp_path / "bare/lib").glob("python*/site-packages/pip*")).stdout.split()[-2]
    print(f"without torch: {int(size) - int(pip)} MB installed, {measured}")
    assert not measured["torch"]
    assert measured["mb"] < 250
    assert int(size) - int(pip) < 200

    stored, expected = np.load(tmp_path / "maps.npz"), Predictor.load(run)(picture)
    for name, values in expected.items():
        np.testing.assert_allclose(stored[name], values, atol=1e-5)
    command = tmp_path / "bare/bin/triptych-runtime"
    assert call(command, file, tmp_path / "photo.png", "--out", tmp_path / "out").returncode == 0
    np.testing.assert_allclose(np.load(tmp_path / "out/photo_depth.npy"), expected["depth"], atol=1e-5)
    wrong = call(command, tmp_path / "photo.png", tmp_path / "photo.png")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
