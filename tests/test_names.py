"""Every name that a function reads is there: to checkers of types the letters of a shape are such names too."""

import builtins
import dis
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

SOURCE = Path(__file__).resolve().parents[1] / "src/triptych"
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
    found = {str(path.relative_to(SOURCE)): undefined(path.read_text("utf-8")) for path in SOURCE.rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == {}
