"""What `models.py` writes: the CSV of figures, and the table of docs/models.md beside those of published code."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_cases import Case, Published, all_cases

COLUMNS = (
    "case", "device", "layout", "threads", "execution", "torch", "parameters", "gmacs",
    *(f"{phase}_{name}" for phase in ("forward", "train") for name in ("batch", "seconds", "mib", "matmul_gflops")),
    "forward_vs_matmul", "commit",
)  # fmt: skip
IN_TURN = {
    "mti-net/hrnet_w18_small_v2/448x576": ("2.2", "2.0", "0.91"),
    "invpt/vit_base_patch16_384/448x576": ("1.6", "1.51", "0.96"),
}
"""Published code and commit 6769c55 in turn on one machine, two threads, medians of three rounds: forward, step, peak
memory of a step. Ratios through the matrix product of another machine were off by up to 40 % beside these.
"""


def read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{"execution": "eager", **row} for row in csv.DictReader(file)]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """The whole file at once, in the order of the cases."""
    order = list(all_cases())
    rows = sorted(
        rows,
        key=lambda row: (
            row["device"], row["execution"] != "eager", row["layout"],
            order.index(row["case"]) if row["case"] in order else -1,
        ),
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def table(rows: list[dict[str, str]]) -> str:
    """Markdown: one line per case."""
    heads = (
        "network", "device, layout, execution", "params M", "GMAC", "forward s", "of matmul", "peak MiB", "train batch",
        "step s", "peak MiB", "forward x", "step x", "step memory / published", "how compared",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"| --- | --- |{' ---: |' * (len(heads) - 2)}"]
    cases = all_cases()
    for row in rows:
        setting = f"{row['device']}, {row['layout']}, {row['execution']}"
        numbers = [
            f"{int(row['parameters']) / 1e6:.2f}", f"{float(row['gmacs']):.1f}", row["forward_seconds"],
            f"{float(row['forward_vs_matmul']):.2f}", f"{float(row['forward_mib']):.0f}", row["train_batch"],
            row["train_seconds"], f"{float(row['train_mib']):.0f}", *compare(row, cases[row["case"]].published),
        ]  # fmt: skip
        name = ", ".join([*row["case"].split("/"), *widths(cases[row["case"]])])
        lines.append(f"| {name} | {setting} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def widths(case: Case) -> list[str]:
    """Widths that are not the decoder's default, which is up to ten times as large."""
    return [f"{name}={value}" for name, value in case.decoder_options.items() if name.endswith("width")]


def compare(row: Mapping[str, str], published: Published | None) -> tuple[str, str, str, str]:
    """Forward and step, times faster than the published code; peak memory of a step relative; and how that is known."""
    if published is None or row["device"] != "cpu" or row["execution"] != "eager":
        return ("", "", "", "")
    if row["case"] in IN_TURN:
        return (*IN_TURN[row["case"]], "in turn")
    work = published.matmul_gflops
    forward = published.forward_seconds * work / (float(row["forward_seconds"]) * float(row["forward_matmul_gflops"]))
    step = published.train_seconds * work / (float(row["train_seconds"]) * float(row["train_matmul_gflops"]))
    step *= int(row["train_batch"]) / published.batch
    return f"{forward:.2f}", f"{step:.2f}", f"{float(row['train_mib']) / published.train_mib:.2f}", "rescaled"


def write_table(page: Path, text: str, name: str = "speed") -> None:
    """Put the table between the marks of this name."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    before = page.read_text(encoding="utf-8")
    between = re.compile(rf"{first}.*?{last}", re.DOTALL)
    if not between.search(before):
        raise SystemExit(f"{page} has no {first} ... {last} to write the table between.")
    page.write_text(between.sub(lambda _: f"{first}\n{text}\n{last}", before), encoding="utf-8")
