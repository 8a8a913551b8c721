"""`triptych new`: write a small package with a custom part, an entry point and a test, which passes the checks."""

import keyword
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template

from torch import nn

from triptych.extending.registering import BESIDE
from triptych.files import write_text
from triptych.lookup import named_choice
from triptych.named_parts import REGISTRIES

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Kind:
    """A kind of part that a package can be written for: its registry, its use, and the spelling of names."""

    registry: str
    usage: str
    word: str = "-"
    """Separator of words in names of recipes; names of tasks are keyword arguments and folders of files too."""
    is_class: bool = True


KINDS = {
    "decoder": Kind("decoders", "`--recipe.model.decoder {part}`"),
    "dataset": Kind("datasets", "`--recipe.data.dataset {part}`"),
    "task": Kind("tasks", "`{part}()` among the `tasks` of a dataset of your own", "_", False),
    "regularizer": Kind("regularizers", "`--recipe.regularizer.name {part}`"),
}
"""Kinds by name; each has a template."""
FILES = {
    "{module}.py": "{kind}.txt",
    "test_{module}.py": "test.txt",
    "pyproject.toml": "pyproject.txt",
    "README.md": "readme.txt",
}
"""Files of a package, and their templates."""


def new_package(kind: str, name: str, folder: Path) -> Path:
    """Write the package `triptych-NAME` with a part of one `kind` into `folder`, and return its folder.

    Raises `ValueError` for a name that is no name or is taken, and `FileExistsError` where the package is there.
    """
    made = named_choice("kind of part", kind, KINDS)
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name):
        raise ValueError(f"'{name}' is no name; write small letters, digits and dashes, such as my-{kind}.")
    words = re.split("[-_]", name)
    part = made.word.join(words)
    if part in {**BESIDE.get(made.registry, {}), **REGISTRIES[made.registry]}:
        raise ValueError(f"there is a {kind} '{part}' already; choose another name.")
    written = "".join(word.capitalize() for word in words) if made.is_class else part
    if keyword.iskeyword(written) or (not made.is_class and hasattr(nn.ModuleDict(), part)):
        raise ValueError(f"'{part}' is a word of Python or PyTorch; choose another name, such as my-{part}.")
    package = folder / f"triptych-{'-'.join(words)}"
    if package.exists():
        raise FileExistsError(f"{package} exists and is not overwritten; choose another name or --out.")
    module = f"triptych_{'_'.join(words)}"
    here = version("triptych")
    values = {
        "kind": kind,
        "part": part,
        "module": module,
        "package": package.name,
        "name": written,
        "usage": made.usage.format(part=part),
        "range": f">={here},<{int(here.partition('.')[0]) + 1}",
    }
    package.mkdir(parents=True)
    for file, template in FILES.items():
        text = Template((TEMPLATES / template.format(**values)).read_text(encoding="utf-8")).substitute(values)
        write_text(package / file.format(**values), text)
    return package
