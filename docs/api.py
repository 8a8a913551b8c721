"""Write docs/api.md: every public name with the first line of its docstring.

`python docs/api.py` writes the page; a test says when it is out of date.
"""

import importlib
import inspect
from pathlib import Path

import triptych

GROUPS = {
    "triptych": "What is public; other names may move.",
    "triptych.tasks": "Tasks and what makes them.",
    "triptych.metrics": "Metrics, usable without the rest of the library.",
}
VALUES = {
    "IGNORE": "The invalid value of integer label maps, 255; float targets mark invalid pixels with NaN.",
    "HUMAN_PARTS": "The classes of human parts.",
    "TASKS": "Constructors of tasks by name.",
    "Kind": "What the predictions of a task are: `labels`, `probability`, `direction`, `length`, `values`.",
    "__version__": "The version.",
}
"""Names that have no docstring."""


def make_page() -> str:
    """The page as text."""
    parts = [
        "# Public names",
        "",
        "Written by `python docs/api.py`. These names change with a line in the changelog, after one release that "
        "warns; anything else may move.",
    ]
    for group, text in GROUPS.items():
        module = importlib.import_module(group)
        parts += ["", f"## `{group}`", "", text, "", "| name | what it is or does |", "| --- | --- |"]
        parts += [f"| `{name}` | {first_line(name, getattr(module, name))} |" for name in module.__all__]
    return "\n".join(parts) + "\n"


def first_line(name: str, value: object) -> str:
    """The first sentence or line that says what a name is."""
    if name in VALUES:
        return VALUES[name]
    paragraph = (inspect.getdoc(value) or "").split("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", "\\|")


if __name__ == "__main__":
    assert triptych.__version__
    (Path(__file__).parent / "api.md").write_text(make_page(), encoding="utf-8")
