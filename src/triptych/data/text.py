"""Text files written by hand: lists, descriptors and cameras, in UTF-8 with or without a byte order mark."""

from pathlib import Path

from triptych.data.errors import UnreadableFileError


def read_text(path: Path) -> str:
    """The text of a file in UTF-8; a byte order mark at its start is left out.

    Raises `UnreadableFileError`, an `OSError` and `ValueError`, that names the line where another encoding shows.
    """
    stored = path.read_bytes()
    try:
        return stored.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = stored[: error.start].count(b"\n") + 1
        text = f"{path} is not UTF-8: line {line} holds the byte 0x{stored[error.start]:02x}"
        raise UnreadableFileError(text, "save it as UTF-8 (it may be Latin-1)") from error
