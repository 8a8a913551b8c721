"""Sweeps: every combination once, resumed where it stopped, chosen on validation."""

import json
import math
from pathlib import Path

import pytest
from training.tiny import OPENED, RECIPE, change

from triptych.machine import Interrupted
from triptych.recipes import resolved
from triptych.training import loop
from triptych.training import sweep as sweeping
from triptych.training.sweep import Outcome, are_ranked, change_fields, folder_name, list_settings, sweep, sweep_table

SHORT = change(
    RECIPE, schedule__steps=2, training__evaluate_every=2, training__checkpoint_every=1, schedule__warmup_steps=0
)
OVER = ("optimizer.lr=1e-4,1e-2", "weighting.weights.depth=0.5,2")


def quiet(text: str) -> None:
    """Says nothing."""


def test_a_grid_is_every_combination() -> None:
    assert list_settings(OVER) == [
        {"optimizer.lr": lr, "weighting.weights.depth": weight} for lr in (1e-4, 1e-2) for weight in (0.5, 2)
    ]
    assert [each["model.weights"] for each in list_settings(["model.weights=../a.pth,b.pth"])] == ["../a.pth", "b.pth"]
    assert list_settings(["optimizer.lr=1e-3,0.001"]) == [{"optimizer.lr": 1e-3}]  # each once


def test_samples_lie_in_their_span_and_grow_by_more() -> None:
    over = ("optimizer.lr=1e-5..1e-2", "schedule.name=poly,cosine", "model.decoder_options.dropout=0..0.5")
    few, many = list_settings(over, samples=3, seed=4), list_settings(over, samples=40, seed=4)
    assert many[:3] == few
    assert len({folder_name(setting) for setting in many}) == 40
    rates = [setting["optimizer.lr"] for setting in many]
    assert all(1e-5 <= rate <= 1e-2 for rate in rates)
    assert 5 < sum(rate < 10**-3.5 for rate in rates) < 35  # even on a scale of logarithms
    assert {setting["schedule.name"] for setting in many} == {"poly", "cosine"}
    assert len(list_settings(("seed=1,2",), samples=9)) == 2  # there are no more


@pytest.mark.parametrize(
    ("over", "samples", "words"),
    [
        (("optimizer.lr",), 0, "'optimizer.lr' is no axis; write NAME=A,B,C"),
        (("optimizer.lr=2..1",), 3, "is no span; write two rising numbers"),
        (("optimizer.lr=1..2",), 0, "has a span of values, of which a grid takes none; say how many: --samples"),
        (("optimizer.lr=1..2",), -1, "--samples is -1; give how many settings to draw, or 0"),
        (("seed=1", "seed=2"), 0, "--over names seed, seed; give at least one field, each once"),
        (("optimizer.rate=1",), 0, "recipe.optimizer has no field 'rate'"),
        (("optimizer.lr=fast",), 0, "recipe.optimizer.lr is 'fast'; expected a number"),
        (("optimizer.lr=1e-3,-1",), 0, "optimizer.lr is -1"),
        (("data.batch_size=2..16",), 2, r"data.batch_size is \S+, and takes whole numbers; .* list them"),
        (("model.backbone=auto,resnet18",), 0, "model.backbone is auto, which may be another one for each run"),
        (("model.backbone=resnet18,resnet19",), 0, "unknown backbone 'resnet19'; did you mean 'resnet18'"),
        (("optimiser.lr=1",), 0, "a recipe has no field 'optimiser.lr'"),
    ],
)
def test_bad_axes_train_nothing(over: tuple[str, ...], samples: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        sweep(SHORT, tmp_path / "sweep", over, samples=samples, device="cpu", told=quiet)
    assert not (tmp_path / "sweep").exists()


def test_seeds_are_named_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="goes over seed, and seeds are"):
        sweep(SHORT, tmp_path / "sweep", over=["seed=1,2"], seeds=[3], device="cpu")
    assert not (tmp_path / "sweep").exists()


