"""Several datasets as one: whose labels are where, in which order, and what does not fit together."""

import copy
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from saved_maps import save

from triptych.augmentation.presets import build_transform
from triptych.data.base import DenseDataset, as_neighbor
from triptych.data.fingerprints import as_noted
from triptych.data.loading import make_loader
from triptych.data.subset import FewerLabels, SomeTasks, Subset, spread
from triptych.datasets.mixed import Mixed
from triptych.datasets.mixed_turns import take_turns
from triptych.models.cvm import known_views
from triptych.tasks import Task, depth, human_parts, normals, regression, saliency, semseg
from triptych.tasks.stored import tasks_from_json, tasks_to_json
from triptych.types import IGNORE, UNUSED, Camera, Sample, collate, valid_pixels

SIZE = (10, 12)


class Some(DenseDataset):
    """Images of one grey value, with label maps of the class that is the index of the image."""

    def __init__(self, name: str, length: int, tasks: Sequence[Task], split: str = "train") -> None:
        self.name, self.length, self.split = name, length, split
        self.tasks = {task.name: task for task in tasks}

    def __len__(self) -> int:
        return self.length

    def key(self, index: int) -> str:
        return str(index)

    def fingerprint(self) -> dict[str, object]:
        return {"name": self.name, "images": self.length}

    def __getitem__(self, index: int) -> Sample:
        targets = {
            name: torch.full(SIZE, index % len(task.classes)) if task.classes else torch.full((1, *SIZE), index + 1.0)
            for name, task in self.tasks.items()
        }
        view = Sample(torch.zeros(3, *SIZE), {}, "view")
        return Sample(torch.full((3, *SIZE), 0.5), targets, self.key(index), neighbors=(view,))


def mix(*datasets: DenseDataset, tables: dict[str, Any] | None = None, **options: Any) -> Mixed:
    tables = tables or {}
    sources = {dataset.name: {"dataset": dataset, **tables.get(dataset.name, {})} for dataset in datasets}
    return Mixed(sources=sources, **options)


INDOOR = Some("indoor", 5, (semseg(["wall", "chair", "lamp"]), depth()))
PEOPLE = Some("people", 20, (human_parts(), semseg(["background", "chair"])))
APART = {"people": {"rename": {"semseg": "semseg_people"}}}


def test_labels_are_where_they_were_and_invalid_elsewhere() -> None:
    mixed = mix(INDOOR, PEOPLE, tables=APART)
    assert list(mixed.tasks) == ["semseg", "depth", "human_parts", "semseg_people"]
    assert (len(mixed), mixed.name) == (25, "indoor+people")
    assert [mixed.key(i) for i in (0, 4, 5, 24)] == ["indoor/0", "indoor/4", "people/0", "people/19"]
    assert [mixed.group(i) for i in (0, 24)] == ["indoor/0", "people/19"]
    for index in (4, 7):
        sample = mixed[index]
        assert sample.key == mixed.key(index)
        own = {"semseg", "depth"} if index < 5 else {"human_parts", "semseg_people"}
        assert {name for name, target in sample.targets.items() if valid_pixels(target).all()} == own
        assert {name for name, target in sample.targets.items() if valid_pixels(target).any()} == own
        assert list(sample.targets) == list(mixed.tasks)
        assert not any(valid_pixels(target).any() for target in sample.neighbors[0].targets.values())
    assert mixed[4].targets["depth"].unique().tolist() == [5.0]
    assert mixed[7].targets["human_parts"].unique().tolist() == [2]
    assert list(mix(INDOOR, PEOPLE, tables=APART, tasks=("human_parts", "depth"))[0].targets) == [
        "human_parts",
        "depth",
    ]
    with pytest.raises(IndexError):
        mixed[25]
    for several in (mixed, Subset(mixed, [7, 4, 24]), SomeTasks(mixed, ["depth"])):
        for name, task in mixed.tasks.items():
            targets = [sample.targets.get(name, task.invalid_target(SIZE)) for sample in several]
            labelled = [index for index, target in enumerate(targets) if valid_pixels(target).any()]
            assert list(several.may_be_labelled(name)) == labelled


