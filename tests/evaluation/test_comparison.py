"""Comparing runs: groups, pairs, intervals, and what differs between recipes."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from triptych.evaluation.compare import compare_runs
from triptych.evaluation.scored_runs import group_runs, read_scored_run, recipe_differences
from triptych.evaluation.scores import moved_classes
from triptych.files import sign
from triptych.metrics.bootstrap import compute_sums
from triptych.plugins import loading
from triptych.recipes.config import DataConfig, ModelConfig, Recipe, ScheduleConfig, WeightingConfig, to_json
from triptych.tasks import boundary, depth, semseg
from triptych.tasks.stored import write_tasks

IMAGES = 40


def write_run(
    folder: Path, recipe: Recipe, errors: np.ndarray, keys: list[str] | None = None, **options: object
) -> Path:
    """A run folder whose depth is wrong by `errors[i]` metres on image i."""
    folder.mkdir(parents=True)
    task = depth(**options)
    rows = []
    for error in errors:
        metric = task.metric()
        metric.update(torch.full((1, 1, 2, 2), 2.0 + float(error)), torch.full((1, 1, 2, 2), 2.0))
        rows.append(metric.sums())
    sums = {state: torch.stack([row[state] for row in rows]) for state in rows[0]}
    (folder / "recipe.json").write_text(to_json(recipe))
    write_tasks(folder / "tasks.json", {"depth": task}, {"depth": options})
    save_file({f"depth/{state}": value for state, value in sums.items()}, folder / "evaluation-test.safetensors")
    content = {
        "metrics": {"depth": compute_sums(task.metric(), sums)},
        "keys": keys or [f"{i:03d}" for i in range(len(errors))],
    }
    (folder / "evaluation-test.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, list[Path]]:
    """Two recipes, three seeds each: the second is better on every image by about 0.05 m of 0.5 m."""
    generator = np.random.default_rng(0)
    hard = generator.uniform(0.3, 0.7, IMAGES)
    better = dataclasses.replace(Recipe(), model=ModelConfig(decoder="mti-net"))
    return {
        "base": [
            write_run(tmp_path / f"base{s}", Recipe(seed=s), hard + generator.normal(0, 0.01, IMAGES)) for s in range(3)
        ],
        "better": [
            write_run(
                tmp_path / f"better{s}",
                dataclasses.replace(better, seed=s),
                hard - 0.05 + generator.normal(0, 0.01, IMAGES),
            )
            for s in range(3)
        ],
    }


def test_seeds_form_groups_and_a_real_difference_is_clear(runs: dict[str, list[Path]], tmp_path: Path) -> None:
    content = compare_runs(runs["base"] + runs["better"], out=tmp_path / "out.json")
    assert content["groups"] == {"base": [*map(str, runs["base"])], "better": [*map(str, runs["better"])]}
    found = content["differences"]["better"]["depth"]
    assert found["seeds"] == 3
    assert found["better"]
    assert found["clear"]
    assert found["low"] < found["mean"] < found["high"] < 0
    direct = np.mean(content["values"]["depth"]["better"]) - np.mean(content["values"]["depth"]["base"])
    assert found["mean"] == pytest.approx(direct)
    assert content["recipes"] == {"model.decoder": ["fcn", "mti-net"]}
    assert json.loads((tmp_path / "out.json").read_text())["images"] == IMAGES


def test_equal_runs_are_called_noise(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    hard = generator.uniform(0.3, 0.7, IMAGES)
    one = write_run(tmp_path / "one", Recipe(), hard + generator.normal(0, 0.05, IMAGES))
    two = write_run(
        tmp_path / "two",
        dataclasses.replace(Recipe(), model=ModelConfig(decoder="vit")),
        hard + generator.normal(0, 0.05, IMAGES),
    )
    assert not compare_runs([one, two])["differences"]["two"]["depth"]["clear"]


@pytest.mark.parametrize(("images", "verdict"), [(1, "too few images"), (5, "too few images"), (6, "worse")])
def test_a_handful_of_images_is_no_verdict(images: int, verdict: str, tmp_path: Path, capsys) -> None:
    """Though its interval leaves zero out: that of one image has no width."""
    other = dataclasses.replace(Recipe(), model=ModelConfig(decoder="vit"))
    one = write_run(tmp_path / "one", Recipe(), np.full(images, 0.3))
    two = write_run(tmp_path / "two", other, np.full(images, 0.4))
    found = compare_runs([one, two])["differences"]["two"]["depth"]
    assert found["low"] > 0
    assert found["clear"] == (verdict == "worse")
    assert verdict in capsys.readouterr().out


def test_the_baseline_is_of_the_runs_that_are_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where what was changed is not recorded, as in an edited script, and the seeds are others."""
    paths = [write_run(tmp_path / f"run{s}", Recipe(seed=s), np.full(9, e)) for s, e in enumerate((0.5, 0.5, 0.3))]
    content = compare_runs(paths, baseline=paths[:2])
    assert list(content["groups"].values()) == [[*map(str, paths[:2])], [str(paths[2])]]
    assert content["differences"]["run2"]["depth"]["mean"] == pytest.approx(-0.2)
    assert "run2 and run differ in nothing that is recorded but the seed" in capsys.readouterr().out
    assert compare_runs(paths)["notes"] == []


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (
            Recipe(seed=1, model=ModelConfig(decoder="mti-net")),
            "model.decoder is fcn in .*run0, mti-net in .*run1; name runs",
        ),
        (Recipe(), "the seed of both is 0 in .*run0, 0 in .*run1"),
    ],
)
def test_a_baseline_of_two_methods_is_refused(second: Recipe, words: str, tmp_path: Path) -> None:
    base = [write_run(tmp_path / f"run{i}", recipe, np.ones(9)) for i, recipe in enumerate((Recipe(), second))]
    method = write_run(tmp_path / "method", Recipe(seed=2), np.ones(9))
    with pytest.raises(ValueError, match="runs of --baseline are not seeds of one method: " + words):
        compare_runs([method], baseline=base)


