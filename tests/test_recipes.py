"""Recipes survive JSON, refuse unknown fields, and import no torch."""

import dataclasses
import subprocess
import sys

import pytest

from triptych.recipes import RECIPES
from triptych.recipes.config import DataConfig, Recipe, flatten, from_json, to_json


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_survives_json(name: str) -> None:
    assert from_json(to_json(RECIPES[name])) == RECIPES[name]
    assert RECIPES[name].description


def test_tuples_inside_options_survive_json() -> None:
    recipe = Recipe(data=DataConfig(options={"views": (1, 2)}, task_options={"depth": {"loss": "berhu"}}))
    assert from_json(to_json(recipe)) == recipe


def test_unknown_fields_are_named() -> None:
    with pytest.raises(ValueError, match=r"recipe.optimizer has no field 'learning_rate'; its fields are name, lr"):
        from_json('{"optimizer": {"learning_rate": 1}}')


def test_flatten_finds_the_one_difference() -> None:
    one, two = Recipe(), dataclasses.replace(Recipe(), seed=7)
    flat = flatten(one), flatten(two)
    assert [key for key in flat[0] if flat[0][key] != flat[1][key]] == ["seed"]


def test_recipes_and_the_command_line_import_no_torch() -> None:
    code = "import sys, triptych, triptych.recipes, triptych.__main__; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
