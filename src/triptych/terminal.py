"""Text, tables and bars on a terminal, or wherever its stream leads."""

import errno
import os
import sys
from typing import IO, Any

from rich.console import Console
from rich.progress import Progress


def terminal(**options: Any) -> Console:
    """A console of rich that shows text as it stands: names may hold what it would take for markup.

    >>> terminal(width=40).print("runs/[red] a[/b]", highlight=False)
    runs/[red] a[/b]
    """
    return _Terminal(markup=False, **options)


def progress_bar(*columns: Any) -> Progress:
    """Bars of rich on standard error, while someone looks at it there; they go when they are done."""
    console = terminal(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Its reader left; rich would end the program, without a word."""
        _send_nowhere(self.file)

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError as error:
            if error.errno != errno.EIO:  # the terminal closed
                raise
            _send_nowhere(self.file)


def say(text: str) -> None:
    """Print a line at once. Where its reader left, as a `tee` that died or a terminal that closed does, it goes
    nowhere, and work goes on.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        _send_nowhere(sys.stdout)


def _send_nowhere(file: IO[str]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, file.fileno())
    os.close(nowhere)
