"""The tables of docs/deploy.md from what `deploy.py` measured, with its goals."""

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

FASTER = {"fp32": 1.3, "int8": 1.5}
"""Times faster than torch: the median of the five networks in float32, and each of `CONVOLUTIONAL` in int8."""
CONVOLUTIONAL = ("deeplab", "fcn")
LEFT_OUT = ("fcn",)
"""Timed for its int8 alone."""
LOSS = 0.01
"""Most that int8 may cost any task of these, relative to torch."""
PACKAGES, START, MEMORY = 200e6, 1.0, 250e6
"""Bytes of the runtime's packages, and seconds and bytes until rooms-demo's network is there."""
FORMATS = ("torch", "fp32", "int8")
ENGINES = {"torch": "torch", "fp32": "onnxruntime", "int8": "onnxruntime, int8"}
DATA = {"rooms": "rooms", "camvid": "CamVid"}


def tables(found: Mapping[str, Any]) -> dict[str, str]:
    """By the name of the marks, what stands between them."""
    return {"deploy": f"{timed_table(found)}\n\n{goal_list(found)}", "deploy-scores": score_table(found)}


def timed_table(found: Mapping[str, Any]) -> str:
    """A row per network and format."""
    lines = [
        "| network | trunk's recipe | run by | ms | times faster | file MB | peak MB of the process |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in found.get("timed", {}).items():
        for kind, engine in ENGINES.items():
            one = row[kind]
            title = f"{name} | {row['recipe']}" if kind == "torch" else " | "
            lines.append(
                f"| {title} | {engine} | {1e3 * one['seconds']:.0f} | {one['faster']:.2f} | {one['bytes'] / 1e6:.0f} | "
                f"{one['peak_bytes'] / 1e6:.0f} |"
            )
    return "\n".join(lines)


def score_table(found: Mapping[str, Any]) -> str:
    """A row per data, network and task; what is no better than a constant is in (brackets)."""
    lines = [
        "| data | network | task | number | constant | torch | onnxruntime | int8 | int8 worse by |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for data, networks in found.get("scores", {}).items():
        for name, tasks in networks.items():
            for task, row in tasks.items():
                arrow = "↑" if row["higher_is_better"] else "↓"
                values = " | ".join([f"{row['constant']:.4g}", *(_marked(row, kind) for kind in FORMATS)])
                lines.append(
                    f"| {DATA[data]} | {name} | {task} | {row['metric']} {arrow} | {values} | {loss(row, 'int8'):.1%} |"
                )
    return "\n".join(lines)


def _marked(row: Mapping[str, Any], kind: str) -> str:
    text, constant = f"{row[kind]:.4g}", f"{row['constant']:.4g}"
    better = text != constant and (row[kind] > row["constant"]) == row["higher_is_better"]
    return text if better else f"({text})"


def loss(row: Mapping[str, Any], kind: str) -> float:
    """How much worse than torch, relative; below 0 where it is better.

    >>> round(loss({"torch": 0.5, "int8": 0.49, "higher_is_better": True}, "int8"), 3)
    0.02
    """
    worse = row["torch"] - row[kind] if row["higher_is_better"] else row[kind] - row["torch"]
    return worse / abs(row["torch"]) if row["torch"] else math.copysign(math.inf, worse) if worse else 0.0


def goal_list(found: Mapping[str, Any]) -> str:
    """Every goal, what was reached, and whether that is enough."""
    timed, runtime = found.get("timed", {}), found.get("runtime", {})
    five = [row["fp32"]["faster"] for name, row in timed.items() if name not in LEFT_OUT]
    lines = [
        _goal(
            f"float32 at least {FASTER['fp32']} times as fast as torch, median of the first five",
            statistics.median(five) if len(five) == 5 else None,
            lambda median: (f"{median:.2f}", median >= FASTER["fp32"]),
        )
    ]
    for name in CONVOLUTIONAL:
        losses = {
            f"{DATA[data]} {task}": loss(row, "int8")
            for data, networks in found.get("scores", {}).items()
            for task, row in networks.get(name, {}).items()
        }
        lines += [
            _goal(
                f"int8 of {name} at least {FASTER['int8']} times as fast as torch in float32",
                timed[name]["int8"]["faster"] if name in timed else None,
                lambda faster: (f"{faster:.2f}", faster >= FASTER["int8"]),
            ),
            _goal(
                f"int8 of {name} at most {LOSS:.0%} worse on any task",
                max((value, task) for task, value in losses.items()) if losses else None,
                lambda worst: (f"{worst[0]:.1%} on {worst[1]}", worst[0] <= LOSS),
            ),
        ]
    limits = {
        "packages_bytes": (f"packages of triptych-runtime below {PACKAGES / 1e6:.0f} MB", PACKAGES, 1e6, "MB"),
        "seconds": (f"rooms-demo's network ready there in {START:g} s", START, 1.0, "s"),
        "peak_bytes": (f"with at most {MEMORY / 1e6:.0f} MB", MEMORY, 1e6, "MB"),
    }
    for key, (what, most, unit, symbol) in limits.items():
        lines.append(
            _goal(
                what,
                runtime.get(key),
                lambda value, most=most, unit=unit, symbol=symbol: (f"{value / unit:.3g} {symbol}", value <= most),
            )
        )
    return "\n".join(["| goal | measured | |", "| --- | --- | --- |", *lines])


def _goal(what: str, value: Any, judge: Callable[[Any], tuple[str, bool]]) -> str:
    if value is None:
        return f"| {what} | not measured | |"
    measured, met = judge(value)
    return f"| {what} | {measured} | {'met' if met else '**missed**'} |"