@pytest.mark.parametrize("error", [0.5, float("nan")])
def test_neither_of_equal_runs_is_better(error: float, tmp_path: Path) -> None:
    """Nor is one whose number is lower-is-better and not defined."""
    other = dataclasses.replace(Recipe(), model=ModelConfig(decoder="vit"))
    paths = [write_run(tmp_path / r.model.decoder, r, np.full(9, error)) for r in (Recipe(), other)]
    found = compare_runs(paths)["differences"]["vit"]["depth"]
    assert (found["better"], found["clear"]) == (False, False)


def alike(folder: Path, method: Recipe, errors: np.ndarray, views: int) -> Path:
    """A run on rooms that are each seen by equal views."""
    run = write_run(folder, method, np.repeat(errors, views))
    edit_scores(run, groups=[f"room {i // views}" for i in range(views * len(errors))], sampling_unit="rooms")
    return run


def test_equal_views_of_a_room_count_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The interval is that of the rooms, not half as wide; scores of older versions have no groups."""
    errors = np.random.default_rng(4).uniform(0.3, 0.7, (2, 25))
    method = dataclasses.replace(Recipe(), model=ModelConfig(decoder="vit"))
    for views in (1, 4):
        for name, recipe, each in zip(("base", "method"), (Recipe(), method), errors, strict=True):
            alike(tmp_path / f"{views}/{name}", recipe, each, views)
    once, again = (
        compare_runs([tmp_path / f"{views}/base", tmp_path / f"{views}/method"])["differences"]["method"]["depth"]
        for views in (1, 4)
    )
    assert again == pytest.approx(once | {"sampling_unit": "rooms"}, nan_ok=True)
    assert once["sampling_unit"] == "images"
    assert once["drawn"] == 25
    assert "25 rooms of 100 images" in capsys.readouterr().out

    old = write_run(tmp_path / "old", Recipe(), np.repeat(errors[0], 4))
    mixed = compare_runs([old, tmp_path / "4/method"])["differences"]["method"]["depth"]
    assert mixed == pytest.approx(again, nan_ok=True)  # what one of two knows of the same images
    other = write_run(tmp_path / "other", method, np.repeat(errors[1], 4))
    found = compare_runs([old, other])["differences"]["other"]["depth"]
    assert (found["drawn"], found["sampling_unit"]) == (100, "images")
    assert found["high"] - found["low"] == pytest.approx((once["high"] - once["low"]) / 2, rel=0.2)


def test_a_handful_of_rooms_is_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    method = dataclasses.replace(Recipe(), model=ModelConfig(decoder="vit"))
    one = alike(tmp_path / "one", Recipe(), np.full(5, 0.3), 4)
    two = alike(tmp_path / "two", method, np.full(5, 0.4), 4)
    assert not compare_runs([one, two])["differences"]["two"]["depth"]["clear"]
    assert "too few rooms" in capsys.readouterr().out


def test_rooms_without_a_label_are_not_counted(tmp_path: Path) -> None:
    method = dataclasses.replace(Recipe(), model=ModelConfig(decoder="vit"))
    runs = [alike(tmp_path / name, recipe, np.full(9, 0.3), 2) for name, recipe in (("a", Recipe()), ("b", method))]
    for run in runs:
        sums = load_file(run / "evaluation-test.safetensors")
        for value in sums.values():
            value[8:] = 0
        save_file(sums, run / "evaluation-test.safetensors")
    assert compare_runs(runs)["differences"]["b"]["depth"]["drawn"] == 4


def test_no_verdict_against_the_seeds_that_both_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of three trainings was killed: the mean is better without it, and both others are worse."""
    method = dataclasses.replace(Recipe(), model=ModelConfig(decoder="mti-net"))
    base = [write_run(tmp_path / f"base{s}", Recipe(seed=s), np.full(9, e)) for s, e in enumerate((0.5, 0.6, 0.9))]
    rest = [
        write_run(tmp_path / f"rest{s}", dataclasses.replace(method, seed=s), np.full(9, e))
        for s, e in enumerate((0.52, 0.62))
    ]
    found = compare_runs(base + rest)["differences"]["rest"]["depth"]
    assert (found["seeds"], found["common_seeds"], found["clear"]) == (0, 2, False)
    # Images that are all alike leave no room: the interval is the difference that is printed.
    assert found["low"] == pytest.approx(found["mean"])
    assert found["high"] == pytest.approx(found["mean"])
    found = compare_runs([base[2], rest[0]])["differences"][rest[0].name]["depth"]
    assert (found["common_seeds"], found["clear"]) == (0, False)
    assert "other seeds" in capsys.readouterr().out


