"""The command line: quick help, one-line errors, exit codes."""

import pytest

from triptych.__main__ import VERBS, main


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in VERBS)


@pytest.mark.parametrize("verb", [verb for verb, function in VERBS.items() if callable(function)])
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert len(capsys.readouterr().out) > 100


def test_a_misspelt_verb_is_one_line_and_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "unknown verb 'trian'; did you mean 'train'?" in error


def test_a_misspelt_recipe_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "rooms-dmeo", "--out", "nowhere"]) == 2
    assert "did you mean 'rooms-demo'" in capsys.readouterr().err


def test_a_missing_recipe_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "no/recipe.json", "--out", "nowhere"]) == 2
    assert "no/recipe.json does not exist" in capsys.readouterr().err


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="unknown verb"):
        main(["trian", "--debug"])


def test_list_names_what_recipes_can_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "decoders"]) == 0
    assert "fcn" in capsys.readouterr().out
    assert main(["list", "decoder"]) == 2
    assert "did you mean 'decoders'" in capsys.readouterr().err
