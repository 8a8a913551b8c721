"""The text of a `dataset.toml`: format values as TOML, and edit options without changing the rest of the text."""

import itertools
import json
import math
import os
import re
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.data.errors import DataError


def as_toml(value: Any) -> str:
    """Format a value as TOML, on one line.

    >>> as_toml({"classes": ["wall", "floor"], "invalid": (255, math.nan), "resize": True})
    '{ "classes" = ["wall", "floor"], "invalid" = [255, nan], "resize" = true }'
    """
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{as_toml(key)} = {as_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def says_the_same(one: Any, other: Any) -> bool:
    """Whether two TOML values are equal, regardless of the order of names in tables; NaN equals NaN.

    >>> says_the_same({"a": [math.nan], "b": 1}, {"b": 1, "a": (math.nan,)}), says_the_same([math.nan], [0.0])
    (True, False)
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(says_the_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(says_the_same, one, other))
    return one == other or (one != one and other != other)


def keep_old(path: Path) -> Path:
    """Copy a descriptor beside itself before it is written anew; returns the path of the copy."""
    return Path(shutil.copy2(path, place_of_old(path)))


def place_of_old(path: Path) -> Path:
    """Path for a copy of a replaced file or folder: `dataset.toml.old`, with a number where that exists."""
    places = (path.with_name(f"{path.name}.old" if i == 1 else f"{path.name}.{i}.old") for i in itertools.count(1))
    return next(place for place in places if not os.path.lexists(place))


def is_text_of(text: str, wanted: Mapping[str, Any]) -> bool:
    """Whether a text is TOML with exactly the wanted content.

    >>> is_text_of("a = 1", {"a": 1}), is_text_of("a = 1", {"a": 2}), is_text_of("a =", {})
    (True, False, False)
    """
    try:
        return says_the_same(tomllib.loads(text), wanted)
    except tomllib.TOMLDecodeError:
        return False


def bare_key(name: str) -> str:
    """A name as a key of TOML: in quotes where it needs them.

    >>> bare_key("val"), bare_key("my set"), bare_key("été")
    ('val', '"my set"', '"été"')
    """
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else as_toml(name)


def section(*names: str) -> str:
    """The header of a table.

    >>> section("tasks", "my depth", "pseudo")
    '[tasks."my depth".pseudo]'
    """
    return "[" + ".".join(map(bare_key, names)) + "]"


def append_section(text: str, header: str, options: Mapping[str, Any]) -> str:
    r"""The text with one more table at its end.

    >>> append_section("a = 1\n\n", "[b]", {"c": True})
    'a = 1\n\n[b]\nc = true\n'
    """
    lines = [header, *(f"{bare_key(option)} = {as_toml(value)}" for option, value in options.items())]
    return text.rstrip("\n") + "\n\n" + "\n".join(lines) + "\n"


def drop_section(text: str, header: str) -> str:
    r"""The text without a table; what stands after its last option belongs to the next one.

    >>> drop_section("[a]\nb = 1\n# measured in May\n[c]\nd = 2\n", "[a]")
    '# measured in May\n[c]\nd = 2\n'
    """
    lines = text.splitlines(keepends=True)
    start = end = place = 0
    inside = False
    while place < len(lines):
        after, table = _read_statement(lines, place)
        if lines[place].lstrip().startswith("["):
            if inside:
                break
            inside, start = lines[place].lstrip().startswith(header), place
        if inside and table:
            end = after
        place = after
    return "".join(lines[:start] + lines[end:]) if inside else text


def set_option(text: str, task: str, option: str, value: Any) -> str:
    r"""A descriptor's text with `option = value` in `[tasks.TASK]`; all else stays, comments included.

    Raises `DataError` where the section is written in a way that one line cannot be set in.

    >>> print(set_option('[tasks.depth]  # made by hand\nfiles = "depth/{key}.png"\n', "depth", "invalid", [65535]))
    [tasks.depth]  # made by hand
    files = "depth/{key}.png"
    invalid = [65535]
    <BLANKLINE>
    """
    lines = text.splitlines(keepends=True)
    start, end = _find_option(lines, task, option)
    comment = re.search(r"\s+#[^\"']*$", lines[end - 1].rstrip()) if end > start else None
    newline = "\r\n" if "\r\n" in text else "\n"
    if start and not lines[start - 1].endswith("\n"):
        lines[start - 1] += newline
    lines[start:end] = [f"{option} = {as_toml(value)}{comment[0] if comment else ''}{newline}"]
    changed, wanted = "".join(lines), tomllib.loads(text)
    wanted.get("tasks", {}).get(task, {})[option] = value
    if not is_text_of(changed, wanted):
        raise DataError("its section is written in another way", "write it there by hand")
    return changed


def _find_option(lines: Sequence[str], task: str, option: str) -> tuple[int, int]:
    """First and last line (exclusive) of an option of a task; both are the place to insert it where it is missing."""
    place, inside, start = 0, False, 0
    while start < len(lines):
        end, table = _read_statement(lines, start)
        if lines[start].lstrip().startswith("["):
            if inside:
                break
            inside = table.get("tasks", {}).get(task) == {}
            place = end if inside else place
        elif inside and option in table:
            return start, end
        elif inside and table:
            place = end
        start = end
    return place, place


def _read_statement(lines: Sequence[str], start: int) -> tuple[int, dict[str, Any]]:
    """Parse the header, comment or assignment that starts at a line; returns the line after it and the content."""
    for end in range(start + 1, len(lines) + 1):
        try:
            return end, tomllib.loads("".join(lines[start:end]))
        except tomllib.TOMLDecodeError:
            continue
    return start + 1, {}
