"""Log of a run: `metrics.jsonl` and `log.txt` always, a bar or plain lines, trackers if asked.

A line of `metrics.jsonl` is one JSON object. `kind` is `train` (means since the last such line: `losses` raw and
`weighted` by task over batches that had labels, `parts`, `labelled` images, `learning_rate`, the norms of the gradient
before clipping, `gradient_norm` of the network and `regularizer_gradient_norm`, `penalties` that belong to no task
(of decoder and regularizer), `adaptation`, an adapter's losses on the network, and `adapter`, those of its own parts,
counts and measurements of a `regularizer`, of video (`video.base.video_record`) and of adapters) or `evaluation`
(`split`, `metrics` by `task/metric`, `losses` as `Evaluation` has them, `labelled`, `score`, `best`). `seconds` and
`images_per_second` are the only fields that depend on the machine.
"""

import importlib.util
import io
import itertools
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from triptych.evaluation.run_log import read_lines
from triptych.evaluation.scores import Evaluation
from triptych.evaluation.tables import summary_table
from triptych.extras import missing_extra
from triptych.files import finite, naming_damage, write_text
from triptych.lookup import printable
from triptych.terminal import WIDE, terminal


class RunLog:
    """The log of one run; on processes other than the main one it does nothing."""

    def __init__(
        self, run: Path, *, steps: int, first_step: int, enabled: bool, progress: bool, tracker: Any = None
    ) -> None:
        self.run, self.steps, self.enabled, self.tracker = run, steps, enabled, tracker
        self._named: set[str] = set()
        self._first_step, self._started = first_step, time.perf_counter()
        self.console = terminal(quiet=not (enabled and progress))
        self.bar: Progress | None = None
        if enabled:
            for path in (files := [run / "metrics.jsonl", run / "log.txt"]):
                _check_no_link(path)
            self._metrics, self._text = (path.open("a", encoding="utf-8") for path in files)
        if enabled and progress and self.console.is_terminal:
            self.bar = Progress(
                TextColumn("training"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                expand=True,
            )
            self._steps = self.bar.add_task("", total=steps, completed=first_step)
            self._losses = Text(no_wrap=True, overflow="ellipsis")
            self._live = Live(Group(self.bar, self._losses), console=self.console)
            self._live.start()

    def message(self, text: str) -> None:
        """One line for people, on the screen and in `log.txt`."""
        text = printable(text)
        if self.enabled:
            self._write(text)
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """One line in `log.txt` alone, or none where it cannot be written: the error it comes with is raised anyway."""
        with suppress(OSError):
            if self.enabled:
                self._write(text)

    def skipped(self, samples: Mapping[str, str]) -> None:
        """Name damaged samples that were skipped, each once."""
        for key, reason in samples.items():
            self.once(f"skipped sample {key!r}: {reason}", key)

    def once(self, text: str, name: str = "") -> None:
        """Write a message unless one with its name (its text, where it has no name) was written before."""
        if (name or text) not in self._named:
            self._named.add(name or text)
            self.message(text)

    def status(self, text: str) -> None:
        """A line of progress, on a terminal only."""
        if self.bar is not None:
            self._losses.plain = text

    def training(self, record: Mapping[str, Any]) -> None:
        """A `train` line: the JSON, the bar's text or a plain line, the trackers."""
        if not self.enabled:
            return
        self._record({"kind": "train", **record})
        losses = "  ".join(
            f"{name} {raw:.4g} ({record['weighted'][name]:.4g})" if raw is not None else f"{name} -"
            for name, raw in record["losses"].items()
        )
        text = f"loss {record['loss']:.4g}  {losses}  {record['images_per_second']:.3g} images/s"
        text += f"  skipped steps: {record['skipped_steps']}" if "skipped_steps" in record else ""
        line = f"step {record['step']}/{self.steps}  {text}{self._left(record['step'])}"
        self._write(line)
        if self.bar is not None:
            self.bar.update(self._steps, completed=record["step"])
            self._losses.plain = text
        else:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        single = ("loss", "learning_rate", "gradient_norm", "regularizer_gradient_norm")
        self._track(record, "train", ("losses", "weighted", "parts"), single)

    def _left(self, step: int) -> str:
        """Remaining time at the pace since this start, with evaluations and checkpoints."""
        done = step - self._first_step
        seconds = (time.perf_counter() - self._started) * (self.steps - step) / done if done > 0 else 0.0
        return f"  {describe_time(seconds)} left" if seconds > 0 else ""

    def evaluation(self, record: Mapping[str, Any], evaluation: Evaluation) -> None:
        """An `evaluation` line, and the table."""
        if not self.enabled:
            return
        self._record({"kind": "evaluation", **record})
        mark = " (best so far)" if record["best"] else ""
        title = f"step {record['step']}: {record['split']}, {len(evaluation.keys)} images{mark}"
        table = summary_table(title, evaluation)
        self.console.print(table)
        text = io.StringIO()
        terminal(file=text, width=WIDE, no_color=True).print(table)
        self._append(self._text, text.getvalue().rstrip())
        self._track(record, record["split"], ("metrics", "losses"), ("score",))

    def close(self) -> None:
        """Stop the bar and close the files."""
        if self.bar is not None:
            self._live.stop()
        with suppress(OSError):
            if self.enabled:
                self._metrics.close()
                self._text.close()

    def _record(self, record: Mapping[str, Any]) -> None:
        self._append(self._metrics, json.dumps(finite(record), allow_nan=False))

    def _write(self, text: str) -> None:
        self._append(self._text, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")

    def _append(self, file: TextIO, line: str) -> None:
        try:
            file.write(line + "\n")
            file.flush()
        except OSError as error:
            raise OSError(
                f"cannot write {file.name}: {error.strerror}; checkpoints are intact. Free space or fix the folder, "
                "then go on with --resume."
            ) from error

    def _track(self, record: Mapping[str, Any], prefix: str, groups: tuple[str, ...], single: tuple[str, ...]) -> None:
        if self.tracker is None:
            return
        values = {f"{prefix}/{name}": record[name] for name in single if name in record}
        for group in groups:
            values |= {f"{prefix}/{group}/{name}": value for name, value in record[group].items()}
        self.tracker.log({name: value for name, value in values.items() if value is not None}, step=record["step"])


def _check_no_link(path: Path) -> None:
    """Raise `ValueError` where lines would go through a link: in a run that was received it may lead to any file."""
    if path.is_symlink():
        raise ValueError(f"{path} is a link to {path.readlink()}, which would be written to; put a file there.")


def describe_time(seconds: float) -> str:
    """A time in the two largest units that it has.

    >>> [describe_time(seconds) for seconds in (42.0, 754.0, 11100.0, 90000.0)]
    ['42 s', '12 min 34 s', '3 h 05 min', '1 d 01 h']
    """
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    rest = round(seconds)
    for (name, size), (smaller, part) in itertools.pairwise(units):
        if rest >= size:
            return f"{rest // size} {name} {rest % size // part:02d} {smaller}"
    return f"{rest} s"


def cut_metrics(run: Path, *, trained: int, evaluated: int) -> None:
    """Drop lines of `metrics.jsonl` for steps after a checkpoint: a resumed run writes them again."""
    path = run / "metrics.jsonl"
    if not path.exists():
        return
    last = {"train": trained, "evaluation": evaluated}
    with naming_damage(path):
        kept = [line for line, record in read_lines(path) if record["step"] <= last[record["kind"]]]
    write_text(path, "".join(f"{line}\n" for line in kept))


def tracker_names(names: tuple[str, ...]) -> list[str]:
    """Check that the packages of trackers are installed; `ImportError` says how to get them."""
    packages = {"tensorboard": "tensorboard", "wandb": "wandb"}
    for name in names:
        if name not in packages:
            raise ValueError(f"unknown tracker '{name}'; choose from {', '.join(packages)}.")
        if importlib.util.find_spec(packages[name]) is None:
            raise missing_extra(packages[name], "track", f"tracking with {name} needs")
    return list(names)