def test_numbers_of_other_definitions_do_not_compare(tmp_path: Path) -> None:
    other = dataclasses.replace(Recipe(), model=ModelConfig(decoder="vit"))
    one = write_run(tmp_path / "one", Recipe(), np.full(9, 0.5))
    two = write_run(tmp_path / "two", other, np.full(9, 0.5), aligned=True)
    with pytest.raises(ValueError, match=r"depth: the number is rmse in .*one, rmse_aligned in .*two; such numbers"):
        compare_runs([one, two])


def edit_scores(run: Path, **facts: object) -> None:
    """Change what a run's file of scores says."""
    file = run / "evaluation-test.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ([{}, {"protocol": "survey"}], "the protocol .* is none in .*run0, survey in .*run1"),
        ([{"scored_size": "48x64"}, {"scored_size": "24x32"}], "the size at .* is 48x64 in .*run0, 24x32 in .*run1"),
        ([{}, {"keys": ["a", "b", "c"]}], r"run1 was scored on other images than .*run0 \(6 differ\)"),
    ],
)
def test_seeds_that_were_scored_otherwise_are_never_averaged(facts: list[dict], words: str, tmp_path: Path) -> None:
    """Such as one by an older version, which knew no protocol of a recipe."""
    paths = [write_run(tmp_path / f"run{seed}", Recipe(seed=seed), np.ones(3)) for seed in range(2)]
    for path, changed in zip(paths, facts, strict=True):
        edit_scores(path, **changed)
    with pytest.raises(ValueError, match=words):
        compare_runs(paths)


def test_scores_of_images_that_an_older_version_did_not_pad_do_not_compare(tmp_path: Path) -> None:
    """Unless the network was trained at a size where it does not pad, or evaluation gives them whole cells."""
    sizes = {"whole": (64, 64), "odd": (50, 70)}
    runs = {
        name: write_run(tmp_path / name, Recipe(seed=1, data=DataConfig(size=size)), np.ones(9))
        for name, size in sizes.items()
    }
    runs["filled"] = write_run(
        tmp_path / "filled", Recipe(data=DataConfig(size=(64, 96), transform="atrc")), np.ones(9)
    )
    now = write_run(tmp_path / "now", Recipe(data=DataConfig(size=(64, 64))), np.ones(9))
    edit_scores(now, scored_size="50x70")
    for given in ({"runs": [runs["whole"], now]}, {"runs": [now], "single_task": [runs["whole"]]}):
        with pytest.raises(ValueError, match=r"padding .* is (none, by an older version, in .*whole|done in .*now)"):
            compare_runs(**given)
    for name in ("odd", "filled"):
        assert compare_runs([runs[name], now], single_task=[now])["differences"]
    edit_scores(now, scored_size="64x96")
    assert compare_runs([runs["whole"], now], single_task=[now])["values"]


def test_seeds_by_another_number_are_never_averaged(tmp_path: Path) -> None:
    """As of a descriptor that changed in between."""
    paths = [write_run(tmp_path / f"run{s}", Recipe(seed=s), np.ones(3), aligned=s == 1) for s in range(2)]
    with pytest.raises(ValueError, match=r"depth: the number is rmse in .*run0, rmse_aligned in .*run1"):
        compare_runs(paths)


def test_a_renamed_class_is_no_other_number_and_a_moved_one_is() -> None:
    names = [semseg(classes) for classes in (("wall", "couch"), ("wall", "sofa"), ("couch", "wall"))]
    assert [len(moved_classes(names[0], other)) for other in names] == [2, 0, 2]
    assert [one == other for one, other in moved_classes(names[0], names[2])] == [False, False]


