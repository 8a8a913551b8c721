"""LoRA: nothing at the start, low rank afterwards, merged into one weight, and the same as PEFT's."""

import warnings
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import triptych
from triptych.machine import declare_missing_operators
from triptych.models.lora import LoRALinear, LowRank, require_called, update_names
from triptych.models.multitask import MultiTaskModel
from triptych.tasks import depth, semseg

TASKS = {"semseg": semseg(4), "depth": depth()}
TINY = {
    "vit_tiny_patch16_384": {"image_size": (32, 48), "taps": (1, 2)},
    "swin_tiny": {"depths": (2, 2), "embed_dim": 24, "num_heads": (2, 2)},
    "convnext_tiny": {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)},
    "dinov3_small": {"taps": (1, 2)},
}
"""Backbones with linear layers, small."""


def build(backbone: str, tuning: str = "lora", decoder: str = "fcn", **options: object) -> MultiTaskModel:
    torch.manual_seed(0)
    given = dict(TINY.get(backbone, {}))
    size = given.pop("image_size", None)
    model = triptych.create_model(
        decoder,
        backbone=backbone,
        tasks=TASKS,
        backbone_options=given | ({"image_size": size} if size else {}),
        decoder_options={"width": 8},
        tuning=tuning,
        tuning_options=options,
    )
    for name, parameter in model.named_parameters():
        if "gamma" in name:  # a millionth at the start of ConvNeXt and DINOv3: blocks would do nothing
            nn.init.constant_(parameter, 0.5)
    return model


@torch.no_grad()
def shake(model: nn.Module) -> None:
    """Updates as training leaves them: not zero."""
    for module in model.modules():
        if isinstance(module, LowRank):
            module.b.normal_(std=0.3)


def maps(model: MultiTaskModel, image: Tensor) -> Tensor:
    with torch.no_grad():
        output = model.eval()(image)
    return torch.cat([raw.flatten() for raw in output.predictions.values()])


@pytest.mark.parametrize("backbone", TINY)
def test_starts_as_the_trunk_and_merges_into_it(backbone: str) -> None:
    plain, adapted = build(backbone, "full"), build(backbone, rank=2, dropout=0.3)
    state = plain.state_dict()
    updates = update_names(adapted)
    assert set(adapted.state_dict()) - updates == set(state)
    adapted.load_state_dict(state, strict=False)
    image = torch.rand(1, 3, 32, 48)
    assert torch.equal(maps(adapted, image), maps(plain, image))
    require_called(adapted, (32, 48))
    shake(adapted)
    moved = maps(adapted, image)
    assert (moved - maps(plain, image)).abs().max() > 1e-3
    assert adapted.merge() == ("full", {})
    assert set(adapted.state_dict()) == set(state)
    torch.testing.assert_close(maps(adapted, image), moved, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", TINY)
def test_only_updates_and_what_is_not_the_trunk_train(backbone: str) -> None:
    model = build(backbone, rank=2)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {
        name for name, _ in model.named_parameters() if not name.startswith("backbone.body.")
    } | update_names(model)
    shake(model)
    sum(raw.square().mean() for raw in model(torch.rand(2, 3, 32, 48)).predictions.values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_a_layer_is_what_the_paper_says() -> None:
    layer = nn.Linear(5, 7)
    adapted = LoRALinear(layer, rank=3, scale=8 / 3)
    shake(adapted)
    x = torch.randn(2, 4, 5)
    weight = layer.weight + 8 / 3 * adapted.lora.b @ adapted.lora.a
    expected = x @ weight.T + layer.bias
    torch.testing.assert_close(adapted(x), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(adapted.merged()(x), expected, rtol=1e-6, atol=1e-6)
    assert torch.linalg.matrix_rank(adapted.merged().weight - layer.weight, rtol=1e-4) == 3


def import_peft() -> ModuleType:
    """The library of Hugging Face, where it is installed: `python -m pip install -c constraints.txt peft`."""
    declare_missing_operators()  # it imports torchvision
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("peft")


@pytest.mark.slow
def test_updates_are_those_of_peft() -> None:
    """The same weights in PEFT's layers give the same maps, before merging and after."""
    peft = import_peft()
    ours = build("vit_tiny_patch16_384", rank=2, alpha=6.0)
    shake(ours)
    plain = build("vit_tiny_patch16_384", "full")
    plain.load_state_dict(ours.state_dict(), strict=False)
    config = peft.LoraConfig(r=2, lora_alpha=6.0, target_modules=r".*blocks\..*\.(qkv|proj|fc1|fc2)")
    theirs = peft.inject_adapter_in_model(config, plain.backbone.body)
    names = dict(theirs.named_parameters())
    adapted = {path: module for path, module in ours.backbone.body.named_modules() if isinstance(module, LoRALinear)}
    assert len(adapted) == 8
    with torch.no_grad():
        for path, module in adapted.items():
            names[f"{path}.lora_A.default.weight"].copy_(module.lora.a)
            names[f"{path}.lora_B.default.weight"].copy_(module.lora.b)
    image = torch.rand(2, 3, 32, 48)
    torch.testing.assert_close(maps(ours, image), maps(plain, image), rtol=1e-6, atol=1e-6)
    for layer in [each for each in plain.modules() if isinstance(each, peft.tuners.lora.Linear)]:
        layer.merge()
    ours.merge()
    torch.testing.assert_close(maps(ours, image), maps(plain, image), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_starts_like_peft() -> None:
    peft = import_peft()
    layer = nn.Linear(64, 48)
    torch.manual_seed(3)
    ours = LoRALinear(layer, rank=4, scale=1.0).lora.a
    model = nn.Sequential()
    model.add_module("fc1", nn.Linear(64, 48))
    torch.manual_seed(3)
    theirs = peft.inject_adapter_in_model(peft.LoraConfig(r=4, target_modules=["fc1"]), model)
    assert ours.std().item() == pytest.approx(theirs.fc1.lora_A.default.weight.std().item(), rel=0.2)


@pytest.mark.parametrize(
    ("backbone", "options", "words"),
    [
        ("vit_tiny_patch16_384", {"targets": ("qkv", "query")}, r"no linear layer named query \(it has fc1, fc2, proj"),
        ("convnext_tiny", {"targets": ("qkv",)}, r"no linear layer named qkv \(it has fc1, fc2\)"),
        ("resnet18", {}, r"no linear layer named qkv, proj, fc1, fc2 \(it has no linear layer\)"),
        ("convnext_atto", {}, r"\(it has no linear layer\).* such as a ViT, Swin, or ConvNeXt from tiny on"),
        ("vit_tiny_patch16_384", {"rank": 193}, r"rank is 193, above the size of blocks\.0\..*; give at most 192"),
        ("vit_tiny_patch16_384", {"rank": 0}, "rank is 0 and dropout 0.0; a rank is at least 1"),
        ("vit_tiny_patch16_384", {"dropout": 1.0}, "a dropout from 0 to below 1"),
        ("vit_tiny_patch16_384", {"ranks": 4}, "tuning 'lora' has no option 'ranks'; its options are rank, alpha"),
    ],
)
def test_bad_options(backbone: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(backbone, **options)


def test_a_weight_that_is_used_past_its_layer_is_refused() -> None:
    class Past(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = LoRALinear(nn.Linear(3, 3), rank=1, scale=1.0)

        def forward(self, image: Tensor) -> Tensor:
            return image.mean((2, 3)) @ self.fc1.weight

    with pytest.raises(ValueError, match="1 adapted layers, such as fc1, are not called"):
        require_called(Past(), (4, 4))
