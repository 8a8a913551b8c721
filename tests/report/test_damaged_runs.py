"""Pages about runs whose files were damaged: one line that names the file."""

import json
from pathlib import Path

import pytest

from triptych.recipes.config import Recipe, to_json
from triptych.report.values import read_run
from triptych.tasks import depth
from triptych.tasks.stored import write_tasks
from triptych.training.log import cut_metrics


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "recipe.json").write_text(to_json(Recipe()))
    write_tasks(tmp_path / "tasks.json", {"depth": depth()})
    record = {"kind": "evaluation", "step": 2, "split": "val", "best": True, "metrics": {"depth/rmse": 1.0}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    (tmp_path / "environment.json").write_text('{"starts": [{"device": "cpu"}]}')
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", b'{"kind": "train\xff"}\n'),
        ("metrics.jsonl", b"3\n"),
        ("metrics.jsonl", b'{"kind": "train"}\n'),
        ("metrics.jsonl", b'{"kind": "train", "step": 1, "losses": [1]}\n'),
        ("metrics.jsonl", b'{"kind": "evaluation", "st\n{"kind": "train", "step": 1}\n'),
        ("metrics.jsonl", b"[" * 10**5 + b"\n"),
        (
            "metrics.jsonl",
            b'{"kind": "evaluation", "best": true, "step": 2, "split": "a", "metrics": {"rmse": 1.0}}\n',
        ),
        ("environment.json", b""),
        ("environment.json", b"\xff"),
        ("environment.json", b'{"starts": []}'),
        ("environment.json", b'{"starts": [3]}'),
        ("recipe.json", b"\xff"),
        ("recipe.json", b"[" * 10**5),
        ("tasks.json", b"[" * 10**5),
        ("tasks.json", b"{}"),
        ("tasks.json", b'{"tasks": [{"name": "depth", "options": 3}]}'),
        ("tasks.json", b'{"tasks": [{"name": "semseg", "options": {"classes": 1000000000000}}]}'),
        ("tasks.json", b'{"tasks": [{"name": ["depth"], "options": {}}]}'),
        ("tasks.json", b'{"tasks": [{"name": "/tmp/x", "type": "depth", "options": {}}]}'),
    ],
)
def test_a_damaged_file_of_a_run_is_named(name: str, content: bytes, run: Path) -> None:
    assert read_run(run).facts["Device"] == "1 x cpu"
    (run / name).write_bytes(content)
    with pytest.raises(ValueError, match=name) as raised:
        read_run(run)
    assert "\n" not in str(raised.value)


def test_a_line_that_was_being_written_is_left_out(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    assert [record["kind"] for record in read_run(run).records] == ["evaluation"]


@pytest.mark.parametrize("content", [b"\xff", b"3\n", b"\n{}\n", b'{"kind": "other", "step": 1}\n'])
def test_a_damaged_log_of_a_run_that_resumes_is_named(content: bytes, run: Path) -> None:
    (run / "metrics.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged .*move it away"):
        cut_metrics(run, trained=2, evaluated=2)
