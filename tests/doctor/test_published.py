"""The doctor recognises published datasets, names what is planted in them, and looks at prepared ones too."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damaged_labels import truncate
from PIL import Image
from published_trees import TREES, load
from saved_maps import save

from triptych.__main__ import main
from triptych.datasets import DATASETS
from triptych.datasets.recognizing import known_readers, recognize_dataset
from triptych.datasets.rooms import Rooms
from triptych.doctor.examine import examine
from triptych.doctor.report import describe
from triptych.prepared.reader import Prepared
from triptych.prepared.write import prepare

COUNTS = {"nyuv2": {"train": 3, "val": 2, "test": 2}}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("known")
    for name, write in TREES.items():
        (root / name).mkdir()
        write(root / name)
    return {name: root / name for name in TREES}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trees are small: as many images as they have is right."""
    for name, reader in known_readers().items():
        variants = {key: replace(one, counts=COUNTS.get(name, {}), sizes=()) for key, one in reader.variants.items()}
        monkeypatch.setattr(reader, "variants", variants)


def named(root: Path, **options: Any) -> set[tuple[str, str, str, str]]:
    return {
        (finding.severity, finding.check, finding.task, finding.file.removeprefix(str(root)))
        for finding in examine(root, **options).findings
    }


@pytest.fixture(scope="module")
def before(clean: dict[str, Path]) -> dict[str, set[tuple[str, str, str, str]]]:
    """What is said of the trees as they are: few classes, and pictures that occur twice."""
    return {}


@pytest.mark.parametrize("name", TREES)
def test_published_datasets_are_recognised(clean: dict[str, Path], name: str) -> None:
    assert recognize_dataset(clean[name]) == name
    report = examine(clean[name])
    assert report.name == name
    assert report.variant in DATASETS[name].variants  # type: ignore[attr-defined]
    # Three buildings are all in training.
    expected = {"coverage", "copy", "empty"} | ({"archive"} if name == "omnidata" else set())
    assert {finding.check for finding in report.findings} <= expected, describe(report)
    assert report.labels["train"]["images"] > 0
    assert report.fingerprints["train"]["name"] == name
    with pytest.raises(ValueError, match="is not the root"):
        examine(clean[name].parent / name / sorted(path.name for path in clean[name].iterdir() if path.is_dir())[0])


def test_a_clean_tree_has_no_findings_but_its_few_classes(clean: dict[str, Path]) -> None:
    report = examine(clean["nyuv2"])
    assert [(finding.check, finding.task) for finding in report.findings] == [("coverage", "semseg")]
    assert report.labels["test"] == dict.fromkeys(("images", "semseg", "depth", "normals", "boundary"), 2)
    data = json.loads(report.to_json())
    assert data["variant"] == "NYUD_MT"
    assert sum(data["classes"]["train"]["semseg"].values()) > 0
    assert any("official test split" in note for note in data["notes"])
    assert "variant NYUD_MT" in describe(report).splitlines()[0]
    assert examine(clean["nyuv2"], limit=1).findings == []  # one image cannot have all classes


