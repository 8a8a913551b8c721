"""Folders for tests of the doctor."""

import shutil
from pathlib import Path

import pytest
from clinic import write_clinic


@pytest.fixture(scope="package")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clinic")
    write_clinic(root)
    return root


@pytest.fixture
def clinic(clean: Path, tmp_path: Path) -> Path:
    """A copy of the clean folder, to plant faults in."""
    return Path(shutil.copytree(clean, tmp_path / "clinic"))
