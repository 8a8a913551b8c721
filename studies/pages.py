"""Write the tables of the laboratory's studies into the pages, from the rows in `results/` alone.

python studies/pages.py            # writes them
python studies/pages.py --check    # ends with 1 and names the page where a table is not what the rows say
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import bench
import bench_rates
import cvm
import fog
import geometry
import geometry_p
import geometry_pilot
import grid
import hed
import lora
import missing
import peers
import photo_labels
import photo_trunk
import photographs
import preset
import second_look
import sharpness
import starts
import trunks
from lab import rows
from lab.running import ROOT
from lab.study import Study

PAGE, LONG = ROOT / "docs" / "study-3d.md", ROOT / "docs" / "study-3d-tables.md"
MISSING, ADAPTING = ROOT / "docs" / "study-missing.md", ROOT / "docs" / "study-adapting.md"
TABLES: dict[str, tuple[Study, Callable[[list[rows.Row]], str], Path]] = {
    "fog": (fog.STUDY, fog.short_table, PAGE),
    "fog-all": (fog.STUDY, fog.table, LONG),
    "sharpness": (sharpness.STUDY, sharpness.table, LONG),
    "peers": (peers.STUDY, peers.table, ROOT / "docs" / "real-data.md"),
    "trunks": (trunks.STUDY, trunks.table, PAGE),
    "geometry-pilot": (geometry_pilot.STUDY, geometry_pilot.table, PAGE),
    "preset": (preset.STUDY, preset.table, PAGE),
    "geometry": (geometry.STUDY, geometry.table, PAGE),
    "geometry-p": (geometry_p.STUDY, geometry_p.table, LONG),
    "photographs": (photographs.STUDY, photographs.table, LONG),
    "bench-rates": (bench_rates.STUDY, bench_rates.table, LONG),
    "bench": (bench.STUDY, bench.table, ROOT / "docs" / "models.md"),
    "starts": (starts.STUDY, starts.table, ROOT / "docs" / "models.md"),
    "second-look": (second_look.STUDY, second_look.table, ROOT / "docs" / "study-adaptation.md"),
    "hed": (hed.STUDY, hed.table, ROOT / "docs" / "protocols.md"),
    "missing": (missing.STUDY, missing.table, MISSING),
    "cvm": (cvm.STUDY, cvm.table, MISSING),
    "photo-labels": (photo_labels.STUDY, photo_labels.table, MISSING),
    "photo-trunk": (photo_trunk.STUDY, photo_trunk.table, ADAPTING),
    "lora": (lora.STUDY, lora.table, ADAPTING),
}
"""Mark on a page: the study, its table and the page."""


def section(study: Study, table: Callable[[list[rows.Row]], str]) -> str:
    """The table of a study and how far it came, or that it has no row yet."""
    found = rows.read_declared(ROOT / "results" / f"{study.name}.jsonl", study.commit)
    if not found:
        return f"*No row yet: 0 of {len(study.jobs())} jobs.*"
    count = f"*{len(found)} of {len(study.jobs())} jobs, commit {found[0].commit[:7]}.*"
    return f"{table(found)}\n\n{count}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for name, (study, table, page) in TABLES.items():
        text = section(study, table)
        if not check:
            grid.replace_section(page, name, text)
        elif grid.with_section(page, name, text) != page.read_text(encoding="utf-8"):
            stale.append(f"{page.name}, {name}")
    sys.exit(f"not what the rows say: {'; '.join(stale)}; run python studies/pages.py" if stale else 0)


if __name__ == "__main__":
    main()
