"""Learning rates over layers and time against closed forms and torch's own schedulers; the average of weights."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from training.tiny import Heads, Stairs

from triptych.backbones import create_backbone
from triptych.models.multitask import MultiTaskModel
from triptych.recipes.config import OptimizerConfig, ScheduleConfig
from triptych.regularizers.triplane import Triplane3D
from triptych.tasks import depth, semseg
from triptych.training.checkpoint import _optimizer_state, _restore_optimizer
from triptych.training.objective import Objective
from triptych.training.optim import (
    WeightAverage,
    build_optimizer,
    learning_rate_factors,
    parameter_groups,
    schedule_factor,
    schedule_notes,
    set_learning_rate,
)
from triptych.weighting.losses import Uncertainty


@pytest.fixture
def model() -> MultiTaskModel:
    backbone = Stairs()
    tasks = {"semseg": semseg(4), "depth": depth()}
    return MultiTaskModel(backbone, Heads(backbone.channels, strides=backbone.strides, tasks=tasks))


TORCH_SCHEDULES = {
    "constant": (ScheduleConfig(name="constant", steps=10), lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
    "poly": (
        ScheduleConfig(name="poly", steps=10, power=0.9),
        lambda o: lr_scheduler.PolynomialLR(o, total_iters=10, power=0.9),
    ),
    "cosine": (ScheduleConfig(name="cosine", steps=10), lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=10)),
    "step": (
        ScheduleConfig(name="step", steps=10, milestones=(3, 7), gamma=0.2),
        lambda o: lr_scheduler.MultiStepLR(o, [3, 7], gamma=0.2),
    ),
}


@pytest.mark.parametrize("name", TORCH_SCHEDULES)
def test_schedules_equal_those_of_torch(name: str) -> None:
    config, build = TORCH_SCHEDULES[name]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = build(optimizer)
    for step in range(10):
        assert schedule_factor(config, step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_warm_up_rises_linearly_and_meets_the_schedule() -> None:
    config = ScheduleConfig(name="cosine", steps=14, warmup_steps=4, warmup_factor=0.2)
    rising = [schedule_factor(config, step) for step in range(5)]
    assert rising == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    falling = [schedule_factor(config, 4 + step) for step in range(11)]
    assert falling == pytest.approx([(1 + math.cos(math.pi * step / 10)) / 2 for step in range(11)])


def test_what_a_schedule_does_not_do_is_said() -> None:
    silent = [
        ScheduleConfig(name="cosine", steps=5, warmup_steps=4),
        ScheduleConfig(name="step", steps=10, milestones=(5, 50)),
    ]
    told = {
        "only rises": ScheduleConfig(steps=4, warmup_steps=4),
        "stays as it is": ScheduleConfig(name="step", milestones=(1000,)),
        "have no effect": ScheduleConfig(name="poly", milestones=(5,)),
    }
    assert [schedule_notes(config) for config in silent] == [[], []]
    for words, config in told.items():
        [note] = schedule_notes(config)
        assert words in note


def test_milestones_count_from_the_first_step_warm_up_included() -> None:
    config = ScheduleConfig(name="step", steps=10, milestones=(5,), gamma=0.1, warmup_steps=3)
    assert [schedule_factor(config, step) for step in (3, 4, 5)] == pytest.approx([1, 1, 0.1])


def test_raises_for_an_unknown_schedule() -> None:
    config = ScheduleConfig()
    object.__setattr__(config, "name", "polly")  # as a recipe that was read from JSON
    with pytest.raises(ValueError, match="unknown schedule 'polly'; did you mean 'poly'"):
        schedule_factor(config, 0)


def test_backbone_factor_and_layer_decay_multiply(model: MultiTaskModel) -> None:
    factors = learning_rate_factors(model, OptimizerConfig(backbone_lr_factor=0.5, layer_decay=0.1))
    assert factors["backbone.body.1.0.weight"] == pytest.approx(0.5 * 0.1)
    assert factors["backbone.body.0.0.weight"] == pytest.approx(0.5 * 0.1**2)
    assert factors["decoder.heads.depth.weight"] == 1
    assert set(factors) == {name for name, _ in model.named_parameters()}


def test_what_belongs_to_no_layer_sits_at_the_image(model: MultiTaskModel) -> None:
    model.backbone.token = nn.Parameter(torch.zeros(3))
    factors = learning_rate_factors(model, OptimizerConfig(layer_decay=0.1))
    assert factors["backbone.token"] == factors["backbone.body.0.0.weight"] == pytest.approx(0.01)


def test_rates_reach_through_the_objective(model: MultiTaskModel) -> None:
    """Training hands over the objective, not the model: fusion and regularizer are found inside it."""

    class Fused(MultiTaskModel):
        @property
        def fusion_modules(self) -> list[nn.Module]:
            return [self.decoder]

    fused = Fused(model.backbone, model.decoder)
    regularizer = Triplane3D((8, 16), strides=(2, 4), tasks=model.tasks, width=8, plane_channels=4, hidden=4)
    config = OptimizerConfig(fusion_lr_factor=100.0, regularizer_lr_factor=10.0)
    factors = learning_rate_factors(Objective(fused, regularizer=regularizer), config)
    expected = {"model.backbone": 1.0, "model.decoder": 100.0, "regularizer": 10.0}
    for name, factor in factors.items():
        assert factor == next(value for prefix, value in expected.items() if name.startswith(prefix)), name


def test_fusion_modules_have_their_own_rate(model: MultiTaskModel) -> None:
    class Fused(MultiTaskModel):
        @property
        def fusion_modules(self) -> list[nn.Module]:
            return [self.decoder.heads["depth"]]

    fused = Fused(model.backbone, model.decoder)
    factors = learning_rate_factors(fused, OptimizerConfig(fusion_lr_factor=100.0))
    assert factors["decoder.heads.depth.weight"] == 100
    assert factors["decoder.heads.semseg.weight"] == 1


def test_groups_hold_every_parameter_once_and_the_weighting_is_not_decayed(model: MultiTaskModel) -> None:
    weighting = Uncertainty(("semseg", "depth"), weights={"semseg": 1.0, "depth": 1.0})
    model.backbone.body[0][0].weight.requires_grad_(False)
    config = OptimizerConfig(lr=0.1, layer_decay=0.5, weight_decay=0.01)
    groups = parameter_groups({"objective": model, "weighting": weighting}, config)
    held = [parameter for group in groups for parameter in group["params"]]
    expected = [p for module in (model, weighting) for p in module.parameters() if p.requires_grad]
    assert {id(p) for p in held} == {id(p) for p in expected}
    assert len(held) == len(expected)
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert decays[id(weighting.log_variances)] == 0
    assert decays[id(model.decoder.heads["depth"].weight)] == 0.01
    optimizer = build_optimizer(groups, config)
    set_learning_rate(optimizer, 0.5)
    assert sorted({round(group["lr"], 6) for group in optimizer.param_groups}) == [0.0125, 0.025, 0.05]


@pytest.mark.parametrize("name", ["vit_small_patch14_reg4_dinov2", "swin_tiny", "convnext_atto"])
def test_norms_biases_positions_and_tokens_can_do_without_decay(name: str) -> None:
    backbone = create_backbone(name, **({} if "vit" not in name else {"taps": (1,)}))
    groups = parameter_groups({"trunk": backbone}, OptimizerConfig(weight_decay=0.05, decay_norms=False))
    names = {parameter: name for name, parameter in backbone.named_parameters()}
    decayed = {names[p] for group in groups for p in group["params"] if group["weight_decay"]}
    assert decayed == {
        name
        for name, p in backbone.named_parameters()
        if name.endswith(".weight") and p.ndim > 1 and "norm" not in name
    }
    (every,) = parameter_groups({"trunk": backbone}, OptimizerConfig(weight_decay=0.05))
    assert (len(every["params"]), every["weight_decay"]) == (len(names), 0.05)


def test_adam_decays_in_the_gradient_and_adamw_beside_it() -> None:
    """First step from weight 1 with zero gradient: Adam moves by lr (sign of the decay), AdamW by lr * decay."""
    moved = {}
    for name in ("adam", "adamw", "sgd"):
        weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
        config = OptimizerConfig(name=name, lr=0.1, weight_decay=0.01)
        weight.grad = torch.zeros_like(weight)
        build_optimizer([{"params": [weight], "lr": 0.1, "base_lr": 0.1, "weight_decay": 0.01}], config).step()
        moved[name] = 1 - weight.item()
    assert moved == pytest.approx({"adam": 0.1, "adamw": 0.001, "sgd": 0.001}, rel=1e-5)


def test_the_average_is_the_closed_form() -> None:
    """Weights w_n = n; a_n = d_n a_(n-1) + (1 - d_n) n with d_n = min(decay, (1 + n) / (10 + n))."""
    model = nn.BatchNorm1d(1, dtype=torch.float64)
    average = WeightAverage(model, 0.5)
    expected = 1.0
    for n in range(1, 20):
        with torch.no_grad():
            model.weight.fill_(n)
        model.num_batches_tracked.fill_(n)
        average.update(model, n)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    assert average.tensors["weight"].item() == pytest.approx(expected, rel=1e-12)
    assert average.tensors["num_batches_tracked"].item() == 19


def test_applying_the_average_is_undone_even_after_an_error(model: MultiTaskModel) -> None:
    average = WeightAverage(model, 0.9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    before = copy.deepcopy(model.state_dict())

    def fail_within() -> None:
        with average.applied_to(model):
            assert all(torch.equal(value, average.tensors[name]) for name, value in model.state_dict().items())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_within()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_decay_outside_its_range_is_refused(model: MultiTaskModel) -> None:
    with pytest.raises(ValueError, match=r"training.ema is 1\.5"):
        WeightAverage(model, 1.5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_one_kernel_updates_as_torch_does_one_by_one(name: str, layout: torch.memory_format) -> None:
    """With the recipe's momentum and betas. Gradients in the order that a view of a flat vector has, whatever that of
    the weights.
    """
    config = OptimizerConfig(name=name, lr=0.1, weight_decay=0.01, momentum=0.5, betas=(0.8, 0.9))
    adams = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    updated = []
    for ours in (True, False):
        torch.manual_seed(0)
        weights = [nn.Parameter(torch.randn(4, 5, 3, 3).to(memory_format=layout)), nn.Parameter(torch.randn(7))]
        if ours:
            optimizer = build_optimizer([{"params": weights}], config)
            assert optimizer.defaults["fused"] is (True if layout == torch.contiguous_format else None)
        elif name == "sgd":
            optimizer = torch.optim.SGD(weights, lr=0.1, weight_decay=0.01, momentum=0.5, foreach=False)
        else:
            optimizer = adams[name](weights, lr=0.1, weight_decay=0.01, betas=(0.8, 0.9), foreach=False)
        for _ in range(3):
            for weight in weights:
                weight.grad = torch.randn(weight.shape)
            optimizer.step()
        updated.append(weights)
    for ours, expected in zip(*updated, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_momentum_begins_with_the_first_gradient_of_each_parameter() -> None:
    """As in SGD that is not fused, where a parameter has no gradient in the first step."""
    results = []
    for fused in (True, False):
        parameters = [nn.Parameter(torch.ones(3)) for _ in range(2)]
        config = OptimizerConfig(name="sgd", lr=0.1, momentum=0.9, weight_decay=0.01)
        groups = [{"params": parameters, "lr": 0.1, "weight_decay": 0.01}]
        optimizer = build_optimizer(groups, config) if fused else torch.optim.SGD(groups, lr=0.1, momentum=0.9)
        for step in range(4):
            parameters[0].grad = torch.arange(3.0) + step
            parameters[1].grad = torch.arange(3.0) - step if step in (1, 3) else None
            optimizer.step()
        results.append([parameter.detach() for parameter in parameters])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("option", ["fused", "capturable", "foreach"])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_memory_is_restored_to_the_devices_where_torch_restores_it(name: str, option: str) -> None:
    """From a checkpoint, which lies on the host: kernels refuse steps that another device counts."""
    ours, theirs = (nn.ParameterDict({"a": torch.ones(2, 3, device="meta")}) for _ in range(2))
    here = nn.ParameterDict({"a": torch.ones(2, 3)})
    trained, restored, expected = (
        build_optimizer([{"params": list(module.parameters()), option: True}], OptimizerConfig(name=name))
        for module in (here, ours, theirs)
    )
    here["a"].grad = torch.ones(2, 3)
    trained.param_groups[0].update(fused=False, capturable=False)
    trained.step()
    tensors, numbers = _optimizer_state(trained, dict(here.named_parameters()))
    _restore_optimizer(restored, dict(ours.named_parameters()), tensors, numbers)
    expected.load_state_dict({**expected.state_dict(), "state": trained.state_dict()["state"]})
    found, wanted = restored.state[ours["a"]], expected.state[theirs["a"]]
    assert {key: (value.device, value.shape) for key, value in found.items()} == {
        key: (value.device, value.shape) for key, value in wanted.items()
    }
