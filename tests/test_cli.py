"""The command line: quick help, one-line errors, exit codes."""

import errno
import functools
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from triptych.__main__ import VERBS, list_names, main
from triptych.commands.train import RecipeVerb, train
from triptych.commands.verbs import Group, Verb
from triptych.machine import ran_out_of_memory
from triptych.named_parts import REGISTRIES
from triptych.recipes.config import Recipe


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in VERBS)


def every_verb(verbs: Any = VERBS) -> list[list[str]]:
    inner = {name: every_verb(verb.verbs) if isinstance(verb, Group) else [] for name, verb in verbs.items()}
    return [[name, *rest] for name, below in inner.items() for rest in ([], *below)]


@pytest.mark.parametrize("words", every_verb(), ids=" ".join)
def test_every_verb_has_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert len(shown) > 100
    assert "Args:" not in shown  # a section of a docstring that was not understood


def test_a_full_disk_names_the_file_and_the_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/a/recipe.json")

    monkeypatch.setitem(VERBS, "list", Verb(fill))
    assert main(["list"]) == 2
    assert "device: 'runs/a/recipe.json'; make room, or write elsewhere (" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 8.00 TiB"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=["host", "gpu", "cpu", "system"],
)
def test_memory_that_runs_out_is_no_mistake_of_ours(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill() -> None:
        raise error

    monkeypatch.setitem(VERBS, "list", Verb(fill))
    assert ran_out_of_memory(error)
    assert main(["list"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_misspelt_verb_of_a_group_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "shw"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "unknown triptych data verb 'shw'; did you mean 'show'?" in error


def chosen_recipe(name: str, *words: str) -> Recipe:
    """The recipe that `triptych train NAME WORDS` would train."""
    chosen: list[Recipe] = []
    note = functools.wraps(train)(lambda recipe, **rest: chosen.append(recipe))
    RecipeVerb(note, "--out RUN").run([name, "--out", "nowhere", *words], "triptych train")
    return chosen[0]


def test_options_take_numbers_lists_and_tables_and_keep_the_others() -> None:
    own = chosen_recipe("rooms-demo")
    recipe = chosen_recipe(
        "rooms-demo",
        *("--recipe.data.options", "neighbor_frames=[-1,1]", "look=b", "paired=true"),
        *("--recipe.data.task-options", "depth.loss=berhu", "depth.aligned=True"),
        *("--recipe.model.decoder-options", "dropout=0.5"),
        *("--recipe.weighting.weights", "depth=2"),
    )
    assert recipe.data.options == own.data.options | {"neighbor_frames": (-1, 1), "look": "b", "paired": True}
    assert recipe.data.task_options == {"depth": {"loss": "berhu", "aligned": True}}
    assert own.model.decoder_options  # or there is nothing to keep
    assert recipe.model.decoder_options == own.model.decoder_options | {"dropout": 0.5}
    assert recipe.weighting.weights == own.weighting.weights | {"depth": 2.0}


def test_the_example_of_the_docs() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs/concepts.md").read_text(encoding="utf-8")
    words = shlex.split(page.partition("$ triptych train ")[2].partition("```")[0].replace("\\\n", " "))
    recipe = chosen_recipe(words[0], *words[3:])
    assert recipe.optimizer.lr == 1e-3
    assert recipe.data.tasks == ("semseg", "depth")
    assert recipe.data.options["neighbor_frames"] == (-1, 1)
    assert recipe.data.task_options == {"depth": {"loss": "berhu"}}


def test_an_option_given_as_null_is_left_out() -> None:
    assert list(chosen_recipe("rooms-demo").model.decoder_options) == ["width"]
    assert chosen_recipe("rooms-demo", "--recipe.model.decoder-options", "width=null").model.decoder_options == {}


@pytest.mark.parametrize(
    ("field", "word", "told"),
    [
        ("data.options", "look", "'look' is no option; write NAME=VALUE"),
        ("data.options", "views=[1", "views=[1 is neither JSON nor Python"),
        ("weighting.weights", "depth=much", "options.depth is 'much'; expected a number."),
    ],
)
def test_reports_a_bad_option(
    field: str, word: str, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["train", "rooms-demo", "--out", "nowhere", f"--recipe.{field}", word]) == 2
    assert sum(told in line for line in capsys.readouterr().err.splitlines()) == 1


def test_raises_for_a_recipe_file_that_is_no_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.json"
    path.write_text('{"seed": 1')
    assert main(["train", str(path), "--out", "nowhere"]) == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert error.count("\n") == 1


def test_a_misspelt_verb_is_one_line_and_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "unknown triptych verb 'trian'; did you mean 'train'?" in error


def test_a_misspelt_recipe_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "rooms-dmeo", "--out", "nowhere"]) == 2
    assert "did you mean 'rooms-demo'" in capsys.readouterr().err


def test_raises_for_a_missing_recipe_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "no/recipe.json", "--out", "nowhere"]) == 2
    assert "no/recipe.json does not exist" in capsys.readouterr().err


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="unknown triptych verb"):
        main(["trian", "--debug"])


def test_list_names_what_recipes_can_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "decoders"]) == 0
    assert "fcn" in capsys.readouterr().out
    assert main(["list", "decoder"]) == 2
    assert all(kind in (list_names.__doc__ or "") for kind in REGISTRIES)
    assert "did you mean 'decoders'" in capsys.readouterr().err


def test_the_limit_of_pixels_is_an_option_of_every_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPTYCH_MAX_PIXELS", "")
    assert main(["list", "--max-pixels", "12", "tasks"]) == 0
    assert os.environ["TRIPTYCH_MAX_PIXELS"] == "12"
    assert main(["--max-pixels=13", "list", "tasks"]) == 0
    assert os.environ["TRIPTYCH_MAX_PIXELS"] == "13"
    for words in (
        ["--max-pixels", "many"],
        ["--max-pixels"],
        ["--max-pixels=0", "--max-pixels=1"],
        ["--max-pixels", "9" * 5000],
    ):
        assert main(["list", "tasks", *words]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: --max-pixels is '"), said
        assert "give a number of pixels, such as 178000000" in said
