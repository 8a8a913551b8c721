"""Pictures of the methods: what docs/pictures.py draws, one for every method, on a page."""

import importlib.util
from pathlib import Path

from triptych.adaptation import ADAPTERS
from triptych.decoders import DECODERS
from triptych.models import ARCHITECTURES, CROSS_VIEW, TUNINGS
from triptych.video import VIDEO

DOCS = Path(__file__).resolve().parents[2] / "docs"
SPECIFICATION = importlib.util.spec_from_file_location("pictures", DOCS / "pictures.py")
assert SPECIFICATION is not None
assert SPECIFICATION.loader is not None
pictures = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(pictures)


def test_pictures_are_what_the_script_draws_and_stand_on_a_page() -> None:
    drawn = {f"{name}.svg": pictures.draw(picture) for name, picture in pictures.PICTURES.items()}
    assert {path.name: path.read_text(encoding="utf-8") for path in pictures.FOLDER.iterdir()} == drawn
    text = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    assert [name for name in drawn if f"](pictures/{name})" not in text] == []


def test_every_method_has_a_picture() -> None:
    shown = {method for picture in pictures.PICTURES.values() for method in picture.methods}
    entries = {**DECODERS, **ARCHITECTURES, **CROSS_VIEW, **ADAPTERS, **VIDEO, **TUNINGS}
    ours = {name: getattr(entry, "func", entry).__module__.startswith("triptych.") for name, entry in entries.items()}
    methods = {name for name, is_ours in ours.items() if is_ours}  # other tests register parts of their own
    assert methods - shown == {"full"}
    assert shown - methods == {"triplane", "triplane-cross-view", "mtpsl", "distill"}


def test_every_line_fits_its_box() -> None:
    for name, picture in pictures.PICTURES.items():
        for row in picture.rows:
            whole = pictures.WIDTH - 2 * pictures.MARGIN - pictures.GAP * (len(row) - 1)
            total = max(sum(part.share for part in row), 1.0)
            for part in row:
                longest = max(map(len, part.text.split("\n")))
                assert 6.3 * longest < whole * part.share / total + 2, (name, part.text)
