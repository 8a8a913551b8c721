"""Samples, cameras, validity and collation."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from triptych.lookup import named_choice
from triptych.types import IGNORE, Camera, Sample, collate, valid_pixels


def make(key: str, size=(4, 6), camera: bool = True) -> Sample:
    return Sample(
        image=torch.rand(3, *size),
        targets={"semseg": torch.zeros(size, dtype=torch.int64), "depth": torch.full((1, *size), 2.0)},
        key=key,
        camera=Camera(torch.eye(3), torch.eye(4)) if camera else None,
        extras={"instances": torch.zeros(size, dtype=torch.int64)},
    )


def test_valid_pixels_reads_both_markers() -> None:
    labels = torch.tensor([[[0, IGNORE], [3, 1]]])
    assert valid_pixels(labels).tolist() == [[[True, False], [True, True]]]
    normals = torch.ones(2, 3, 2, 2)
    normals[0, 1, 0, 0] = torch.nan  # one bad channel spoils the pixel
    normals[1, 2, 1, 1] = torch.inf
    valid = valid_pixels(normals)
    assert valid.shape == (2, 1, 2, 2)
    assert not valid[0, 0, 0, 0]
    assert not valid[1, 0, 1, 1]
    assert valid.sum() == 6


def test_collate_stacks_everything_and_drops_what_not_all_have() -> None:
    batch = collate([make("a"), make("b")])
    assert batch.image.shape == (2, 3, 4, 6)
    assert batch.key == ("a", "b")
    assert batch.camera is not None
    assert batch.camera.pose is not None
    assert batch.camera.pose.shape == (2, 4, 4)
    assert batch.extras["instances"].shape == (2, 4, 6)
    assert collate([make("a"), make("b", camera=False)]).camera is None


def test_collate_names_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"b \(4, 8\).*crop or pad"):
        collate([make("a"), make("b", size=(4, 8))])
    lacking = Sample(image=torch.rand(3, 4, 6), targets={"depth": torch.zeros(1, 4, 6)}, key="c")
    with pytest.raises(ValueError, match="'c' has targets"):
        collate([make("a"), lacking])
    with pytest.raises(ValueError, match=r"'b' has 0 neighbors.*first of the batch 1.*missing_view"):
        collate([replace(make("a"), neighbors=(make("v"),)), make("b")])
    with pytest.raises(ValueError, match="no samples"):
        collate([])


def test_moving_a_sample_leaves_the_original_alone() -> None:
    sample = make("a")
    sample = replace(sample, neighbors=(make("b"),))
    moved = sample.to("meta")
    assert moved.neighbors[0].targets["depth"].device.type == "meta"
    assert moved.image.device.type == "meta"
    assert moved.camera is not None
    assert moved.camera.intrinsics.device.type == "meta"
    assert sample.image.device.type == "cpu"


@pytest.mark.parametrize(("device", "ahead"), [("cpu", False), ("meta", True)])
def test_a_cpu_waits_for_what_a_gpu_sends(device: str, ahead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting it reads what was in its memory before."""
    seen = []
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, non_blocking=False: seen.append(non_blocking) or self)
    make("a").to(device)
    assert any(seen) == ahead


def test_named_choice_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown decoder 'mtinet'; did you mean 'mti-net'\\? Choose from"):
        named_choice("decoder", "mtinet", {"mti-net": 0, "pad-net": 1})


def test_every_import_of_the_package_names_a_module_that_exists() -> None:
    """mypy takes imports of modules that are not there for modules without types."""
    root = Path(__file__).parents[1]
    wrong = []
    for path in [
        file for folder in ("src", "tests", "studies", "benchmarks") for file in (root / folder).rglob("*.py")
    ]:
        for module in re.findall(r"^\s*from (triptych(?:\.\w+)*) import", path.read_text(encoding="utf-8"), re.M):
            home = root.joinpath("src", *module.split("."))
            if not (home.is_dir() or home.with_suffix(".py").is_file()):
                wrong.append(f"{path.relative_to(root)}: {module}")
    assert wrong == []
