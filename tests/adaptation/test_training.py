"""Adaptation in the training loop: whose optimizer moves what, what is hidden, and what is refused."""

import json
import runpy
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from adaptation.networks import network
from adaptation.test_properties import ADAPTED, NAMES, OPTIONS, every_learning_adapter
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from training.tiny import RECIPE, SIZE, Rectangles, change
from training_runs import lines, resumed, run_recipe, weights_after

from triptych import assemble
from triptych.adaptation.adversarial import AdversarialAlignment
from triptych.adaptation.base import image_pixels
from triptych.adaptation.mean_teacher import MeanTeacher
from triptych.augmentation.view import PAD_COLOR
from triptych.datasets import DATASETS
from triptych.datasets.rooms import rooms_tasks
from triptych.evaluation.run import evaluate_run
from triptych.lookup import require_options
from triptych.recipes import RECIPES
from triptych.recipes.config import OptimizerConfig, ScheduleConfig, from_json, split_domain, to_json
from triptych.tasks import semseg
from triptych.training import step
from triptych.training.checkpoint import list_checkpoints
from triptych.training.optim import build_optimizer
from triptych.training.parts import Parts
from triptych.types import Sample
from triptych.weighting.losses import PRESETS

ADVERSARIAL = change(ADAPTED, adaptation__name="advent-mt", adaptation__options={"width": 4})
STILL = {"adaptation__optimizer": OptimizerConfig(name="sgd", lr=0.0, momentum=0.0, weight_decay=0.0)}


def adapter_of(run: Path, place: int = -1) -> dict[str, Tensor]:
    tensors = load_file(list_checkpoints(run)[place] / "adapter.safetensors")
    return {name: value for name, value in tensors.items() if name.endswith(("original", "bias"))}


