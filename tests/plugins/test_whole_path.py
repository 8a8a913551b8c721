"""A decoder, a task and a dataset from outside the library go all the way, each verb in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plugin_files import as_in_a_new_process

from triptych.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
MY_LAB = '''
"""An own decoder, task and dataset."""
import numpy as np
import torch
import triptych
from torch import nn

__version__ = "1.0"


class Head(triptych.Decoder):
    def __init__(self, channels, *, strides, tasks):
        super().__init__(channels, strides=strides, tasks=tasks)
        self.heads = nn.ModuleDict({name: nn.Conv2d(channels[0], task.channels, 1) for name, task in tasks.items()})

    def forward(self, features):
        return [{name: head(features[0]) for name, head in self.heads.items()}]


def albedo(*, weight: float = 1.0) -> triptych.Task:
    return triptych.regression("albedo", 3, weight=weight)


class Paint(triptych.DenseDataset):
    name = "paint"

    def __init__(self, root="", *, split="train"):
        self.split, self.tasks = split, {"albedo": albedo()}

    def __len__(self):
        return 4

    def key(self, index):
        return f"{self.split}-{index}"

    def fingerprint(self):
        return {"name": self.name, "split": self.split, "count": len(self)}

    def __getitem__(self, index):
        image = torch.full((3, 32, 40), 0.2 + 0.2 * index)
        return triptych.Sample(image, {"albedo": 0.5 * image}, self.key(index))


triptych.register("decoders", "head", Head)
triptych.register("tasks", "albedo", albedo)
triptych.register("datasets", "paint", Paint)
'''


@pytest.mark.slow
def test_train_evaluate_predict_report_compare_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_lab.py").write_text(MY_LAB)
    Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(tmp_path / "photo.png")
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(tmp_path / "small.png")  # the size that is exported

    places = (ROOT / "src", ROOT / "runtime" / "src", *os.environ.get("PYTHONPATH", "").split(os.pathsep))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}

    def run(line: str) -> str:
        words = [sys.executable, "-P", "-m", "triptych", *line.split()]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run(
        "train rooms-demo --recipe.data.dataset paint --recipe.model.decoder head --recipe.data.size 32 32 "
        "--recipe.model.decoder-options width=null --recipe.data.batch-size 2 --recipe.schedule.steps 3 "
        "--out runs/0 --plugin my_lab"
    )
    run("train runs/0/recipe.json --recipe.seed 1 --out runs/1 --plugin=my_lab")
    for seed in (0, 1):
        run(f"evaluate runs/{seed} --plugin my_lab")
        assert json.loads((tmp_path / f"runs/{seed}/recipe.json").read_text())["plugins"] == {"my_lab": "1.0"}
        assert "albedo" in (tmp_path / f"runs/{seed}/report.html").read_text(encoding="utf-8")
    run("predict runs/0 photo.png --out maps --plugin my_lab")
    assert np.load(next((tmp_path / "maps").rglob("*.npy"))).shape == (3, 50, 70)
    assert "albedo" in run("compare runs/0 runs/1 --plugin my_lab")
    run("export runs/0 --to net.onnx --plugin my_lab")
    run("predict net.onnx small.png --out exported --plugin my_lab")

    predict = ["predict runs/0 photo.png --out other", "predict net.onnx small.png --out other"]
    with as_in_a_new_process():  # one for all: nothing is loaded
        monkeypatch.chdir(tmp_path)
        for line in (*predict, "evaluate runs/0", "compare runs/0 runs/1"):
            assert main(line.split()) == 2
            error = capsys.readouterr().err
            assert "needs plug-in 'my_lab' 1.0, which is not loaded; install it, or add --plugin my_lab" in error
