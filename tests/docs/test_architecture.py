"""The page of the architecture and the list of words: what they name is there."""

import importlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "src/triptych"


def test_the_tree_is_the_tree() -> None:
    tree = PAGE.split("```")[1]
    named = set(re.findall(r"(\w+)/", tree)) - {"src", "triptych"}
    assert named == {path.name for path in PACKAGE.iterdir() if path.is_dir() and list(path.glob("*.py"))}
    files = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    assert {name for name in re.findall(r"\w+\.py", tree)} == files


def test_the_steps_to_a_sample_exist() -> None:
    steps = re.findall(r"`((?:data|datasets|labels|augmentation)(?:\.\w+)+)`", PAGE.split("## Train")[0])
    assert len(steps) >= 7
    for name in steps:
        home, _, last = name.rpartition(".")
        module = importlib.import_module(f"triptych.{home}")
        assert hasattr(module, last) or importlib.import_module(f"triptych.{name}"), name


def test_every_station_exists_and_a_walk_has_at_most_twelve() -> None:
    walks = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    assert [walk.split("\n")[0] for walk in walks] == ["Train", "Predict", "Evaluate"]
    for walk in walks:
        stations = re.findall(r"^\d+\. .*", walk, flags=re.MULTILINE)
        assert 5 <= len(stations) <= 12
        for name in re.findall(r"`([a-z_]+(?:\.\w+)+)`", "\n".join(stations)):
            *home, last = name.split(".")
            try:
                importlib.import_module(f"triptych.{name}")
            except ModuleNotFoundError:
                assert hasattr(importlib.import_module(f"triptych.{'.'.join(home)}"), last), name


def test_words_are_few() -> None:
    section = (ROOT / "docs/conventions.md").read_text(encoding="utf-8").split("## Words\n")[1]
    rows = re.findall(r"^\| (?!word|---)([^|]+) \| ", section, flags=re.MULTILINE)
    assert len(set(rows)) == len(rows) <= 25
