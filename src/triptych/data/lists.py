"""Text files written by users, such as lists with one entry per line."""

from pathlib import Path

from triptych.data.errors import UnreadableFileError

PACKAGED = Path(__file__).parents[1] / "datasets/lists"


def read_text(path: Path) -> str:
    """The text of a file in UTF-8; a byte order mark at its start is left out.

    Raises `UnreadableFileError`, an `OSError` and `ValueError`, naming the first line that is not UTF-8, or a path
    that is no regular file: reading a pipe would wait forever.
    """
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise UnreadableFileError(f"{path} is {kind}, no file", "replace it by a text file")
    stored = path.read_bytes()
    try:
        return stored.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = stored[: error.start].count(b"\n") + 1
        text = f"{path} is not UTF-8: line {line} holds the byte 0x{stored[error.start]:02x}"
        raise UnreadableFileError(text, "save it as UTF-8 (it may be Latin-1)") from error


def packaged_lines(name: str) -> list[str]:
    """The lines of `lists/<name>.txt`, without comments.

    >>> len(packaged_lines("nyuv2_train")), packaged_lines("nyuv2_train")[0]
    (795, '0003')
    """
    return read_lines(PACKAGED / f"{name}.txt")


def read_lines(path: Path) -> list[str]:
    """Lines of a text file without blank ones and comments (#); raises `OSError` naming a file that is no text."""
    lines = (line.strip() for line in read_text(path).splitlines())
    return [line for line in lines if line and not line.startswith("#")]
