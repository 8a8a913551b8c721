"""Findings of the doctor: problems of files and splits, with their cures."""

from dataclasses import dataclass
from typing import Literal

from triptych.data.errors import DataError
from triptych.lookup import one_line

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Edit:
    """A change of one option of a task in the descriptor, as a cure that leaves label files alone."""

    option: str
    value: bool | int | float | tuple[int | float, ...]
    """The new value; a list is added to that of the option."""


@dataclass(frozen=True)
class Problem:
    """A problem of one file: an `error` stops training, a `warning` may harm it."""

    severity: Severity
    check: str
    text: str
    cure: str
    edit: Edit | None = None


@dataclass(frozen=True)
class Finding:
    """A problem of one file, or of a task or split as a whole (no file)."""

    severity: Severity
    check: str
    split: str
    task: str
    file: str
    text: str
    cure: str
    edit: Edit | None = None

    def __str__(self) -> str:
        where = self.file or " ".join(part for part in (self.split, self.task) if part)
        return one_line(f"{where}: {self.text}. Cure: {self.cure}.")


def text_and_cure(error: Exception, cure: str) -> tuple[str, str]:
    """The problem that an error names, and its cure; `cure` where it names none."""
    if isinstance(error, DataError):
        return error.text, error.cure or cure
    return (" ".join(str(error).split()) or type(error).__name__).rstrip("."), cure
