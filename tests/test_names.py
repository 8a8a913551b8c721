"""Every name that a function reads is there: to checkers of types the letters of a shape are such names too."""

import ast
import builtins
import dis
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src/triptych"
SCRIPTS = [path for folder in ("benchmarks", "studies") for path in sorted((ROOT / folder).rglob("*.py"))]
"""What no checker of types reads, and few tests run."""
OF_MODULES = {*dir(builtins), "__file__", "__name__", "__path__"}


def codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from codes(inner)


def undefined(text: str) -> set[str]:
    """Names that functions look up in their module, which has none such."""
    first, *others = ([*dis.get_instructions(code)] for code in codes(compile(text, "module", "exec")))
    made = {one.argval for one in first if one.opname == "STORE_NAME"} | OF_MODULES
    steps = [one for code in others for one in code if one.opname.endswith("_GLOBAL")]
    made |= {one.argval for one in steps if one.opname == "STORE_GLOBAL"}
    return {one.argval for one in steps} - made


def test_a_name_that_nothing_defines_is_found() -> None:
    assert undefined("import os\nX = 1\ndef f(a):\n    return os, X, a, len, [lost(b) for b in a]") == {"lost"}


def test_functions_read_names_that_their_module_has() -> None:
    paths = [*SOURCE.rglob("*.py"), *SCRIPTS]
    found = {str(path.relative_to(ROOT)): undefined(path.read_text("utf-8")) for path in paths}
    assert {path: names for path, names in found.items() if names} == {}


@cache
def defined(module: str) -> set[str]:
    """Names that a module of the package makes, those that it opens when they are first used, and its parts."""
    home = ROOT.joinpath("src", *module.split("."))
    text = (home / "__init__.py" if home.is_dir() else home.with_suffix(".py")).read_text("utf-8")
    steps = [*dis.get_instructions(compile(text, module, "exec"))]
    opened = {word for word in re.findall(r'"(\w+)"', text) if "= exports(" in text}
    return {one.argval for one in steps if one.opname == "STORE_NAME"} | {path.stem for path in home.glob("*")} | opened


def test_benchmarks_and_studies_import_names_that_are_there() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {node.module}.{name.name}"
        for path in SCRIPTS
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "triptych"
        for name in node.names
        if name.name not in defined(node.module)
    ]
    assert wrong == []
