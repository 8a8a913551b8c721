"""Every `>>>` example of the library runs, with shapes checked."""

import doctest
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
EXAMPLES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): text.count(">>> ")
    - text.count("doctest: +SKIP")
    for path in sorted((SOURCE / "triptych").rglob("*.py"))
    if ">>> " in (text := path.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("name", [name for name, count in EXAMPLES.items() if count])
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0
    assert results.attempted == EXAMPLES[name], "an example stands where doctest does not look"
