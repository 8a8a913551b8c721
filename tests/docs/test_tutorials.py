"""The tutorials run as a reader runs them: block after block in an empty folder, servers included."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from plugin_files import as_in_a_new_process
from shared import shared_path

from triptych.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r'^```(python|sh)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def in_the_background(words: list[str]) -> Iterator[None]:
    """A command that goes on until the page ends; it is awaited until it prints its address."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "triptych", *words]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any("http://" in line for line in process.stdout), f"triptych {' '.join(words)} ended"
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.close()


def commands(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            assert words[0] == "triptych", f"no test runs {words[0]}"
            yield words[1:]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tutorials_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text = page.read_text(encoding="utf-8").replace("7860", str(free_port()))  # others may serve on the usual one
    if "../shared" in text:
        text = text.replace("../shared", str(shared_path("data").parent))
    assert len(BLOCK.findall(text)) == len(re.findall(r"^```\w", text, re.MULTILINE)), "a block is not run"
    names: dict[str, object] = {"__name__": "__main__"}
    with as_in_a_new_process(), ExitStack() as servers:
        for kind, file, block in BLOCK.findall(text):
            if file:
                (tmp_path / file).write_text(block, encoding="utf-8")
            elif kind == "python":
                exec(compile(block, str(page), "exec"), names)
            else:
                for words in commands(block):
                    if words[-1] == "&":
                        servers.enter_context(in_the_background(words[:-1]))
                    else:
                        assert main(words) == 0, f"triptych {' '.join(words)}"