def change(path: Path, how: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write a file anew with other values."""
    stored = np.load(path) if path.suffix == ".npy" else np.array(Image.open(path))
    save(path, how(stored).astype(stored.dtype))


def first(root: Path, pattern: str) -> Path:
    return sorted(root.glob(pattern))[0]


def depths(root: Path) -> list[Path]:
    return sorted((root / "depth").iterdir())


Plant = Callable[[Path], object]
FAULTS: dict[str, dict[str, tuple[Plant, str, str, str]]] = {
    "nyuv2": {
        "cut depth": (lambda r: truncate(r / "depth/0003.npy"), "error", "unreadable", "depth/0003.npy"),
        "no picture": (lambda r: (r / "images/0004.jpg").write_text("x"), "error", "unreadable", "images/0004.jpg"),
        "one depth in centimetres": (
            lambda r: change(r / "depth/0003.npy", lambda d: d * 100),
            *("warning", "depth unit", "depth/0003.npy"),
        ),
        "all depth in millimetres": (
            lambda r: [change(path, lambda d: d * 1000) for path in depths(r)],
            *("warning", "depth unit", "depth/0001.npy"),
        ),
        "class out of range": (
            lambda r: change(r / "segmentation/0001.png", lambda s: s * 0 + 77),
            *("error", "values", "segmentation/0001.png"),
        ),
        "label of another size": (
            lambda r: save(r / "segmentation/0005.png", np.ones((40, 60), np.uint8)),
            *("error", "size", "segmentation/0005.png"),
        ),
        "missing boundaries": (lambda r: (r / "edge/0004.npy").unlink(), "error", "missing", "images/0004.jpg"),
        "missing image": (lambda r: (r / "images/0002.jpg").unlink(), "error", "count", ""),
        "normals that point away": (
            lambda r: change(r / "normals/0001.npy", lambda n: np.concatenate([-n[:48], n[48:]])),
            *("warning", "normals axes", "normals/0001.npy"),
        ),
        "normals of half of the frames in other axes": (
            lambda r: [change(r / f"normals/{key}.npy", lambda n: -n) for key in ("0001", "0002", "0003")],
            *("error", "archive", ""),
        ),
        "normals not unit length": (
            lambda r: change(r / "normals/0003.npy", lambda n: n * 0.5),
            *("warning", "normals length", "normals/0003.npy"),
        ),
        "a test image in training": (
            lambda r: shutil.copy(r / "images/0003.jpg", r / "images/0002.jpg"),
            *("warning", "copy", "images/0002.jpg"),
        ),
        "a part of the archive": (lambda r: shutil.rmtree(r / "normals"), "error", "variant", ""),
        "two variants in one folder": (
            lambda r: [shutil.copy(p, p.with_suffix(e)) for p, e in mixed_files(r)],
            *("error", "variant", ""),
        ),
        "a frame in both lists": (
            lambda r: (r / "gt_sets/val.txt").write_text("0001\n0003\n"),
            *("error", "archive", ""),
        ),
        "an empty list": (lambda r: (r / "gt_sets/val.txt").write_text(""), "error", "archive", ""),
    },
    "pascal-context": {
        "no names of classes": (lambda r: (r / "labels.txt").unlink(), "error", "archive", ""),
        "cut label map": (
            lambda r: truncate(first(r, "pascal-context/trainval/*.mat")),
            *("error", "unreadable", ".mat"),
        ),
        "cut parts": (lambda r: truncate(first(r, "human_parts/*.mat")), "error", "unreadable", ".mat"),
        "class out of range": (
            lambda r: change(first(r, "semseg/VOC12/*.png"), lambda s: s * 0 + 99),
            *("error", "values", ".png"),
        ),
        "label of another size": (
            lambda r: save(first(r, "semseg/VOC12/*.png"), np.zeros((9, 9), np.uint8)),
            *("error", "size", ".png"),
        ),
    },
    "cityscapes": {
        "class out of range": (
            lambda r: change(first(r, "gtFine/train/*/*labelIds.png"), lambda s: s * 0 + 99),
            *("error", "values", "labelIds.png"),
        ),
        "damaged camera": (lambda r: first(r, "camera/train/*/*.json").write_text("{"), "error", "unreadable", ""),
        "missing label": (lambda r: first(r, "gtFine/train/*/*labelIds.png").unlink(), "error", "missing", ".png"),
        "no labels of a split": (lambda r: shutil.rmtree(r / "gtFine/val"), "error", "missing", ""),
    },
    "vkitti2": {
        "unknown colour": (
            lambda r: change(first(r, "Scene01/clone/frames/class*/*/*.png"), lambda s: s * 0 + 1),
            *("error", "values", ".png"),
        ),
        "cut depth": (lambda r: truncate(first(r, "Scene01/fog/frames/depth/*/*.png")), "error", "unreadable", ".png"),
    },
    "synthia": {
        "class out of range": (
            lambda r: load("synthia").save_deep_png(first(r, "GT/LABELS/*.png"), np.full((38, 64, 3), 40, np.uint16)),
            *("error", "values", ".png"),
        ),
        "cut photograph": (lambda r: truncate(first(r, "RGB/*.png")), "error", "unreadable", ".png"),
    },
    "omnidata": {
        "normals of all in other axes": (
            lambda r: [
                change(path, lambda n: np.stack([255 - n[..., 0], 255 - n[..., 1], n[..., 2]], -1))
                for path in r.rglob("*_domain_normal.png")
            ],
            *("warning", "normals axes", ""),
        ),
    },
}


def mixed_files(root: Path) -> list[tuple[Path, str]]:
    """A file of each kind, and its suffix in another variant."""
    suffixes = {"images": ".png", "normals": ".png", "edge": ".png"}
    return [(first(root, f"{folder}/*"), suffix) for folder, suffix in suffixes.items()]


ALL = [(name, fault) for name, faults in FAULTS.items() for fault in faults]


@pytest.mark.parametrize(("name", "fault"), ALL)
def test_reports_every_planted_fault(
    clean: dict[str, Path],
    before: dict[str, set[tuple[str, str, str, str]]],
    tmp_path: Path,
    name: str,
    fault: str,
) -> None:
    if name not in before:
        before[name] = named(clean[name])
    root = Path(shutil.copytree(clean[name], tmp_path / name))
    plant, severity, check, file = FAULTS[name][fault]
    plant(root)
    found = named(root, dataset=name) - before[name]
    assert any((s, c) == (severity, check) and f.endswith(file) for s, c, _, f in found), sorted(found)


def test_the_planted_faults_are_thirty_and_more() -> None:
    assert len(ALL) + len(load("examine", "doctor").FAULTS) >= 30


def test_one_fault_does_not_hide_another(clean: dict[str, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(clean["nyuv2"], tmp_path / "nyuv2"))
    chosen = ("cut depth", "class out of range", "missing boundaries", "normals not unit length")
    for fault in chosen:
        FAULTS["nyuv2"][fault][0](root)
    assert {FAULTS["nyuv2"][fault][2] for fault in chosen} <= {check for _, check, _, _ in named(root)}


def test_the_command_names_the_variant_and_ends_with_a_verdict(
    clean: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "doctor", str(clean["nyuv2"]), "--json", str(tmp_path / "report.json"), "--fast"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "nyuv2, variant NYUD_MT"
    assert lines[-1].startswith(("ready", "usable"))
    assert json.loads((tmp_path / "report.json").read_text())["fingerprints"]["train"]["variant"] == "NYUD_MT"
    assert main(["data", "doctor", str(clean["nyuv2"]), "--dataset", "synthia"]) == 1
    assert "error: variant" in capsys.readouterr().out
    assert main(["data", "doctor", str(clean["nyuv2"] / "depth")]) == 2
    assert "is not the root of the dataset" in capsys.readouterr().err
    assert main(["data", "doctor", str(clean["nyuv2"]), "--dataset", "nyu"]) == 2
    assert "did you mean 'nyuv2'" in capsys.readouterr().err


@pytest.mark.parametrize("name", TREES)
def test_published_datasets_can_be_prepared(clean: dict[str, Path], tmp_path: Path, name: str) -> None:
    """Through the command; every sample of it, labels that are derived included, is that of the reader."""
    command = ["data", "prepare", name, "--root", str(clean[name]), "--out", str(tmp_path), "--split", "train"]
    assert main(command) == 0
    source, prepared = DATASETS[name](clean[name], split="train"), Prepared(tmp_path)
    assert [prepared.key(i) for i in range(len(prepared))] == [source.key(i) for i in range(len(source))]
    assert prepared.fingerprint()["files_sha256"] == source.fingerprint()["files_sha256"]
    assert {name: task.classes for name, task in prepared.tasks.items()} == {
        name: task.classes for name, task in source.tasks.items()
    }
    for i in (0, len(source) - 1):
        before, after = source[i], prepared[i]
        assert torch.equal(before.image, after.image)
        assert list(before.targets) == list(after.targets)
        for task, target in before.targets.items():
            torch.testing.assert_close(after.targets[task], target, rtol=0, atol=0, equal_nan=True)
        if before.camera is not None and after.camera is not None:
            assert torch.equal(before.camera.intrinsics, after.camera.intrinsics)


def test_options_of_a_dataset_reach_it(clean: dict[str, Path], tmp_path: Path) -> None:
    command = ["data", "prepare", "nyuv2", "--root", str(clean["nyuv2"]), "--out", str(tmp_path), "--split", "test"]
    assert main([*command, "--options", "classes=13", "--tasks", "semseg"]) == 0
    prepared = Prepared(tmp_path, split="test")
    assert (list(prepared.tasks), prepared.tasks["semseg"].channels) == (["semseg"], 13)
    assert main([*command, "--options", "classes"]) == 2
    sheet = str(tmp_path / "sheet.png")
    assert main(["data", "show", str(clean["nyuv2"]), "--split", "test", "--out", sheet, "--count", "1"]) == 0
    assert main(["data", "show", str(tmp_path), "--split", "test", "--out", sheet, "--overwrite"]) == 0


def test_what_trains_with_an_option_is_shown_and_examined_with_it(clean: dict[str, Path], tmp_path: Path) -> None:
    """Normals as they are stored need no `labels.txt`; an option that there is not is named."""
    root = tmp_path / "pascal"
    shutil.copytree(clean["pascal-context"], root)
    (root / "labels.txt").unlink()
    shown = ["data", "show", str(root), "--split", "val", "--out", str(tmp_path / "a.png")]
    assert main(["data", "doctor", str(root)]) == 1
    assert main(shown) == 2
    told = ["--options", "normals_mask=stored"]
    assert main(["data", "doctor", str(root), *told]) == 0
    assert main([*shown, *told]) == 0
    assert named(root, options={"normals_mask": "stored"}) == named(clean["pascal-context"])
    assert examine(root, options={"tasks": ("semseg",)}).labels["train"].keys() == {"images", "semseg"}
    with pytest.raises(ValueError, match=r"'pascal-context' has no option 'mask'; its options are .*normals_mask"):
        examine(root, options={"mask": "stored"})


def test_prepared_records_are_examined_too(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path / "cache", split="val", scenes=2, views=2, size=(24, 32), progress=False)
    prepare(rooms, tmp_path / "fast", split="val")
    report = examine(tmp_path / "fast")
    assert (report.name, report.labels["val"]["images"], report.num_errors) == ("prepared", 4, 0)
    path = tmp_path / "fast/val/00000.records"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(bytes(content))
    (finding,) = [finding for finding in examine(tmp_path / "fast").findings if finding.severity == "error"]
    assert (finding.check, finding.file) == ("unreadable", rooms.key(3))
    assert "checksum" in finding.text
    assert finding.cure == "the same `triptych data prepare` again mends it"
