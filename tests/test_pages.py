"""Numbers and tables of the pages are what `results/` says."""

from pathlib import Path

import pytest
from test_studies import ROOT, load

recompute, pages, first = load("recompute"), load("pages"), load("first_network")


def test_numbers_of_the_pages_are_recomputed() -> None:
    assert len(recompute.NUMBERS) >= 10
    assert recompute.wrong() == []


def test_raises_for_a_wrong_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "docs" / "study-3d.md"
    page.parent.mkdir()
    text = (ROOT / "docs" / "study-3d.md").read_text(encoding="utf-8")
    page.write_text(text.replace("+0.26 ± 1.09", "+2.26 ± 1.09"), encoding="utf-8")
    results = recompute.ROOT / "results"
    (tmp_path / "results").symlink_to(results)
    monkeypatch.setattr(recompute, "ROOT", tmp_path)
    monkeypatch.setattr(recompute, "NUMBERS", recompute.NUMBERS[:2])
    [sentence] = recompute.wrong()
    assert "3D branch over the network alone" in sentence


@pytest.mark.parametrize("name", [*pages.TABLES])
def test_tables_are_what_the_rows_say(name: str) -> None:
    study, table, page = pages.TABLES[name]
    text = page.read_text(encoding="utf-8")
    inside = text.split(f"<!-- {name} -->\n", 1)[1].split(f"\n<!-- /{name} -->", 1)[0]
    assert inside == pages.section(study, table).strip()


def test_the_first_networks_page_has_its_card() -> None:
    text = first.PAGE.read_text(encoding="utf-8")
    inside = text.split("<!-- first-network -->\n", 1)[1].split("\n<!-- /first-network -->", 1)[0]
    assert inside == first.section().strip()