def test_quantities_of_two_units_get_names_of_their_own() -> None:
    """As the error that keeps them apart says; each is still a task of its kind."""
    metres, inches = (Some(unit, 2, (regression("height", unit=unit),)) for unit in ("m", "in"))
    with pytest.raises(ValueError, match=r"height.*; give the task another name in one of them"):
        mix(metres, inches)
    tasks = mix(metres, inches, tables={"in": {"rename": {"height": "inches"}}}).tasks
    assert {name: task.unit for name, task in tasks.items()} == {"height": "m", "inches": "in"}
    tables = {"indoor": {"rename": {"depth": "far"}}, "people": {"rename": {"human_parts": "limbs", "semseg": "who"}}}
    tasks |= mix(INDOOR, PEOPLE, tables=tables).tasks
    again = tasks_from_json(tasks_to_json(tasks))
    assert {name: (one.name, one.kind, one.unit, one.classes) for name, one in again.items()} == {
        name: (name, one.kind, one.unit, one.classes) for name, one in tasks.items()
    }


@given(st.lists(st.floats(1e-4, 1), min_size=1, max_size=6), st.integers(6, 60))
def test_every_source_has_its_turn_in_every_epoch(weights: list[float], length: int) -> None:
    shares = np.array(weights) / sum(weights)
    turns = take_turns(shares, length)
    counts = np.bincount(turns[:, 0], minlength=len(shares))
    assert (counts.sum(), counts.min() > 0) == (length, True)
    assert (np.abs(counts - shares * length) < len(shares)).all()
    for number, count in enumerate(counts):
        assert turns[turns[:, 0] == number][:, 1:].tolist() == [[turn, count] for turn in range(count)]


def test_a_renamed_task_lives_on_in_a_run_folder() -> None:
    tasks = mix(INDOOR, PEOPLE, tables=APART).tasks
    again = tasks_from_json(tasks_to_json(tasks))
    assert [(name, task.name, task.classes) for name, task in again.items()] == [
        (name, task.name, task.classes) for name, task in tasks.items()
    ]


class Filmed(Some):
    """Images with `frames` neighbors each, a camera, and its pose where they are `posed`; image 0 may be damaged."""

    frames, posed, damaged = 1, True, False

    def __getitem__(self, index: int) -> Sample:
        if self.damaged and index == 0:
            raise OSError("image file is truncated")
        sample = super().__getitem__(index)
        view = replace(sample, camera=Camera(torch.eye(3), torch.eye(4) if self.posed else None), neighbors=())
        return replace(view, neighbors=tuple(as_neighbor(view, -1) for _ in range(self.frames)))


@pytest.mark.parametrize("damaged", [False, True])
def test_sources_with_fewer_views_get_views_of_nan(damaged: bool) -> None:
    """Else a batch has as few as its poorest sample, and whoever learns from them gets none without a word."""
    filmed, still, plain = Filmed("filmed", 3, (depth(),)), Filmed("still", 3, (depth(),)), Filmed("plain", 3, ())
    filmed.frames, filmed.damaged, still.frames, still.posed, plain.frames = 2, damaged, 0, False, 0
    for sources in ((filmed, still, INDOOR), (INDOOR, still, filmed)):
        mixed = mix(*sources)
        samples = {mixed.key(index): mixed[index] for index in range(len(mixed)) if mixed.key(index) != "filmed/0"}
        rich, poor, bare = samples["filmed/1"], samples["still/1"], samples["indoor/1"]
        batch = collate([poor, rich, bare])
        assert [view.targets.keys() for view in batch.neighbors] == [mixed.tasks.keys()] * 2
        assert collate([poor, rich]).neighbors[0].extras["offset"].tolist() == [1, -1]
        assert known_views(batch).tolist() == [[False, True, False]] * 3
        assert torch.equal(batch.neighbors[0].image[1], rich.neighbors[0].image)
        assert batch.camera.intrinsics.isfinite().all(dim=(1, 2)).tolist() == [True, True, False]
        assert not valid_pixels(batch.neighbors[1].targets["depth"][[0, 2]]).any()
    assert mix(still)[0].neighbors == ()
    assert mix(still, plain)[0].camera.pose is None  # nobody asked for views: cameras are as they were


