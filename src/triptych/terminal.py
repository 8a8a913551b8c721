"""Text, tables and progress bars on a terminal, or in the file or pipe that replaces it."""

import errno
import os
import shlex
import sys
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from triptych.lookup import printable, spell_out_characters

WIDE = 1000
"""Width of tables in a file or pipe, which has none: they take what they need."""


def terminal(**options: Any) -> Console:
    """Return a console of rich without markup: names may contain brackets, or `:car:`, that it would interpret.

    >>> terminal(width=40).print("runs/[red] a[/b]", highlight=False)
    runs/[red] a[/b]
    """
    spell_out_characters()
    console = _Terminal(markup=False, emoji=False, **options)
    if not (console.is_terminal or console.is_jupyter or "width" in options or "COLUMNS" in os.environ):
        console.width = WIDE
    return console


def progress_bar(*columns: Any) -> Progress:
    """Return progress bars of rich on standard error, shown on a terminal only and removed when they are done."""
    console = terminal(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


class _Terminal(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        """Print; cells of tables that are too wide are wrapped: rich would cut digits and names."""
        for each in objects:
            for column in each.columns if isinstance(each, Table) else ():
                column.overflow = "fold"
        super().print(*objects, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Spell out control characters, also in titles and cells: names in received files may hold some."""
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """Discard further output once the reader has closed the pipe; rich would end the program silently."""
        _send_nowhere(self.file)

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError as error:
            if error.errno != errno.EIO:  # the terminal closed
                raise
            _send_nowhere(self.file)


def say(text: str) -> None:
    """Print a line at once; discard it, and all later output, where its reader is gone (a `tee` that died, a closed
    terminal), so that work continues.
    """
    spell_out_characters()
    try:
        print(printable(text), flush=True)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        _send_nowhere(sys.stdout)


def as_word(path: Path) -> str:
    """Quote a path as one word of a command line, to be pasted.

    >>> as_word(Path("runs/mine")), as_word(Path("my photos"))
    ('runs/mine', "'my photos'")
    """
    return f'"{path}"' if os.name == "nt" else shlex.quote(str(path))  # no file name holds " there


def _send_nowhere(file: IO[str]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, file.fileno())
    os.close(nowhere)
