"""Every Python snippet and every `triptych` command of the README and the docs runs."""

import functools
import re
import shlex
import tomllib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plugin_files import as_in_a_new_process
from unchecked import shapes_unchecked

from triptych.__main__ import TRIPTYCH, main
from triptych.commands.score import temporal
from triptych.commands.train import RecipeVerb, train
from triptych.commands.verbs import Group
from triptych.data.files import SUFFIXES
from triptych.datasets import DATASETS
from triptych.datasets.folder import Folder
from triptych.doctor.examine import examine
from triptych.extending.registering import ENTRIES
from triptych.folders.writing import write_descriptor as write_folder_descriptor
from triptych.recipes import RECIPES, load_recipe
from triptych.recipes.config import Recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OWN_DATA = ROOT / "docs" / "own-data.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands(page: Path) -> list[list[str]]:
    """The `triptych` commands of a page, in order; `a && triptych b` counts as b."""
    found = []
    for text in blocks(page, "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            for part in line.split("#")[0].split("&&"):
                words = shlex.split(part)
                if words[:1] == ["triptych"]:
                    found.append(words[1:])
    return found


def write_descriptor(path: Path) -> None:
    """The descriptor that docs/own-data.md explains, as it stands there, as `my.toml`."""
    path.write_text(blocks(OWN_DATA, "toml")[0], encoding="utf-8")


def draw_own_data(generator: np.random.Generator) -> dict[str, np.ndarray]:
    """A photograph and its labels, by the names of their folders."""
    labels = np.zeros((48, 64), np.uint8)
    labels[generator.integers(8, 24) :, generator.integers(8, 40) :] = generator.integers(1, 4)
    depth = (1000 + 500 * labels.astype(np.uint16) + generator.integers(0, 50)).astype(np.uint16)
    color = generator.integers(0, 80, (48, 64, 3)) + 40 * labels[..., None]
    return {"images": color.astype(np.uint8), "semseg": labels, "depth": depth}


def write_own_data(folder: Path) -> None:
    """The folder that docs and README call `my_data`: photographs with some labels, some missing."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        for index in range(count):
            for task, array in draw_own_data(generator).items():
                if task == "depth" and index % 3 == 2:
                    continue  # partly labelled is a normal state
                path = folder / task / split / f"{index:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)


@pytest.mark.parametrize("page", [ROOT / "README.md", OWN_DATA], ids=lambda page: page.name)
def test_the_folder_that_a_page_shows_can_be_trained_on(page: Path, tmp_path: Path) -> None:
    [tree] = re.findall(r"^```\nmy_data/\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for name in tree.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_own_data(np.random.default_rng(0))[name.split("/")[0]]).save(tmp_path / name)
    write_folder_descriptor(tmp_path)
    assert examine(tmp_path).num_errors == 0


def test_the_descriptor_of_the_page_opens(tmp_path: Path) -> None:
    write_own_data(tmp_path / "my_data")
    write_descriptor(tmp_path / "my.toml")
    dataset = Folder(tmp_path / "my.toml", split="val", root=tmp_path / "my_data")
    assert list(dataset.tasks) == ["semseg", "depth", "boundary"]
    assert dataset[0].targets["depth"].nanmedian() < 3  # metres


def test_the_page_names_every_suffix_that_is_read() -> None:
    text = OWN_DATA.read_text(encoding="utf-8")
    [named] = re.findall(r"`(\.jpg [^`]*)`", text)
    assert set(named.split()) == set(SUFFIXES)


def test_every_kind_of_part_is_on_the_page_of_parts() -> None:
    text = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    assert [kind for kind in ENTRIES if f"`{kind}`" not in text and f'"{kind}"' not in text] == []


def test_command_lines_of_own_data_stand_where_they_are_run() -> None:
    """In the text, a command may be named (`triptych data init`), not given with what it works on."""
    text = BLOCK.sub("", OWN_DATA.read_text(encoding="utf-8"))
    named = re.findall(r"`(triptych [^`]*)`", text)
    assert not [line for line in named if len(line.split()) > 3]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_of_recipes_in_the_text_are_options(page: Path) -> None:
    parsed: list[Recipe] = []
    verb = RecipeVerb(functools.wraps(train)(lambda recipe, **others: parsed.append(recipe)), "--out RUN")
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    given = [words for words in map(shlex.split, re.findall(r"`(--recipe\.[^`]*)`", text)) if len(words) > 1]
    for words in given:
        if not any(word.isupper() or "..." in word for word in words):  # N, NAME: to be replaced
            verb.run(["folder", "--recipe.data.root", "my_data", *words, "--out", "runs/x"], "triptych train")
            assert parsed[-1] != load_recipe("folder")


def idle(function: Callable[..., None]) -> Callable[..., None]:
    """Only looks whether a recipe that it is given knows the folder of its data."""

    @functools.wraps(function)
    def look(*given: object, **_: object) -> None:
        for recipe in given:
            if isinstance(recipe, Recipe):
                assert recipe.data.root or not DATASETS[recipe.data.dataset].needs_root, "give --recipe.data.root"

    return look


def idle_verbs(group: Group) -> Group:
    """The same verbs, which read their options and do nothing."""
    verbs = {
        name: idle_verbs(verb) if isinstance(verb, Group) else replace(verb, function=idle(verb.function))
        for name, verb in group.verbs.items()
    }
    return replace(group, verbs=verbs)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_shown_and_not_run_are_understood(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triptych.commands.score.temporal", idle(temporal))
    verbs, shown = idle_verbs(TRIPTYCH), re.compile(rf"\btriptych ((?:{'|'.join(TRIPTYCH.verbs)}) .*)")
    for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        for words in shown.findall(text.replace("\\\n", " ")) if kind in ("console", "bash", "text") else ():
            verbs.run(shlex.split(words, comments=True), "triptych")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_snippets_run(page: Path) -> None:
    with as_in_a_new_process():
        for text in blocks(page, "python"):
            exec(compile(text, str(page), "exec"), {"__name__": "__main__"})


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_commands_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shorter = replace(RECIPES["rooms-demo"].schedule, steps=30)  # what it learns is no question of commands
    monkeypatch.setitem(RECIPES, "rooms-demo", replace(RECIPES["rooms-demo"], schedule=shorter))
    write_own_data(tmp_path / "my_data")
    write_descriptor(tmp_path / "my.toml")
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (75, 101, 3), np.uint8)).save(tmp_path / "photo.jpg")
    for package in re.findall(r"-e (triptych-\S+)", "".join(blocks(page, "sh"))):  # as `pip install -e FOLDER` would
        monkeypatch.syspath_prepend(tmp_path / package)
    with as_in_a_new_process():
        for words in commands(page):
            needs = [word for word in words if word.startswith("../shared")]
            if needs and not all((ROOT.parent / word[3:]).exists() for word in needs):
                pytest.skip(f"{page.name} needs the shared folder: {' '.join(needs)}")
            with shapes_unchecked() if words[0] == "export" else nullcontext():
                assert main(words) == 0, f"triptych {' '.join(words)}"


def test_every_block_is_run_or_marked() -> None:
    """Python and `sh` of these pages and of the tutorials run, TOML is read; the other words say that a block is shown:
    a console's output or data that is not here, a shell's set-up, text. Elsewhere stands set-up alone.
    """
    shown = {"console", "bash", "text", "", "python skip", "sh skip", "toml"}
    for page in [*PAGES, *sorted((ROOT / "docs").glob("*/*.md")), *ROOT.glob("*.md"), *ROOT.glob("runtime/*.md")]:
        text = page.read_text(encoding="utf-8")
        fences = set(re.findall(r"^```(.*)$", text, re.MULTILINE))
        run = {"python", "sh"} if page in PAGES or page.parent.name == "tutorials" else set()
        titled = {fence for fence in fences if fence.startswith("python title=")}
        assert fences <= shown | run | titled or page.name == "CONTRIBUTING.md", page.name
        for table in blocks(page, "toml"):
            tomllib.loads(table)


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, *sorted((ROOT / "docs").glob("*/*.md"))]:
        text = BLOCK.sub("", page.read_text(encoding="utf-8"))  # `registry["name"](channels)` is no link
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
