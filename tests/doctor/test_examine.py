"""The doctor names every planted fault, its file and its cure, and finds nothing in clean data."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from clinic import DESCRIPTOR, SIZE, wall
from damaged_labels import truncate
from PIL import Image
from saved_maps import save
from shared import shared_path

from triptych.__main__ import main
from triptych.datasets.folder import Folder
from triptych.doctor.examine import examine
from triptych.doctor.report import Report, describe
from triptych.doctor.sheet import draw_dataset
from triptych.files import check_target, write_named

REPOSITORY = Path(__file__).resolve().parents[2]


def replace_text(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def turn(path: Path, orientation: int) -> None:
    with Image.open(path) as image:
        exif = image.getexif()
        exif[274] = orientation
        image.convert("RGB").save(path.with_suffix(".jpg"), exif=exif)
    path.unlink()


def as_jpeg(path: Path) -> None:
    with Image.open(path) as image:
        image.save(path.with_suffix(".jpg"))
    path.unlink()


FAULTS: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "truncated image": (lambda r: truncate(r / "images/train/2.png"), "error", "unreadable", "images/train/2.png"),
    "empty image": (lambda r: (r / "images/val/1.png").write_bytes(b""), "error", "unreadable", "images/val/1.png"),
    "text as image": (lambda r: (r / "images/val/0.png").write_text("hi"), "error", "unreadable", "images/val/0.png"),
    "truncated label": (lambda r: truncate(r / "semseg/train/1.png"), "error", "unreadable", "semseg/train/1.png"),
    "truncated array": (lambda r: truncate(r / "normals/train/1.npy"), "error", "unreadable", "normals/train/1.npy"),
    "label of another size": (
        lambda r: save(r / "semseg/train/3.png", np.zeros((12, 16), np.uint8)),
        *("error", "size", "semseg/train/3.png"),
    ),
    "class out of range": (
        lambda r: save(r / "semseg/train/4.png", np.full(SIZE, 3, np.uint8)),
        *("error", "values", "semseg/train/4.png"),
    ),
    "colours instead of ids": (
        lambda r: save(r / "semseg/train/4.png", np.zeros((*SIZE, 3), np.uint8)),
        *("error", "values", "semseg/train/4.png"),
    ),
    "fractional class ids": (
        lambda r: (
            (r / "semseg/train/4.png").unlink(),
            save(r / "semseg/train/4.npy", np.full(SIZE, 0.5)),
        ),
        *("error", "values", "semseg/train/4.npy"),
    ),
    "labels as JPEG": (lambda r: as_jpeg(r / "semseg/train/5.png"), "error", "type", "semseg/train/5.jpg"),
    "8-bit depth": (
        lambda r: save(r / "depth/train/0.png", np.full(SIZE, 200, np.uint8)),
        *("warning", "type", "depth/train/0.png"),
    ),
    "NaN in normals": (
        lambda r: save(r / "normals/train/0.npy", np.where(np.eye(24, 32)[..., None] > 0, np.nan, wall(2)[1])),
        *("warning", "not finite", "normals/train/0.npy"),
    ),
    "infinite depth": (
        lambda r: (
            (r / "depth/train/0.png").unlink(),
            save(r / "depth/train/0.npy", np.where(np.eye(24, 32) > 0, np.inf, 2000.0)),
        ),
        *("warning", "not finite", "depth/train/0.npy"),
    ),
    "depth in another unit": (
        lambda r: save(r / "depth/train/3.png", np.full(SIZE, 2, np.uint16)),
        *("warning", "depth unit", "depth/train/3.png"),
    ),
    "one plausible depth file far from the others": (
        lambda r: save(r / "depth/train/4.png", np.full(SIZE, 60000, np.uint16)),
        *("warning", "depth unit", "depth/train/4.png"),
    ),
    "wrong unit of all depth": (
        lambda r: replace_text(r / "dataset.toml", 'unit = "mm"', 'unit = "m"'),
        *("warning", "depth unit", "depth/val/1.png"),
    ),
    "undeclared 65535": (
        lambda r: save(r / "depth/train/3.png", np.where(np.eye(24, 32) > 0, 65535, 2300).astype(np.uint16)),
        *("warning", "depth unit", "depth/train/3.png"),
    ),
    "no depth at all": (
        lambda r: save(r / "depth/train/3.png", np.zeros(SIZE, np.uint16)),
        *("warning", "empty", "depth/train/3.png"),
    ),
    "normals not unit length": (
        lambda r: save(r / "normals/train/2.npy", wall(2)[1] * 0.7),
        *("warning", "normals length", "normals/train/2.npy"),
    ),
    "normals as 8-bit numbers": (
        lambda r: save(r / "normals/train/2.npy", (wall(2)[1] + 1) * 127.5),
        *("warning", "normals length", "normals/train/2.npy"),
    ),
    "normals that point away": (
        lambda r: save(r / "normals/train/2.npy", -wall(2)[1]),
        *("warning", "normals axes", "normals/train/2.npy"),
    ),
    "wrong axes of all normals": (
        lambda r: replace_text(r / "dataset.toml", '.npy"\n', '.npy"\naxes = ["forward", "down", "right"]\n'),
        *("warning", "normals axes", ""),
    ),
    "label without image": (
        lambda r: save(r / "semseg/train/77.png", np.zeros(SIZE, np.uint8)),
        *("warning", "no image", "semseg/train/77.png"),
    ),
    "image without any label": (
        lambda r: save(r / "images/train/88.png", np.random.default_rng(5).integers(0, 9, (*SIZE, 3), np.uint8)),
        *("warning", "no label", "images/train/88.png"),
    ),
    "image of one colour": (
        lambda r: save(r / "images/train/3.png", np.full((*SIZE, 3), 7, np.uint8)),
        *("warning", "constant image", "images/train/3.png"),
    ),
    "turned photograph": (lambda r: turn(r / "images/train/3.png", 3), "warning", "orientation", "images/train/3.jpg"),
    "label of a turned photograph": (
        lambda r: turn(r / "images/train/3.png", 6),
        "error",
        "size",
        "semseg/train/3.png",
    ),
    "leak between splits": (
        lambda r: shutil.copy(r / "images/train/3.png", r / "images/val/0.png"),
        *("warning", "copy", "images/val/0.png"),
    ),
    "mask of 0 and 1": (
        lambda r: save(r / "saliency/train/1.png", np.eye(24, 32, dtype=np.uint8)),
        *("warning", "threshold", "saliency/train/1.png"),
    ),
    "inverted boundaries": (
        lambda r: save(r / "boundary/train/1.png", np.full(SIZE, 255, np.uint8)),
        *("warning", "boundary share", "boundary/train/1.png"),
    ),
    "a class that never occurs": (
        lambda r: replace_text(r / "dataset.toml", '"door"]', '"door", "lamp"]'),
        *("warning", "coverage", ""),
    ),
    "a task without files": (lambda r: shutil.rmtree(r / "saliency"), "error", "coverage", ""),
    "an empty split": (lambda r: shutil.rmtree(r / "images/val"), "error", "splits", ""),
}


def test_clean_data_is_ready(clean: Path) -> None:
    report = examine(clean)
    assert report.findings == []
    assert report.verdict == "ready: 0 errors, 0 warnings in 48 files"
    counts = dict.fromkeys(("images", "semseg", "saliency", "boundary", "depth", "normals"), 6)
    assert report.labels["train"] == counts


def test_missing_labels_are_no_fault(clinic: Path) -> None:
    for path in ("depth/train/1.png", "semseg/val/0.png", "normals/train/5.npy"):
        (clinic / path).unlink()
    report = examine(clinic)
    assert report.findings == []
    assert report.labels["train"]["depth"] == 5


@pytest.mark.parametrize("fault", FAULTS)
def test_every_planted_fault_is_named_with_its_file_and_a_cure(clinic: Path, fault: str) -> None:
    plant, severity, check, file = FAULTS[fault]
    plant(clinic)
    report = examine(clinic)
    found = [finding for finding in report.findings if finding.check == check and finding.file.endswith(file)]
    assert found, f"not found; the doctor said:\n{describe(report)}"
    assert found[0].severity == severity
    assert found[0].cure
    assert "\n" not in str(found[0])
    assert report.verdict.startswith("not ready" if severity == "error" else "usable")


def test_a_copy_in_another_split_is_told_from_one_in_the_same(clinic: Path) -> None:
    shutil.copy(clinic / "images/train/3.png", clinic / "images/train/4.png")
    shutil.copy(clinic / "images/train/3.png", clinic / "images/val/0.png")
    same, leak = [finding for finding in examine(clinic).findings if finding.check == "copy"]
    assert same.cure == "remove one of them"
    assert "of split train" in leak.text
    assert leak.cure == "keep it in one split only"


def test_all_faults_together_are_found_in_one_pass(clinic: Path) -> None:
    """One bad file does not hide another."""
    chosen = [
        "truncated image",
        "truncated label",
        "class out of range",
        "label of another size",
        "leak between splits",
    ]
    for fault in chosen:
        FAULTS[fault][0](clinic)
    checks = {finding.check for finding in examine(clinic, num_threads=3).findings}
    assert {FAULTS[fault][2] for fault in chosen} <= checks


def test_declared_values_are_no_fault(clinic: Path) -> None:
    save(clinic / "normals/train/0.npy", np.where(np.eye(24, 32)[..., None] > 0, np.nan, wall(2)[1]))
    replace_text(clinic / "dataset.toml", '.npy"\n', '.npy"\ninvalid = [nan]\n')
    save(clinic / "depth/train/3.png", np.where(np.eye(24, 32) > 0, 65535, 2300).astype(np.uint16))
    replace_text(clinic / "dataset.toml", 'unit = "mm"\n', 'unit = "mm"\ninvalid = [65535]\n')
    assert examine(clinic).findings == []


def test_labels_left_out_by_a_list_are_no_orphans(clinic: Path) -> None:
    (clinic / "few.txt").write_text("0\n1\n2\n")
    text = DESCRIPTOR.replace("/{split}", "/train").replace('train = "train"\nval = "val"', 'train = "few.txt"')
    (clinic / "dataset.toml").write_text(text)
    report = examine(clinic)
    assert {split: counts["images"] for split, counts in report.labels.items()} == {"train": 3}
    assert report.findings == []
    save(clinic / "semseg/train/77.png", np.zeros(SIZE, np.uint8))
    assert [finding.check for finding in examine(clinic).findings] == ["no image"]


def test_coverage_is_that_of_what_training_sees(clinic: Path) -> None:
    """Without `[splits]`, `test` is the first of them, and has no labels as a rule."""
    replace_text(clinic / "dataset.toml", '[splits]\ntrain = "train"\nval = "val"\n', "")
    save(clinic / "images/test/0.png", np.random.default_rng(9).integers(0, 256, (*SIZE, 3), np.uint8))
    assert "coverage" not in {finding.check for finding in examine(clinic).findings}
    shutil.rmtree(clinic / "depth/train")
    report = examine(clinic)
    found = [(finding.split, finding.task) for finding in report.findings if finding.check == "coverage"]
    assert found == [("train", "depth")]
    assert report.class_weights["semseg"]


def test_a_part_can_be_looked_at(clinic: Path) -> None:
    report = examine(clinic, limit=2)
    assert report.files == 2 * 2 * 6
    assert report.findings == []


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of POSIX")
def test_results_go_where_links_lead_and_into_pipes(tmp_path: Path) -> None:
    link, pipe = tmp_path / "report.json", tmp_path / "pipe"
    (tmp_path / "shared").mkdir()
    link.symlink_to("shared/report.json")
    os.mkfifo(pipe)
    check_target(link, "name another file")
    write_named(link, "{}")
    assert link.is_symlink()
    assert (tmp_path / "shared/report.json").read_text() == "{}"
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_text)
        check_target(pipe, "name another file")
        write_named(pipe, "{}")
        assert read.result(timeout=20) == "{}"
    assert pipe.is_fifo()
    with pytest.raises(IsADirectoryError, match="shared is a folder; name another file"):
        check_target(tmp_path / "shared", "name another file")


def test_the_command_ends_with_a_verdict_a_json_and_an_exit_code(
    clinic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "doctor", str(clinic)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("ready")
    FAULTS["class out of range"][0](clinic)
    assert main(["data", "doctor", str(clinic), "--json", str(tmp_path / "report.json")]) == 1
    shown = capsys.readouterr()
    assert "semseg/train/4.png: it has values outside the 3 classes: 3. Cure: list them in invalid" in shown.out
    assert shown.out.splitlines()[-1].startswith("not ready: 1 errors")
    report = json.loads((tmp_path / "report.json").read_text())
    assert main(["data", "doctor", str(clinic), "--json", str(tmp_path / "reports/a.json")]) == 1
    assert json.loads((tmp_path / "reports/a.json").read_text()) == report
    assert main(["data", "doctor", str(clinic), "--json", str(tmp_path / "report.json/a.json")]) == 2
    refused = capsys.readouterr()
    assert refused.out.count("not ready") == 1  # of the call before: nothing was examined
    assert "report.json (" in refused.err
    assert report["errors"] == 1
    assert report["findings"][0]["file"].endswith("semseg/train/4.png")
    assert main(["data", "doctor", str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_many_findings_of_one_kind_are_summed_up(clinic: Path) -> None:
    for i in range(6):
        save(clinic / f"semseg/train/{i}.png", np.full(SIZE, 9, np.uint8))
    text = describe(examine(clinic), examples=2)
    assert "error: values of semseg (6)" in text
    assert "... and 4 more (4 in train)" in text


def test_init_and_show_from_the_command_line(clinic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    assert main(["data", "show", str(clinic), "--out", str(sheet), "--split", "all", "--count", "3"]) == 0
    with Image.open(sheet) as picture:
        assert picture.width > 6 * 200
    plain = sheet.read_bytes()
    shown = ["data", "show", str(clinic), "--out", str(sheet), "--split", "all", "--count", "3", "--overwrite"]
    assert main([*shown, "--overlay"]) == 0
    assert sheet.read_bytes() != plain
    assert main(["data", "show", str(clinic), "--out", str(sheet)]) == 2
    assert main(["data", "show", "roms", "--out", str(tmp_path / "x.png")]) == 2
    assert "did you mean 'rooms'" in capsys.readouterr().err
    assert main(["data", "init", str(clinic)]) == 2
    clinic = clinic.rename(clinic.with_name("my clinic"))
    capsys.readouterr()
    assert main(["data", "init", str(clinic), "--force"]) == 0
    told = [shlex.split(line) for line in capsys.readouterr().out.splitlines() if line.startswith(("next", "then"))]
    assert [words.count(str(clinic)) for words in told] == [1, 1]  # as one word, to be pasted
    assert main(["data", "doctor", str(clinic)]) == 0


def test_a_sheet_shows_every_label_in_its_colours(clinic: Path) -> None:
    (clinic / "depth/train/0.png").unlink()
    dataset = Folder(clinic)
    sheet = np.asarray(draw_dataset(dataset, count=2, width=32))
    palette = dataset.tasks["semseg"].colorize(dataset[0].targets["semseg"].numpy()).reshape(-1, 3)
    colors = {tuple(color) for color in sheet.reshape(-1, 3).tolist()}
    assert {tuple(color) for color in palette.tolist()} <= colors
    assert (225, 225, 225) in colors  # the missing depth
    over = np.asarray(draw_dataset(dataset, count=2, width=32, overlay=True))
    assert over.shape == sheet.shape
    assert (over != sheet).any()


def test_the_real_data_of_the_examples_is_clean() -> None:
    report = examine(REPOSITORY / "examples/real-data/bsds500_sod.toml", root=shared_path("data/bsds500_sod"), limit=20)
    assert report.findings == []
    assert report.labels["test"] == {"images": 200, "boundary": 200, "saliency": 0}


def test_the_report_of_nothing_is_ready() -> None:
    assert Report("nothing").verdict.startswith("ready")
