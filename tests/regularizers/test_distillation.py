"""Distillation: the loss by hand, a teacher that stays as it is and outside, and runs that insist on the same one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from regularizers.branch import batch, build, tasks_of
from safetensors.torch import load_file, save_file
from scipy.special import erf
from torch import Tensor
from training.tiny import RECIPE, change
from training_runs import lines, resumed, run_recipe

import triptych
from triptych.assemble import build_model
from triptych.backbones import create_backbone
from triptych.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from triptych.files import hash_tensors
from triptych.recipes.config import ModelConfig, Recipe, RegularizerConfig
from triptych.regularizers.distillation import FeatureDistillation, TapAdapter, compare_maps, load_teacher
from triptych.training.checkpoint import list_checkpoints
from triptych.types import Output, Sample


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_loss_by_hand() -> None:
    ours, theirs = numbers(2, 3, 4, 5), 2 * numbers(2, 3, 4, 5, seed=1)
    a, b = ours.double().numpy().reshape(2, -1), theirs.double().numpy().reshape(2, -1)
    cosines = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
    error = np.abs(a - b)
    smooth = np.where(error < 1, 0.5 * error**2, error - 0.5).mean()
    assert compare_maps(ours, theirs).item() == pytest.approx(0.9 * (1 - np.mean(cosines)) + 0.1 * smooth, rel=1e-5)


def test_maps_are_compared_at_the_larger_grid_in_each_direction() -> None:
    small, large = numbers(1, 2, 2, 8), numbers(1, 2, 6, 4, seed=1)
    grown = [torch.nn.functional.interpolate(m, size=(6, 8), mode="bilinear") for m in (small, large)]
    assert compare_maps(small, large).item() == compare_maps(*grown).item()
    assert compare_maps(grown[0], grown[0]).item() == pytest.approx(0, abs=1e-6)


@torch.no_grad()
def test_an_adapter_by_hand() -> None:
    adapter = TapAdapter(8, 3)
    adapter.gate.fill_(-0.7)
    x = numbers(2, 8, 2, 3)
    place = x[1, :, 1, 2].double().numpy()
    layers = {
        name: (getattr(adapter, name).weight[:, :, 0, 0].double().numpy(), getattr(adapter, name).bias.double().numpy())
        for name in ("down", "up", "last")
    }
    hidden = layers["down"][0] @ place + layers["down"][1]
    assert hidden.shape == (2,)
    hidden = hidden * 0.5 * (1 + erf(hidden / 2**0.5))
    place = place - 0.7 * (layers["up"][0] @ hidden + layers["up"][1])
    expected = layers["last"][0] @ place + layers["last"][1]
    np.testing.assert_allclose(adapter(x)[1, :, 1, 2].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_taps_and_teachers_are_summed() -> None:
    tasks = tasks_of("semseg", "depth")
    output, sample = batch(tasks)
    regularizer = build("distill", tasks, weight=2.0)
    teacher = load_teacher("stairs", "random")
    expected = sum(
        compare_maps(adapter(x), y)
        for adapter, x, y in zip(regularizer.adapters, output.features, teacher(sample.image), strict=True)
    )
    found = regularizer.penalties(output, sample)["distill"]
    assert found.item() == pytest.approx(2 * expected.item(), rel=1e-6)
    two = build("distill", tasks, weight=2.0, teachers=("stairs", "resnet10t"), teacher_weights=("random", "random"))
    two.adapters[:2].load_state_dict(regularizer.adapters.state_dict())
    assert two.penalties(output, sample)["distill"] > found
    assert len(two.adapters) == 4


def test_the_teacher_stays_as_it_is_and_outside() -> None:
    """Training mode, gradients and moves to another type reach it in no way but the last."""
    tasks = tasks_of("semseg", "depth")
    regularizer = build("distill", tasks).train()
    (teacher,) = regularizer.teachers.values()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    output, sample = batch(tasks)
    regularizer.penalties(output, sample)["distill"].backward()
    assert all(feature.grad.abs().max() > 0 for feature in output.features)
    assert not teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not {id(p) for p in teacher.parameters()} & {id(p) for p in regularizer.parameters()}
    assert all(key.startswith("adapters.") for key in regularizer.state_dict())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in teacher.parameters())
    regularizer.double()
    assert all(parameter.dtype == torch.float64 for parameter in teacher.parameters())


def test_a_random_teacher_is_the_same_every_time_and_moves_no_numbers() -> None:
    prints = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        teacher = load_teacher("stairs", "random")
        assert torch.equal(torch.get_rng_state(), state)
        prints.append(teacher.state_dict())
    assert all(torch.equal(value, prints[1][name]) for name, value in prints[0].items())


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_384", "vit_tiny_patch16_224"])
def test_a_teacher_normalizes_as_it_was_pretrained(name: str) -> None:
    """Its fingerprint tells it from one that normalized as ImageNet's networks do."""
    teacher = load_teacher(name, "random")
    from timm.models import get_pretrained_cfg

    stated = get_pretrained_cfg(teacher.timm_name)
    assert teacher.mean.flatten().tolist() == pytest.approx(stated.mean)
    assert teacher.std.flatten().tolist() == pytest.approx(stated.std)
    (found,) = build("distill", tasks_of("depth"), teachers=(name,)).fingerprint().values()
    assert (found == hash_tensors(teacher.state_dict())) == (stated.mean == IMAGENET_MEAN)


