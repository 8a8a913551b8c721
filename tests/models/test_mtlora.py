"""MTLoRA: streams of tasks beside a shared one, written out by hand as an oracle."""

from pathlib import Path

import pytest
import torch
from models.test_lora import TASKS, TINY, build, maps, shake
from torch import Tensor

import triptych
from triptych.models import TUNINGS
from triptych.models.lora import LowRank
from triptych.models.mtlora import MTLoRA
from triptych.models.multitask import MultiTaskModel
from triptych.training.building import load_reports

IMAGE = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def by_hand(model: MultiTaskModel, plain: MultiTaskModel, task: str) -> list[Tensor]:
    """Features of a task from timm's own blocks: shared weights W + s B A everywhere but in the last block, whose
    attention projects by W + s B_t A_t, as its MLP does, for the task.
    """
    swin = plain.backbone
    updates = {
        path: m.lora
        for path, m in model.backbone.body.named_modules()
        if isinstance(m, torch.nn.Linear) and getattr(m, "lora", None) is not None
    }

    def weight(path: str, update: LowRank) -> Tensor:
        return swin.body.get_parameter(f"{path}.weight") + update.scale * update.b @ update.a

    x = swin.body.patch_embed(swin.pad(IMAGE))
    found = []
    for i, stage in enumerate(swin.body.layers):
        x = stage.downsample(x)
        for j, block in enumerate(stage.blocks):
            last = f"layers.{i}.blocks.{j}"
            before = x
            shared = {
                f"{place}.weight": weight(f"{last}.{place}", updates[f"{last}.{place}"])
                for place in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
            }
            x = torch.func.functional_call(block, shared, (before,))
        own = model.updates[i][task]
        places = {"proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
        mine = {f"{place}.weight": weight(f"{last}.{place}", own[name]) for name, place in places.items()}
        found.append(torch.func.functional_call(block, shared | mine, (before,)).permute(0, 3, 1, 2))
    return swin.finish(found, (32, 48))


@pytest.fixture(scope="module")
def model() -> MTLoRA:
    adapted = build("swin_tiny", "mtlora", rank=4, task_rank=2)
    shake(adapted)
    return adapted.eval()


def test_streams_are_those_written_by_hand(model: MTLoRA) -> None:
    plain = build("swin_tiny", "full").eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        output = model(IMAGE)
        for name in TASKS:
            raw = plain.decoder.predict_task(name, by_hand(model, plain, name))
            torch.testing.assert_close(output.predictions[name], plain.resize(raw, (32, 48)), rtol=1e-4, atol=1e-5)


def test_shared_maps_are_those_of_merged_shared_updates(model: MTLoRA) -> None:
    """They know nothing of the tasks' streams."""
    shared = build("swin_tiny", "lora", rank=4, alpha=16.0).eval()
    shared.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("updates.")})
    with torch.no_grad():
        for ours, theirs in zip(model(IMAGE).features, shared(IMAGE).features, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        for ours, theirs in zip(model.backbone(IMAGE), model(IMAGE).features, strict=True):
            assert torch.equal(ours, theirs)


def test_starts_as_the_trunk_and_merges(model: MTLoRA) -> None:
    plain, adapted = build("swin_tiny", "full"), build("swin_tiny", "mtlora", rank=4, task_rank=2)
    adapted.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(maps(adapted, IMAGE), maps(plain, IMAGE), rtol=1e-5, atol=1e-6)
    shake(adapted)
    moved = maps(adapted, IMAGE)
    tuning, options = adapted.merge()
    torch.testing.assert_close(maps(adapted, IMAGE), moved, rtol=1e-4, atol=1e-5)
    assert not [module for module in adapted.modules() if isinstance(module, LowRank)]
    again = build("swin_tiny", tuning, **options)
    again.load_state_dict(adapted.state_dict())
    assert torch.equal(maps(again, IMAGE), maps(adapted, IMAGE))


def test_a_task_trains_its_own_stream_and_the_shared_one() -> None:
    model = build("swin_tiny", "mtlora", rank=4, task_rank=2)
    shake(model)
    model(torch.rand(2, 3, 32, 48)).predictions["depth"].square().mean().backward()
    for stage in model.updates:
        assert all(p.grad is not None for p in stage["depth"].parameters())
        assert all(p.grad is None for p in stage["semseg"].parameters())
    first = model.backbone.body.layers[0].blocks[0]
    assert first.attn.qkv.lora.a.grad is not None
    assert first.attn.qkv.weight.grad is None


def test_recomputing_gives_the_same_gradients() -> None:
    gradients = []
    for recompute in (False, True):
        model = build("swin_tiny", "mtlora", rank=4, task_rank=2, dropout=0.0)
        shake_seeded(model)
        model.backbone.set_checkpointing(recompute)
        sum(raw.square().mean() for raw in model(IMAGE.repeat(2, 1, 1, 1)).predictions.values()).backward()
        gradients.append(model.updates[0]["depth"]["proj"].a.grad)
    torch.testing.assert_close(*gradients)


def test_every_tuning_keeps_the_report_of_loaded_weights(tmp_path: Path) -> None:
    path = str(tmp_path / "swin.pth")
    torch.save(build("swin_tiny", "full").backbone.body.state_dict(), path)
    options = {"backbone": "swin_tiny", "backbone_options": TINY["swin_tiny"], "tasks": TASKS, "weights": path}
    reports = {}
    for tuning in TUNINGS:
        ranks = {} if tuning == "full" else {"rank": 2}
        reports[tuning] = load_reports(triptych.create_model("fcn", tuning=tuning, tuning_options=ranks, **options))
    assert reports["full"]["backbone"].source == path
    assert all(found == reports["full"] for found in reports.values())


def shake_seeded(model: MultiTaskModel) -> None:
    torch.manual_seed(2)
    shake(model)


@pytest.mark.parametrize(
    ("backbone", "decoder", "words"),
    [
        ("vit_tiny_patch16_384", "fcn", "mtlora adapts the blocks of Swin, backbone is vit_tiny_patch16_384"),
        ("convnext_tiny", "fcn", "mtlora adapts the blocks of Swin"),
        ("swinv2_tiny_window8_256", "fcn", "mtlora adapts the blocks of Swin, backbone is swinv2_tiny_window8_256"),
        ("swin_tiny", "pad-net", "PADNet reads one list for all; choose a decoder of independent heads"),
    ],
)
def test_networks_it_does_not_fit(backbone: str, decoder: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TINY, "swinv2_tiny_window8_256", TINY["swin_tiny"])
    with pytest.raises(ValueError, match=words):
        build(backbone, "mtlora", decoder)


@pytest.mark.parametrize(
    ("task_rank", "words"),
    [
        (25, r"task_rank is 25, above the size of layers\.0, proj \(24 to 24\); give at most 24"),
        (0, "task_rank is 0; a"),
    ],
)
def test_ranks_of_tasks_that_layers_cannot_have(task_rank: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build("swin_tiny", "mtlora", rank=4, task_rank=task_rank)