def moved(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_the_adapters_optimizer_moves_the_discriminators_alone(tmp_path: Path) -> None:
    """With a rate of 0 they stay, and the network's own rate of 0 keeps the network but not them."""
    recipe = change(ADVERSARIAL, schedule__steps=4, training__checkpoint_every=2)
    still = run_recipe(change(recipe, **STILL), tmp_path / "still")
    assert moved(adapter_of(still, 0), adapter_of(still, 1)) == 0
    alone = run_recipe(change(recipe, optimizer__lr=0.0, optimizer__weight_decay=0.0), tmp_path / "alone")
    assert moved(adapter_of(alone, 0), adapter_of(alone, 1)) > 0
    first, second = (load_file(folder / "model.safetensors") for folder in list_checkpoints(alone))
    weights = [name for name in first if "running" not in name and "tracked" not in name]
    assert all(torch.equal(first[name], second[name]) for name in weights)


def test_the_adapters_rate_follows_its_own_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    original = step.set_learning_rate

    def record(optimizer: torch.optim.Optimizer, factor: float) -> None:
        original(optimizer, factor)
        rates.append(optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(step, "set_learning_rate", record)
    run_recipe(change(ADVERSARIAL, schedule__steps=5), tmp_path / "run")
    assert rates == pytest.approx([1e-4 * (1 - step / 5) ** 0.9 for step in range(5)])
    rates.clear()
    longer = change(
        ADVERSARIAL, schedule__steps=2, adaptation__schedule=ScheduleConfig(name="poly", power=1.0, steps=8)
    )
    run_recipe(longer, tmp_path / "longer")
    assert rates == pytest.approx([1e-4, 1e-4 * 7 / 8])


def test_discriminators_are_clipped_to_their_own_norm() -> None:
    """A step of plain gradient descent is then as long as the norm."""
    weights = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]
    for weight in weights:
        weight.grad = torch.full_like(weight, 5.0)
    rate = OptimizerConfig(name="sgd", lr=1.0, momentum=0.0, weight_decay=0.0, clip_norm=0.25)
    recipe = change(ADVERSARIAL, adaptation__optimizer=rate)
    optimizer = build_optimizer([{"params": weights, "base_lr": 1.0}], rate)
    adapter = Mock(spec=AdversarialAlignment, own_parameters=lambda: weights)
    parts = Mock(spec=Parts, recipe=recipe, objective=Mock(adapter=adapter), adapter_optimizer=optimizer)
    step.step_adapter(parts, 0)
    assert torch.cat([weight.detach().flatten() for weight in weights]).norm().item() == pytest.approx(0.25)


def test_discriminators_do_not_count_in_the_gradient_norm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own losses a thousand times larger change neither the norm nor the clipped step of the network."""
    recipe = change(ADVERSARIAL, schedule__steps=1, optimizer__clip_norm=0.1, training__log_every=1)
    plain = run_recipe(recipe, tmp_path / "plain")
    own_losses = AdversarialAlignment.own_losses
    monkeypatch.setattr(
        AdversarialAlignment, "own_losses", lambda self: {name: 1e3 * v for name, v in own_losses(self).items()}
    )
    loud = run_recipe(recipe, tmp_path / "loud")
    first, second = lines(plain, "train")[0], lines(loud, "train")[0]
    assert second["adapter"] == pytest.approx(1e3 * first["adapter"], rel=1e-5)
    assert second["gradient_norm"] == first["gradient_norm"]
    ours, theirs = load_file(plain / "model.safetensors"), load_file(loud / "model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_two_batches_of_four_move_discriminators_as_one_of_eight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(self: AdversarialAlignment, name: str, *maps: Tensor) -> Tensor:
        return self.discriminators[name].eval()(
            torch.cat(maps)
        )  # no mirroring, no power iteration: the same for every call

    monkeypatch.setattr(AdversarialAlignment, "judge", judge)
    recipe = change(
        ADVERSARIAL,
        data__tasks=("semseg", "normals"),
        model__backbone_options={"norm": False},
        model__decoder_options={},
        optimizer__name="sgd",
        schedule__steps=2,
        adaptation__optimizer=OptimizerConfig(name="sgd", lr=0.1, momentum=0.9),
    )
    once = change(recipe, data__batch_size=8)
    twice = change(recipe, data__batch_size=4, training__accumulate=2)
    pairs = [
        (weights_after(each, tmp_path / name), adapter_of(tmp_path / name))
        for each, name in ((once, "once"), (twice, "twice"))
    ]
    for first, second in zip(*pairs, strict=True):
        for name, value in first.items():
            torch.testing.assert_close(second[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_resumed_run_whose_discriminators_wait_equals_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They begin at the fourth step: the first checkpoint has nothing of their optimizer."""
    recipe = change(ADVERSARIAL, adaptation__options={"width": 4, "start_step": 3})
    resumed(recipe, tmp_path, monkeypatch, step=3)


def test_a_teacher_begins_with_the_weights_that_a_run_starts_from_and_follows_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_recipe(change(ADAPTED, schedule__steps=2, data__val_split=""), tmp_path / "first")
    taught: list[dict[str, Tensor]] = []
    forward = MeanTeacher.forward

    def watch(self: MeanTeacher, *arguments: object) -> dict[str, Tensor]:
        taught.append({name: value.clone() for name, value in self.teacher.state_dict().items()})
        assert self.steps == 1
        return forward(self, *arguments)

    monkeypatch.setattr(MeanTeacher, "forward", watch)
    recipe = change(ADAPTED, model__initialize_from=(str(first),), adaptation__name="mean-teacher", data__val_split="")
    second = run_recipe(change(recipe, schedule__steps=1, training__ema=0.0), tmp_path / "second")
    start = load_file(first / "model.safetensors")
    assert all(torch.equal(taught[0][name], value) for name, value in start.items())
    trained, adapter = (
        load_file(list_checkpoints(second)[-1] / f"{name}.safetensors") for name in ("model", "adapter")
    )
    for name, value in trained.items():
        mixed = start[name].lerp(value, 9 / 11) if value.is_floating_point() else value
        torch.testing.assert_close(adapter[f"teacher.{name}"], mixed)
    assert any(not torch.equal(trained[name], value) for name, value in start.items())


@every_learning_adapter
def test_half_precision_trains(name: str, tmp_path: Path) -> None:
    recipe = change(
        ADAPTED,
        schedule__steps=2,
        data__val_split="",
        training__precision="bf16",
        adaptation__name=name,
        adaptation__options=OPTIONS.get(name, {}),
    )
    record = lines(run_recipe(recipe, tmp_path / "run"), "train")[-1]
    assert 0 < record["adaptation"] < 1e3


class Uniform(Rectangles):
    """Target images whose labels show one class only."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return replace(sample, targets=sample.targets | {"semseg": torch.ones_like(sample.targets["semseg"])})


def test_labels_of_the_target_choose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the place of a crop, which avoids what one class fills where there are labels."""
    monkeypatch.setitem(DATASETS, "uniform", Uniform)
    recipe = change(ADAPTED, schedule__steps=3, data__val_split="", data__size=(24, 30), data__transform="atrc")
    images: dict[str, list[Tensor]] = {"rectangles": [], "uniform": []}
    for name, seen in images.items():

        def forward(self, model, source, target, output, seen=seen):
            assert not target.targets
            seen.append(target.image)
            return {"nothing": 0 * output.predictions["depth"].sum()}

        with monkeypatch.context() as patch:
            patch.setattr("triptych.adaptation.adversarial.MinEnt.forward", forward)
            run_recipe(change(recipe, adaptation__name="min-ent", adaptation__dataset=name), tmp_path / name)
    assert torch.equal(torch.cat(images["rectangles"]), torch.cat(images["uniform"]))


def test_padding_of_target_images_is_told_from_images(tmp_path: Path) -> None:
    """It has one color, which no pixel of an image has."""
    recipe = change(ADAPTED, data__size=(40, 56), data__transform="default", adaptation__name="min-ent")
    outside: list[Tensor] = []

    def forward(self, model, source, target, output):
        outside.append((target.image == torch.tensor(PAD_COLOR).view(1, 3, 1, 1)).all(dim=1, keepdim=True))
        assert torch.equal(image_pixels(target), ~outside[-1])
        return {"nothing": 0 * output.predictions["depth"].sum()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("triptych.adaptation.adversarial.MinEnt.forward", forward)
        run_recipe(change(recipe, schedule__steps=3, data__val_split=""), tmp_path / "run")
    assert 0 < torch.cat(outside).float().mean() < 0.6


def test_domains_of_one_length_are_not_paired_image_by_image(tmp_path: Path) -> None:
    """Numbers of the images of both domains, as the loaders give them."""
    recipe = change(ADAPTED, adaptation__name="min-ent", schedule__steps=6, adaptation__split="train")
    seen: list[tuple[str, str]] = []

    def forward(self, model, source, target, output):
        seen.extend(zip(source.key, target.key, strict=True))
        return {"nothing": 0 * output.predictions["depth"].sum()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("triptych.adaptation.adversarial.MinEnt.forward", forward)
        run_recipe(recipe, tmp_path / "run")
    assert len(seen) == 24
    assert sum(source == target for source, target in seen) < 12


def test_the_target_has_its_own_transform_and_size(tmp_path: Path) -> None:
    sizes: set[tuple[int, ...]] = set()

    def forward(self, model, source, target, output):
        sizes.add((*source.image.shape[-2:], *target.image.shape[-2:]))
        return {"nothing": 0 * output.predictions["depth"].sum()}

    recipe = change(
        ADAPTED,
        adaptation__name="min-ent",
        adaptation__size=(40, 36),
        adaptation__transform="densemtl",
        schedule__steps=1,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("triptych.adaptation.adversarial.MinEnt.forward", forward)
        run_recipe(recipe, tmp_path / "run")
    assert sizes == {(*SIZE, 40, 36)}


# What is refused


def test_a_target_domain_has_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"adaptation\.dataset is empty; name the target domain"):
        run_recipe(change(ADAPTED, adaptation__name="dacs", adaptation__dataset=""), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_wrong_with_the_target_is_said_of_the_target(tmp_path: Path) -> None:
    recipe = change(ADAPTED, adaptation__name="dacs", adaptation__dataset="images", adaptation__split="train")
    where = r"target domain \(adaptation\.dataset, adaptation\.root\)"
    with pytest.raises(ValueError, match=f"{where}: dataset 'images' needs its folder"):
        run_recipe(recipe, tmp_path / "run")
    with pytest.raises(ValueError, match=f"{where}: .* has no images"):
        run_recipe(change(recipe, adaptation__root=str(tmp_path)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["dacs", "depth-mix"])
def test_mixing_two_sizes_is_refused_before_anything_is_trained(name: str, tmp_path: Path) -> None:
    recipe = change(ADAPTED, adaptation__name=name, adaptation__size=(40, 36))
    with pytest.raises(ValueError, match=rf"'{name}' pastes source images of .* into target images of \(40, 36\)"):
        run_recipe(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_photographs_is_a_target(tmp_path: Path) -> None:
    """Of any sizes, at least as large as the training's; without labels, cameras or a description."""
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (50 + i, 70 - i, 3), np.uint8)
        (tmp_path / "photos" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / str(i % 2) / f"{i}.png")
    recipe = change(
        ADAPTED,
        data__transform="densemtl",
        data__val_split="",
        adaptation__name="dacs",
        adaptation__dataset="images",
        adaptation__root=str(tmp_path / "photos"),
        adaptation__split="train",
        schedule__steps=2,
    )
    assert lines(run_recipe(recipe, tmp_path / "run"), "train")[-1]["adaptation"] > 0


class Empty(Rectangles):
    def __len__(self) -> int:
        return 0


def test_a_target_domain_without_images_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "empty", Empty)
    with pytest.raises(ValueError, match="target domain has no images: split 'other' of dataset 'empty' is empty"):
        run_recipe(change(ADAPTED, adaptation__name="dacs", adaptation__dataset="empty"), tmp_path / "run")


class Foreign(Rectangles):
    def __init__(self, root: str = "", **options: object) -> None:
        super().__init__(root, **options)
        self.tasks = self.tasks | {"semseg": semseg(["0", "1", "tree", "3"])}


def test_other_classes_are_named_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "foreign", Foreign)
    with pytest.raises(ValueError, match="'semseg' do not map: 2 is '2' in the source and 'tree' in the target"):
        run_recipe(change(ADAPTED, adaptation__name="dacs", adaptation__dataset="foreign"), tmp_path / "run")
    baseline = change(ADAPTED, adaptation__name="none", adaptation__dataset="foreign", data__val_split="target-val")
    with pytest.raises(ValueError, match="'semseg' do not map: 2 is '2' in the source and 'tree' in the target"):
        run_recipe(baseline, tmp_path / "run")


# Scoring on the target


def test_a_run_is_scored_on_a_split_of_its_target_domain(tmp_path: Path) -> None:
    """Also one that does not adapt: the source-only baseline."""
    recipe = change(ADAPTED, schedule__steps=1, data__val_split="target-val", data__test_split="target-test")
    for name in ("none", "min-ent"):
        run = run_recipe(change(recipe, adaptation__name=name), tmp_path / name)
        assert lines(run, "evaluation")[-1]["split"] == "target-val"
        evaluation = evaluate_run(run, device="cpu", constant=False, progress=False)
        assert evaluation.keys[0].startswith("test-")
        assert json.loads((run / "evaluation-target-test.json").read_text())["images"] == 5


def test_names_of_splits_lead_to_domains() -> None:
    recipe = change(ADAPTED, adaptation__transform="densemtl", adaptation__dataset_options={"slow": 0.0})
    assert split_domain(recipe, "val") == (recipe, "val")
    assert split_domain(RECIPE, "target-val") == (RECIPE, "target-val")  # a dataset may name its splits so
    target, split = split_domain(recipe, "target-train")
    assert (target.data.transform, target.data.size, split) == ("densemtl", recipe.data.size, "train")
    assert target.data.options == {"slow": 0.0}


# Recipes


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.adaptation.name != "none"])
def test_recipes_name_what_there_is_and_score_on_their_target(name: str) -> None:
    recipe = from_json(to_json(RECIPES[name]))
    assert recipe.adaptation.name in NAMES
    assert recipe.data.test_split.startswith("target-")
    for each, split in ((recipe, recipe.data.train_split), split_domain(recipe, recipe.data.test_split)):
        require_options(each.data.dataset, DATASETS[each.data.dataset], {**each.data.options, "split": split})


STREETS = Path(__file__).parent.parent / "datasets"
SOURCES = {"synthia-cityscapes": "synthia", "vkitti2-cityscapes": "vkitti2"}


@pytest.mark.parametrize("name", SOURCES)
def test_street_recipes_read_what_they_train(name: str, tmp_path: Path) -> None:
    """No normals are computed of 180,000 depth maps for nobody."""
    root = runpy.run_path(str(STREETS / f"test_{SOURCES[name]}.py"))["write"](tmp_path)
    recipe = change(RECIPES[name], data__root=str(root or tmp_path))
    assert tuple(assemble.build_training_set(recipe).tasks) == recipe.data.tasks


@pytest.mark.parametrize("name", SOURCES)
def test_street_recipes_run_on_small_archives(name: str, tmp_path: Path) -> None:
    """With a tiny network: readers, pipelines and label spaces of both sides fit together."""
    for dataset in (SOURCES[name], "cityscapes"):
        runpy.run_path(str(STREETS / f"test_{dataset}.py"))["write"](tmp_path / dataset)
    recipe = change(
        RECIPES[name],
        data__root=str(tmp_path / SOURCES[name]),
        data__size=(64, 96),
        data__num_workers=0,
        adaptation__root=str(tmp_path / "cityscapes"),
        adaptation__options={"width": 4},
        model=change(RECIPE, model__decoder_options={"intermediate": True}).model,
        schedule__steps=2,
    )
    run = run_recipe(recipe, tmp_path / "run")
    assert lines(run, "train")[-1]["adapter"] > 0
    evaluation = evaluate_run(run, device="cpu", constant=False, progress=False)
    assert len(evaluation.keys) == 1
    assert evaluation.labelled == {"semseg": 1, "depth": 1}


def test_labels_of_the_target_are_not_read_and_need_not_be_there(tmp_path: Path) -> None:
    """A target whose labels can be read is told from other data by them, as before."""
    root = runpy.run_path(str(STREETS / "test_cityscapes.py"))["write"](tmp_path / "cityscapes")
    recipe = change(RECIPES["synthia-cityscapes"], adaptation__root=str(root))
    tasks = assemble.build_dataset(recipe, "target-train").tasks
    for path in root.glob("gtFine/train/*/*.png"):
        path.write_bytes(b"damaged")
    images = assemble.build_target_set(recipe, tasks)
    assert images.fingerprint() == assemble.build_dataset(recipe, "target-train").fingerprint()
    keys = [images.key(index) for index in range(len(images))]
    assert len(keys) == 2
    with pytest.raises(ValueError, match="'semseg' do not map"):
        assemble.build_target_set(recipe, {"semseg": semseg(3)})
    next(root.glob("gtFine/train/*/*.png")).unlink()
    shutil.rmtree(root / "disparity")
    for folder in ("gtFine", "camera"):  # some labels, then none
        images = assemble.build_target_set(recipe, tasks)
        assert [images.key(index) for index in range(len(images))] == keys
        assert all(images[index].targets == {} for index in range(len(images)))
        shutil.rmtree(root / folder)
    shutil.rmtree(root / "leftImg8bit/train")
    with pytest.raises(ValueError, match=r"target domain .* has no images"):
        assemble.build_target_set(recipe, tasks)


@pytest.mark.parametrize("preset", ["", *PRESETS])
def test_adapters_weigh_tasks_as_the_weighting_does(preset: str) -> None:
    model = network()
    options = {"preset": preset} if preset else {}
    left = {name: 3.0 for name in model.tasks if name not in PRESETS.get(preset, {})}
    recipe = change(RECIPE, adaptation__name="mean-teacher", weighting__options=options, weighting__weights=left)
    weights = assemble.build_weighting(recipe, model.tasks).weights
    assert assemble.build_adapter(recipe, model).weights == weights
    assert weights == {name: (left | PRESETS.get(preset, {}))[name] for name in model.tasks}
    both = change(recipe, weighting__weights={"depth": 2.0})
    if preset:
        with pytest.raises(ValueError, match=rf"gives task 'depth' 2, and preset '{preset}'.*leave one of them out"):
            assemble.build_weighting(both, model.tasks)


def test_the_rooms_recipe_builds_its_adapter_at_its_size() -> None:
    recipe = change(RECIPES["rooms-adaptation"], adaptation__options={"width": 4})
    tasks = {name: rooms_tasks()[name] for name in recipe.data.tasks}
    adapter = assemble.build_adapter(recipe, assemble.build_model(recipe, tasks))
    assert isinstance(adapter, AdversarialAlignment)
    assert set(adapter.discriminators) == {f"{task}_{scale}" for task in tasks for scale in (0, 1)}