def test_other_data_behind_the_scores_are_told(tmp_path: Path) -> None:
    other = dataclasses.replace(Recipe(), model=ModelConfig(decoder="vit"))
    paths = [write_run(tmp_path / "one", Recipe(), np.ones(9)), write_run(tmp_path / "two", other, np.ones(9))]
    for path, listing in zip(paths, ("a", "b"), strict=True):
        file = path / "evaluation-test.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"data": {"files": listing}}))
    assert compare_runs(paths)["recipes"]["scored on files"] == ["a", "b"]


def test_tasks_that_nothing_scored_are_left_out(tmp_path: Path) -> None:
    """Auxiliary ones, and those without a label on the split."""
    paths = []
    for seed in range(2):
        paths.append(write_run(tmp_path / f"run{seed}", Recipe(seed=seed), np.ones(9)))
        write_tasks(paths[-1] / "tasks.json", {"boundary": boundary(), "depth": depth()})
    assert list(compare_runs(paths)["values"]) == ["depth"]


def test_references_are_of_the_same_images_and_their_order_changes_nothing(
    runs: dict[str, list[Path]], tmp_path: Path
) -> None:
    singles = runs["better"]
    gains = [compare_runs(runs["base"], single_task=each)["delta_mtl"]["base"] for each in (singles, singles[::-1])]
    assert gains[0] == pytest.approx(gains[1])
    single = np.mean([read_scored_run(path, "test").primary("depth") for path in singles])
    values = [read_scored_run(path, "test").primary("depth") for path in runs["base"]]
    assert gains[0] == pytest.approx([100 * (single - value) / single for value in values])
    few = write_run(tmp_path / "few", Recipe(), np.ones(3))
    with pytest.raises(ValueError, match=r"few was scored on other images of test \(37 differ\), and delta_mtl"):
        compare_runs(runs["base"], single_task=[few])


