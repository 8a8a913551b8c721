"""Published scores: every recipe of a paper has an entry, and every number stands where it was read."""

import re

import pytest
from shared import shared_path

from triptych.__main__ import main
from triptych.evaluation.protocols import RULES
from triptych.recipes import RECIPES
from triptych.recipes.published import PUBLISHED

OURS = re.compile(r"rooms-|folder|\w+-dinov\d-")
"""Recipes that no paper has, or of which a few are in papers: foundation trunks."""


def test_every_recipe_of_a_paper_has_an_entry() -> None:
    assert set(PUBLISHED) <= set(RECIPES)
    assert [name for name in RECIPES if name not in PUBLISHED and not OURS.match(name)] == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_entries_name_a_protocol_of_ours_and_tasks_of_the_recipe(name: str) -> None:
    published = PUBLISHED[name]
    protocol = re.search(r"protocol ([\w-]+)", published.by)
    assert protocol is not None
    assert RECIPES[name].data.protocol == protocol[1], f"{name} is scored by another protocol than it is shown beside"
    rules = RULES[protocol[1]]
    count = len(published.values.split())
    assert count <= len(published.names)
    assert len(published.alone.split()) in (0, count)
    for text in published.names[:count]:
        task = text.split()[0]
        assert task in rules
        assert task in RECIPES[name].data.tasks, f"{name} does not train {task}"


def test_numbers_are_those_that_were_read() -> None:
    text = "".join(shared_path(f"specs/{name}.md").read_text() for name in ("baselines", "densemtl", "3daware"))
    read = {float(number) for number in re.findall(r"\d*\.\d+", text)}
    for name, published in PUBLISHED.items():
        for number in (*published.values.split(), *published.alone.split()):
            assert float(number) in read, f"{name}: {number}"


def test_they_are_shown_as_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    line = "paper's: semseg mIoU 50.30, depth rmse 0.5367 m, normals mean 19.00 deg, boundary odsF 77.60 (Ye"
    for words in (["list", "recipes", "--long"], ["train", "--help"]):
        assert main(words) == 0
        assert line in capsys.readouterr().out
    assert main(["list", "--long", "decoders"]) == 0
    assert "  invpt: " in capsys.readouterr().out
    assert main(["train", "nyuv2-invpt-vit-b", "--help"]) == 0
    assert "semseg mIoU 50.30, depth rmse 0.5367 m" in " ".join(capsys.readouterr().out.replace("│", " ").split())