def test_different_classes_are_named_one_by_one() -> None:
    message = (
        r"task 'semseg' has 3 classes in indoor and 2 in people: 0 is wall in indoor and background in people, "
        r'2 is lamp in indoor and nothing in people; rename it in one of them \(rename = \{ semseg = "semseg_people" \}'
    )
    with pytest.raises(ValueError, match=message):
        mix(INDOOR, PEOPLE)
    swapped = Some("swapped", 2, (semseg(["chair", "wall", "lamp"]),))
    with pytest.raises(ValueError, match="0 is wall in indoor and chair in swapped, 1 is chair in indoor and wall in"):
        mix(INDOOR, swapped)
    assert list(mix(INDOOR, Some("same", 2, (semseg(["wall", "chair", "lamp"]),))).tasks) == ["semseg", "depth"]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (regression("heat", unit="K"), "values of 1 channel in degC in a and values of 1 channel in K in b"),
        (regression("heat"), "in degC in a and values of 1 channel without a unit in b; give the task another name"),
        (regression("heat", 2, unit="degC"), "values of 1 channel in degC in a and values of 2 channels in degC in b"),
        (replace(depth(), name="heat"), "values of 1 channel in degC in a and length of 1 channel in m in b"),
        (regression("heat", unit="degC", loss="l2", limits=(0.0, 1.0)), ""),
    ],
)
def test_quantities_of_one_name_are_joined_where_kind_and_unit_are_the_same(other: Task, says: str) -> None:
    sources = Some("a", 2, (regression("heat", unit="degC"),)), Some("b", 2, (other,))
    if says:
        with pytest.raises(ValueError, match=f"task 'heat' is .*{says}"):
            mix(*sources)
    else:
        assert list(mix(*sources).tasks) == ["heat"]


def test_classes_that_are_numbers_alone_are_noted_where_sources_share_them() -> None:
    said = ["semseg: classes have no names in a and b: ids 0 to 2 are taken for the same in all of them"]
    assert mix(Some("a", 2, (semseg(3), depth())), Some("b", 2, (semseg(3),))).notes == said
    assert mix(Some("a", 2, (semseg(3),)), Some("b", 2, (depth(),))).notes == []
    assert mix(*(Some(name, 2, (semseg(["1st", "2"]),)) for name in "ab")).notes == []


def test_more_classes_than_a_byte_holds_can_be_mapped() -> None:
    names = [UNUSED if number == IGNORE else str(number) for number in range(300)]
    many = Some("many", 300, (semseg(names),))
    table = {"299": "last", "*": "other"}
    mixed = mix(many, tables={"many": {"map": {"semseg": table}}}, classes={"semseg": ["last", "other"]})
    found = [mixed[index].targets["semseg"].unique().item() for index in (254, IGNORE, 298, 299)]
    assert found == [1, IGNORE, 1, 0]  # pixels without a label have none
    table |= {name: "other" for name in names if name not in (UNUSED, "298")} | {"298": "last"}
    del table["*"]  # what is no class needs no goal
    other = mix(many, tables={"many": {"map": {"semseg": table}}}, classes={"semseg": ["last", "other"]})
    assert other.fingerprint() != mixed.fingerprint()


def test_another_map_is_other_data_whatever_a_source_tells_of_itself() -> None:
    class Told(Some):
        def fingerprint(self) -> dict[str, object]:
            return super().fingerprint() | {"classes": {"semseg": ["a", "b", "c"]}}  # as published datasets do

    def mapped(table: dict[str, str], name: str = "semseg") -> Mixed:
        tables = {"told": {"map": {"semseg": table}, "rename": {"semseg": name}}}
        return mix(Told("told", 3, (semseg(["a", "b", "c"]),)), tables=tables, classes={name: ["x", "y"]})

    one, other = mapped({"a": "x", "b": "y", "c": ""}), mapped({"a": "y", "b": "x", "c": "x"})
    assert [sample.targets["semseg"].unique().item() for sample in one] == [0, 1, IGNORE]
    assert [sample.targets["semseg"].unique().item() for sample in other] == [1, 0, 0]
    renamed = mapped({"a": "x", "b": "y", "c": ""}, "parts")
    prints = [mixed.fingerprint() for mixed in (one, other, renamed)]
    assert all(first != second for first, second in itertools.combinations(prints, 2))
    # What an older version noted tells of no map, and is of the same data.
    older: Any = copy.deepcopy(prints[0])
    del older["sources"]["told"]["class_map"]
    assert as_noted(prints[0], older) == older


