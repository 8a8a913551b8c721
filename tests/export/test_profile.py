"""What a forward pass costs."""

from pathlib import Path

import pytest
from export_runs import save_run

from triptych.__main__ import main
from triptych.export.profile import Cost, cost_table, profile
from triptych.machine import keep_freed_memory
from triptych.prediction.predictor import Predictor
from triptych.terminal import terminal


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


def test_a_network_is_measured_at_sizes_that_it_takes(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load, asked = Predictor.load, {"least": 20}

    def load_file(path: Path, **options: object) -> Predictor:
        predictor = load(path, **options)
        predictor.model.smallest = asked["least"]
        return predictor

    monkeypatch.setattr(Predictor, "load", load_file)
    assert [cost.size for cost in profile(run, repeats=1)] == [(32, 48), (64, 96)]
    asked["least"] = 70
    assert [cost.size for cost in profile(run, repeats=1)] == [(70, 70)]


def test_the_verb_prints_a_row_per_size(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(run), "--size", "32", "48", "64", "64"]) == 0
    text = capsys.readouterr().out
    assert "32 x 48" in text
    assert "64 x 64" in text
    assert main(["profile", str(run / "nothing.onnx")]) == 2
    capsys.readouterr()
    for words, told in (
        ([], "no network to measure"),
        ([str(run), "--size", "0", "5"], "size is 0 x 5; give"),
        ([str(run), "--threads", "-2"], "threads is -2; give"),
    ):
        assert main(["profile", *words]) == 2
        assert told in capsys.readouterr().err


def test_memory_that_cannot_be_measured_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    costs = {
        "run": [Cost((4, 8), 1.0, None, 2 * 10**9), Cost((8, 8), 1.0, 0, 10)],
        "model.onnx": [Cost((8, 8), 0.5, 12_400_000, None)],
    }
    terminal(width=120).print(cost_table("", costs))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert [row for row in rows if row] == [
        ["run", "4 x 8", "1000.0", "1.0", "", "1.00"],
        ["run", "8 x 8", "1000.0", "1.0", "< 1", "0.00"],
        ["model.onnx", "8 x 8", "500.0", "2.0", "12", ""],
    ]


def test_the_memory_of_an_image_is_seen_beside_what_the_process_has_free(run: Path) -> None:
    keep_freed_memory()  # the second pass could run in what the first one left
    for cost in profile(run, [(512, 768)] * 2, repeats=1):
        assert cost.bytes > 256 * 384 * 8 * 4  # the first maps
