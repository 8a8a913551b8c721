"""Pseudo-labels: beside labels and never over one, what the teacher said, noted, weighed, and never truth."""

import hashlib
import os
import re
import shutil
import sys
import tomllib
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from export_runs import save_run
from PIL import Image
from torch import nn
from training.tiny import RECIPE, change

from triptych.__main__ import main
from triptych.assemble import build_dataset, build_model, build_tasks, build_training_set
from triptych.data.loading import collate
from triptych.data.subset import FewerLabels, spread
from triptych.datasets.folder import Folder
from triptych.datasets.mixed import Mixed
from triptych.doctor.examine import examine
from triptych.evaluation.evaluate import evaluate
from triptych.evaluation.offline import score
from triptych.folders.descriptor import PseudoLabels
from triptych.folders.guessing import describe_folder
from triptych.folders.writing import write_descriptor
from triptych.labels.base import describe_encoding, hash_encoding
from triptych.labels.classes import Labels
from triptych.labels.depth import Depth
from triptych.labels.masks import BoundaryMask, SaliencyMask
from triptych.labels.normals import Normals
from triptych.labels.values import Values
from triptych.prediction import labelling
from triptych.prediction.confidence import Confident
from triptych.prediction.events import event_level
from triptych.prediction.labelling import label_folder
from triptych.prediction.predictor import Predictor
from triptych.prediction.pseudo_labels import rank_confidence
from triptych.prediction.teachers import map_classes
from triptych.prepared.write import prepare
from triptych.tasks import boundary, depth, normals, regression, saliency, semseg
from triptych.training.loop import train
from triptych.training.objective import Objective
from triptych.types import IGNORE, Camera, Output, valid_pixels

SIZE = (32, 48)
NAMES = ("floor", "wall", "sofa")
CAMERA = Camera(torch.tensor([[40.0, 0, 24], [0, 40, 16], [0, 0, 1]]))


class Formulas(nn.Module):
    """A network of four tasks without a weight to train: raw maps are sums and products of the image."""

    def __init__(self, classes=NAMES, number=1.0):
        super().__init__()
        self.tasks = {task.name: task for task in (semseg(classes), depth(), normals(), regression("albedo"))}
        self.register_buffer("number", torch.tensor(number))

    def forward(self, image):
        mean = image.mean(dim=1, keepdim=True)
        columns = torch.linspace(-1, 1, image.shape[-1]).expand_as(mean)
        raw = {"semseg": 4 * image, "depth": self.number + 2 * mean + (mean * columns).relu()}
        return Output(raw | {"normals": image - 0.4, "albedo": mean}, [], [])


@pytest.fixture
def teacher(monkeypatch):
    """The network that `label_folder` opens, whatever its name."""
    predictor = Predictor(Formulas())
    monkeypatch.setattr(labelling, "open_teacher", lambda name, device, shorter_side=None: predictor)
    return predictor