def test_without_validation_nothing_is_chosen(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a sweep chooses on the validation split"):
        sweep(change(SHORT, data__val_split=""), tmp_path, OVER, device="cpu")


def test_the_best_comes_first_and_the_test_split_is_never_read(tmp_path: Path) -> None:
    OPENED.clear()
    outcomes = sweep(SHORT, tmp_path, OVER[:1], seeds=(0, 1), device="cpu", progress=False, told=quiet)
    assert "test" not in OPENED
    assert [outcome.score for outcome in outcomes] == sorted((each.score for each in outcomes), reverse=True)
    for outcome in outcomes:
        assert set(outcome.scores) == {0, 1}
        for seed, score in outcome.scores.items():
            run = tmp_path / folder_name(outcome.setting) / f"seed-{seed}"
            lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            assert score == max(line["score"] for line in lines if line["kind"] == "evaluation")
            recipe = json.loads((run / "recipe.json").read_text())
            assert (recipe["optimizer"]["lr"], recipe["seed"]) == (outcome.setting["optimizer.lr"], seed)
    stored = json.loads((tmp_path / "sweep.json").read_text())
    assert [row["setting"] for row in stored] == [outcome.setting for outcome in outcomes]
    assert sweep_table(outcomes).row_count == 2


def test_a_sweep_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[float, bool]] = []
    train = sweeping.train

    def watched(recipe, run, **options):
        trained.append((recipe.optimizer.lr, options["resume"]))
        if len(trained) == 2:
            train(change(recipe, schedule__name="constant"), run, **options | {"resume": False})
            raise KeyboardInterrupt
        return train(recipe, run, **options)

    monkeypatch.setattr(sweeping, "train", watched)
    recipe = change(SHORT, schedule__name="constant")
    with pytest.raises(KeyboardInterrupt):
        sweep(recipe, tmp_path, ("optimizer.lr=1e-4,1e-3,1e-2",), device="cpu", progress=False, told=quiet)
    last = tmp_path / folder_name({"optimizer.lr": 1e-3}) / "seed-0/checkpoints/00000002"
    for path in last.iterdir():
        path.unlink()
    last.rmdir()  # as if it had stopped after its first step
    outcomes = sweep(recipe, tmp_path, ("optimizer.lr=1e-4,1e-3,1e-2",), device="cpu", progress=False, told=quiet)
    assert trained == [(1e-4, False), (1e-3, False), (1e-3, True), (1e-2, False)]
    assert all(math.isfinite(outcome.score) for outcome in outcomes)
    with pytest.raises(ValueError, match=r"cannot resume .* with another recipe: schedule\.steps"):
        sweep(change(SHORT, schedule__steps=5), tmp_path, ("optimizer.lr=1e-4",), device="cpu", told=quiet)


def test_a_run_that_was_left_in_its_last_validation_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, over = change(SHORT, training__evaluate_every=1), ("optimizer.lr=1e-3",)
    [whole] = sweep(recipe, tmp_path / "whole", over, device="cpu", progress=False, told=quiet)
    with monkeypatch.context() as patch:
        validate = loop.validate
        patch.setattr(loop, "validate", lambda *each: each[2].step < 2 and validate(*each))
        with pytest.raises(Interrupted):
            sweep(recipe, tmp_path / "left", over, device="cpu", progress=False, told=quiet)
    for _ in range(2):
        assert sweep(recipe, tmp_path / "left", over, device="cpu", progress=False, told=quiet) == [whole]


def test_a_sweep_that_leaves_the_number_format_to_the_machine_goes_on(tmp_path: Path) -> None:
    recipe = change(SHORT, training__precision="auto")
    first = sweep(recipe, tmp_path, ["seed=1"], device="cpu", progress=False, told=quiet)
    assert sweep(recipe, tmp_path, ["seed=1"], device="cpu", progress=False, told=quiet) == first


def test_scores_of_other_tasks_are_not_ranked_against_each_other(tmp_path: Path) -> None:
    over = ('data.tasks=[["depth"],["semseg","depth"]]',)
    outcomes = sweep(SHORT, tmp_path, over, device="cpu", progress=False, told=quiet)
    assert [len(each.setting["data.tasks"]) for each in outcomes] == [1, 2]  # as they were given
    assert "not ranked" in sweep_table(outcomes).title
    assert [*sweep_table(outcomes).columns[-1].cells] == ["-", "-"]


