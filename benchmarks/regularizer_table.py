"""What `regularizer.py --table` keeps: rows of results/regularizer-cost.csv, tables of docs/study-3d-tables.md."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CSV = ROOT / "results" / "regularizer-cost.csv"
PAGE = ROOT / "docs" / "study-3d-tables.md"
COLUMNS = (
    "kind", "name", "device", "threads", "clock", "samples", "repeat", "seconds", "mib", "gmacs", "parameters",
    "step_seconds", "step_mib", "step_parameters", "hardware", "torch", "commit", "command",
)  # fmt: skip
"""`kind` route: seconds, added memory, forward multiply-adds (10^9) and parameters of a route; step: of the regularizer
beside a training step of the network `name`, with those of the step."""
SETTING = ("device", "threads", "clock")
KEY = ("kind", "name", *SETTING, "samples", "repeat")
Row = Mapping[str, Any]


def read_rows(path: Path = CSV) -> list[dict[str, str]]:
    """The rows, all values as text; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def key(row: Row) -> tuple[str, ...]:
    """What a row measures."""
    return tuple(str(row[column]) for column in KEY)


def add_rows(new: Iterable[Row], path: Path = CSV) -> None:
    """Write rows, in place of those that measured the same; the whole file at once."""
    rows = {key(row): row for row in (*read_rows(path), *new)}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({column: _short(row.get(column, "")) for column in COLUMNS} for row in rows.values())
    partial.replace(path)


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


def route_table(rows: Iterable[Row]) -> str:
    """One line per setting, number of samples and route; ratios to the naive route of the same repeat."""
    found = [row for row in rows if row["kind"] == "route"]
    naive = {_run_of(row): row for row in found if row["name"] == "naive"}
    lines = {}
    for row in sorted(found, key=_order):
        same = [other for other in found if _line_of(other) == _line_of(row)]
        ratios = [
            " / ".join(f"{float(each[column]) / float(naive[_run_of(each)][column]):.2f}" for each in same)
            for column in ("seconds", "mib")
        ]
        least = [min(float(each[column]) for each in same) for column in ("seconds", "mib")]
        lines[_line_of(row)] = [
            _setting(row), row["samples"], row["name"], *ratios, f"{least[0] * 1e3:.3g}", f"{least[1]:.0f}",
            f"{float(row['gmacs']):.2f}",
        ]  # fmt: skip
    header = ["on", "samples", "route", "time / naive", "added memory / naive", "ms", "MiB", "GMAC forward"]
    return _markdown(header, lines.values())


def step_table(rows: Iterable[Row]) -> str:
    """One line per setting, network and number of samples: what the regularizer adds to a training step."""
    found = [row for row in rows if row["kind"] == "step"]
    lines = {}
    for row in sorted(found, key=_order):
        same = [other for other in found if _line_of(other) == _line_of(row)]
        shares = " / ".join(f"{float(each['seconds']) / float(each['step_seconds']):.1%}" for each in same)
        memory = f"{float(row['mib']):.0f} of {float(row['step_mib']):.0f}" if row["mib"] else ""
        parameters = f"{int(row['parameters']) / 1e6:.2f} of {int(row['step_parameters']) / 1e6:.1f}"
        seconds = min(float(each["step_seconds"]) for each in same)
        lines[_line_of(row)] = [
            _setting(row), row["name"], f"{seconds:.3g}", row["samples"], shares, memory, parameters
        ]  # fmt: skip
    header = ["on", "network", "step s", "samples", "regularizer / step", "MiB added", "million parameters"]
    return _markdown(header, lines.values())


def _run_of(row: Row) -> tuple[str, ...]:
    return tuple(row[column] for column in (*SETTING, "samples", "repeat"))


def _line_of(row: Row) -> tuple[str, ...]:
    return tuple(row[column] for column in (*SETTING, "name", "samples"))


def _order(row: Row) -> tuple[object, ...]:
    return (*(row[column] for column in SETTING), row["kind"] == "step" and row["name"], int(row["samples"]))


def _setting(row: Row) -> str:
    threads = {"1": "1 thread"}.get(row["threads"], f"{row['threads']} threads")
    place = row["hardware"] if row["device"] != "cpu" else f"CPU, {threads}"
    return place if row["clock"] == "wall" else f"{place}, {row['clock']} time"


def _markdown(header: list[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; nothing without rows."""
    body = list(rows)
    lines = [header, ["---"] * len(header), *body] if body else []
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_page(page: Path = PAGE) -> None:
    """Put both tables between `<!-- cost -->` and `<!-- /cost -->`; `ValueError` where the page has no such marks."""
    first, last = "<!-- cost -->", "<!-- /cost -->"
    text = page.read_text(encoding="utf-8")
    if first not in text or last not in text:
        raise ValueError(f"{page} has no marks {first} and {last} to write between.")
    rows = read_rows()
    before, rest = text.split(first, 1)
    tables = "\n\n".join(filter(None, (route_table(rows), step_table(rows))))
    page.write_text(f"{before}{first}\n{tables}\n{last}{rest.split(last, 1)[1]}", encoding="utf-8")
