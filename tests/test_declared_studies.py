"""The declared studies: arms, seeds, rules of choice, and the trunks they start from."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from test_studies import load

load("trunks")  # puts `lab` where it can be imported
from lab import gains, rows  # noqa: E402
from lab.study import digest  # noqa: E402

STUDIES = Path(__file__).resolve().parents[1] / "studies"
DECLARED = (
    "trunks", "fog", "sharpness", "geometry_pilot", "preset", "geometry", "geometry_p", "bench_rates", "hed",
    "photographs", "cvm", "missing", "peers", "photo_trunk", "photo_labels", "lora", "second_look",
    "starts",
)  # fmt: skip


@pytest.mark.parametrize("name", DECLARED)
def test_declared_arms_are_told_apart_and_survive_json(name: str) -> None:
    from triptych.recipes.config import Recipe, from_json, to_json

    study = load(name).STUDY
    arms = study.arms()
    assert set(arms) == set(study.seeds)
    assert len({digest(settings) for settings in arms.values()}) == len(arms)
    for settings in arms.values():
        settings = getattr(settings, "recipe", settings)
        if isinstance(settings, Recipe):
            assert from_json(to_json(settings)) == settings
            assert not settings.data.val_split  # nothing is selected while training


def test_seeds_of_the_studies_do_not_meet() -> None:
    """What one chose, another does not score; a pilot's are never used again."""
    names = ("geometry_pilot", "preset", "geometry", "bench_rates", "cvm", "missing")
    seeds = [{seed for _, seed in load(name).STUDY.jobs()} for name in names]
    assert len(set.union(*seeds)) == sum(map(len, seeds))


def test_arms_of_geometry_differ_from_the_network_alone_in_the_branch() -> None:
    from triptych.recipes.config import RegularizerConfig

    for module in ("geometry", "geometry_p"):
        found = load(module).STUDY.arms()
        bare = [replace(recipe, regularizer=RegularizerConfig()) for recipe in found.values()]
        training = [replace(recipe, training=bare[0].training) for recipe in bare]  # A keeps more checkpoints
        assert all(recipe == training[0] for recipe in training)


def test_the_pilots_rule() -> None:
    pilot = load("geometry_pilot")

    def ends(*pairs: tuple[float, float]) -> list[dict[str, float]]:
        return [{"loss_minimum": low, "loss_end": end} for low, end in pairs]

    rising, lower, flat = ends((1.0, 1.1), (1.0, 1.2)), ends((0.8, 0.9), (0.9, 1.0)), ends((0.1, 0.1), (0.1, 0.2))
    assert pilot.choose({"rising": rising, "lower": lower, "flat": flat}) == ("lower", True)
    assert pilot.choose({"flat": flat, "flatter": ends((0.1, 0.1), (0.1, 0.11))}) == ("flat", False)


def test_the_presets_rule() -> None:
    preset = load("preset")
    generator = np.random.default_rng(3)

    def scores(gained: float, r2: float, excess: float, seconds: float) -> dict[int, dict[str, float]]:
        rows_of = {}
        for seed in preset.SEEDS:
            factor = 1 + (gained + generator.normal(0, 0.3)) / 100
            numbers = {"semseg": 0.2 * factor, "boundary": 0.2 * factor, "depth": 0.8 / factor, "normals": 28 / factor}
            before = {"before/R2": 0.05, "after/R2": r2, "after/below_dullest": excess, "processor_seconds": seconds}
            rows_of[seed] = numbers | before
        return rows_of

    old, fog = scores(0, 0.1, 0.0, 10), scores(5, 0.1, 0.0, 1)
    assert preset.choose({"old": old, "a": scores(3, 0.5, -0.3, 9), "b": scores(1, 0.5, -0.3, 3), "c": fog}) == (
        "a",
        "better",
    )
    assert preset.choose({"old": old, "a": scores(0, 0.5, -0.3, 9), "b": scores(-3, 0.5, -0.3, 3), "c": fog}) == (
        "b",
        "not better",
    )
    assert preset.choose({"old": old, "c": fog})[0] == "old"


def test_one_look_after_all_rows() -> None:
    geometry = load("geometry")
    assert (
        geometry.table([rows.Row("A", 0, "r", "c", {})])
        == f"1 of {len(geometry.STUDY.jobs())} rows; there is one look, after all of them."
    )
    generator = np.random.default_rng(0)
    found = []
    for arm, seed in geometry.STUDY.jobs():
        factor = 1 + ((3 if arm == "D" else 0) + generator.normal(0, 0.5)) / 100
        numbers = {"semseg": 0.2 * factor, "boundary": 0.2 * factor, "depth": 0.8 / factor, "normals": 28 / factor}
        numbers |= {"loss_minimum": 1.0, "loss_end": 1.1} if arm == "A" else {}
        found.append(rows.Row(arm, seed, "r", "c", numbers))
    text = geometry.table(found)
    assert f"overfits in {geometry.COUNT} of {geometry.COUNT}" in text
    assert "Geometry helps" in text


