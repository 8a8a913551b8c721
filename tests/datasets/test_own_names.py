"""Tasks of a folder under names of their own, and quantities that are no known task."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from saved_maps import save

from triptych.datasets.folder import Folder
from triptych.labels.encodings import ENCODINGS
from triptych.labels.values import Values
from triptych.losses.pixel import VALUES
from triptych.tasks.stored import tasks_from_json, tasks_to_json

TOML = '[images]\nfiles = "images/{key}.png"\n'


def folder(root: Path, stored: np.ndarray, table: str) -> Folder:
    save(root / "images/a.png", np.zeros((3, 4, 3), np.uint8))
    save(root / "own/a.npy", stored)
    (root / "dataset.toml").write_text(f'{TOML}[tasks.mine]\nfiles = "own/{{key}}.npy"\n{table}')
    return Folder(root, split="all")


@pytest.mark.parametrize("kind", ENCODINGS)
def test_every_kind_of_task_can_have_a_name_of_its_own(tmp_path: Path, kind: str) -> None:
    channels = {"normals": 3}.get(kind, 0)
    stored = np.ones((3, 4, channels) if channels else (3, 4), np.float32 if channels else np.uint8)
    if channels:
        stored[...] = (0, 0, -1)
    dataset = folder(tmp_path, stored, f'type = "{kind}"\n' + ("classes = 2\n" if kind == "semseg" else ""))
    task = dataset.tasks["mine"]
    assert task.name == "mine"
    assert dataset[0].targets["mine"].shape[-2:] == (3, 4)
    stored_task = tasks_from_json(tasks_to_json(dataset.tasks))["mine"]
    fields = ("name", "kind", "channels", "classes", "target_channels", "unit")
    assert [getattr(stored_task, field) for field in fields] == [getattr(task, field) for field in fields]
    raw = torch.zeros(1, task.channels, 3, 4)
    assert task.loss(raw, dataset[0].targets["mine"][None]).isfinite()


def test_a_quantity_is_scaled_and_masked(tmp_path: Path) -> None:
    stored = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    stored[1, 0, 0], stored[0, 2, 3] = np.nan, -9999
    table = 'type = "regression"\nchannels = 2\nunit = "K"\nscale = "1/10"\noffset = 273\ninvalid = [-9999]\n'
    dataset = folder(tmp_path, stored, table + 'loss = "huber"\nmetric = "angle"\n')
    target = dataset[0].targets["mine"]
    expected = torch.from_numpy(stored) / 10 + 273
    expected[:, 0, 0] = expected[:, 2, 3] = torch.nan
    torch.testing.assert_close(target, expected, equal_nan=True)
    assert dataset.tasks["mine"].unit == "K"
    assert dataset.tasks["mine"].metric().primary == "angle"


@pytest.mark.parametrize("kind", ["semseg", "human_parts"])
def test_chosen_colors_reach_pictures_and_run_folders_and_no_fingerprint(tmp_path: Path, kind: str) -> None:
    stored, chosen = np.array([[0, 1, 1, 0]] * 3, np.uint8), [[1, 2, 3], [250, 0, 0]]
    table = f'type = "{kind}"\nclasses = 2\n'
    before = folder(tmp_path, stored, table)
    after = folder(tmp_path, stored, table + f"colors_shown = {chosen}\n")
    for task in (after.tasks["mine"], tasks_from_json(tasks_to_json(after.tasks))["mine"]):
        assert task.colorize(stored)[0].tolist() == [chosen[value] for value in stored[0]]
        assert task.name == "mine"
    assert before.fingerprint() == after.fingerprint()
    with pytest.raises(ValueError, match=r"\[tasks\.mine\]: colors_shown of this task has 1 colors; give one for each"):
        folder(tmp_path, stored, table + "colors_shown = [[1, 2, 3]]\n")


def test_losses_of_quantities_equal_their_formulas() -> None:
    raw, target = torch.randn(2, 3, 4, 5) * 2, torch.randn(2, 3, 4, 5) * 2
    target[0, :, 0, 0] = torch.nan
    known = target.isfinite().all(1)
    a, b = (values.permute(0, 2, 3, 1)[known].double().numpy() for values in (raw, target))
    error = np.abs(a - b)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    expected = {
        "l1": error.mean(),
        "l2": (error**2).mean(),
        "huber": np.where(error <= 1, error**2 / 2, error - 0.5).mean(),
        "cosine": (1 - cosine).mean(),
    }
    for name, value in expected.items():
        assert VALUES[name](raw, target).item() == pytest.approx(value, rel=1e-5)
    nothing = torch.full_like(target, torch.nan)
    for loss in VALUES.values():
        zero = loss(raw.clone().requires_grad_(), nothing)
        assert zero.item() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels is 0; a quantity has at least 1"),
        ({"loss": "l3"}, "unknown regression loss 'l3'"),
        ({"loss": "cosine"}, "loss is 'cosine' for 1 channel"),
        ({"metric": "l3"}, "unknown regression metric 'l3'"),
        ({"metric": "angle"}, "metric is 'angle' for 1 channel"),
        ({"limits": (2.0, 1.0)}, "give the lowest and the highest"),
    ],
)
def test_mistakes_in_quantities_get_help(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Values(files="x", **options)


def test_a_kind_is_no_name_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "dataset.toml").write_text(f'{TOML}[tasks.depth]\nfiles = "x/{{key}}.npy"\ntype = "normals"\n')
    with pytest.raises(ValueError, match=r"\[tasks\.depth\] has type = 'normals'; depth is a kind of task"):
        Folder(tmp_path)
    assert json.dumps(list(ENCODINGS))
