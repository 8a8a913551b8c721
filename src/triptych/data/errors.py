"""Errors of data: what is wrong, and how to mend it, as two values instead of one text that is searched for words."""


class DataError(ValueError):
    """Data that cannot be used: `text` says what is wrong, `cure` how to mend it.

    `missing` tells that something is not there at all (a split, an image), which may be no fault.

    >>> str(DataError("label a.png is 3x4, its image 6x8", "resize = true takes the nearest pixel"))
    'label a.png is 3x4, its image 6x8; resize = true takes the nearest pixel.'
    """

    def __init__(self, text: str, cure: str = "", *, missing: bool = False) -> None:
        super().__init__(f"{text}; {cure}." if cure else text)
        self.text, self.cure, self.missing = text, cure, missing

    def __reduce__(self) -> tuple:
        return _rebuild, (type(self), self.text, self.cure, self.missing)


class UnreadableFileError(DataError, OSError):
    """A file that is damaged, or of a kind that is not read."""


def _rebuild(kind: type[DataError], text: str, cure: str, missing: bool) -> DataError:
    return kind(text, cure, missing=missing)