def test_a_teacher_from_a_file_normalizes_as_its_weights_were_trained(tmp_path: Path) -> None:
    """As timm states of the name, unless the recipe of their run lies beside them."""
    name, options = "vit_tiny_patch16_224", {"mean": (0.1, 0.2, 0.3)}
    recipe = Recipe(model=ModelConfig(backbone=name, backbone_options=options))
    model = build_model(recipe, tasks_of("depth"))
    save_file(model.backbone.body.state_dict(), tmp_path / "vit.safetensors")
    teacher = load_teacher(name, str(tmp_path / "vit.safetensors"))
    assert teacher.statistics == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    triptych.Predictor(model, recipe=recipe).save_pretrained(tmp_path / "run")
    teacher = load_teacher(name, str(tmp_path / "run/model.safetensors"))
    assert teacher.statistics == ((0.1, 0.2, 0.3), IMAGENET_STD)


def teacher_file(path: Path, seed: int) -> str:
    torch.manual_seed(seed)
    save_file(create_backbone("resnet10t").body.state_dict(), path)
    return str(path)


def run_with(*sources: str) -> Recipe:
    options = {"teachers": ("resnet10t",), "teacher_weights": sources}
    return change(RECIPE, regularizer=RegularizerConfig(name="distill", options=options), schedule__steps=6)


def test_a_resumed_run_equals_the_uninterrupted_one_and_keeps_nothing_of_the_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = run_with(teacher_file(tmp_path / "teacher.safetensors", 3))
    _, whole = resumed(recipe, tmp_path, monkeypatch)
    assert lines(whole, "train")[-1]["penalties"] > 0
    files = [*list_checkpoints(whole)[-1].glob("*.safetensors"), whole / "model.safetensors"]
    stored = {value.numel() for path in files for value in load_file(path).values()}
    largest = max(p.numel() for p in create_backbone("resnet10t").parameters())
    assert max(stored) < largest


def test_another_teacher_under_the_same_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    recipe = run_with(teacher_file(path, 3))
    run = run_recipe(recipe, tmp_path / "run")
    teacher_file(path, 4)
    with pytest.raises(ValueError, match=r"cannot resume .* on other data: regularizer.teacher resnet10t was"):
        run_recipe(recipe, run, resume=True)


def test_reports_what_cannot_be_built(tmp_path: Path) -> None:
    tasks = tasks_of("depth")
    for options in ({"teachers": ()}, {"teachers": ("stairs", "stairs")}, {"teacher_weights": ("random", "random")}):
        with pytest.raises(ValueError, match="name at least one backbone, each once, and for each its weights"):
            build("distill", tasks, **options)
    with pytest.raises(ValueError, match="restnet10t"):
        build("distill", tasks, teachers=("restnet10t",))
    with pytest.raises(FileNotFoundError, match=r"weights file nowhere\.pth does not exist"):
        build("distill", tasks, teacher_weights=("nowhere.pth",))


def test_a_network_of_any_number_of_taps_has_a_partner() -> None:
    for count in (1, 2, 3):
        channels, strides = (6,) * count, tuple(2**i * 4 for i in range(count))
        regularizer = FeatureDistillation(
            channels, strides=strides, tasks=tasks_of("depth"), teachers=("stairs",), teacher_weights=("random",)
        )
        features = [torch.randn(1, 6, 40 // stride, 40 // stride) for stride in strides]
        sample = Sample(torch.rand(1, 3, 40, 40), {})
        assert regularizer.penalties(Output({}, [], features), sample)["distill"].isfinite()