def test_the_density_and_the_seeds_of_geometry_follow_from_the_rows() -> None:
    from triptych.recipes.regularized import SURFACE
    from triptych.regularizers.triplane import PRESETS

    geometry, preset, arms = load("geometry"), load("preset"), load("geometry_arms")
    found = rows.read_declared(STUDIES.parent / "results" / "preset.jsonl", preset.STUDY.commit)
    assert preset.choose({name: rows.by_seed(found, name) for name in preset.CANDIDATES}) == (arms.CHOSEN, "better")
    assert geometry.seeds_by_rule(found) == geometry.COUNT
    assert load("branch").DENSITIES[arms.CHOSEN] == PRESETS[SURFACE["preset"]] | {"planes": "pooled"}


def test_the_rule_for_the_number_of_seeds() -> None:
    """More seeds where the rows that it reads differ by more, and 24 where no number is enough."""
    geometry, preset = load("geometry"), load("preset")

    def rows_of(deviation: float) -> list[rows.Row]:
        generator, found = np.random.default_rng(5), []
        for seed in preset.SEEDS:
            for arm in preset.CANDIDATES:
                factor = 1 + (0 if arm == preset.AS_BEFORE else generator.normal(0, deviation)) / 100
                numbers = {"semseg": 0.2 * factor, "boundary": factor, "depth": 0.8 / factor, "normals": 28 / factor}
                found.append(rows.Row(arm, seed, "r", "c", numbers))
        return found

    counts = [geometry.seeds_by_rule(rows_of(deviation)) for deviation in (0.2, 0.5, 0.7, 0.9, 5.0)]
    assert counts == sorted(counts)  # the same draws, scaled
    assert set(counts) == set(geometry.COUNTS)


def test_a_trunk_of_another_hash_is_refused(tmp_path: Path) -> None:
    trunks = load("trunks")
    path = tmp_path / "out" / "trunks" / "vit-tiny" / "seed-0" / "trunk.safetensors"
    with pytest.raises(ValueError, match="is missing"):
        trunks.trunk_file(tmp_path / "out", "vit-tiny", tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    with pytest.raises(ValueError, match="says nothing"):
        trunks.trunk_file(tmp_path / "out", "vit-tiny", tmp_path)
    rows.append(tmp_path / "trunks.jsonl", rows.Row("vit-tiny", 0, "r", "c", {"sha256": trunks.checksum(path)}))
    assert trunks.trunk_file(tmp_path / "out", "vit-tiny", tmp_path) == path
    path.write_bytes(b"other weights")
    with pytest.raises(ValueError, match="has hash") as caught:
        trunks.trunk_file(tmp_path / "out", "vit-tiny", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_study_run_again_goes_by_the_trunk_made_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trunks = load("trunks")
    path = tmp_path / "out" / "trunks" / "resnet18-half" / "seed-0" / "trunk.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"made on another processor")
    with pytest.raises(ValueError, match="--results DIR"):
        trunks.trunk_file(tmp_path / "out", "resnet18-half")
    row = rows.Row("resnet18-half", 0, "r", "c", {"sha256": trunks.checksum(path)})
    rows.append(tmp_path / "own" / "trunks.jsonl", row)
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path / "own"))  # as `--results` sets it
    assert trunks.trunk_file(tmp_path / "out", "resnet18-half") == path


def test_the_trunk_that_is_kept_is_that_of_its_row(tmp_path: Path) -> None:
    """A study takes it where none was made; one that was made comes first."""
    trunks = load("trunks")
    kept = STUDIES.parent / "results" / "trunks" / "resnet18-half.safetensors"
    assert trunks.trunk_file(tmp_path, "resnet18-half") == kept
    made = tmp_path / "trunks" / "resnet18-half" / "seed-0" / "trunk.safetensors"
    made.parent.mkdir(parents=True)
    made.write_bytes(b"another")
    with pytest.raises(ValueError, match=str(made)):
        trunks.trunk_file(tmp_path, "resnet18-half")


def test_area_under_curve_is_scikit_learns() -> None:
    import torch

    trunks, generator = load("trunks"), np.random.default_rng(0)
    truth = generator.integers(0, 2, 60)
    scores = generator.normal(size=60) + truth
    ranks = stats.rankdata(scores)
    positive = truth.sum()
    expected = (ranks[truth == 1].sum() - positive * (positive + 1) / 2) / (positive * (60 - positive))
    found = trunks.area_under_curve(torch.from_numpy(scores), torch.from_numpy(truth).double())
    assert found == pytest.approx(expected)


def test_fog_has_the_entropy_of_a_homogeneous_fog() -> None:
    """Rendered through the library's own equation, at any density."""
    import torch

    from triptych.rendering.volume import render_weights

    numbers = load("field_numbers")
    density = torch.tensor([0.01, 0.3, 2.0, 8.0]).double()[:, None].expand(4, 16)
    weights = render_weights(density, torch.full((16,), 2 / 16).double())
    expected = numbers.entropy(weights)
    assert numbers.fog_entropy(weights.sum(dim=-1), 16).tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert numbers.dullest_entropy(weights).tolist() == pytest.approx(expected.tolist(), abs=1e-9)


