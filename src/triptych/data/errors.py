"""Errors of data: what is wrong, and how to mend it, as two values instead of one text that is searched for words."""

from functools import partial


class DataError(ValueError):
    """Data that cannot be used: `text` says what is wrong, `cure` how to mend it.

    `missing` tells that something is not there at all (a split, an image), which may be no fault.

    >>> str(DataError("label a.png is 3x4, its image 6x8", "resize = true takes the nearest pixel"))
    'label a.png is 3x4, its image 6x8; resize = true takes the nearest pixel.'
    """

    def __init__(self, text: str, cure: str = "", *, missing: bool = False) -> None:
        self.text, self.cure, self.missing = text.rstrip("."), cure.rstrip("."), missing
        said = "; ".join(part for part in (self.text, self.cure) if part)
        super().__init__(said if said.endswith("?") else f"{said}.")

    @classmethod
    def about(cls, what: str, error: Exception) -> "DataError":
        """The same error, said of `what`: a file, or a section of a description.

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
