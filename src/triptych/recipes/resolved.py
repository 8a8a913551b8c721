"""Options written out: a run folder's `resolved.json` beside its `recipe.json`.

A recipe leaves most options of its parts to the defaults of their constructors. `resolved.json` holds all of them, with
the version that began the run, so that a later version with other defaults reads the run as it was, and refuses to
resume it as something else. Folders without the file are of versions whose defaults are still those of the
constructors.
"""

import importlib.metadata
import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from triptych import __version__
from triptych.files import check_signed, naming_damage, sign, write_text
from triptych.lookup import convert, parse_json
from triptych.recipes.config import DataConfig, Options, Recipe, read_recipe, update_options
from triptych.recipes.option_words import flatten

FILE = "resolved.json"
STARTS = "environment.json"
"""File with the data, packages and machine of each start of a run."""


class Resolved(NamedTuple):
    """The version and commit of the code, and all options by their place in a recipe (`model.decoder_options`)."""

    version: str | None
    commit: str | None
    options: dict[str, Options]


def fill_options(recipe: Recipe, options: Mapping[str, Options]) -> Recipe:
    """The recipe with `options` by place, where it does not give them itself.

    >>> recipe = fill_options(Recipe(), {"model.decoder_options": {"width": 64}})
    >>> fill_options(recipe, {"model.decoder_options": {"width": 8, "dropout": 0.1}}).model.decoder_options
    {'width': 64, 'dropout': 0.1}
    """
    for place, values in options.items():
        section, name = place.split(".")
        part = getattr(recipe, section)
        merged = {**values, **getattr(part, name)}
        recipe = replace(recipe, **{section: replace(part, **{name: merged})})
    return recipe


def write_resolved(folder: Path, options: Mapping[str, Options]) -> None:
    """Write the options that this version resolves, as `resolve_options` gives them."""
    content = {"version": __version__, "commit": code_commit(), "options": options}
    write_text(folder / FILE, json.dumps(sign(content), indent=2) + "\n")


def read_resolved(folder: Path) -> Resolved | None:
    """Read what `write_resolved` wrote into a folder; `None` without the file; `ValueError` names a damaged one."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        content = check_signed(parse_json(path.read_text(encoding="utf-8")))
        options = convert(dict[str, Options], content["options"], "options")
        kept = {place: update_options(place, each) for place, each in options.items()}
        return Resolved(content["version"], content["commit"], kept)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no resolved options ({error}); copy it again from where the run is.") from error


def read_run_recipe(folder: Path) -> Recipe:
    """The recipe of a run folder, with every option that the run was begun with."""
    resolved, recipe = read_resolved(folder), read_recipe(folder / "recipe.json")
    data, unsaid = recipe.data, DataConfig()
    if data.dataset == "folder" and not data.root and data.size == unsaid.size:
        # Files without a place train nothing: `triptych convert` once wrote the size of no training.
        recipe = replace(recipe, data=replace(data, size=(0, 0), train_split=""))
    return fill_options(recipe, resolved.options if resolved is not None else {})


def read_starts(path: Path) -> list[dict[str, Any]]:
    """The starts that a run's weights come from, at least one, each with fingerprints of its `data`: the last that
    began with no checkpoint, and those that resumed it. `ValueError` names the file where it is damaged.
    """
    cure = "copy it again, or move it away to go on without comparing the data with those of the start"
    with naming_damage(path, cure):
        starts = parse_json(path.read_text(encoding="utf-8"))["starts"]
        if not starts or not all(isinstance(facts, dict) for start in starts for facts in start["data"].values()):
            raise ValueError("no start tells of its data")
        begun = [i for i, start in enumerate(starts) if not start.keys() & {"resumed", "adapted"}]
        return starts[begun[-1] if begun else 0 :]


def data_fingerprints(folder: Path) -> dict[str, Any]:
    """Fingerprints of the data of all starts of a run, by dotted name, and how it was adapted when it was finished
    (`adapted.adapter`), which is not in its recipe; empty where they are not recorded.
    """
    path = folder / STARTS
    starts = read_starts(path) if path.is_file() else []
    return {name: value for start in starts for name, value in flatten({**start["data"], **_adapted(start)}).items()}


def _adapted(start: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings of an adaptation, without the network, which differs between seeds."""
    facts = {k: v for k, v in start.get("adapted", {}).items() if k not in ("from", "weights_sha256")}
    return {"adapted": facts} if facts else {}


def package_version(package: str) -> str | None:
    """The installed version of a package.

    >>> package_version("torch") is not None, package_version("no-such-package")
    (True, None)
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def code_commit() -> str | None:
    """The commit of the checkout that this package was imported from, `+` where files differ; `None` outside one.

    A repository around an installed package, as around a virtual environment within it, is another one.
    """
    package = Path(__file__).parent.parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(package), *words], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "--", "__init__.py")
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno", "--", str(package)) else "")
    except (OSError, subprocess.SubprocessError):
        return None
