"""The guessed content of a folder, and its `dataset.toml` with the reason for each guess."""

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from triptych.folders.descriptor import Descriptor, parse_descriptor
from triptych.folders.toml_text import append_section, as_toml, bare_key, section
from triptych.labels.axes import FOV
from triptych.labels.guesses import Guess
from triptych.lookup import one_line

ANY_CAMERA: dict[str, Any] = {"camera": {"fov": FOV}}
"""Section of a folder whose camera is not known, or that has no task yet."""


@dataclass
class FolderGuess:
    """Guessed content of a folder."""

    root: Path
    images: str = ""
    splits: dict[str, str | float] = field(default_factory=dict)
    split_reason: str = ""
    draw: str = "exact"
    group: str = "file"
    tasks: dict[str, tuple[str, Guess]] = field(default_factory=dict)
    """Task name to its pattern and the guess about its numbers."""
    notes: list[str] = field(default_factory=list)
    """Doubts about the folder as a whole."""
    advice: list[str] = field(default_factory=list)
    """Hints for the user that do not affect how the folder is read."""
    offers: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    """Sections that the user has to complete: the request in words, to the task and its options."""
    left_out: list[str] = field(default_factory=list)
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Sections of the descriptor that this one replaces, by their headers."""

    @property
    def doubts(self) -> list[str]:
        """Doubts that the user should check before the folder is read."""
        told = [f"[tasks.{name}] {doubt}" for name, (_, guess) in self.tasks.items() for doubt in guess.doubts]
        return [*self.notes, *told, *self.offers]

    @property
    def checks(self) -> list[str]:
        """Everything that the user should check."""
        return [*self.doubts, *self.advice]

    @property
    def evidence(self) -> list[str]:
        """Every guess with its reason."""
        lines = [f"[images] files = {as_toml(self.images)}"]
        lines += [f"[splits] {name} = {as_toml(value)}: {self.split_reason}" for name, value in self.splits.items()]
        for name, (pattern, guess) in self.tasks.items():
            lines.append(f"[tasks.{name}] files = {as_toml(pattern)}")
            lines += [f"[tasks.{name}] {option} = {as_toml(value)}: {why}" for option, value, why in guess.options]
        return lines + [f"{header}: kept" for header in self.kept]

    def descriptor(self, **sections: Any) -> Descriptor:
        """The descriptor that `to_toml` would give, with more `sections`."""
        notes = (*(f"left out {reason}" for reason in self.left_out), *self.advice)
        return replace(parse_descriptor(tomllib.loads(self.to_toml()) | sections, self.root), notes=notes)

    def to_toml(self) -> str:
        """The `dataset.toml`, with the reason for each guess as a comment."""
        lines = [
            "# Written by `triptych data init`. Check the comments that say CHECK, then run `triptych data doctor`.",
            "# All options: docs/own-data.md",
            f"name = {as_toml(one_line(self.root.resolve().name))}",
            'root = "."',
            *([f"group = {as_toml(self.group)}"] if self.group != "file" else []),
        ]
        if self.splits:
            lines += ["", f"[splits]  {_comment(self.split_reason)}"]
            lines += [f"{bare_key(name)} = {as_toml(value)}" for name, value in self.splits.items()]
        if self.draw != "exact":
            lines.append(f"draw = {as_toml(self.draw)}  # images that are added move no other")
        lines += ["", "[images]", f"files = {as_toml(self.images)}"]
        lines += [_comment(f"CHECK: {note}") for note in (*self.notes, *self.advice)]
        for name, (pattern, guess) in self.tasks.items():
            lines += ["", section("tasks", name), f"files = {as_toml(pattern)}"]
            doubtful = {doubt.partition(" = ")[0] for doubt in guess.doubts}.intersection(guess.values)
            for option, value, reason in guess.options:
                mark = "CHECK: " if option in doubtful else ""
                lines.append(f"{option} = {as_toml(value)}  {_comment(mark + reason)}")
            rest = [doubt for doubt in guess.doubts if doubt.partition(" = ")[0] not in doubtful]
            lines += [_comment(f"CHECK: {doubt}") for doubt in rest]
        for offer, (name, options) in self.offers.items():
            lines += ["", _comment(f"CHECK: {offer}"), f"# {section('tasks', name)}"]
            lines += [_comment(f"{option} = {as_toml(value)}") for option, value in options.items()]
        if "boundary" not in self.tasks and "semseg" in self.tasks:
            lines += ["", "# [tasks.boundary]", '# from = "semseg"  # where the class changes']
        lines += ["", "# [camera]  # for point clouds and 3D-aware training", "# fov = 60.0  # horizontal, degrees"]
        lines += [_comment(f"left out: {reason}") for reason in self.left_out]
        text = "\n".join(lines) + "\n"
        for header, options in self.kept.items():
            text = append_section(text, header, options)
        return text


def _comment(text: str) -> str:
    """A comment of TOML, which takes no control characters: names of files may hold some."""
    return f"# {one_line(text)}"
