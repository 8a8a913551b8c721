"""What a forward pass costs."""

from pathlib import Path

import pytest
from export_runs import save_run

from triptych.__main__ import main
from triptych.export.profile import profile


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("runs") / "run")


def test_operations_are_those_of_the_layers(run: Path) -> None:
    (cost,) = profile(run, [(32, 48)], repeats=1)
    first, second, heads = 16 * 24 * 8 * 27, 8 * 12 * 16 * 72, 16 * 24 * 8 * (4 + 1 + 3)
    assert cost.flops == 2 * (first + second + heads)
    assert cost.seconds > 0


def test_larger_images_cost_more(run: Path) -> None:
    small, usual, large = profile(run, repeats=1)
    assert (small.size, usual.size, large.size) == ((16, 24), (32, 48), (64, 96))
    assert small.flops < usual.flops < large.flops


def test_the_verb_prints_a_row_per_size(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(run), "--size", "32", "48", "64", "64"]) == 0
    text = capsys.readouterr().out
    assert "32 x 48" in text
    assert "64 x 64" in text
    assert main(["profile", str(run / "nothing.onnx")]) == 2