def test_classes_can_be_mapped() -> None:
    tables = {"people": {"map": {"semseg": {"background": ""}}}}
    mixed = mix(INDOOR, PEOPLE, tables=tables)
    assert mixed.tasks["semseg"].classes == ("wall", "chair", "lamp")
    assert mixed[5].targets["semseg"].unique().tolist() == [IGNORE]
    assert mixed[6].targets["semseg"].unique().tolist() == [1]
    assert mixed[2].targets["semseg"].unique().tolist() == [2]
    # Both to classes of the mixture's own.
    few = mix(
        INDOOR,
        PEOPLE,
        classes={"semseg": ("furniture", "other")},
        tables={
            "indoor": {"map": {"semseg": {"chair": "furniture", "*": "other"}}},
            "people": {"map": {"semseg": {"chair": "furniture", "background": "other"}}},
        },
    )
    assert [few[i].targets["semseg"].unique().item() for i in (0, 1, 2, 5, 6)] == [1, 0, 1, 1, 0]
    task = few.tasks["semseg"]
    metric = task.metric()
    metric.update(torch.zeros(1, 2, 2, dtype=torch.int64), torch.zeros(1, 2, 2, dtype=torch.int64))
    assert task.channels == 2
    assert metric.compute()["mIoU"] > 0
    # Namesakes need no map.
    named = mix(INDOOR, PEOPLE, classes={"semseg": ("chair", "wall", "lamp", "background")})
    assert [named[i].targets["semseg"].unique().item() for i in (0, 1, 2, 5, 6)] == [1, 0, 2, 3, 0]


def test_a_mapped_task_keeps_its_loss_and_losses_that_differ_are_noted() -> None:
    raw, target = torch.linspace(-2, 2, 48).view(1, 3, 4, 4), torch.arange(16).view(1, 4, 4) % 3
    focal = semseg(["wall", "chair", "lamp"], loss="focal")
    some = Some("some", 3, (focal, depth(loss="log-l1")))
    swapped = {"semseg": ("lamp", "chair", "wall")}
    mapped = mix(some, classes=swapped).tasks
    for tasks in (mapped, tasks_from_json(tasks_to_json(mapped))):
        assert tasks["semseg"].loss(raw, target) == focal.loss(raw, target)
    weighted = Some("weighted", 3, (semseg(["wall", "chair", "lamp"], loss="focal", class_weights=(1.0, 2.0, 3.0)),))
    with pytest.raises(ValueError, match=r"source weighted has class_weights of task semseg.*data.task_options"):
        mix(weighted, classes=swapped)
    same = mix(weighted, classes={"semseg": ("wall", "chair", "lamp")}).tasks["semseg"]
    assert same.loss(raw, target) == weighted.tasks["semseg"].loss(raw, target)
    said = "depth: some and indoor have other losses for it, and that of some is trained; data.task_options sets one"
    assert [note for note in mix(some, INDOOR, PEOPLE, tables=APART).notes if "depth" in note] == [said]
    again = Some("again", 3, (semseg(["wall", "chair", "lamp"], loss="focal", class_weights=(1.0, 2.0, 3.0)),))
    assert mix(weighted, again).notes == []


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a class without a namesake": (
        {"tables": {"people": {"map": {"semseg": {}}}}},
        r"classes background of task semseg in source people have no namesake in the mixture; map each",
    ),
    "an unknown class": (
        {"tables": {"people": {"map": {"semseg": {"backgrund": ""}}}}},
        "unknown class of semseg in source people 'backgrund'; did you mean 'background'",
    ),
    "an unknown goal": (
        {"tables": {"people": {"map": {"semseg": {"background": "wal"}}}}},
        "unknown class of semseg in the mixture 'wal'; did you mean 'wall'",
    ),
    "a map without a goal": (
        {"tables": {name: {"map": {"semseg": {"*": ""}}} for name in ("indoor", "people")}},
        r"source indoor maps task semseg to nothing; add \[classes\] semseg",
    ),
    "mapped depth": ({"tables": {"indoor": {"map": {"depth": {}}}}}, "source indoor maps task depth; only tasks"),
    "classes of depth": (
        {"tables": APART, "classes": {"depth": ("near", "far")}},
        "source indoor maps task depth; only",
    ),
    "two tasks of a name": (
        {"tables": {"indoor": {"rename": {"depth": "semseg"}}}},
        "has two tasks semseg; give",
    ),
    "a task that is not there": (
        {"tables": {"indoor": {"rename": {"sem": "far"}}}},
        "source indoor renames sem, which is none of its tasks semseg, depth",
    ),
    "an unknown option": ({"tables": {"indoor": {"shares": 1}}}, r"\[sources.indoor\]: unknown option 'shares'; did"),
    "a share in words": (
        {"tables": {"indoor": {"share": "half"}}},
        r"\[sources.indoor\]: share is 'half'; expected a",
    ),
    "a task alone": ({"tables": {"indoor": {"tasks": "depth"}}}, r"\[sources.indoor\]: tasks is 'depth'; expected a l"),
    "a folder of a number": ({"tables": {"indoor": {"root": 5}}}, r"\[sources.indoor\]: root is 5; expected a text"),
    "an unknown task": ({"tables": APART, "tasks": ("dept",)}, "unknown task of the mixture 'dept'; did you mean"),
    "classes of nothing": ({"tables": APART, "classes": {"seg": ("a",)}}, r"unknown task in \[classes\] 'seg'"),
    "an unknown sampling": ({"tables": APART, "sampling": "task"}, "unknown sampling of the mixture 'task'; did you"),
    "half of the shares": (
        {"tables": {"people": {**APART["people"], "share": 2}}},
        "some sources have a share and indoor not",
    ),
    "a split of no source": (
        {"tables": {name: {"splits": {"val": ""}} for name in ("indoor", "people")}, "split": "val"},
        "split 'val' of the mixture has no source",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_help(mistake: str) -> None:
    options, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message) as error:
        mix(INDOOR, PEOPLE, **options)
    assert "\n" not in str(error.value)