@pytest.fixture
def folder(tmp_path):
    """Six images in two splits: classes stored from 1, depth in decimetres; some have labels."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for i in range(count):
            arrays = {"images": draw.integers(0, 256, (*SIZE, 3), np.uint8)}
            if i == 0:
                arrays["semseg"] = draw.integers(0, 4, SIZE, np.uint8)
                arrays["depth"] = draw.integers(0, 50, SIZE, np.uint8)
            for task, array in arrays.items():
                path = tmp_path / "data" / task / split / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    (tmp_path / "data" / "dataset.toml").write_text(
        '# by hand\n[images]\nfiles = "images/{split}/{key}.png"\n'
        f'[tasks.semseg]\nfiles = "semseg/{{split}}/{{key}}.png"\nclasses = {list(NAMES)}\noffset = -1\n'
        '[tasks.depth]\nfiles = "depth/{split}/{key}.png"\nunit = "dm"\n'
    )
    return tmp_path / "data"


def contents(folder, *below):
    return {path: path.read_bytes() for name in below for path in (folder / name).rglob("*") if path.is_file()}


ENCODINGS = [
    Labels(classes=3),
    Labels(classes=3, offset=-1),
    Labels(classes=3, map={"7": 0, "300": 1, "9": 2}),
    Labels(classes=3, colors=((0, 0, 0), (255, 0, 0), (1, 2, 3))),
    Labels(classes=3, one_hot=True),
    Labels(classes=2, threshold=100),
    SaliencyMask(),
    SaliencyMask(threshold=3),
    BoundaryMask(threshold=2.0),
    Depth(),
    Depth(unit="mm", offset=3, scale=0.25, invalid=(0,)),
    Depth(kind="disparity", numerator=40.0, maximum=60.0),
    Depth(kind="distance"),
    Normals(),
    Normals(axes=("forward", "left", "up"), scale=0.5, offset=-1),
    Values(channels=1, scale=0.1, offset=2),
    Values(channels=2),
]


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda one: type(one).__name__)
def test_what_is_encoded_is_decoded_again(encoding):
    torch.manual_seed(0)
    task = encoding.make_task("t")
    if task.target_channels is None:
        target = torch.randint(0, 3 if len(task.classes) == 3 else 2, SIZE)
        target[:3] = IGNORE
    else:
        target = torch.rand(task.target_channels, *SIZE) + 0.5
        target = nn.functional.normalize(target, dim=0) if task.kind == "direction" else target
        target = (target > 1).float() if task.kind == "probability" else target
        target[:, :3] = torch.nan
    again = encoding.decode(encoding.encode(target, CAMERA), CAMERA)
    assert again.dtype == target.dtype
    torch.testing.assert_close(again, target, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_a_class_that_no_stored_value_means_is_named():
    with pytest.raises(ValueError, match="no stored value means c"):
        Labels(classes=("a", "b", "c"), map={"1": 0, "2": 1}).encode(torch.tensor([[2]]), None)


@pytest.mark.parametrize("mark", ["", 'key = "a"\nvalid = "known"\n'])
def test_what_is_written_is_read_as_the_teacher_said(folder, teacher, mark):
    """Class 0 and background, too, where an entry of the files marks what is labelled."""
    for name in ("semseg", "depth"):
        for path in (folder / name).rglob("*.png"):
            np.savez(path.with_suffix(".npz"), a=np.asarray(Image.open(path)), known=np.ones(SIZE, bool))
            path.unlink()
    place = folder / "dataset.toml"
    text = place.read_text().replace('semseg/{split}/{key}.png"\n', 'semseg/{split}/{key}.npz"\n' + mark)
    place.write_text(text.replace('depth/{split}/{key}.png"\n', 'depth/{split}/{key}.npz"\n' + mark))
    if not mark:
        for path in folder.rglob("*.npz"):
            np.savez(path, np.load(path)["a"])
    label_folder(folder, "runs/t", ("semseg", "depth"))
    dataset = Folder(folder, split="train")
    for index in range(1, 4):
        sample = dataset[index]
        said = teacher.predict(sample.image[None])
        assert torch.equal(sample.targets["semseg"], said["semseg"][0])
        torch.testing.assert_close(sample.targets["depth"], said["depth"][0], rtol=1e-4, atol=1e-4)


def test_every_class_of_the_teacher_has_its_own_place_in_the_table():
    """Two of one name, too."""
    asked = PseudoLabels(files="", teacher="t")
    theirs, ours = semseg(("wall", "other", "other", "floor")), semseg(("wall", "other", "floor"))
    assert map_classes(theirs, ours, asked).tolist() == [0, 1, 1, 2]
    with pytest.raises(ValueError, match="semseg of the folder has several classes called other"):
        map_classes(ours, theirs, asked)


def test_labels_stored_under_other_options_are_not_read(folder, teacher):
    """The same call goes on with what was stored, unless a number there would mean another thing now."""
    label_folder(folder, "runs/t", ("semseg",))
    place = folder / "dataset.toml"
    text = place.read_text()
    assert label_folder(folder, "runs/t", ("semseg",)).kept == {"semseg": 3}
    place.write_text(text.replace(str(list(NAMES)), str(list(NAMES[::-1]))))
    with pytest.raises(ValueError, match=r"pseudo-labels of semseg were stored when its options .* were others"):
        Folder(folder, split="train")
    place.write_text(text.replace("offset = -1\n", "offset = -1\nresize = true\n"))
    assert label_folder(folder, "runs/t", ("semseg",)).kept == {"semseg": 3}  # nothing stored changed
    place.write_text(text.replace(str(list(NAMES)), str(list(NAMES[::-1]))))
    with pytest.raises(ValueError, match=r"has pseudo-labels of runs/t of .*, and encoding differ now"):
        label_folder(folder, "runs/t", ("semseg",))
    assert label_folder(folder, "runs/t", ("semseg",), overwrite=True).written == {"semseg": 3}
    assert Folder(folder, split="train").fingerprint()["pseudo"]["semseg"]["encoding"]
    # Sections of older versions do not say, and their fingerprint stays as it was.
    old = PseudoLabels(files="x", teacher="t")
    assert set(old.facts()) == {"files", "source", "teacher", "sha256", "date", "min_confidence", "class_map", "weight"}
    older = "\n".join(line for line in place.read_text().splitlines() if not line.startswith("encoding"))
    place.write_text(older)
    assert label_folder(folder, "runs/t", ("semseg",)).kept == {"semseg": 3}


def test_what_changes_no_stored_number_keeps_pseudo_labels(folder, teacher):
    """Marks that are no numbers, how a quantity is trained; a hash that counted them is known, too."""
    place = folder / "dataset.toml"
    albedo = '[tasks.albedo]\ntype = "regression"\nfiles = "albedo/{split}/{key}.npy"\n'
    place.write_text(place.read_text() + albedo)
    names = ("depth", "albedo")
    label_folder(folder, "t", names)
    text = place.read_text().replace('"dm"\n', '"dm"\ninvalid = [nan]\n').replace(albedo, f'{albedo}loss = "l2"\n')
    place.write_text(text)
    assert label_folder(folder, "t", names).kept == {"depth": 3, "albedo": 4}
    assert label_folder(folder, "t", ("semseg",)).written == {"semseg": 3}  # a section beside NaN, which equals nothing
    text, encoding = place.read_text(), Folder(folder).descriptor.tasks["depth"]
    older = describe_encoding(replace(encoding, files="", resize=False))
    place.write_text(text.replace(hash_encoding(encoding), hashlib.sha256(older.encode()).hexdigest()[:16]))
    assert place.read_text() != text
    assert label_folder(folder, "t", ("depth",)).kept == {"depth": 3}
    place.write_text(place.read_text().replace('"dm"', '"cm"'))
    with pytest.raises(ValueError, match="depth were stored when its options"):
        Folder(folder)


def test_the_doctor_asks_for_no_change_because_of_pseudo_labels(folder, teacher):
    """Nor does it compare how they are stored with labels."""
    for key, name, stored in (
        ("0", "saliency/train/0.png", np.full(SIZE, 255, np.uint8)),
        ("1", "pseudo/saliency/train/1.npy", SaliencyMask().encode(torch.arange(48).expand(SIZE) % 2)),
    ):
        (folder / name).parent.mkdir(parents=True)
        Image.fromarray(stored).save(folder / name) if key == "0" else np.save(folder / name, stored)
    place = folder / "dataset.toml"
    place.write_text(
        place.read_text().replace("offset = -1", "invalid = []\nmap = { 0 = 0, 1 = 0, 2 = 1, 3 = 2 }")
        + '[tasks.saliency]\nfiles = "saliency/{split}/{key}.png"\n'
        '[tasks.saliency.pseudo]\nfiles = "pseudo/saliency/{split}/{key}.npy"\n'
    )
    least = Confident(teacher).predict(Folder(folder)[1].image[None])["depth_confidence"].median().item()
    label_folder(folder, "t", ("depth",), min_confidence=least)
    label_folder(folder, "t", ("semseg",))
    assert np.isnan(np.load(folder / "pseudo/depth/train/1.npy")).any()
    report = examine(folder)
    assert not [one for one in report.findings if "pseudo" in one.file or one.check in ("types", "codes")]
    assert any("depth: 3 images have pseudo-labels of t" in note for note in report.notes)  # of train, val has none
    (folder / "mixture.toml").write_text('[sources.a]\ndataset = "folder"\nroot = "."\n')
    notes = examine(folder / "mixture.toml", dataset="mixed", limit=1).notes
    assert any("a: depth: 3 images have pseudo-labels of t" in note for note in notes)


def test_a_note_says_where_images_are_far_from_what_the_teacher_learned(folder, teacher):
    teacher.recipe = change(RECIPE, data__size=(8, 12), data__transform="densemtl-video")
    [note] = label_folder(folder, "runs/t", ("depth",)).notes
    assert "has 32 x 48 pixels, and the network was trained on 8 x 12" in note
    assert "--shorter-side 8" in note
    teacher.shorter_side = 8
    assert label_folder(folder, "runs/t", ("depth",), shorter_side=8, overwrite=True).notes == ()
    assert "shorter_side = 8" in (folder / "dataset.toml").read_text()
    with pytest.raises(ValueError, match="and shorter_side differ now"):
        label_folder(folder, "runs/t", ("depth",))


def test_the_teacher_works_at_the_size_that_is_asked_for(tmp_path):
    assert labelling.open_teacher(str(save_run(tmp_path / "run")), shorter_side=16).shorter_side == 16
    with pytest.raises(ValueError, match="hf:name resizes images itself"):
        labelling.open_teacher("hf:name", shorter_side=16)


def test_pseudo_labels_are_what_the_teacher_predicts_and_labels_stay(folder, teacher):
    before = contents(folder, "images", "semseg", "depth")
    text = (folder / "dataset.toml").read_text()
    done = label_folder(folder, "runs/t", ("semseg", "depth", "normals"))
    assert done.written == {"semseg": 3, "depth": 3, "normals": 4}
    assert done.real == {"semseg": 1, "depth": 1}
    assert contents(folder, "images", "semseg", "depth") == before
    assert (folder / "dataset.toml").read_text().startswith(text)
    noted = tomllib.loads((folder / "dataset.toml").read_text())["tasks"]["depth"]["pseudo"]
    assert noted["source"] == "pseudo"
    assert noted["teacher"] == "runs/t"
    assert len(noted["sha256"]) == 64
    assert noted["date"].count("-") == 2
    assert noted["weight"] == 1.0
    dataset = Folder(folder)
    for index in range(len(dataset)):
        sample = dataset[index]
        expected = teacher.predict(sample.image[None])
        for name in ("semseg", "depth", "normals"):
            if sample.key == "0" and name != "normals":
                assert not torch.equal(sample.targets[name], expected[name][0].to(sample.targets[name]))
            else:
                torch.testing.assert_close(sample.targets[name], expected[name][0], rtol=1e-4, atol=1e-5)
    assert f"depth: 3 images have pseudo-labels of runs/t ({noted['date']}), weight 1" in dataset.notes
    assert not Folder(folder, split="val").pseudo_weights


class Edges(nn.Module):
    """A network whose probability of a boundary passes 0.5 where the image is brighter than 0.2."""

    def __init__(self):
        super().__init__()
        self.tasks = {"boundary": boundary()}

    def forward(self, image):
        return Output({"boundary": 10 * (image.mean(dim=1, keepdim=True) - 0.2)}, [], [])


@pytest.fixture
def edges(folder, monkeypatch):
    """A folder with two labels of boundaries, which are the brightest tenth of an image, and that network."""
    monkeypatch.setattr(labelling, "open_teacher", lambda name, device, shorter_side=None: Predictor(Edges()))
    with (folder / "dataset.toml").open("a") as file:
        file.write('[tasks.boundary]\nfiles = "boundary/{split}/{key}.png"\nthreshold = 1\n')
    (folder / "boundary/train").mkdir(parents=True)
    for key in ("0", "2"):
        mean = np.asarray(Image.open(folder / f"images/train/{key}.png"), float).mean(axis=2)
        Image.fromarray(np.where(mean >= np.quantile(mean, 0.9), 255, 0).astype(np.uint8)).save(
            folder / f"boundary/train/{key}.png"
        )
    return folder


def test_as_many_pixels_are_boundaries_as_in_the_labels(edges):
    done = label_folder(edges, "t", ("boundary",))
    assert done.written == {"boundary": 2}
    assert 0.9 < done.events_from["boundary"] < 1
    noted = Folder(edges).descriptor.pseudo["boundary"]
    assert noted.event_from == done.events_from["boundary"]
    for index in (1, 3):
        sample = Folder(edges)[index]
        assert sample.targets["boundary"].mean() == pytest.approx(0.1, abs=0.03)
        assert sample.image.mean(dim=0)[sample.targets["boundary"][0] == 1].min() > 0.6
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(
        edges / "boundary/train/1.png"
    )  # a later label changes nothing noted
    (edges / "pseudo/boundary/train/3.npy").unlink()
    assert label_folder(edges, "t", ("boundary",)).events_from == done.events_from
    with pytest.raises(ValueError, match="event_from differ now"):
        label_folder(edges, "t", ("boundary",), events_from={"boundary": 0.5})
    label_folder(edges, "t", ("boundary",), events_from={"boundary": 0.5}, overwrite=True)
    assert Folder(edges)[3].targets["boundary"].mean() > 0.9


def test_the_level_of_events_leaves_those_without_any_probability_out():
    probability = torch.tensor([[[1.0, 1, 0, 0, 0, 0, 0, 0, 0, 0]]])
    assert event_level([(probability, torch.tensor([[1] * 7 + [0] * 3]))]) == 1.0
    assert event_level([(probability, torch.zeros(1, 10, dtype=torch.long))]) is None


def test_a_probability_is_no_label_where_none_tells_what_an_event_is(edges):
    before = contents(edges, ".")
    with pytest.raises(ValueError, match=r"0 labels of split val .*--events-from boundary=0.9"):
        label_folder(edges, "t", ("boundary",), split="val")
    for wrong, said in (({"boundary": 0.0}, "above 0"), ({"depth": 0.5}, "depth")):
        with pytest.raises(ValueError, match=said):
            label_folder(edges, "t", ("boundary",), events_from=wrong)
    assert contents(edges, ".") == before


def test_it_goes_on_where_it_ended_and_a_label_that_comes_goes_first(folder, teacher):
    label_folder(folder, "t", ("depth",))
    made = contents(folder, "pseudo")
    lost = folder / "pseudo/depth/train/2.npy"
    lost.unlink()
    Image.fromarray(np.full(SIZE, 7, np.uint8)).save(folder / "depth/train/1.png")
    done = label_folder(folder, "t", ("depth",))
    assert done.written == {"depth": 1}
    assert done.kept == {"depth": 1}
    assert done.real == {"depth": 2}
    assert contents(folder, "pseudo") == made
    sample = Folder(folder)[1]
    assert sample.targets["depth"].unique().tolist() == pytest.approx([0.7])
    assert "1" not in Folder(folder).pseudo_weights["depth"]


def test_another_teacher_or_other_options_are_refused_unless_all_are_replaced(folder, teacher, monkeypatch):
    label_folder(folder, "t", ("depth",))
    path = folder / "dataset.toml"
    path.write_text(path.read_text().replace("weight = 1.0", "weight = 0.25"))
    with pytest.raises(ValueError, match="min_confidence differ now"):
        label_folder(folder, "t", ("depth",), min_confidence=0.5)
    teacher.model.number += 1
    made = contents(folder, "pseudo/depth")
    with pytest.raises(ValueError, match="sha256 differ now; pass --overwrite"):
        label_folder(folder, "t", ("depth",))
    whole = contents(folder, ".")
    with monkeypatch.context() as patch:
        patch.setattr(teacher, "predict", Mock(side_effect=ValueError("takes images of 32 x 32")))
        with pytest.raises(ValueError, match="takes images of"):
            label_folder(folder, "other", ("depth",), overwrite=True)
    assert contents(folder, ".") == whole
    assert made.items() <= whole.items()
    label_folder(folder, "other", ("depth",), overwrite=True)
    after = contents(folder, "pseudo/depth")
    assert after.keys() == made.keys()
    assert all(after[path] != made[path] for path in made)
    assert Folder(folder).descriptor.pseudo["depth"].teacher == "other"
    assert set(Folder(folder).pseudo_weights["depth"].values()) == {0.25}
    assert path.read_text().count("[tasks.depth.pseudo]") == 1


def test_what_is_replaced_is_kept_aside_and_said(folder, teacher):
    """Labels of a split that is not labelled again, corrections made in place, and the descriptor."""
    path = folder / "dataset.toml"
    label_folder(folder, "t", ("depth",), split="all", min_confidence=0.0)
    path.write_text(path.read_text() + "\n# my camera, measured in May\n[camera]\nfov = 60.0\n")
    made, text = contents(folder, "pseudo/depth"), path.read_text()
    teacher.model.number += 1
    done = label_folder(folder, "other", ("depth",), overwrite=True)
    assert done.written == {"depth": 3}
    assert done.replaced == (folder / "pseudo/depth.old", folder / "dataset.toml.old")
    aside = {
        place.relative_to(folder / "pseudo/depth.old"): data
        for place, data in contents(folder, "pseudo/depth.old").items()
    }
    assert aside == {place.relative_to(folder / "pseudo/depth"): data for place, data in made.items()}
    assert (folder / "dataset.toml.old").read_text() == text
    assert "# my camera, measured in May\n[camera]\nfov = 60.0\n" in path.read_text()
    [note] = done.notes
    assert "1 images that had pseudo-labels of depth have none now, such as val/1" in note
    assert label_folder(folder, "other", ("depth",), split="val").written == {"depth": 1}
    assert Folder(folder, split="val").pseudo_weights == {"depth": {"1": 1.0}}
    teacher.model.number += 1
    done = label_folder(folder, "third", ("depth",), split="all", overwrite=True)
    assert done.notes == ()
    assert done.replaced == (folder / "pseudo/depth.2.old", folder / "dataset.toml.2.old")
    assert label_folder(folder, "third", ("depth",), split="all").replaced == ()


def test_a_descriptor_that_is_written_anew_keeps_pseudo_labels_or_says_which_it_does_not(folder, teacher):
    path = folder / "dataset.toml"
    path.unlink()
    write_descriptor(folder)
    path.write_text(re.sub("classes = .*", f"classes = {list(NAMES)}", path.read_text()))
    label_folder(folder, "t", ("semseg", "depth", "normals"))
    path.write_text(path.read_text().replace("weight = 1.0", "weight = 0.5"))
    before = Folder(folder)
    _, guess = write_descriptor(folder, force=True)
    assert [*guess.kept] == ["[tasks.depth.pseudo]", "[tasks.normals]", "[tasks.normals.pseudo]"]
    [note] = [note for note in guess.checks if "pseudo" in note]
    assert "pseudo/semseg: 3 pseudo-labels that no section describes are not used: set the task's options" in note
    assert note in path.read_text()
    after = Folder(folder)
    del before.pseudo["semseg"]
    assert after.pseudo == {**before.pseudo, "semseg": {}}
    assert after.descriptor.pseudo["depth"] == before.descriptor.pseudo["depth"]
    for name in ("depth", "normals"):
        assert torch.equal(after[1].targets[name].nan_to_num(), before[1].targets[name].nan_to_num())
    path.unlink()
    assert len([note for note in write_descriptor(folder)[1].checks if "pseudo-labels that no section" in note]) == 3


def test_a_descriptor_may_lie_apart_from_the_files(folder, teacher, tmp_path):
    path = tmp_path / "my.toml"
    (folder / "dataset.toml").rename(path)
    text = path.read_text()
    (folder / "pseudo").touch()  # nothing can be written there
    with pytest.raises(OSError, match=r"cannot write to .*pseudo \(.*; pseudo-labels lie below the folder"):
        label_folder(path, "t", ("depth", "normals"), root=folder)
    assert path.read_text() == text
    (folder / "pseudo").unlink()
    done = label_folder(path, "t", ("depth", "normals"), root=folder, min_confidence=0.0)
    assert done.written == {"depth": 3, "normals": 4}
    assert len(done.least_confident["depth"]) == 3
    assert len(contents(folder, "pseudo/depth/train")) == 3
    assert {*Folder(path, root=folder).pseudo_weights["depth"]} == {"1", "2", "3"}
    assert label_folder(path, "t", ("depth",), root=folder, min_confidence=0.0).kept == {"depth": 3}


def test_files_that_no_section_speaks_of_are_nobodys(folder, teacher):
    text = (folder / "dataset.toml").read_text()
    label_folder(folder, "t", ("depth",))
    made = contents(folder, "pseudo")
    (folder / "dataset.toml").write_text(text)  # as `data init --force` does
    teacher.model.number += 1
    with pytest.raises(ValueError, match=r"3 files .* says whose they are; pass --overwrite"):
        label_folder(folder, "t", ("depth",))
    assert (folder / "dataset.toml").read_text() == text
    assert contents(folder, "pseudo") == made
    assert label_folder(folder, "t", ("depth",), overwrite=True).written == {"depth": 3}


def test_pixels_of_less_confidence_have_no_label(folder, teacher):
    sure = Confident(teacher)
    for name in ("semseg", "depth"):
        least = sure.predict(Folder(folder)[1].image[None])[f"{name}_confidence"].median().item()
        done = label_folder(folder, "t", (name,), min_confidence=least)
        dataset = Folder(folder)
        for sample in (dataset[index] for index in (1, 2, 3)):
            known = sure.predict(sample.image[None])[f"{name}_confidence"][0, 0] >= least
            assert 0 < known.float().mean() < 1
            assert torch.equal(valid_pixels(sample.targets[name]).reshape(SIZE), known)
        ranked = [value for _, value in done.least_confident[name]]
        assert ranked == sorted(ranked)
        assert [path.is_file() for path, _ in done.least_confident[name]] == [True] * 3
        assert [path for _, path, _ in rank_confidence(dataset, name)] == [
            path for path, _ in done.least_confident[name]
        ]


def test_the_least_confident_are_shown_first(folder, teacher, tmp_path, monkeypatch, capsys):
    """Of what `data label` names, `data show` draws the rows, and says that they are pseudo-labels."""
    label_folder(folder, "t", ("depth",), min_confidence=0.0)
    dataset = Folder(folder)
    keys = [key for key, _, _ in rank_confidence(dataset, "depth")]
    drawn = []
    monkeypatch.setattr(
        "triptych.doctor.sheet.contact_sheet", lambda cells, **_: drawn.append(cells) or Image.new("L", (1, 1))
    )
    show = ["data", "show", str(folder), "--out", str(tmp_path / "sheet.png"), "--overwrite"]
    assert main([*show, "--least-confident", "depth", "--count", "2"]) == 0
    assert main([*show, "--keys", keys[-1], keys[0]]) == 0
    rows = 1 + len(dataset.tasks)
    assert [cell.caption for cell in drawn[0][::rows]] == keys[:2]
    assert [cell.caption for cell in drawn[1][::rows]] == [keys[-1], keys[0]]
    titles = [cell.caption.split(" ")[:2] for cell in drawn[0]]
    assert titles.count(["depth", "(pseudo)"]) == 2
    assert not any(title == ["semseg", "(pseudo)"] for title in titles)
    assert main([*show, "--keys", "nothing"]) == 2
    assert "unknown image of" in capsys.readouterr().err
    assert main([*show, "--least-confident", "semseg"]) == 2
    assert "has no pseudo-labels of semseg whose confidence is known" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 on other systems")
def test_images_whose_names_are_no_text_are_labelled(folder, teacher):
    name = os.fsdecode(b"\xff")
    image = folder / "images/train/2.png"
    image.rename(image.with_stem(name))
    done = label_folder(folder, "t", ("depth",), split="train", min_confidence=0.0)
    assert name in [path.stem for path, _ in done.least_confident["depth"]]
    assert name in [path.stem for _, path, _ in rank_confidence(Folder(folder), "depth")]


def test_a_row_of_confidence_that_a_full_disk_cut_is_left_out(folder, teacher):
    label_folder(folder, "t", ("depth",), split="train", min_confidence=0.0)
    table = folder / "pseudo/depth/confidence.csv"
    header, *rows = table.read_bytes().splitlines(keepends=True)
    table.write_bytes(header + rows[0] + header + rows[1] + rows[2][:-8])  # two calls at once wrote the header
    label_folder(folder, "t", ("depth",), split="val", min_confidence=0.0)
    assert [len(rank_confidence(Folder(folder, split=split), "depth")) for split in ("train", "val")] == [2, 1]
    table.write_text("file,conf\na,1\n")
    with pytest.raises(ValueError, match=r"confidence\.csv is damaged \(KeyError"):
        rank_confidence(Folder(folder), "depth")


def test_a_section_of_pseudo_labels_that_are_not_there_is_noted(folder, teacher):
    label_folder(folder, "t", ("depth",))
    said = "[tasks.depth.pseudo] has no file in any split"
    assert not any(said in note for split in ("train", "val") for note in Folder(folder, split=split).notes)
    shutil.rmtree(folder / "pseudo/depth")
    assert any(said in note for note in Folder(folder).notes)


def test_confidence_that_a_teacher_does_not_have_is_refused(folder, teacher):
    text = (folder / "dataset.toml").read_text()
    (folder / "dataset.toml").write_text(text + '[tasks.albedo]\ntype = "regression"\nfiles = "albedo/{key}.npy"\n')
    with pytest.raises(ValueError, match="has no confidence of albedo"):
        label_folder(folder, "t", ("albedo",), min_confidence=0.5)
    assert not (folder / "pseudo").exists()
    assert label_folder(folder, "t", ("albedo",)).written == {"albedo": 4}


def test_classes_map_by_name_and_each_that_does_not_is_named():
    ours = semseg(["sofa", "wall"])
    asked = PseudoLabels(files="", teacher="t")
    assert map_classes(semseg(["wall", "sofa"]), ours, asked).tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"2 of 3 classes .*: couch, lamp; map each"):
        map_classes(semseg(["couch", "wall", "lamp"]), ours, asked)
    mapped = replace(asked, class_map={"couch": "sofa", "lamp": ""})
    assert map_classes(semseg(["couch", "wall", "lamp"]), ours, mapped).tolist() == [0, 1, IGNORE]
    with pytest.raises(ValueError, match=r"lamp \(to light\)"):
        map_classes(semseg(["lamp"]), ours, replace(asked, class_map={"lamp": "light"}))
    with pytest.raises(ValueError, match="4 of 4 classes"):  # numbers name nothing where their count differs
        map_classes(semseg(4), semseg(6), asked)
    assert map_classes(semseg(4), semseg(4), asked).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"is length .* take another teacher"):
        map_classes(depth(), replace(saliency(), name="depth"), asked)
    assert not len(map_classes(boundary(), boundary(), asked))


def test_a_class_that_the_teacher_does_not_know_is_said(folder, monkeypatch):
    monkeypatch.setattr(labelling, "open_teacher", lambda *_, **__: Predictor(Formulas(("wall", "couch", "plant"))))
    with pytest.raises(ValueError, match="couch, plant"):
        label_folder(folder, "t", ("semseg",))
    with pytest.raises(ValueError, match="class_map names table"):
        label_folder(folder, "t", ("semseg",), class_map={"couch": "sofa", "plant": "", "table": ""})
    assert not (folder / "pseudo").exists()
    done = label_folder(folder, "t", ("semseg",), class_map={"couch": "sofa", "plant": ""})
    assert done.notes == ("the teacher knows no floor of semseg: their pixels are labelled as others",)
    assert set(Folder(folder)[1].targets["semseg"].unique().tolist()) == {1, 2, IGNORE}


def test_bad_requests_write_nothing(folder, teacher):
    before = contents(folder, ".")
    for wrong, said in (
        ({"tasks": ()}, "no task"),
        ({"tasks": ("parts",)}, "parts"),
        ({"split": "tset"}, "tset"),
        ({"min_confidence": 1.5}, "between 0 and 1"),
        ({"tasks": ("albedo",)}, "describe it there"),
    ):
        with pytest.raises(ValueError, match=said):
            label_folder(folder, "t", **({"tasks": ("depth",)} | wrong))
    assert contents(folder, ".") == before
    (folder / "dataset.toml").unlink()
    with pytest.raises(ValueError, match="triptych data init"):
        label_folder(folder, "t", ("depth",))


def test_pseudo_labels_are_no_truth_anywhere(folder, teacher, tmp_path):
    label_folder(folder, "t", ("depth", "normals"), split="all")
    dataset = Folder(folder, split="val")
    with pytest.raises(ValueError, match=r"1 of 2 images .* pseudo-labels of depth, such as 1, .* not scored against"):
        evaluate(teacher, dataset, {"depth": depth()})
    evaluate(teacher, dataset, {"semseg": teacher.tasks["semseg"]})  # real labels are
    predicted = tmp_path / "predictions" / "depth"
    predicted.mkdir(parents=True)
    for key in ("0", "1"):
        np.save(predicted / f"{key}.npy", np.ones(SIZE, np.float32))
    for targets, split in ((folder, "val"), (folder / "pseudo/depth", "")):
        with pytest.raises(ValueError, match="pseudo-labels"):
            score(predicted, targets, protocol="survey", task=("depth",), split=split, quiet=True)
    with pytest.raises(ValueError, match="not prepared"):
        prepare(dataset, tmp_path / "packed", split="val", tasks=("depth",))
    recipe = change(RECIPE, data__dataset="folder", data__root=str(folder), data__test_split="")
    with pytest.raises(ValueError, match="not validated on"):
        train(recipe, tmp_path / "run", device="cpu")
    (folder / "dataset.toml").rename(tmp_path / "dataset.toml")
    guess = describe_folder(folder)  # a folder whose description is lost takes none for labels
    assert not any("pseudo" in pattern for pattern, _ in guess.tasks.values())
    assert "normals" not in guess.tasks


def test_the_command_labels_and_training_weighs(folder, tmp_path, capsys):
    run = save_run(tmp_path / "teacher")
    (folder / "dataset.toml").write_text((folder / "dataset.toml").read_text().replace(f"{list(NAMES)}", "4"))
    command = [
        "data",
        "label",
        str(folder),
        "--teacher",
        str(run),
        "--tasks",
        "semseg",
        "depth",
        "--min-confidence",
        "0",
    ]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "depth: 3 images pseudo-labelled" in printed
    assert "least sure" in printed
    assert main(command) == 0
    assert "depth: 0 images pseudo-labelled, 3 were before, 1 have a label" in capsys.readouterr().out
    path = folder / "dataset.toml"
    path.write_text(path.read_text().replace("weight = 1.0", "weight = 0.5"))
    recipe = change(RECIPE, data__dataset="folder", data__root=str(folder), schedule__steps=2)
    dataset = build_training_set(recipe)
    weights = {"semseg": dict.fromkeys("123", 0.5), "depth": dict.fromkeys("123", 0.5)}
    assert dataset.pseudo_weights == weights
    assert dataset.fingerprint()["pseudo"]["depth"]["weight"] == 0.5
    assert spread(dataset, 2).pseudo_weights == {"semseg": {"2": 0.5}, "depth": {"2": 0.5}}
    assert FewerLabels(dataset, "one", ("depth",)).pseudo_weights == weights
    mixed = Mixed(sources={"a": {"dataset": "folder", "root": str(folder), "rename": {"semseg": "own"}}})
    assert mixed.pseudo_weights["own"] == {"a/1": 0.5, "a/2": 0.5, "a/3": 0.5}
    train(recipe, tmp_path / "run", device="cpu")


def gradients(objective, sample, name):
    objective.zero_grad()
    objective(sample).tasks[name].backward()
    return [parameter.grad.clone() for parameter in objective.parameters() if parameter.grad is not None]


def test_a_weight_scales_the_gradient_of_its_images_alone():
    recipe = change(RECIPE, model__decoder_options={"intermediate": True}, model__backbone_options={"norm": False})
    torch.manual_seed(0)
    dataset = build_dataset(recipe, "train")
    tasks, _ = build_tasks(recipe, dataset)
    objective = Objective(build_model(recipe, tasks))
    both = collate([dataset[0], dataset[1]])
    key = dataset.key(0)
    for name in tasks:
        objective.pseudo_weights = {}
        alone = gradients(objective, collate([dataset[0]]), name)
        plain, loss = gradients(objective, both, name), objective(both).tasks[name]
        objective.pseudo_weights = {name: {key: 0.25}}
        for weighed, whole in zip(gradients(objective, collate([dataset[0]]), name), alone, strict=True):
            torch.testing.assert_close(weighed, 0.25 * whole)
        quarter = gradients(objective, both, name)
        torch.testing.assert_close(objective(both).tasks[name], loss, rtol=0, atol=0)
        objective.pseudo_weights = {name: {key: 0.0}}
        without = gradients(objective, both, name)
        for one, none, half in zip(plain, without, quarter, strict=True):  # linear in the weight
            torch.testing.assert_close(half, 0.25 * one + 0.75 * none)
        assert any(not torch.allclose(one, none) for one, none in zip(plain, without, strict=True))
