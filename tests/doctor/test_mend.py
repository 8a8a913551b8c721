"""`triptych data doctor --fix` changes the descriptor alone, where that is safe, and loses nothing."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clinic import SIZE, wall
from saved_maps import save

from triptych.__main__ import main
from triptych.data.errors import DataError
from triptych.doctor.examine import examine
from triptych.doctor.mend import plan_mending
from triptych.folders.toml_text import set_option

LABELS = (np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) // 8 % 3).astype(np.int16)


def rows(array: np.ndarray, value: float) -> np.ndarray:
    """Some rows set to a value."""
    changed = array.copy()
    changed[:4] = value
    return changed


def for_label(root: Path, name: str, array: np.ndarray) -> None:
    (root / name).with_suffix(".png").unlink()
    save((root / name).with_suffix(".npy"), array)


def halve_masks(root: Path) -> None:
    for path in sorted((root / "saliency").rglob("*.png")):
        save(path, np.full((SIZE[0] // 2, SIZE[1] // 2), 255, np.uint8))


FAULTS: dict[str, tuple[Callable[[Path], object], str, str, dict[str, object]]] = {
    "NaN in depth": (
        lambda r: for_label(r, "depth/train/1", rows(wall(2)[0].astype(np.float32), np.nan)),
        *("not finite", "depth", {"invalid": [float("nan")]}),
    ),
    "65535 in depth": (
        lambda r: save(r / "depth/train/1.png", rows(wall(2)[0], 65535)),
        *("depth unit", "depth", {"invalid": [65535]}),
    ),
    "a far plane": (
        lambda r: for_label(
            r, "depth/train/1", rows(np.linspace(1900, 2100, 768, dtype=np.float32).reshape(SIZE), 1e7 / 3)
        ),
        *("far plane", "depth", {"invalid": [float(np.float32(1e7 / 3))]}),
    ),
    "-1 among classes": (
        lambda r: for_label(r, "semseg/train/1", rows(LABELS, -1)),
        *("values", "semseg", {"invalid": [255, -1]}),
    ),
    "a mask of 0 and 1": (
        lambda r: save(r / "saliency/train/1.png", (LABELS == 1).astype(np.uint8)),
        *("threshold", "saliency", {"threshold": 1}),
    ),
    "half-size masks": (halve_masks, "size", "saliency", {"resize": True}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_safe_changes_heal_and_touch_no_label(
    clinic: Path,
    fault: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plant, check, task, options = FAULTS[fault]
    plant(clinic)
    assert check in {finding.check for finding in examine(clinic).findings if finding.task == task}
    labels = {path: path.read_bytes() for path in clinic.rglob("*.*") if path.name != "dataset.toml"}
    before = (clinic / "dataset.toml").read_text()
    wanted = tomllib.loads(before)
    wanted["tasks"][task].update(options)
    main(["data", "doctor", str(clinic), "--fix", "--yes"])
    assert repr(sorted(tomllib.loads((clinic / "dataset.toml").read_text())["tasks"][task].items())) == repr(
        sorted(wanted["tasks"][task].items())
    )
    shown = capsys.readouterr().out
    option = next(iter(options))
    assert f"+{option} = " in shown
    assert shown.index(f"+{option} = ") < shown.index("wrote ")
    assert check not in {finding.check for finding in examine(clinic).findings if finding.task == task}
    assert (clinic / "dataset.toml.old").read_text() == before
    assert labels == {path: path.read_bytes() for path in labels}


def test_nothing_is_written_unasked_and_no_old_file_is_lost(
    clinic: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    descriptor = clinic / "dataset.toml"
    assert main(["data", "doctor", str(clinic), "--fix"]) == 0
    assert "nothing in the descriptor to fix" in capsys.readouterr().out
    FAULTS["-1 among classes"][0](clinic)
    texts = [descriptor.read_text()]
    assert main(["data", "doctor", str(clinic), "--fix"]) == 1
    assert "not written: --yes writes it" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, code in (("", 1), ("n", 1), ("y", 0)):
        assert descriptor.read_text() == texts[0]
        monkeypatch.setattr("builtins.input", lambda question, answer=answer: answer)
        assert main(["data", "doctor", str(clinic), "--fix"]) == code
    texts.append(descriptor.read_text())
    FAULTS["65535 in depth"][0](clinic)
    assert main(["data", "doctor", str(clinic), "--fix", "--yes"]) == 0
    assert [(clinic / f"dataset.toml{end}").read_text() for end in (".old", ".2.old")] == texts
    assert main(["data", "init", str(clinic), "--force"]) == 0
    assert (clinic / "dataset.toml.old").read_text() == texts[0]


def test_what_would_change_other_files_is_left_to_a_person(clinic: Path) -> None:
    FAULTS["a mask of 0 and 1"][0](clinic)
    save(clinic / "saliency/val/0.png", np.linspace(0, 255, 768).reshape(SIZE).astype(np.uint8))  # shades
    plan = plan_mending(clinic, examine(clinic).findings)
    assert not plan.difference
    assert plan.left == (f"threshold = 1 in [tasks.saliency] would change {clinic}/saliency/val/0.png too",)


def test_labels_of_another_shape_are_not_stretched(clinic: Path) -> None:
    halve_masks(clinic)
    save(clinic / "saliency/val/0.png", np.full((SIZE[0] // 2, SIZE[1]), 255, np.uint8))
    assert not plan_mending(clinic, examine(clinic).findings).difference


def test_a_folder_without_a_descriptor_gets_one(clinic: Path) -> None:
    for name in ("dataset.toml", "semseg", "saliency", "boundary", "normals"):
        (clinic / name).rename(clinic.parent / name)
    for path in sorted((clinic / "depth").rglob("*.png")):
        name = path.relative_to(clinic).with_suffix("").as_posix()
        slope = (wall(2)[0] + np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)).astype(np.float32) / 1000
        for_label(clinic, name, rows(slope, np.nan if path.stem == "0" else 1.5))
    assert main(["data", "doctor", str(clinic), "--fix", "--yes"]) == 0
    assert "nan" in repr(tomllib.loads((clinic / "dataset.toml").read_text())["tasks"]["depth"]["invalid"])


KEPT = """# mine
[ tasks . "depth" ] # cm once
files = "depth/{key}.png"
invalid = [  # marks
  0,
  65534,
] # both
unit = "mm"

[tasks.depth_right]
invalid = [1]
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_all_else_in_a_descriptor_stays(newline: str) -> None:
    text = KEPT.replace("\n", newline)
    changed = set_option(text, "depth", "invalid", [0, 65534, 65535])
    start, end = text.index("invalid"), text.index(" # both")
    assert changed == text[:start] + "invalid = [0, 65534, 65535]" + text[end:]
    added = set_option(text, "depth", "resize", True)
    assert added == text.replace(f'unit = "mm"{newline}', f'unit = "mm"{newline}resize = true{newline}')
    assert (
        set_option(text.rstrip(), "depth_right", "resize", True) == text.rstrip() + f"{newline}resize = true{newline}"
    )


@pytest.mark.parametrize("text", ['[tasks]\ndepth = { files = "d/{key}.png" }\n', 'tasks.depth.files = "x"\n'])
def test_sections_of_another_form_are_left_alone(text: str) -> None:
    with pytest.raises(DataError, match="its section is written in another way; write it there by hand"):
        set_option(text, "depth", "invalid", [65535])