def test_tasks_that_some_runs_lack_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also in the row of delta_mtl, which is of the others."""
    one = write_run(tmp_path / "one", Recipe(), np.ones(9))
    two = write_run(tmp_path / "two", Recipe(model=ModelConfig(decoder="mti-net")), np.ones(9))
    write_tasks(two / "tasks.json", {"boundary": boundary(), "depth": depth()})
    numbers = json.loads((two / "evaluation-test.json").read_text())["metrics"]
    edit_scores(two, metrics=numbers | {"boundary": {"odsF": 0.5}})
    for runs in ([one, two], [two, one]):
        content = compare_runs(runs, single_task=[one])
        assert (list(content["values"]), content["left_out"]) == (["depth"], {"boundary": [str(one)]})
        printed = capsys.readouterr().out
        assert f"boundary is left out: no numbers of it in {one}\n" in printed
        assert "1 tasks" in printed
    assert compare_runs([one], single_task=[one])["left_out"] == {}
    assert "all " in capsys.readouterr().out


def test_references_skipped_no_image_of_the_comparison(tmp_path: Path) -> None:
    network = write_run(tmp_path / "network", Recipe(), np.ones(9))
    single = write_run(tmp_path / "single", Recipe(), np.ones(8))
    edit_scores(single, skipped={"008": "damaged"})
    with pytest.raises(ValueError, match=r"single was scored on other images of test \(1 differ\)"):
        compare_runs([network], single_task=[single])
    edit_scores(network, skipped={"009": "damaged"})
    assert compare_runs([network], single_task=[network])["delta_mtl"] == {"network": [0.0]}


def test_labels_that_were_corrected_in_between_do_not_compare(tmp_path: Path) -> None:
    """Two methods, seeds of one, and references; files of older versions have no checksums."""
    recipes = Recipe(), Recipe(seed=1), Recipe(model=ModelConfig(decoder="mti-net"))
    paths = [write_run(tmp_path / f"run{i}", recipe, np.ones(9)) for i, recipe in enumerate(recipes)]
    edit_scores(paths[0], truth={"depth": {f"{i:03d}": "a" for i in range(9)}})
    assert compare_runs(paths, single_task=paths[1:2])["delta_mtl"]
    for path in paths[1:]:
        edit_scores(path, truth={"depth": {f"{i:03d}": "a" if i else "b" for i in range(9)}})
    for given in ({"runs": paths[:2]}, {"runs": paths[::2]}, {"runs": paths[:1], "single_task": paths[1:2]}):
        with pytest.raises(ValueError, match=r"depth: ground truth of 1 of 9 images differs between .*run0 .*\(000\)"):
            compare_runs(**given)


def test_references_of_a_task_are_seeds_of_one_method(tmp_path: Path) -> None:
    recipes = Recipe(), Recipe(seed=1, model=ModelConfig(backbone="resnet50"))
    singles = [write_run(tmp_path / f"single{i}", recipe, np.ones(9)) for i, recipe in enumerate(recipes)]
    with pytest.raises(ValueError, match=r"single-task runs of depth are not seeds of one method: model.backbone is"):
        compare_runs(singles[:1], single_task=singles)


@pytest.mark.parametrize(
    ("error", "options", "words"),
    [(0.5, {"aligned": True}, "the number is rmse in .*rmse_aligned in .*other"), (0.0, {}, "other has 0.0 as rmse")],
)
def test_references_are_of_the_same_number_and_above_0(
    error: float, options: dict, words: str, runs: dict[str, list[Path]], tmp_path: Path
) -> None:
    other = write_run(tmp_path / "other", Recipe(), np.full(IMAGES, error), **options)
    with pytest.raises(ValueError, match=words):
        compare_runs(runs["base"], single_task=[other])


def test_labels_that_are_stretched_to_other_sizes_do_not_compare(tmp_path: Path) -> None:
    def write(name: str, **data: object) -> Path:
        return write_run(tmp_path / name, Recipe(data=DataConfig(**data)), np.full(9, 0.5))

    small, large = (write(f"mtan{side}", transform="mtan", size=(side, side)) for side in (32, 64))
    for given in ({"runs": [small, large]}, {"runs": [small], "single_task": [large]}):
        with pytest.raises(ValueError, match=r"depth: the size at which .* is 32x32 in .*mtan32, 64x64 in .*mtan64"):
            compare_runs(**given)
    native = [write(f"native{side}", transform="invpt", size=(side, side)) for side in (32, 640)]
    assert compare_runs(native, single_task=native[:1])["delta_mtl"]
    with pytest.raises(ValueError, match=r"is 32x32 in .*mtan32, native in .*native32"):
        compare_runs([small, native[0]])
    for run in (small, native[0]):  # whose images are of that size
        scores = run / "evaluation-test.json"
        scores.write_text(json.dumps(json.loads(scores.read_text()) | {"scored_size": "32x32"}))
    assert compare_runs([small, native[0]], single_task=[native[0]])["differences"]


def test_the_order_of_the_images_does_not_matter(tmp_path: Path) -> None:
    errors = np.linspace(0.1, 1.0, IMAGES)
    keys = [f"{i:03d}" for i in range(IMAGES)]
    other = dataclasses.replace(Recipe(), model=ModelConfig(decoder="vit"))
    one = write_run(tmp_path / "one", Recipe(), errors, keys)
    two = write_run(tmp_path / "two", other, errors[::-1].copy(), keys[::-1])
    found = compare_runs([one, two])["differences"]["two"]["depth"]
    assert found["low"] == pytest.approx(0, abs=1e-12)
    assert found["high"] == pytest.approx(0, abs=1e-12)


def test_grouping_ignores_the_seed_alone(runs: dict[str, list[Path]]) -> None:
    groups = group_runs([read_scored_run(path, "test") for path in runs["better"] + runs["base"]])
    assert [len(group.runs) for group in groups] == [3, 3]


def test_grouping_ignores_what_computes_nothing(tmp_path: Path) -> None:
    """Workers, the place of data whose fingerprints are known, seeds of what draws, and of the runs begun from."""
    paths = []
    for seed in range(2):
        single = write_run(tmp_path / f"single{seed}", Recipe(seed=seed), np.ones(3))
        recipe = Recipe(
            seed=seed,
            data=DataConfig(num_workers=seed, root=f"disk{seed}"),
            model=ModelConfig(initialize_from=(str(single),)),
        )
        recipe = dataclasses.replace(recipe, weighting=dataclasses.replace(recipe.weighting, options={"seed": seed}))
        paths.append(write_run(tmp_path / f"run{seed}", recipe, np.ones(3)))
        (paths[-1] / "environment.json").write_text(json.dumps({"starts": [{"data": {"train": {"images": 3}}}]}))
    other = write_run(tmp_path / "single", Recipe(model=ModelConfig(decoder="deeplab")), np.ones(3))
    recipe = dataclasses.replace(recipe, model=ModelConfig(initialize_from=(str(other),)))
    paths.append(write_run(tmp_path / "another", recipe, np.ones(3)))
    (paths[-1] / "environment.json").write_text((paths[0] / "environment.json").read_text())
    content = compare_runs(paths)
    assert list(content["groups"].values()) == [[str(path) for path in paths[:2]], [str(paths[2])]]
    assert content["recipes"] == {"model.initialize_from": [(str(tmp_path / "single0"),), (str(other),)]}


@pytest.mark.parametrize(
    ("plugins", "differences"),
    [
        ([{"__main__": ""}, {"train_mine": ""}], None),  # a script, as older versions recorded it and as this one does
        ([{"__main__": ""}, {}], None),  # a notebook
        ([{}, {"my_lab": "1.0"}], None),  # of a source of a mixture
        ([{"my_lab": "1.0"}, {"my_lab": "1.1"}], {"plugins.my_lab": ["1.0", "1.1"]}),
    ],
)
def test_another_name_of_a_plugin_is_no_difference_and_another_version_is_told(
    plugins: list[dict], differences: dict | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading.STATE, "loaded", {"train_mine": "", "my_lab": "1.1"})
    paths = [
        write_run(tmp_path / f"run{seed}", Recipe(seed=seed, plugins=each), np.ones(3))
        for seed, each in enumerate(plugins)
    ]
    content = compare_runs(paths)
    assert len(content["groups"]) == (2 if differences else 1)
    assert content["recipes"] == (differences or {})


def test_rounds_of_labelling_are_no_seeds(tmp_path: Path) -> None:
    """Runs of one recipe on other labels are other methods, and what the labels were is said."""
    paths = []
    for number, teacher in enumerate(("first", "first", "second")):
        paths.append(write_run(tmp_path / f"round{number}", Recipe(seed=number), np.ones(3)))
        data = {"train": {"images": 3, "pseudo": {"depth": {"sha256": teacher}}}}
        (paths[-1] / "environment.json").write_text(json.dumps({"starts": [{"data": data}]}))
    content = compare_runs(paths)
    assert list(content["groups"].values()) == [[str(path) for path in paths[:2]], [str(paths[2])]]
    assert content["recipes"] == {"trained on train.pseudo.depth.sha256": ["first", "second"]}
    # An exported file does not say what it was trained on.
    file = write_run(tmp_path / "model.onnx.results", Recipe(), np.ones(3))
    assert compare_runs([paths[0], file])["recipes"] == {}
    assert len(compare_runs([*paths, file])["recipes"]["trained on train.pseudo.depth.sha256"]) == 3


def test_an_adapted_run_is_no_seed_of_what_it_was(tmp_path: Path) -> None:
    """A run that was trained with an adapter keeps its recipe when another one finishes it."""
    data = {"train": {"images": 9}, "target": {"images": 300}}
    paths = []
    for seed, images in enumerate((0, 200, 200, 50)):
        paths.append(write_run(tmp_path / f"{seed}", Recipe(seed=seed), np.full(IMAGES, 0.3)))
        starts: list[dict[str, object]] = [{"data": data}]
        if images:
            adapted = {"from": f"runs/{seed}", "weights_sha256": f"{seed}", "adapter": "adabn", "images": images}
            starts.append({"data": {"target": data["target"]}, "adapted": adapted})
        (paths[-1] / "environment.json").write_text(json.dumps({"starts": starts}))
    groups = group_runs([read_scored_run(path, "test") for path in paths])
    assert [[run.path for run in group.runs] for group in groups] == [paths[:1], paths[1:3], paths[3:]]
    assert recipe_differences(groups) == {
        "trained on adapted.adapter": ["-", "adabn", "adabn"],
        "trained on adapted.images": ["-", 200, 50],
    }
    recipes = [Recipe(seed=seed, model=ModelConfig(initialize_from=(str(paths[seed]),))) for seed in (0, 1, 2)]
    begun = [write_run(tmp_path / f"from {r.seed}", r, np.full(IMAGES, 0.3)) for r in recipes]
    assert [len(group.runs) for group in group_runs([read_scored_run(path, "test") for path in begun])] == [1, 2]


def test_facts_that_an_older_version_did_not_note_are_no_difference(tmp_path: Path) -> None:
    cameras: tuple[dict, ...] = ({}, {"camera": {"fov": 60}}, {"camera": {"fov": 90}})
    paths = []
    for seed, camera in enumerate(cameras):
        paths.append(write_run(tmp_path / f"run{seed}", Recipe(seed=seed), np.ones(3)))
        data = {"images": 3, **camera, **({"image_files": "images"} if camera else {})}
        (paths[-1] / "environment.json").write_text(json.dumps({"starts": [{"data": {"train": data}}]}))
        scores = paths[-1] / "evaluation-test.json"
        scores.write_text(json.dumps(json.loads(scores.read_text()) | {"data": data}))
    content = compare_runs(paths)
    assert list(content["groups"].values()) == [[str(path) for path in paths[:2]], [str(paths[2])]]
    assert content["recipes"] == {
        "trained on train.camera.fov": [60, 90],
        "scored on camera.fov": [60, 90],
    }


def test_runs_of_one_seed_differ_in_what_goes_with_the_seed(tmp_path: Path) -> None:
    """The runs that they began from, and the seed of a weighting that draws."""
    paths = []
    for seed in range(2):
        single = write_run(tmp_path / f"single{seed}", Recipe(seed=seed), np.ones(3))
        weighting = WeightingConfig(name="random", options={"seed": seed})
        recipe = Recipe(model=ModelConfig(initialize_from=(str(single),)), weighting=weighting)
        paths.append(write_run(tmp_path / f"run{seed}", recipe, np.ones(3)))
    assert compare_runs(paths)["recipes"] == {
        "model.initialize_from": [(str(tmp_path / f"single{seed}"),) for seed in range(2)],
        "weighting.options.seed": [0, 1],
    }


def test_another_path_and_a_seed_that_one_alone_has_are_no_difference(tmp_path: Path) -> None:
    single = write_run(tmp_path / "single", Recipe(), np.ones(3))
    (tmp_path / "link").symlink_to(single)
    recipes = [
        Recipe(model=ModelConfig(initialize_from=(str(single),))),
        Recipe(model=ModelConfig(initialize_from=(str(tmp_path / "link"),)), weighting=WeightingConfig(name="random")),
    ]
    paths = [write_run(tmp_path / str(i), recipe, np.ones(3)) for i, recipe in enumerate(recipes)]
    assert set(compare_runs(paths)["recipes"]) == {"weighting.name"}


def test_a_stopped_training_is_no_seed_of_a_finished_one(tmp_path: Path) -> None:
    """Nor is one that was stopped before its last evaluation; runs without a log pass for anything."""
    logs = [
        [("train", 20), ("evaluation", 20)],
        [("train", 20), ("evaluation", 10)],
        [("train", 14), ("evaluation", 10)],
        [("train", 20)],
    ]
    paths = []
    for seed, records in enumerate((*logs, None)):
        recipe = Recipe(seed=seed, schedule=ScheduleConfig(steps=20, warmup_steps=0))
        paths.append(write_run(tmp_path / f"run{seed}", recipe, np.ones(9)))
        if records is not None:
            lines = [json.dumps({"kind": kind, "step": step}) + "\n" for kind, step in records]
            (paths[-1] / "metrics.jsonl").write_text("".join(lines))
    content = compare_runs(paths)
    assert list(content["groups"].values()) == [[str(paths[i]) for i in each] for each in ((0, 3, 4), (1, 2))]
    assert content["recipes"] == {"training": ["finished", "step 10 of 20"]}
    assert compare_runs(paths[3:] + paths[:1])["recipes"] == {}


def test_trainings_of_several_versions_are_no_seeds(tmp_path: Path) -> None:
    paths = []
    for seed, version in enumerate(("0.1.0", "0.2.0.dev0", "0.2.0.dev0", None)):
        paths.append(write_run(tmp_path / f"run{seed}", Recipe(seed=seed), np.ones(9)))
        if version:
            content = sign({"version": version, "commit": None, "options": {}})
            (paths[-1] / "resolved.json").write_text(json.dumps(content))
    content = compare_runs(paths[1:] + paths[:1])
    assert list(content["groups"].values()) == [[*map(str, paths[1:])], [str(paths[0])]]
    assert content["recipes"] == {"trained by version": ["0.2.0.dev0", "0.1.0"]}


def test_runs_of_one_seed_are_no_group(runs: dict[str, list[Path]], tmp_path: Path) -> None:
    again = [write_run(tmp_path / "again" / str(seed), Recipe(seed=seed), np.ones(IMAGES)) for seed in range(2)]
    content = compare_runs(runs["base"] + again)
    assert list(content["groups"].values()) == [[*map(str, runs["base"])], [*map(str, again)]]
    assert content["recipes"] == {}


def test_raises_for_what_cannot_be_compared(runs: dict[str, list[Path]], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"was not scored on val; run `triptych evaluate"):
        compare_runs(runs["base"], split="val")
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        compare_runs([tmp_path / "nothing"])
    unscored = write_run(tmp_path / "unscored", dataclasses.replace(Recipe(), description="y"), np.ones(3))
    (unscored / "evaluation-test.json").rename(unscored / "evaluation-val.json")
    with pytest.raises(ValueError, match=r"on no split in common \(.*: test; .*unscored: val\)"):
        compare_runs([runs["base"][0], unscored])
    short = write_run(tmp_path / "short", dataclasses.replace(Recipe(), description="x"), np.ones(3))
    with pytest.raises(ValueError, match="scored on other images"):
        compare_runs([runs["base"][0], short])
    with pytest.raises(ValueError, match="no runs to compare"):
        compare_runs([])


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (("a/invpt-seed0", "a/invpt-seed1"), ["invpt"]),
        (("invpt/0", "invpt/1"), ["invpt"]),
        (("invpt_s00", "invpt_s01"), ["invpt"]),
        (("monday", "tuesday"), ["monday"]),
        (("run0", "run2"), ["run0"]),  # the second is no seed of its name
    ],
)
def test_a_group_of_seeds_has_the_name_of_the_method(
    folders: tuple[str, str], names: list[str], tmp_path: Path
) -> None:
    paths = [write_run(tmp_path / name, Recipe(seed=seed), np.ones(3)) for seed, name in enumerate(folders)]
    assert [group.name for group in group_runs([read_scored_run(path, "test") for path in paths])] == names


def test_runs_of_one_name_stay_apart(tmp_path: Path) -> None:
    other = dataclasses.replace(Recipe(), model=ModelConfig(decoder="vit"))
    paths = [
        write_run(tmp_path / "a" / "run", Recipe(), np.ones(3)),
        write_run(tmp_path / "b" / "run", other, np.ones(3)),
    ]
    content = compare_runs(paths)
    assert list(content["groups"]) == [str(path) for path in paths]
    assert list(content["differences"]) == [str(paths[1])]


def test_options_that_are_equal_are_not_listed(tmp_path: Path) -> None:
    """A table of options that only one recipe has is listed by its options, and nothing by its absence."""
    weighted = dataclasses.replace(
        Recipe(), data=dataclasses.replace(Recipe().data, task_options={"depth": {"loss": "berhu"}})
    )
    spelt_out = dataclasses.replace(Recipe(), model=ModelConfig(decoder_options={"dropout": 0.0}), seed=1)
    paths = [
        write_run(tmp_path / "plain", Recipe(), np.ones(3)),
        write_run(tmp_path / "berhu", weighted, np.ones(3)),
        write_run(tmp_path / "spelt", spelt_out, np.ones(3)),  # the default, written down: the same recipe
    ]
    content = compare_runs(paths)
    assert len(content["groups"]) == 2
    assert content["recipes"] == {"data.task_options.depth.loss": ["-", "berhu"]}


def test_a_verdict_has_the_images_of_its_task(runs: dict[str, list[Path]], capsys: pytest.CaptureFixture[str]) -> None:
    for path in runs["base"]:
        file = path / "evaluation-test.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"labelled": {"depth": 17}}))
    compare_runs(runs["base"] + runs["better"])
    table = capsys.readouterr().out.split("better minus base")[1]
    assert "17" in table.split("depth")[1].splitlines()[0]
    assert "better" in table.split("depth")[1].splitlines()[0]


def name_task(run: Path, *names: str) -> None:
    """Call a run's depth so, or say that it has several depths, all alike."""
    file, sums = run / "evaluation-test.json", run / "evaluation-test.safetensors"
    content, values = json.loads(file.read_text()), load_file(sums)
    content["metrics"] = {name: content["metrics"]["depth"] for name in names}
    file.write_text(json.dumps(content))
    save_file({key.replace("depth", name, 1): value.clone() for name in names for key, value in values.items()}, sums)
    write_tasks(run / "tasks.json", {name: depth().called(name) for name in names})