def test_scores_of_labels_at_other_sizes_are_not_ranked_against_each_other(tmp_path: Path) -> None:
    """A transform that stretches scores at data.size, one that pads at the size of the labels."""

    def ranked(*transforms: tuple[str, tuple[int, int]]) -> bool:
        recipes = [change(SHORT, data__transform=name, data__size=size) for name, size in transforms]
        measured = (sweeping._measured(tmp_path, recipe, {"metrics": {}}) for recipe in recipes)
        return are_ranked([Outcome({}, measured=each) for each in measured])

    small, large = (32, 48), (64, 96)  # the images are small
    assert not ranked(("mtan", small), ("mtan", large))
    assert not ranked(("mtan", large), ("invpt", large))
    assert ranked(("invpt", small), ("invpt", large))
    assert ranked(("mtan", small), ("invpt", large))


def test_scores_that_another_version_computed_are_not_ranked(tmp_path: Path, monkeypatch) -> None:
    measured = []
    for version in ("0.1.0", "0.1.0", "0.2.0"):
        monkeypatch.setattr(resolved, "__version__", version)
        resolved.write_resolved(tmp_path, {})
        measured.append(sweeping._measured(tmp_path, SHORT, {"metrics": {}}))
    first, *others = (Outcome({}, measured=each) for each in measured)
    assert [are_ranked([first, each]) for each in others] == [True, False]


def test_facts_that_an_older_version_did_not_note_are_no_other_images() -> None:
    noted = ({"images": 5}, {"images": 5, "camera": {"fov": 60}}, {"images": 5, "camera": None}, {"images": 4})
    outcomes = [Outcome({}, measured={"images": each}) for each in noted]
    pairs = [are_ranked([outcomes[0], each]) for each in outcomes]
    assert pairs == [True, True, True, False]
    assert not are_ranked(outcomes[:3])


def test_finished_runs_of_other_data_or_another_start_are_no_part_of_a_sweep(tmp_path: Path) -> None:
    over = ("optimizer.lr=1e-4",)
    [first] = sweep(SHORT, tmp_path, over, device="cpu", progress=False, told=quiet)
    place = tmp_path / folder_name(first.setting) / "seed-0/environment.json"
    content = json.loads(place.read_text())
    content["starts"][0]["data"]["train"]["images"] = 1
    place.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="is of other data: images of the train images differ now; choose another"):
        sweep(SHORT, tmp_path, over, device="cpu", progress=False, told=quiet)
    with pytest.raises(ValueError, match=r"began from no other run, and model\.initialize_from is .*elsewhere"):
        sweep(change(SHORT, model__initialize_from=("elsewhere",)), tmp_path, over, device="cpu", told=quiet)


def test_a_run_that_diverges_is_last(tmp_path: Path) -> None:
    recipe = change(SHORT, optimizer__name="sgd", optimizer__clip_norm=0.0, schedule__steps=4)
    outcomes = sweep(recipe, tmp_path, ("optimizer.lr=1e30,1e-3",), device="cpu", progress=False, told=quiet)
    assert [outcome.setting["optimizer.lr"] for outcome in outcomes] == [1e-3, 1e30]
    assert "not finite" in outcomes[1].failures[0]
    assert outcomes[1].score == -math.inf
    json.loads((tmp_path / "sweep.json").read_text())


def test_fields_are_changed_by_name() -> None:
    changed = change_fields(RECIPE, {"data.size": (16, 24), "model.decoder_options.dropout": 0.5, "seed": 3})
    assert (changed.data.size, changed.model.decoder_options["dropout"], changed.seed) == ((16, 24), 0.5, 3)
    deep = {
        "data.task_options.depth.loss": "l1",
        "optimizer.lr_factors.heads.depth": 0.1,
        "regularizer.options.density.width": 8,
        "weighting.weights.depth": 2.0,
    }
    changed = change_fields(RECIPE, deep)
    assert changed.data.task_options["depth"]["loss"] == "l1"
    assert changed.optimizer.lr_factors["heads.depth"] == 0.1
    assert changed.regularizer.options["density"] == {"width": 8}
    assert changed.weighting.weights["depth"] == 2.0
    for wrong in ("data.size.height", "nowhere.depth", "optimizer.lr.heads"):
        with pytest.raises(ValueError, match="no field"):
            change_fields(RECIPE, {wrong: 1})