def drawn(mixed: Mixed, places: range, seed: int = 0) -> list[str]:
    return [mixed.locate(mixed.draw(seed, place)[1])[0].name for place in places]


def test_every_task_is_drawn_equally_often() -> None:
    """100 images with parts, 10 with depth, 40 with normals and depth."""
    sources = (
        Some("parts", 100, (human_parts(),)),
        Some("depth", 10, (depth(),)),
        Some("both", 40, (normals(), depth())),
    )
    mixed = mix(*sources)
    # One vote for each of three tasks; that of depth is divided 10 to 40.
    assert mixed.shares.tolist() == pytest.approx([1 / 3, 1 / 15, 1 / 3 + 4 / 15])
    counts = Counter(drawn(mixed, range(150)))
    assert counts == {"parts": 50, "depth": 10, "both": 90}
    assert mix(*sources, sampling="images").shares.tolist() == pytest.approx([100 / 150, 10 / 150, 40 / 150])
    shares = {name: {"share": share} for name, share in (("parts", 1), ("depth", 2), ("both", 1))}
    assert mix(*sources, tables=shares).shares.tolist() == [0.25, 0.5, 0.25]
    # What nobody asked for has no vote.
    assert mix(*sources, tasks=("human_parts", "normals")).shares.tolist() == [0.5, 0, 0.5]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(0, 5))
def test_sources_take_turns_and_all_their_samples_come_equally_often(sizes: list[int], seed: int) -> None:
    tables = {f"s{i}": {"share": i + 1} for i in range(len(sizes))}
    mixed = mix(*(Some(f"s{i}", size, (depth(),)) for i, size in enumerate(sizes)), tables=tables)
    length = len(mixed)
    stream = [mixed.draw(seed, place) for place in range(4 * length)]
    assert len(set(stream)) == len(stream)  # every draw has an augmentation of its own
    for number, size in enumerate(sizes):
        first = sum(sizes[:number])
        own = [(epoch, index - first) for epoch, index in stream if first <= index < first + size]
        expected = mixed.shares[number] * length
        assert abs(len(own) / 4 - expected) < 1
        counts = Counter(index for _, index in own)
        assert not own or max(counts.values()) - min(counts[i] for i in range(size)) <= 1
        # In any stretch of an epoch a source has its share, give or take one turn for each other source.
        places = [place for place, (_, index) in enumerate(stream[:length]) if first <= index < first + size]
        for place in range(1, length):
            before = sum(other < place for other in places)
            assert abs(before - place * len(places) / length) <= len(sizes)