def test_what_the_studies_of_trunks_may_say() -> None:
    generator = np.random.default_rng(0)
    gains_of = {"full, 10 %": 0.06, "full, 100 %": 0.06, "frozen, 10 %": 0.02, "vit lora": 8, "swin lora": 8}
    photo, low_rank = load("photo_trunk"), load("lora")
    assert "contrasts are shown after all of them" in photo.table(
        [rows.Row("constant", 0, "r", "c", dict.fromkeys(photo.TASKS, 0.1))]
    )
    found = []
    for arm, seed in photo.STUDY.jobs():
        number = 0.2 + gains_of.get(arm, 0) + generator.normal(0, 0.001)
        found.append(rows.Row(arm, seed, "r", "c", {"semseg": number, "boundary": 0.3}))
    text = photo.table(found)
    assert "With few labels the pretrained trunk helps; with few labels training it helps beyond freezing it." in text
    assert "- full, 10 % is better than random, 10 % by " in text
    assert photo.contrasts(found)[0]["T1"].mean == pytest.approx(3, abs=0.2)  # hundredths, the mean of two numbers
    labels, found = load("photo_labels"), []
    for arm, seed in labels.STUDY.jobs():
        number = 0.2 - (0.03 if arm == "pseudo" else 0) + generator.normal(0, 0.001)
        found.append(rows.Row(arm, seed, "r", "c", dict.fromkeys(labels.TASKS, number)))
    text = labels.table(found)
    assert "None of the study's own sentences holds." in text
    assert "- pseudo is worse than masks by " in text  # harm is told
    assert "- mtpsl and masks are not told apart." in text
    assert labels.contrasts(found)[1]["pseudo - mtpsl"].mean == pytest.approx(-3, abs=0.5)
    found = []
    for arm, seed in low_rank.STUDY.jobs():
        factor = 1 + (gains_of.get(arm, 0) + generator.normal(0, 0.3)) / 100
        numbers = {"semseg": 0.2 * factor, "boundary": 0.2 * factor, "depth": 0.8 / factor, "normals": 28 / factor}
        found.append(rows.Row(arm, seed, "r", "c", numbers))
    assert "\n\nLoRA beats a frozen trunk. Contrast by contrast:" in low_rank.table(found)


def test_nothing_is_duller_than_the_dullest_weights_of_its_mean_depth() -> None:
    import torch

    numbers = load("field_numbers")
    weights = torch.rand(500, 16, generator=torch.Generator().manual_seed(0)).double() ** 4
    difference = numbers.entropy(weights) - numbers.dullest_entropy(weights)
    assert float(difference.max()) < 0
    surface = torch.eye(16).double()
    assert numbers.entropy(surface).tolist() == [0.0] * 16
    assert numbers.dullest_entropy(surface)[1:-1].min() > 0.4  # in the middle of the ray a mean leaves much open


