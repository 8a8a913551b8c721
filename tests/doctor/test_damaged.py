"""Label files damaged at random are named or give their old pixels; planted faults are named, and nothing dies."""

import importlib.util
import re
import shutil
import warnings
from pathlib import Path

import pytest
from damaged_labels import DAMAGES, FORMATS, Subject, damage_label
from shared import shared_path

from triptych.doctor.examine import examine

KINDS = list(DAMAGES)


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_labels_are_named_or_read_right(tmp_path: Path, name: str) -> None:
    subject = Subject(tmp_path, name)
    for number in range(3):
        kind = KINDS[(3 * list(FORMATS).index(name) + number) % len(KINDS)]
        outcome, said = damage_label(subject, kind, number)
        assert outcome in ("named", "same pixels"), f"{kind}: {said}"


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_thousand_damaged_labels(tmp_path: Path, name: str) -> None:
    subject = Subject(tmp_path, name)
    for kind in DAMAGES:
        for seed in range(4):
            outcome, said = damage_label(subject, kind, seed)
            assert outcome in ("named", "same pixels"), f"{kind}, {seed}: {said}"


UNDETECTABLE = {"semseg mirrored (wrong content)"}


@pytest.mark.slow
def test_planted_faults_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASES", str(tmp_path))
    spec = importlib.util.spec_from_file_location("faults", shared_path("cases/faults.py"))
    assert spec is not None
    assert spec.loader is not None
    faults = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(faults)
    faults.build()
    wrong = []
    for name, (plant, expected, kind) in faults.F.items():
        work = tmp_path / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(faults.BASE, work)
        plant(work)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                findings = [f"{finding.severity}: {finding}" for finding in examine(work).findings]
            except ValueError as error:
                findings = [f"error: {error}"]
        said = "\n".join(findings).replace(str(work), "")
        if kind in ("none", "fine"):
            wrong += [(name, said)] if "error: " in said else []
        elif name not in UNDETECTABLE and not re.search(expected, said):
            wrong.append((name, said))
        assert not faults.MARK.exists(), name
    assert not wrong
