"""Recipes survive JSON, and refuse unknown fields and numbers that cannot be."""

import dataclasses
import math
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.recipes import RECIPES
from triptych.recipes.config import (
    AdaptationConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    RegularizerConfig,
    ScheduleConfig,
    flatten,
    from_json,
    to_json,
)
from triptych.recipes.limits import LEAST, check_numbers
from triptych.recipes.option_words import read_options, write_options
from triptych.training.run_folder import check_same_recipe
from triptych.training.sweep import change_fields


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_is_described_has_numbers_that_can_be_and_survives_json(name: str) -> None:
    assert RECIPES[name].description
    check_numbers(RECIPES[name])
    assert from_json(to_json(RECIPES[name])) == RECIPES[name]


def test_tuples_inside_options_survive_json() -> None:
    recipe = Recipe(data=DataConfig(options={"views": (1, 2)}, task_options={"depth": {"loss": "berhu"}}))
    assert from_json(to_json(recipe)) == recipe


def test_raises_for_unknown_fields() -> None:
    with pytest.raises(ValueError, match=r"recipe.optimizer has no field 'learning_rate'; its fields are name, lr"):
        from_json('{"optimizer": {"learning_rate": 1}}')


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"seed": "one"}', r"recipe.seed is 'one'; expected a whole number"),
        ('{"seed": true}', r"recipe.seed is True; expected a whole number"),
        ('{"optimizer": {"lr": "fast"}}', r"recipe.optimizer.lr is 'fast'; expected a number"),
        ('{"optimizer": {"name": "adamm"}}', r"recipe.optimizer.name is 'adamm'; expected one of sgd, adam, adamw"),
        ('{"data": {"size": [96]}}', r"recipe.data.size is \[96\]; expected 2 values"),
        ('{"data": {"tasks": "depth"}}', r"recipe.data.tasks is 'depth'; expected a list"),
        ('{"data": {"options": []}}', r"recipe.data.options is \[\]; expected a table of names and values"),
        ('{"data": 3}', r"recipe.data is 3; expected an object with fields"),
        ("[]", r"recipe is \[\]; expected an object with fields"),
    ],
)
def test_raises_for_values_of_another_type(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        from_json(text)


@pytest.mark.parametrize("name", LEAST)
def test_raises_for_numbers_that_cannot_be(name: str) -> None:
    kind = type(flatten(Recipe())[name])
    with pytest.raises(ValueError, match=f"{name} is .*; give at least {LEAST[name]:g}"):
        check_numbers(change_fields(Recipe(), {name: kind(LEAST[name] - 1)}))


@pytest.mark.parametrize(
    "name",
    [
        "weighting.weights.depth",
        "weighting.auxiliary_factor",
        "optimizer.lr_factors.heads.depth",
        "optimizer.backbone_lr_factor",
        "schedule.warmup_factor",
        "regularizer.weight",
        "video.weight",
        "adaptation.schedule.warmup_factor",
    ],
)
def test_factors_are_finite_and_not_below_0(name: str) -> None:
    for value in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"{name} is {value}; give a finite number"):
            check_numbers(change_fields(Recipe(), {name: value}))
    check_numbers(change_fields(Recipe(), {name: 0.0}))


@pytest.mark.parametrize("value", [0.0, -0.5, math.nan, 75.0])
def test_layers_of_a_trunk_neither_stand_still_nor_climb(value: float) -> None:
    with pytest.raises(ValueError, match=r"layer_decay is .*; give a number above 0 and at most 1.*1 switches it off"):
        check_numbers(change_fields(Recipe(), {"optimizer.layer_decay": value}))


@pytest.mark.parametrize("field", [field.name for field in fields(OptimizerConfig)[1:]])
def test_what_the_optimizer_of_an_adapter_does_not_read_is_refused(field: str) -> None:
    """Its parameters are one group, of one learning rate; the rest has an effect."""
    others = {"lr_factors": {"d": 0.1}, "betas": (0.5, 0.9), "decay_norms": False}
    value = others.get(field, 0.5)
    recipe = Recipe(adaptation=AdaptationConfig(optimizer=replace(OptimizerConfig(), **{field: value})))
    if field in ("lr", "weight_decay", "betas", "momentum", "clip_norm"):
        check_numbers(recipe)
    else:
        with pytest.raises(ValueError, match=rf"adaptation\.optimizer\.{field} is .* and has no effect"):
            check_numbers(recipe)
    check_numbers(replace(recipe, adaptation=AdaptationConfig(), optimizer=recipe.adaptation.optimizer))


def test_a_run_that_was_begun_with_a_decoders_former_name_goes_on_with_its_present_one(tmp_path: Path) -> None:
    now = RECIPES["folder"]
    then = replace(now, model=replace(now.model, decoder="vit"))
    check_same_recipe(then, now, tmp_path)
    with pytest.raises(ValueError, match=r"model\.decoder was 'four-level', now 'fcn'"):
        check_same_recipe(then, replace(now, model=replace(now.model, decoder="fcn")), tmp_path)


NUMBERS = st.booleans() | st.integers() | st.floats(allow_nan=False)
VALUES = NUMBERS | st.text() | st.lists(NUMBERS | st.text()).map(tuple)
NAMES = st.from_regex(r"[a-z_]+", fullmatch=True)


@settings(max_examples=50)
@given(st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES, min_size=1)))
def test_options_survive_the_command_line(options: dict[str, object]) -> None:
    assert read_options(write_options(options)) == options


def test_text_that_python_would_read_as_a_number_stays_text() -> None:
    assert read_options(["condition=2020_01", "half=1/2"]) == {"condition": "2020_01", "half": "1/2"}


@pytest.mark.parametrize("word", ["look", "=b", ".look=b", "views=[1,2"])
def test_words_that_are_no_options_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"NAME="):
        read_options([word])


def test_flatten_finds_the_one_difference() -> None:
    one, two = Recipe(), dataclasses.replace(Recipe(), seed=7)
    flat = flatten(one), flatten(two)
    assert [key for key in flat[0] if flat[0][key] != flat[1][key]] == ["seed"]


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"model": ModelConfig(decoder="atrc-search")}, "model.decoder_options.steps"),
        ({"regularizer": RegularizerConfig(name="triplane")}, "regularizer.options.schedule_steps"),
    ],
)
def test_more_steps_are_refused_where_a_part_is_told_their_number(part: dict, told: str, tmp_path: Path) -> None:
    begun = Recipe(schedule=ScheduleConfig(name="constant", steps=10))
    longer = replace(begun, schedule=replace(begun.schedule, steps=20))
    check_same_recipe(begun, longer, tmp_path)
    with pytest.raises(ValueError, match=rf"schedule\.steps was 10, now 20 \(on the .* depend {re.escape(told)}\)"):
        check_same_recipe(replace(begun, **part), replace(longer, **part), tmp_path)
