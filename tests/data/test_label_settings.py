"""Which labels of the training split are left: one per image or some, by a hash of the key, and only there."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training.tiny import RECIPE, Rectangles, change
from training_runs import lines, resumed, run_recipe

from triptych import assemble
from triptych.data.subset import LABEL_SETTINGS, FewerLabels
from triptych.datasets.mixed import Mixed
from triptych.recipes.config import Recipe, from_json, to_json
from triptych.types import Sample, valid_pixels

NAMES = ("semseg", "depth", "normals")
ONE = change(RECIPE, data__tasks=NAMES, data__label_setting="one")

PINNED_ONE = [{"normals"}, {"normals"}, {"semseg"}, {"normals"}, {"normals"}, {"depth"}]
PINNED_RANDOM = [
    {"semseg", "depth", "normals"},
    {"semseg", "normals"},
    {"normals"},
    {"semseg"},
    {"semseg", "depth", "normals"},
    {"semseg"},
]


def kept(dataset: FewerLabels, index: int) -> set[str]:
    return {name for name, target in dataset[index].targets.items() if valid_pixels(target).any()}


@pytest.mark.parametrize("setting", LABEL_SETTINGS)
def test_labels_are_left_as_they_are_or_all_invalid(setting: str) -> None:
    whole = Rectangles(length=40)
    fewer = FewerLabels(whole, setting, NAMES)
    for index in range(len(whole)):
        before, after = whole[index], fewer[index]
        assert torch.equal(before.image, after.image)
        names = kept(fewer, index)
        assert (len(names) == 1) if setting == "one" else names
        for name, task in whole.tasks.items():
            target = before.targets[name] if name in names else task.invalid_target(before.image.shape[-2:])
            assert torch.equal(after.targets[name].nan_to_num(9), target.nan_to_num(9))
            assert after.targets[name].dtype == before.targets[name].dtype


def test_every_choice_comes_as_often_as_another() -> None:
    """A chi-squared test at a hundredth of a percent, over keys as data sets have them."""
    for setting, choices, limit in (("one", 3, 18.5), ("random", 7, 27.9)):
        found = Counter(frozenset(LABEL_SETTINGS[setting](f"images/{i:05d}.jpg", NAMES)) for i in range(3000))
        expected = 3000 / choices
        assert len(found) == choices
        assert sum((count - expected) ** 2 / expected for count in found.values()) < limit


def test_a_choice_is_a_function_of_the_key() -> None:
    """Pinned: it holds for every run, process, epoch and order of images; a further task takes its own images only."""
    keys = [f"{i}.jpg" for i in range(6)]
    assert [LABEL_SETTINGS["one"](key, NAMES) for key in keys] == PINNED_ONE
    assert [LABEL_SETTINGS["random"](key, NAMES) for key in keys] == PINNED_RANDOM
    more = [LABEL_SETTINGS["one"](key, (*NAMES, "boundary")) for key in keys]
    assert all(new in (old, {"boundary"}) for new, old in zip(more, PINNED_ONE, strict=True))


def test_a_label_that_an_image_never_had_is_not_chosen() -> None:
    dataset = FewerLabels(Rectangles(length=12, unlabelled=("semseg", "depth")), "one", NAMES)
    assert [kept(dataset, index) for index in range(12)] == [{"normals"}] * 12
    dataset = FewerLabels(Rectangles(length=3, unlabelled=NAMES), "random", NAMES)
    assert [kept(dataset, index) for index in range(3)] == [set()] * 3


def test_tasks_that_are_not_trained_share_nothing() -> None:
    dataset = FewerLabels(Rectangles(length=12), "one", ("semseg", "depth"))
    assert all("normals" in kept(dataset, index) and len(kept(dataset, index)) == 2 for index in range(12))


def test_neighbors_keep_what_their_image_keeps() -> None:
    class Video(Rectangles):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return replace(sample, neighbors=(super().__getitem__(index), replace(sample, targets={})))

    sample = FewerLabels(Video(), "one", NAMES)[0]
    first, second = sample.neighbors
    assert all(torch.equal(first.targets[n].nan_to_num(9), sample.targets[n].nan_to_num(9)) for n in NAMES)
    assert not second.targets


def test_only_the_training_split_has_fewer_labels() -> None:
    training_set = assemble.build_training_set(ONE)
    assert [len(kept(training_set, index)) for index in range(len(training_set))] == [1] * len(training_set)
    for split in ("val", "test"):
        dataset = assemble.build_dataset(ONE, split)
        assert all(len(kept(dataset, index)) == 3 for index in range(len(dataset)))
    some = assemble.build_training_set(change(ONE, data__train_images=4, data__auxiliary_tasks=()))
    assert len(some) == 4
    assert some.fingerprint() | {"label_setting": "one", "of": 12} == some.fingerprint()


def test_a_mixture_is_drawn_as_it_was() -> None:
    sources = {"a": {"dataset": "rectangles", "share": 0.75}, "b": {"dataset": "rectangles", "share": 0.25}}
    mixture = Mixed(split="train", sources=sources)
    dataset = FewerLabels(mixture, "one", tuple(mixture.tasks))
    assert [dataset.draw(3, place) for place in range(30)] == [mixture.draw(3, place) for place in range(30)]


def test_old_recipes_read_all_labels() -> None:
    assert from_json(to_json(RECIPE).replace('"label_setting": "all",', "")).data.label_setting == "all"
    with pytest.raises(ValueError, match=r"label_setting is 'two'; expected one of all, one, random\."):
        from_json(to_json(ONE).replace('"label_setting": "one"', '"label_setting": "two"'))


def test_a_run_counts_what_is_left_and_resumes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"length": 24}  # of 12 images none keeps its classes
    recipe: Recipe = change(ONE, data__num_workers=2, data__options=more, schedule__steps=6, training__log_every=6)
    broken, whole = resumed(recipe, tmp_path, monkeypatch)
    assert sum(lines(whole, "train")[-1]["labelled"].values()) == 6 * 4
    assert lines(whole, "evaluation")[-1]["labelled"] == dict.fromkeys(NAMES, 5)
    with pytest.raises(ValueError, match="label_setting was 'one', now 'all'"):
        run_recipe(change(recipe, data__label_setting="all"), broken, resume=True)
