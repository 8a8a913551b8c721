"""Errors of data, with the problem and its cure as two separate texts, and the name of a file in them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path


class DataError(ValueError):
    """Error for data that cannot be used: `text` says what is wrong, `cure` how to fix it.

    `missing` marks that something does not exist (a split, an image), which may be intended.

    >>> str(DataError("label a.png is 3x4, its image 6x8", "resize = true takes the nearest pixel"))
    'label a.png is 3x4, its image 6x8; resize = true takes the nearest pixel.'
    """

    def __init__(self, text: str, cure: str = "", *, missing: bool = False) -> None:
        self.text, self.cure, self.missing = text.rstrip("."), cure.rstrip("."), missing
        said = "; ".join(part for part in (self.text, self.cure) if part)
        super().__init__(said if said.endswith("?") else f"{said}.")

    @classmethod
    def about(cls, what: str, error: Exception) -> "DataError":
        """Return the error with the name of a file or section, `what`, before its text.

        >>> str(DataError.about("label a.png", DataError("it is empty", "draw it again")))
        'label a.png: it is empty; draw it again.'
        """
        if isinstance(error, DataError):
            return cls(f"{what}: {error.text}", error.cure, missing=error.missing)
        return cls(f"{what}: {error}")

    def __reduce__(self) -> tuple:
        return partial(type(self), missing=self.missing), (self.text, self.cure)


class UnreadableFileError(DataError, OSError):
    """A file that is damaged, or of a kind that is not read."""


@contextmanager
def naming(path: Path, what: str = "cannot be read", cure: str = "") -> Iterator[None]:
    """Turn any error inside into an `UnreadableFileError` that names the file; `cure` is for one that has none."""
    try:
        yield
    except (FileNotFoundError, MemoryError, UnreadableFileError):
        raise
    except DataError as error:
        raise UnreadableFileError.about(f"{path} {what}", error) from error
    # Damaged files raise OSError, SyntaxError, ValueError, EOFError or zlib errors, depending on format and place.
    except Exception as error:
        raise UnreadableFileError(f"{path} {what}: {str(error).replace(f' {str(path)!r}', '')}", cure) from error