def test_fewer_images_keep_the_shares_of_their_sources() -> None:
    """Those that are left of a source come equally often, also with fewer labels and in a mixture of mixtures."""
    sources = (
        Some("parts", 100, (human_parts(),)),
        Some("depth", 10, (depth(),)),
        Some("both", 40, (normals(), depth())),
    )
    few = spread(mix(*sources), 30)
    expected = {"parts": 10, "depth": 2, "both": 18}
    for dataset in (few, FewerLabels(few, "one", list(few.tasks)), spread(few, 30)):
        epoch = [dataset.draw(3, place)[1] for place in range(30)]
        assert Counter(dataset.key(index).partition("/")[0] for index in epoch) == expected
        whole = Counter(dataset.draw(3, place)[1] for place in range(30 * 20))
        assert set(whole) == set(range(30))
    assert min(whole[i] for i in range(20)) == max(whole[i] for i in range(20)) == 10
    outer = mix(few, Some("more", 30, (saliency(),)))
    drawn = Counter(outer.key(outer.draw(0, place)[1]).split("/")[-2] for place in range(60))
    assert drawn["more"] == pytest.approx(60 / 4, abs=1)
    assert drawn["parts"] == pytest.approx(45 / 3, abs=1)
    with pytest.raises(ValueError, match=r"of the 3 samples drawn is of source 'both' of the mixture; raise data"):
        spread(mix(*sources), 3).draw(0, 0)


def test_batches_are_functions_of_seed_and_number() -> None:
    """A worker, several processes and a resumed run see what one uninterrupted process sees."""
    mixed = mix(INDOOR, PEOPLE, tables=APART)
    transform = build_transform("default", size=(8, 8), tasks=mixed.tasks, train=True)

    def batches(**options: Any) -> list[Sample]:
        return list(make_loader(mixed, **{"transform": transform, "seed": 3, "steps": 9, "batch_size": 6} | options))

    whole = batches()
    for before, after in zip(whole[4:], batches(first_step=4, num_workers=1), strict=True):
        assert before.key == after.key
        assert torch.equal(before.image, after.image)
    halves = [batches(batch_size=3, rank=rank, world=2) for rank in range(2)]
    assert [a.key + b.key for a, b in zip(*halves, strict=True)] == [batch.key for batch in whole]
    for batch in whole:
        # Four tasks, two in each source: equal shares in every batch, but for an odd one where an epoch ends.
        assert 2 <= sum(key.startswith("indoor/") for key in batch.key) <= 4


def test_a_file_describes_a_mixture_of_folders(tmp_path: Path) -> None:
    for name, values in (("near", (500, 900)), ("far", (4000, 7000))):
        for i, value in enumerate(values):
            for split in ("train", "val"):
                folder = tmp_path / "data" / name
                save(folder / "images" / split / f"{i}.png", np.full((*SIZE, 3), 40 * i, np.uint8))
                save(folder / "depth" / split / f"{i}.png", np.full(SIZE, value, np.uint16))
        (folder / "dataset.toml").write_text("""
[images]
files = "images/{split}/{key}.png"
[tasks.depth]
files = "depth/{split}/{key}.png"
unit = "mm"
""")
    path = tmp_path / "data" / "mixture.toml"
    path.write_text("""
sampling = "images"
[sources.near]
dataset = "folder"
root = "near"
splits = { val = "train", test = "" }
[sources.far]
dataset = "folder"
root = "far"
tasks = ["depth"]
""")
    mixed = Mixed(path)
    assert [mixed[i].targets["depth"].max().item() for i in range(4)] == pytest.approx([0.5, 0.9, 4.0, 7.0])
    assert [source.dataset.split for source in Mixed(path, split="val").sources] == ["train", "val"]  # type: ignore[attr-defined]
    record = json.loads(json.dumps(mixed.fingerprint()))
    assert record["sources"]["far"]["images"] == 2
    assert record["sources"]["far"]["share"] == 0.5
    with pytest.raises(ValueError, match="unknown split of dataset far 'test'"):
        Mixed(path, split="test")
    with pytest.raises(ValueError, match="is no TOML file that describes a mixture"):
        Mixed(tmp_path)
    for text, says in (
        ('[sources]\na = "NYUD"\n', r"\[sources.a\] is 'NYUD'; write a section"),
        ('sources = "a"\n', "mixture.toml: sources is 'a'; expected a table"),
        ('[sources.a]\n[classes]\nsemseg = "wall"\n', "mixture.toml: classes.semseg is 'wall'; expected a list"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=says):
            Mixed(path)
    path.write_text("[source.near]\n")
    with pytest.raises(ValueError, match=r"unknown section of .* 'source'; did you mean 'sources'"):
        Mixed(path)


def test_two_masks_of_one_meaning_mix() -> None:
    mixed = mix(Some("a", 2, (saliency(),)), Some("b", 2, (saliency(),)))
    assert list(mixed.tasks) == ["saliency"]
    assert all(valid_pixels(mixed[i].targets["saliency"]).all() for i in range(4))