def test_hed_becomes_our_trunk() -> None:
    """Random layers: features of RGB through timm's VGG are those of the layers on BGR, away from the border."""
    import torch
    from torch.nn import functional as F

    from triptych.backbones import create_backbone

    hed = load("hed")
    torch.manual_seed(0)
    backbone = create_backbone("vgg16").eval()
    layers = {}
    shapes = [backbone.body.state_dict()[f"features.{place}.weight"].shape for place in hed.LAYERS]
    names = [
        f"block{block}/layers/conv2d{f'_{i}' if i else ''}/vars"
        for block, count in enumerate(hed.BLOCKS, start=1)
        for i in range(count)
    ]
    for name, shape in zip(names, shapes, strict=True):
        layers[f"{name}/0"] = torch.randn(shape) * (2 / shape[1:].numel()) ** 0.5
        layers[f"{name}/1"] = torch.randn(shape[0]) * 0.1
    backbone.body.load_state_dict(hed.as_trunk(layers))
    image = torch.rand(1, 3, 48, 48)
    with torch.no_grad():
        found = backbone(image)[0]
        maps = (255 * image - torch.tensor(hed.MEAN)[:, None, None]).flip(1)
        waiting = iter(hed.convolutions(layers))
        for block, count in enumerate(hed.BLOCKS[:3]):
            maps = F.max_pool2d(maps, 2) if block else maps
            for _ in range(count):
                maps = F.relu(F.conv2d(maps, *next(waiting), padding=1))
    inner = (slice(None), slice(None), slice(5, 7), slice(5, 7))
    assert torch.allclose(found[inner], maps[inner], rtol=1e-3, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("arm", "ACDEFGBH")
def test_every_arm_trains_and_is_scored_by_task(arm: str, tmp_path: Path) -> None:
    from lab.training import train_and_score, validation_losses

    recipe = load("geometry").STUDY.arms()[arm]
    size = (32, 40)
    recipe = replace(
        recipe,
        data=replace(
            recipe.data, size=size, options={"size": size, "scenes": 4, "views": 1}, train_images=4, batch_size=2
        ),
        model=replace(recipe.model, weights=""),
        schedule=replace(recipe.schedule, steps=2, warmup_steps=1),
        training=replace(recipe.training, checkpoint_every=1),
    )
    assert set(train_and_score(recipe, tmp_path / "run", split="val")) == set(gains.HIGHER)
    if arm == "A":
        losses = validation_losses(recipe, tmp_path / "run")
        assert list(losses) == [1, 2]
        assert all(np.isfinite(loss) for loss in losses.values())


def test_arms_of_cvm_differ_in_what_is_said_of_them() -> None:
    found = {name: arm.recipe for name, arm in load("cvm").STUDY.arms().items()}
    poses = {name: recipe.data.options["poses"] for name, recipe in found.items()}
    assert {poses[name] for name in ("noisy", "identity", "shuffled")} == {"noisy", "identity", "shuffled"}
    for name in ("noisy", "identity", "shuffled"):
        data = replace(found[name].data, options=found[name].data.options | {"poses": "true"})
        assert replace(found[name], data=data) == found["true"]
    single = found["single"].model
    shared = {**single.cross_view_options, "single_share": found["true"].model.cross_view_options["single_share"]}
    assert replace(found["single"], model=replace(single, cross_view_options=shared)) == found["true"]
    bare = replace(found["frames"].model, cross_view="cvm", cross_view_options=found["true"].model.cross_view_options)
    assert replace(found["frames"], model=bare) == found["true"]
    branch, chosen = found["branch"].regularizer, load("geometry").STUDY.arms()["C"].regularizer
    assert replace(branch, name=chosen.name) == chosen
    assert found["both"].regularizer == branch


def test_arms_of_cvm_have_as_many_labelled_images_a_step() -> None:
    """As the network makes a batch of them, in training."""
    import torch

    from triptych import assemble
    from triptych.datasets.rooms import rooms_tasks
    from triptych.types import Camera, Sample, collate, valid_pixels

    cvm, tasks = load("cvm"), rooms_tasks()
    camera = Camera(torch.eye(3), torch.eye(4))
    view = Sample(torch.rand(3, 32, 32), {"depth": torch.ones(1, 32, 32)}, "a", camera)
    arms = cvm.STUDY.arms()
    load("view_poses").register_parts()
    networks = {}
    for name in ("alone", "frames", "true"):
        recipe = replace(arms[name].recipe, model=replace(arms[name].recipe.model, weights=""))
        networks[recipe.model.cross_view] = assemble.build_model(recipe, tasks).train()
    for recipe in (arm.recipe for arm in arms.values()):
        sample = replace(view, neighbors=(view,) * len(recipe.data.options["neighbor_frames"]))
        united, _ = networks[recipe.model.cross_view].with_views(collate([sample] * recipe.data.batch_size))
        assert int(valid_pixels(united.targets["depth"]).flatten(1).any(dim=1).sum()) == cvm.LABELLED


def test_poses_are_spoiled_as_said(tmp_path: Path) -> None:
    import torch

    view_poses = load("view_poses")
    motion = view_poses.motion
    options = {"scenes": 3, "views": 1, "path_length": 8, "neighbor_frames": (4, 2), "size": (16, 24)}
    rooms = {
        poses: view_poses.RoomsPoses(tmp_path, poses=poses, progress=False, workers=1, **options)
        for poses in ("true", "noisy", "identity", "shuffled")
    }
    seen = {poses: [motion(each[9], view) for view in each[9].neighbors] for poses, each in rooms.items()}
    true, everywhere = seen["true"], [motion(s, s.neighbors[0]) for s in map(rooms["true"].__getitem__, range(24))]
    assert all(torch.allclose(each, torch.eye(4), atol=1e-5) for each in seen["identity"])
    for moved, original in zip(seen["noisy"], true, strict=True):
        angle = torch.rad2deg(((torch.trace(moved[:3, :3].T @ original[:3, :3]) - 1) / 2).clamp(max=1).acos())
        assert float(angle) == pytest.approx(view_poses.TURN, abs=0.05)
        way = (moved[:3, 3] - original[:3, 3]).norm() / original[:3, 3].norm()
        assert float(way) == pytest.approx(view_poses.SHIFT, abs=1e-2)
    same = [torch.allclose(seen["shuffled"][0], each, atol=1e-4) for each in everywhere]
    assert sum(same[:8]) + sum(same[16:]) == 1
    assert not any(same[8:16])  # another room's
    again = rooms["shuffled"][9].neighbors[0].camera.pose
    assert torch.equal(again, rooms["shuffled"][9].neighbors[0].camera.pose)


def test_what_the_study_of_cvm_may_say() -> None:
    cvm = load("cvm")
    assert cvm.table([rows.Row("true", 400, "r", "c", {})]).startswith("1 of 41 rows")
    generator = np.random.default_rng(0)
    gains = {
        "alone": 0,
        "frames": 0,
        "single": 1,
        "identity": 2,
        "shuffled": 2,
        "noisy": 4,
        "true": 5,
        "branch": 0,
        "both": 5,
        "more": 5,
    }
    found = []
    for arm, seed in cvm.STUDY.jobs():
        factor = 1 + (gains.get(arm, -50) + generator.normal(0, 0.3)) / 100
        found.append(rows.Row(arm, seed, "r", "c", of_tasks(factor)))
    text = cvm.table(found)
    said = "CvM helps single images; matching views in training helps single images; the gain is geometry."
    assert f"\n\n{said} Contrast by contrast:" in text
    assert "- true is better than identity by " in text
    assert "- noisy is worse than true by " in text  # harm has a sentence, and stands apart
    assert text.count(" are not told apart") + text.count(" differ by less") + text.count(" better ") + text.count(
        " worse "
    ) == len(cvm.PRIMARY) + len(cvm.APART)
    assert "They are 0 of 60." in text
    assert cvm.contrasts(found, cvm.NAMES)[0]["M2"].mean == pytest.approx(4, abs=0.5)


def test_the_first_look_at_cvm_is_at_five_arms_and_says_the_same_of_them_as_the_second() -> None:
    cvm = load("cvm")
    generator = np.random.default_rng(1)
    scores = {job: of_tasks(1 + generator.normal(0, 0.01)) for job in cvm.STUDY.jobs()}
    found = [rows.Row(arm, seed, "r", "c", each) for (arm, seed), each in scores.items()]
    first = [row for row in found if row.arm in (*cvm.FIRST, "constant")]
    assert "there is one look" in cvm.table([row for row in found if row not in first[-1:]])
    for early in (first, found[:-1]):  # what came of the others before all of them is not shown
        text = cvm.table(early)
        assert not any(f"{arm} " in text for arm in ("alone", "noisy", "branch", "both", "more"))
        assert "single - frames" in text
        assert cvm.contrasts(early, cvm.looked_at(early))[0] == cvm.contrasts(found, cvm.NAMES)[0]


def of_tasks(factor: float) -> dict[str, float]:
    """Scores of the six tasks of rooms that are better by a factor."""
    higher = dict.fromkeys(("semseg", "boundary", "human_parts", "saliency"), 0.2 * factor)
    return {**higher, "depth": 0.8 / factor, "normals": 28 / factor}


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["frames", "single", "shuffled", "both", "more", "branch"])
def test_arms_of_cvm_train_and_are_scored(arm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(STUDIES)
    cvm = load("cvm")
    declared, size = cvm.STUDY.arms()[arm], (32, 40)
    recipe = declared.recipe
    options = {**recipe.data.options, "size": size, "scenes": 3}
    recipe = replace(
        recipe,
        data=replace(recipe.data, size=size, options=options, train_images=4, batch_size=2),
        schedule=replace(recipe.schedule, steps=2, warmup_steps=1),
    )
    monkeypatch.setattr(
        cvm, "placed", lambda r, seed, folder: replace(r, seed=seed, model=replace(r.model, weights=""))
    )
    monkeypatch.setattr(cvm, "TEST_IMAGES", 3)
    found = cvm.STUDY.score(replace(declared, recipe=recipe), 400, tmp_path / "run")
    alone = {name for name in found if not name.startswith("pairs/")}
    assert {"semseg", "depth", "normals", "boundary", "saliency"} <= alone <= set(gains.HIGHER)
    assert {*found} - alone == ({f"pairs/{name}" for name in alone} if recipe.model.cross_view == "cvm" else set())
    assert all(np.isfinite(number) for number in found.values())


def tiny(recipe, size: tuple[int, int] = (32, 40)):
    """A recipe of a study, of a few steps on a few images."""
    options = {**recipe.data.options, "size": size, "scenes": 8}
    return replace(
        recipe,
        data=replace(recipe.data, size=size, options=options, train_images=12, batch_size=4),
        schedule=replace(recipe.schedule, steps=3, warmup_steps=1),
    )


def test_pseudo_labels_stand_where_labels_were_lost_and_only_there(tmp_path: Path, monkeypatch) -> None:
    import torch

    from triptych.types import collate, valid_pixels

    one_label = load("one_label")

    monkeypatch.setattr(one_label, "teach", lambda run, sample, task: torch.ones_like(task.invalid_target((16, 24))))
    options = {"scenes": 3, "views": 2, "size": (16, 24), "progress": False, "workers": 1}
    bare = one_label.RoomsOneLabel(tmp_path, **options)
    filled = one_label.RoomsOneLabel(tmp_path, teachers="teachers", **options)
    depth = one_label.RoomsOneLabel(tmp_path, tasks=("depth",), **options)
    whole = one_label.Rooms(tmp_path, **options)
    for index in range(len(bare)):
        kept = [name for name, target in bare[index].targets.items() if valid_pixels(target).any()]
        assert len(kept) == 1
        assert bool(valid_pixels(depth[index].targets["depth"]).any()) == (kept == ["depth"])
        for name, target in filled[index].targets.items():
            true = whole[index].targets[name]
            if name in kept:
                assert torch.equal(target.nan_to_num(), true.nan_to_num())
            else:
                assert bool((target == 1).all()) == bool(valid_pixels(true).any())
    batch, plain = collate(list(map(filled.__getitem__, range(6)))), collate(list(map(bare.__getitem__, range(6))))
    for name, target in one_label.real_targets(batch).items():
        assert torch.equal(target.nan_to_num(-7), plain.targets[name].nan_to_num(-7))
    test = one_label.RoomsOneLabel(tmp_path, split="test", **options)[0]
    assert bool(valid_pixels(test.targets["depth"]).all() and valid_pixels(test.targets["semseg"]).all())


def test_what_the_study_of_missing_labels_may_say() -> None:
    missing = load("missing")
    generator = np.random.default_rng(0)
    gained = {"oracle": 20, "mtpsl": 6, "shuffled": 2, "pseudo": 10, "both": 10, "one-task": -3, "constant": -50}

    def rows_of(scale: float) -> list[rows.Row]:
        return [
            rows.Row(arm, seed, "r", "c", of_tasks(1 + (scale * gained.get(arm, 0) + generator.normal(0, 0.3)) / 100))
            for arm, seed in missing.STUDY.jobs()
        ]

    found = rows_of(1)
    text = missing.table(found)
    assert "MTPSL helps; MTPSL helps by the image's own labels; pseudo-labels help. Contrast by contrast:" in text
    assert "Missing labels cost something here (uncorrected)" in text
    assert "- mtpsl is better than shuffled by " in text
    assert "- both and pseudo differ by less than 1.0 points." in text
    assert "- one-task is worse than masks by " in text
    share, low, high = missing.shares(found)["pseudo"]
    assert share == pytest.approx(50, abs=8)
    assert low < share < high
    assert "no share is given" in missing.table(rows_of(0.03))  # a gap of 0.6 points does not lie above half a point


def test_the_null_row_meets_labels_of_other_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as MTPSL meets, also where a task has one label in the batch; of every other room sooner or later."""
    import torch

    from triptych.regularizers.mtpsl import MTPSL, Pair
    from triptych.tasks import depth
    from triptych.types import Sample, collate

    one_label = load("one_label")

    class Six:
        """Two views of three rooms, whose depth is the number of the image; the last one has none."""

        tasks = {"depth": depth()}  # noqa: RUF012

        def __len__(self) -> int:
            return 6

        def key(self, index: int) -> str:
            return f"train/{index // 2:05d}/{index % 2:02d}/000"

        def __getitem__(self, index: int) -> Sample:
            value = float(index) if index < 5 else torch.nan
            return Sample(torch.zeros(3, 8, 8), {"depth": torch.full((1, 8, 8), value)}, self.key(index))

    met: list[Sample] = []
    monkeypatch.setattr(MTPSL, "embed", lambda self, pairs, output, sample, size: met.append(sample))
    dataset = Six()
    one_label.MTPSLShuffled.others = one_label.OtherLabels(dataset, lambda sample, dice: sample)
    null = one_label.MTPSLShuffled.__new__(one_label.MTPSLShuffled)
    batch = collate([dataset[0], dataset[3]])
    for seed in range(40):
        null.embed([Pair(image, "semseg", "depth", seed) for image in (0, 1)], None, batch, (2, 2))
    values = [{float(sample.targets["depth"][image].mean()) for sample in met} for image in (0, 1)]
    assert values == [{2.0, 3.0, 4.0}, {0.0, 1.0, 4.0}]
    dataset.__class__.__len__ = lambda self: 2
    one_label.MTPSLShuffled.others = one_label.OtherLabels(dataset, lambda sample, dice: sample)
    with pytest.raises(ValueError, match="no other room"):
        null.embed([Pair(0, "semseg", "depth", 0)], None, batch, (2, 2))


@pytest.mark.slow
def test_arms_of_missing_labels_train_after_their_teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(STUDIES)
    missing = load("missing")
    monkeypatch.setattr(
        missing, "placed", lambda r, seed, folder: replace(r, seed=seed, model=replace(r.model, weights=""))
    )
    monkeypatch.setattr(missing, "TEST_IMAGES", 2)
    arms = {name: replace(arm, recipe=tiny(arm.recipe)) for name, arm in missing.STUDY.arms().items()}
    with pytest.raises(ValueError, match="has no trained teacher yet"):
        missing.STUDY.score(arms["pseudo"], 500, tmp_path / "out" / "early" / "seed-500")
    recipe = arms["shuffled"].recipe  # two rooms or more have a label of these
    data = replace(recipe.data, tasks=("semseg", "normals", "depth"), train_images=0)
    arms["shuffled"] = replace(arms["shuffled"], recipe=replace(recipe, data=data))
    for arm in (*(name for name in arms if name.startswith("teacher")), "both", "shuffled", "constant"):
        found = missing.STUDY.score(arms[arm], 500, tmp_path / "out" / arm / "seed-500")
        assert set(found) == set(arms[arm].recipe.data.tasks or gains.HIGHER)


def rows_of_bench(bench) -> list[rows.Row]:
    """Two methods two points above the single-task networks, and one whose boundaries are the constant's."""
    generator, gained = np.random.default_rng(0), {"vit": 2, "fcn": 2, "constant": -60}
    found = []
    for arm, seed in bench.STUDY.jobs():
        numbers = of_tasks(1 + (gained.get(arm, 0) + generator.normal(0, 0.5)) / 100)
        if arm == "atrc":
            numbers["boundary"] = 0.08
        if arm == "densemtl":
            numbers[bench.ALPHA] = 0.02 + 0.01 * seed
        if arm in bench.SINGLE:
            numbers = {bench.SINGLE[arm]: numbers[bench.SINGLE[arm]]}
        found.append(rows.Row(arm, seed, "r", "c", {**numbers, "rate": 2e-3, "trunk": "9050fb46"}))
    return found


def test_the_benchmark_shows_null_rows_and_orders_nothing() -> None:
    bench = load("bench")
    found = rows_of_bench(bench)
    assert bench.table(found[:-1]) == f"{len(found) - 1} of {len(found)} rows; the table is shown after all of them."
    lines = {line.split(" | ")[0]: line.split(" | ") for line in bench.table(found).splitlines()}
    assert lines["| constant"][2] == "1"
    assert lines["| single-task networks"][-2].startswith("0")
    assert float(lines["| vit"][-2].split(" ")[0]) == pytest.approx(2, abs=0.6)
    assert any(text.startswith("(0.08") for text in lines["| atrc"])
    assert lines["| atrc"][-2:] == ["– (3 of 4)", "– (4 of 5) |"]  # not the mean of the tasks that it learned
    assert "1 of 84 cells of methods have not learned" in bench.table(found)
    assert "3 seeds tell two methods" in bench.table(found)
    assert "mean |alpha| of DenseMTL's attention is 0.03 ± 0.01." in bench.table(found)
    other = replace(found[0], scores={**found[0].scores, "trunk": "65d543a7"})
    with pytest.raises(ValueError, match="two trunks"):
        bench.table([other, *found[1:]])


def test_every_network_of_the_benchmark_has_the_best_of_its_own_rates() -> None:
    """Rates whose run diverged are not chosen, ends are marked, of two alike the lower is taken."""
    bench_rates = load("bench_rates")
    best = {"vit": 4e-3, "single depth": 8e-3, "mtan": 4e-3}
    found = []
    for arm, seed in bench_rates.STUDY.jobs():
        network, rate = arm.rsplit(", ", 1)
        numbers = of_tasks(1.1 if float(rate) == best.get(network, 2e-3) else 1.0)
        if arm in ("fcn, 0.002", "fcn, 0.004", "fcn, 0.008"):
            numbers = {bench_rates.DIVERGED: True}
        found.append(rows.Row(arm, seed, "r", "c", {**numbers, "trunk": "9050fb46"}))
    chosen = bench_rates.choose(found)
    assert {network: chosen[network] for network in best} == best
    assert chosen["fcn"] == 1e-3
    assert set(chosen) == {*bench_rates.METHODS, *bench_rates.SINGLE}
    lines = {line.split(" | ")[0]: line for line in bench_rates.table(found).splitlines()}
    assert lines["| fcn"].endswith("| diverged | diverged | diverged | 0.001 (end) |")
    assert lines["| mtan"].split(" | ")[2] == "–"
    assert lines["| mtan"].endswith("| 0.004 |")
    assert lines["| single depth"].endswith("| 0.008 (end) |")
    with pytest.raises(ValueError, match="rates were tried"):
        bench_rates.choose(found[1:])
    nowhere = [
        replace(row, scores={bench_rates.DIVERGED: True, "trunk": "9050fb46"}) if row.arm.startswith("vit, 0") else row
        for row in found
    ]
    with pytest.raises(ValueError, match="vit diverged at every rate"):
        bench_rates.choose(nowhere)


def test_rates_of_a_network_are_compared_on_one_trunk() -> None:
    bench_rates = load("bench_rates")
    found = []
    for arm, seed in bench_rates.STUDY.jobs():
        trunk = "9050fb46" if arm.startswith("atrc") else "65d543a7"
        found.append(rows.Row(arm, seed, "r", "c", {**of_tasks(1.1 if arm.endswith("0.004") else 1.0), "trunk": trunk}))
    assert set(bench_rates.choose(found).values()) == {4e-3}
    mixed = [replace(row, scores={**row.scores, "trunk": "9"}) if row.arm == "mtan, 0.008" else row for row in found]
    with pytest.raises(ValueError, match="two trunks"):
        bench_rates.choose(mixed)


def test_a_rate_that_diverges_has_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bench_rates = load("bench_rates")

    def diverge(*_: object, **__: object) -> None:
        raise FloatingPointError("loss is nan at step 3")

    (tmp_path / "trunk.safetensors").write_bytes(b"")
    recipe = replace(next(iter(bench_rates.arms().values())), seed=0)
    recipe = replace(recipe, model=replace(recipe.model, weights=str(tmp_path / "trunk.safetensors")))
    monkeypatch.setattr(bench_rates, "placed", lambda recipe, seed, folder: recipe)
    monkeypatch.setattr(bench_rates, "train_and_score", diverge)
    found = bench_rates.score(recipe, 300, tmp_path)
    assert found[bench_rates.DIVERGED]
    assert set(found) == {bench_rates.DIVERGED, "trunk"}


def test_the_benchmark_declares_what_it_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(STUDIES)
    bench, bench_rates = load("bench"), load("bench_rates")
    monkeypatch.setitem(sys.modules, "bench_rates", bench_rates)
    monkeypatch.setattr(bench_rates, "chosen_rates", lambda: dict.fromkeys(bench_rates.NETWORKS, 1e-3))
    arms = bench.STUDY.arms()
    assert set(arms) == set(bench.STUDY.seeds)
    assert len({digest(arm) for arm in arms.values()}) == len(arms)
    assert arms["single depth"].recipe.data.tasks == ("depth",)
    assert all(arm.recipe.data.options["scenes"] >= bench.SCORED for arm in arms.values())
    strides = {name: arm.recipe.model.backbone_options.get("output_stride", 32) for name, arm in arms.items()}
    assert {name for name, stride in strides.items() if stride == 8} == set(bench.ON_ONE_MAP)


@pytest.mark.parametrize("name", ["photographs", "geometry_p"])
def test_contrasts_are_shown_after_all_rows(name: str) -> None:
    study = load(name)
    generator = np.random.default_rng(0)
    found = [rows.Row(arm, seed, "r", "c", of_tasks(1 + generator.normal(0, 0.01))) for arm, seed in study.STUDY.jobs()]
    assert study.table(found[:-1]) == f"{len(found) - 1} of {len(found)} rows; there is one look, after all of them."
    assert "p (uncorrected)" in study.table(found)


def test_the_study_of_adaptation_asks_for_gains_beyond_the_norms() -> None:
    """Paired over seeds and corrected for all; a share of a gap that seeds do not tell is not given; null rows."""
    second_look = load("second_look")
    generator = np.random.default_rng(2)
    base = {"semseg": 0.1, "depth": 1.0}
    gained = {second_look.SOURCE: 0.0, "dacs": 0.06, second_look.ORACLE: 0.2}  # others 0.02, as the norms alone

    def scores_of(network: str, training: str) -> dict[str, float]:
        scale = {"vanilla": 1, "densemtl": 0.01}[network]
        found = {}
        for state in second_look.STATES.values():
            for task, low in base.items():
                sign = 1 if gains.HIGHER[task] else -1
                alone = 0.02 if state else gained[second_look.SOURCE]
                better = alone if training == second_look.SOURCE else gained.get(training, 0.02)
                better = scale * (better + generator.normal(0, 0.004))
                found[f"{task}{state}"] = low + sign * better
        return found

    found = []
    for arm, seed in second_look.STUDY.jobs():
        numbers = {"semseg": 0.02, "depth": 3.0} if arm in second_look.NULL else scores_of(*arm.split(", "))
        if arm.endswith(second_look.REFERENCE):  # after AdaBN the same network
            alone = arm.replace(second_look.REFERENCE, second_look.SOURCE)
            same = rows.by_seed(found, alone)[seed]
            numbers |= {name: value for name, value in same.items() if name.endswith(second_look.AFTER)}
        found.append(rows.Row(arm, seed, "r", "c", numbers))
    assert second_look.table(found[1:]).startswith(f"{len(found) - 1} of {len(found)} rows")
    by_arm = {arm: rows.by_seed(found, arm) for arm in second_look.STUDY.seeds}
    told = second_look.beyond(by_arm)
    assert len(told) == 2 * len(second_look.LEARNING) * 2 * 2
    above = {name for name, each in told.items() if each.above}
    assert {("vanilla", "dacs", state, task) for state in second_look.STATES.values() for task in base} <= above
    assert {method for _, method, _, _ in above} == {"dacs"}
    assert told["vanilla", "dacs", "", "depth"].mean == pytest.approx(0.04, abs=0.005)
    least = min(told.values(), key=lambda each: each.p)
    assert least.adjusted == pytest.approx(len(told) / 2 * least.p)  # of one network's
    share = second_look.closed(by_arm, "vanilla", "dacs", "depth", second_look.AFTER)
    assert float(share.split()[0]) == pytest.approx(30, abs=3)
    assert second_look.closed(by_arm, "densemtl", "dacs", "semseg", "") == "–"
    text = second_look.table(found)
    assert f"of {len(told)} differences" in text.lower()
    assert text.count("\n| vanilla") == text.count("\n| densemtl") == 2 * len(second_look.TRAINED)
    assert "| – | constant | – | 1 | 0.02 |" in text
    assert len(second_look.STUDY.jobs()) == 1 + 3 + (8 + 3) * len(second_look.TRAINED)
    [last] = [row for row in found if (row.arm, row.seed) == ("densemtl, statistics only", 600)]
    learned = replace(last, scores=last.scores | {f"depth{second_look.AFTER}": 0.9})
    with pytest.raises(ValueError, match=r"densemtl, statistics only, seed 600: depth after adabn is 0\.9, of source"):
        second_look.table([learned if row is last else row for row in found])


def test_the_study_of_starts_measures_what_swapped_maps_change() -> None:
    """Nothing where outputs do not depend on the deepest map, all of it where on nothing else; the arms are recipes."""
    from torch import nn, ones, rand, zeros

    from triptych.recipes import RECIPES

    starts = load("starts")
    assert RECIPES["rooms-densemtl"].model.decoder_options == starts.STARTS["densemtl, now"][1]
    assert RECIPES["rooms-pad-net-plus"].model.decoder_options == starts.STARTS["pad-net-plus, now"][1]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Module()
            self.backbone.stages = nn.ModuleList([nn.Sequential(nn.Identity())])

        def forward(self, x):
            deep = self.backbone.stages[-1](x)
            outputs = {"deep": deep, "half": deep + x, "fine": x + zeros(()) * deep, "twice": 2 * deep + ones(())}
            return SimpleNamespace(predictions=outputs)

    found = starts.shares(Network(), rand(6, 3, 4, 5))
    assert found == pytest.approx({"deep": 1, "half": 0.5, "fine": 0, "twice": 1})


def test_adaptation_starts_from_the_recipes_on_rooms() -> None:
    from triptych.recipes import RECIPES

    second_look = load("second_look")
    source, oracle = (second_look.trainings("densemtl")[name] for name in (second_look.SOURCE, second_look.ORACLE))
    assert source.model.decoder_options == RECIPES["rooms-densemtl"].model.decoder_options
    assert not source.adaptation.used
    assert source.data.options.get("look", "a") == "a"
    assert oracle.data.options["look"] == "b"
    assert len({digest(arm) for arm in second_look.arms().values()}) == len(second_look.arms())
    assert {"constant", "untrained"} <= set(second_look.arms())
