"""`triptych data doctor --fix`: change the descriptor where that resolves findings, without touching labels.

Findings suggest such changes (`Edit`). A change is made where every finding of its kind suggests it, and the targets of
all other files of the task stay the same; marks of missing labels can be listed in any case.
"""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from triptych.data.errors import DataError
from triptych.data.lists import read_text
from triptych.data.splits import ALL
from triptych.datasets.folder import find_descriptor
from triptych.doctor.findings import Finding
from triptych.files import write_text
from triptych.folders.descriptor import FILE_NAME, Descriptor, list_files
from triptych.folders.guessing import describe_folder
from triptych.folders.toml_text import as_toml, keep_old, set_option
from triptych.labels.base import Encoding
from triptych.lookup import grouped


@dataclass(frozen=True)
class Mending:
    """A new text for a descriptor."""

    path: Path
    before: str
    """Empty where there was no file."""
    after: str
    left: tuple[str, ...] = ()
    """Changes that are left to the user, with the reason."""

    @property
    def difference(self) -> str:
        """The change in the format of `diff -u`; empty where there is none."""
        old, new = (text.splitlines() for text in (self.before, self.after))
        return "\n".join(difflib.unified_diff(old, new, str(self.path), f"{self.path} (fixed)", lineterm=""))

    def write(self) -> Path | None:
        """Write the file; returns the path of the copy of the old one, if any."""
        kept = keep_old(self.path) if self.path.exists() else None
        write_text(self.path, self.after)
        return kept


def plan_mending(path: str | Path, findings: Sequence[Finding], *, root: str | Path = "") -> Mending:
    """Make the descriptor of a folder with every safe change that its findings suggest.

    Without a descriptor, changes apply to the one that `triptych data init` would write.
    """
    place = Path(path)
    file = place if place.suffix == ".toml" else place / FILE_NAME
    before = read_text(file) if file.is_file() else ""
    groups = _by_task(findings)
    if not groups:
        return Mending(file, before, before)
    descriptor, left = find_descriptor(place, root=root), []
    text = start = before or describe_folder(place).to_toml()
    for task, found in groups.items():
        for option, value in _choose(descriptor.tasks[task], found).items():
            wanted = f"{option} = {as_toml(value)} in [tasks.{task}]"
            changed = "" if option == "invalid" else _changed_file(descriptor, task, {option: value}, found)
            if changed:
                left.append(f"{wanted} would change {changed} too")
                continue
            try:
                text = set_option(text, task, option, value)
            except DataError as error:
                left.append(f"{wanted}: {error.text}; {error.cure}")
    return Mending(file, before, before if text == start else text, tuple(left))


def _by_task(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Findings of kinds with a suggested edit, by task, including those of these kinds that have none."""
    kinds = {(finding.task, finding.check) for finding in findings if finding.edit}
    return grouped((finding.task, finding) for finding in findings if (finding.task, finding.check) in kinds)


def _choose(encoding: Encoding, findings: Sequence[Finding]) -> dict[str, Any]:
    """New values of options: longer lists, and what all findings of one kind agree on."""
    chosen: dict[str, Any] = {}
    for finding in findings:
        if finding.edit is None:
            continue
        option, value = finding.edit.option, finding.edit.value
        if isinstance(value, tuple):
            listed = chosen.setdefault(option, list(encoding.marks))
            listed += [item for item in value if repr(item) not in map(repr, listed)]  # by `repr`, NaN equals NaN
        elif all(other.edit == finding.edit for other in findings if other.check == finding.check):
            chosen[option] = value
    return chosen


def _changed_file(descriptor: Descriptor, task: str, options: dict[str, Any], findings: Sequence[Finding]) -> str:
    """Path of a label file without a finding whose target would change; empty if there is none."""
    encoding = descriptor.tasks[task]
    named = {finding.file for finding in findings}
    for path in list_files(descriptor, encoding.files, ALL).values():
        if str(path) in named:
            continue
        try:
            stored = encoding.read(path)
            old, new = encoding.decode(stored, None), replace(encoding, **options).decode(stored, None)
        except (OSError, ValueError):
            continue  # it has no target either way, and the report names it
        if not torch.equal(old.nan_to_num(-math.pi), new.nan_to_num(-math.pi)):
            return str(path)
    return ""