def test_the_interval_of_delta_mtl_is_over_images_that_are_the_same_for_all_tasks(
    runs: dict[str, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one task it is that of the task in percent of its single-task network; a second task that is equal in every
    image narrows nothing.
    """
    single = write_run(tmp_path / "single", Recipe(), np.full(IMAGES, 0.8))
    both = [*runs["base"], *runs["better"]]
    content = compare_runs(both, single_task=[single])
    found, depths = content["delta_mtl_differences"]["better"], content["differences"]["better"]["depth"]
    assert [found[name] for name in ("mean", "low", "high")] == pytest.approx(
        [-100 * depths[name] / 0.8 for name in ("mean", "high", "low")], rel=1e-5
    )
    assert (found["better"], found["clear"], found["drawn"]) == (True, True, IMAGES)
    row = next(line for line in capsys.readouterr().out.splitlines() if "delta_mtl" in line and "better" in line)
    assert f"{found['mean']:+.4g} ± " in row
    assert compare_runs(both)["delta_mtl_differences"] is None

    singles = [single, write_run(tmp_path / "other", Recipe(), np.full(IMAGES, 0.8))]
    name_task(singles[1], "far")
    for run in both:
        name_task(run, "depth", "far")
    assert compare_runs(both, single_task=singles)["delta_mtl_differences"]["better"] == pytest.approx(found)


def test_delta_mtl_is_against_single_tasks_alone(runs: dict[str, list[Path]], tmp_path: Path) -> None:
    file = runs["better"][0] / "evaluation-test.json"
    content = json.loads(file.read_text())
    content["metrics"]["normals"] = {"mErr": 20.0}
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"better0 has 2 tasks \(depth, normals\), and delta_mtl compares with single"):
        compare_runs(runs["base"], single_task=[runs["better"][0]])
