"""Signals: the first one asks the loop to save and leave, the second one leaves at once."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any


class Interrupted(SystemExit):
    """Raised after the run was saved; a program that lets it pass exits with 128 plus the signal's number.

    `checkpoint` is the folder to resume from.
    """

    def __init__(self, number: int, checkpoint: Path) -> None:
        super().__init__(128 + number)
        self.number = number
        self.checkpoint = checkpoint


class Interruption:
    """Within this context SIGINT and SIGTERM set `number` instead of ending the process.

    The handlers in place before return with the first signal's arrival for a second one to do what it always does:
    end the process. Outside the main thread, where Python allows no handlers, nothing is installed.
    """

    def __init__(self) -> None:
        self.number = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether a signal came."""
        return self.number > 0

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for each in self._previous:
            signal.signal(each, signal.SIG_DFL)
