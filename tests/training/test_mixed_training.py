"""Training on two datasets at once: depth from one, human parts from the other, and both are learnt."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training.tiny import RECIPE
from training_runs import resumed

from triptych.datasets.mixed import Mixed
from triptych.prediction import Predictor
from triptych.recipes.config import DataConfig, Recipe, TrainingConfig
from triptych.training.loop import train
from triptych.types import IGNORE

SIZE = (32, 48)
COLORS = np.array([[50, 50, 50], [230, 30, 30], [30, 230, 30]], np.uint8)


def write_images(root: Path, count: int, seed: int) -> list[np.ndarray]:
    """Two coloured rectangles in each image; returns their numbers by pixel."""
    draw = np.random.default_rng(seed)
    maps = []
    for i in range(count):
        labels = np.zeros(SIZE, np.uint8)
        for label in (1, 2):
            top, left = draw.integers(0, (16, 28))
            labels[top : top + 14, left : left + 18] = label
        maps.append(labels)
        (root / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(COLORS[labels]).save(root / f"images/{i:04d}.png")
    return maps


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NYUv2-style depth: float metres, 0 where nothing was measured. PASCAL-style parts: a PNG of ids, 255 ignored."""
    root = tmp_path_factory.mktemp("mixture")
    for i, labels in enumerate(write_images(root / "indoor", 24, 0)):
        depth = (1.5 + 2.0 * labels).astype(np.float32)
        depth[:2] = 0
        (root / "indoor/depth").mkdir(exist_ok=True)
        np.save(root / f"indoor/depth/{i:04d}.npy", depth)
    for i, labels in enumerate(write_images(root / "people", 12, 1)):
        (root / "people/parts").mkdir(exist_ok=True)
        Image.fromarray(np.where(np.arange(SIZE[1]) < 3, 255, labels).astype(np.uint8)).save(
            root / f"people/parts/{i:04d}.png"
        )
    shares = '[splits]\nval = 0.25\n[images]\nfiles = "images/{key}.png"\n'
    (root / "indoor/dataset.toml").write_text(
        shares + '[tasks.depth]\nfiles = "depth/{key}.npy"\nunit = "m"\ninvalid = [0]\n'
    )
    (root / "people/dataset.toml").write_text(
        shares + '[tasks.human_parts]\nfiles = "parts/{key}.png"\nclasses = ["background", "head", "torso"]\n'
    )
    (root / "mixture.toml").write_text(
        '[sources.indoor]\ndataset = "folder"\nroot = "indoor"\n[sources.people]\ndataset = "folder"\nroot = "people"\n'
    )
    return root / "mixture.toml"


def recipe(mixture: Path, steps: int) -> Recipe:
    data = DataConfig(dataset="mixed", root=str(mixture), size=SIZE, batch_size=4, transform="none", test_split="val")
    return replace(
        RECIPE,
        data=data,
        model=replace(RECIPE.model, decoder_options={}),
        optimizer=replace(RECIPE.optimizer, lr=2e-2),
        schedule=replace(RECIPE.schedule, steps=steps),
        training=TrainingConfig(evaluate_every=0, checkpoint_every=3, log_every=1),
    )


def test_depth_of_one_dataset_and_parts_of_another_are_learnt_together(mixture: Path, tmp_path: Path) -> None:
    run = train(recipe(mixture, 60), tmp_path / "run", device="cpu", progress=False)
    predictor = Predictor.load(run)
    assert list(predictor.tasks) == ["depth", "human_parts"]
    errors, constant, hits = [], [], []
    for sample in Mixed(mixture, split="val"):
        found = predictor(sample.image)
        depth, parts = sample.targets["depth"], sample.targets["human_parts"]
        if depth.isfinite().any():
            assert (parts == IGNORE).all()
            predicted = torch.as_tensor(found["depth"]).reshape(depth.shape)
            errors.append((predicted - depth).abs().nanmean().item())
            constant.append((depth.nanmedian() - depth).abs().nanmean().item())
        else:
            predicted = torch.as_tensor(found["human_parts"]).reshape(parts.shape)
            hits.append([((predicted == parts)[parts == label]).double().mean().item() for label in range(3)])
    assert (len(errors), len(hits)) == (6, 3)
    assert np.mean(errors) < 0.6 * np.mean(constant)
    assert np.mean(hits, axis=0).min() > 0.9  # of each part


def test_a_resumed_run_equals_an_uninterrupted_one(
    mixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed(recipe(mixture, 8), tmp_path, monkeypatch)
