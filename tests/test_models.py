"""Properties of every decoder and architecture on every backbone family that it accepts.

A new entry in `DECODERS` or `ARCHITECTURES` is enrolled by its name; give it small widths in `OPTIONS`.
"""

import inspect
from functools import cache

import pytest
import torch
from entries import own_entries
from safetensors.torch import load_file, save_file
from torch import Tensor
from unchecked import shapes_unchecked

from triptych.assemble import create_model
from triptych.decoders import DECODERS
from triptych.decoders.pyramid import PyramidDecoder
from triptych.models import ARCHITECTURES
from triptych.models.multitask import MultiTaskModel
from triptych.tasks import Task, boundary, depth, human_parts, normals, saliency, semseg
from triptych.types import Output

FAMILIES = {
    "resnet": ("resnet18", {"widths": (8, 16, 24, 32)}),
    "vit": ("vit_tiny_patch16_224", {"taps": (1, 2, 3, 4), "image_size": (64, 64)}),
    "convnext": ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}),
}

OPTIONS: dict[str, dict[str, object]] = {
    "atrc": {"width": 8},
    # So long that the first steps are alike.
    "atrc-search": {"width": 8, "steps": 10**9},
    "deeplab": {"width": 8},
    "fcn": {"width": 8},
    "vit": {"width": 8},
    "densemtl": {"widths": (8, 8, 8, 8, 8)},
    "invpt": {"width": 16, "preliminary_width": 16},
    "mtan": {"width": 8},
    "cross-stitch": {"width": 8},
    "nddr": {"width": 8},
    "mti-net": {"width": 8},
    "pad-net": {"width": 8, "fused_width": 16},
    "pad-net-densemtl": {"width": 8},
    "pad-net-plus": {"widths": (8, 8, 8, 8, 8)},
    "pap": {"width": 8, "inner_width": 4},
    "psd": {"width": 8, "inner_width": 4},
}
"""Widths that make a decoder quick."""

FAMILY_OPTIONS: dict[str, dict[str, object]] = {}
"""Backbone options that a decoder needs, such as the stem of a ResNet."""

NAMES = own_entries(DECODERS | ARCHITECTURES)
TASKS = {task.name: task for task in (semseg(4), depth(), normals())}
ALL_TASKS = TASKS | {task.name: task for task in (boundary(), saliency(), human_parts())}
ODD = (53, 70)

PAIRS = [(name, family) for name in NAMES for family in FAMILIES]
every_pair = pytest.mark.parametrize(("name", "family"), PAIRS)
first_family = pytest.mark.parametrize(
    ("name", "family"), [pytest.param(*pair, marks=() if pair[1] == "resnet" else pytest.mark.slow) for pair in PAIRS]
)
"""One family in a plain run; the others are minutes for all entries together."""

TRACED = [(name, family) for name, family in PAIRS if name in ARCHITECTURES or family != "convnext"]
"""Pairs whose traces may differ: a decoder sees of a trunk the widths and strides alone, which ConvNeXt shares with the
ResNet (and trunks are traced in `backbones/test_backbones.py`); an architecture runs the trunk's layers itself.
"""


def build(name: str, family: str, tasks=TASKS) -> MultiTaskModel:
    """A small model, the same weights every time; skips where the decoder refuses the family's strides."""
    backbone, options = FAMILIES[family]
    torch.manual_seed(0)
    try:
        return create_model(
            name,
            backbone=backbone,
            tasks=tasks,
            backbone_options=options | FAMILY_OPTIONS.get(name, {}),
            decoder_options=OPTIONS.get(name, {}),
        )
    except ValueError as error:
        if "stride" not in str(error) and "backbone" not in str(error):
            raise
        pytest.skip(f"{name} on {backbone}: {error}")


def test_an_old_name_is_the_same_decoder() -> None:
    assert DECODERS["vit"] is DECODERS["four-level"]


def stir(model: MultiTaskModel) -> MultiTaskModel:
    """Weights at which no branch is hidden: fresh norms are the identity, some layers start at zero."""
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            parameter.add_((0.5 if parameter.ndim == 1 else 0.2) * torch.randn_like(parameter))
    return model


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.detach().abs().max().clamp(min=1e-3)))


@cache
def accepted(name: str) -> list[str]:
    found = []
    for family in FAMILIES:
        try:
            build(name, family)
            found.append(family)
        except pytest.skip.Exception:
            continue
    return found


@pytest.mark.parametrize("name", NAMES)
def test_at_least_one_family_is_accepted(name):
    assert accepted(name)


@pytest.mark.parametrize("name", [name for name in NAMES if name in DECODERS])
def test_decoders_that_need_no_stem_accept_every_pyramid(name):
    if name not in FAMILY_OPTIONS:
        assert {"resnet", "convnext"} <= set(accepted(name))


@every_pair
def test_shapes_at_odd_sizes(name, family):
    model = build(name, family).train()
    output = model(torch.rand(2, 3, *ODD))
    assert isinstance(output, Output)
    assert list(output.predictions) == list(model.tasks) == list(TASKS)
    for task_name, task in model.tasks.items():
        assert output.predictions[task_name].shape == (2, task.channels, *ODD)
    known = model.tasks | model.auxiliary_tasks
    for stage in output.auxiliary:
        assert stage
        for task_name, raw in stage.items():
            assert raw.shape[0] == 2
            assert raw.shape[-2:] == ODD
            assert task_name in known
    assert tuple(feature.shape[1] for feature in output.features) == tuple(model.feature_channels)
    assert len(model.feature_strides) == len(output.features)
    assert all(raw.isfinite().all() for raw in output.predictions.values())
    assert model.shared_modules


@every_pair
def test_every_parameter_that_a_loss_reaches_gets_a_finite_gradient(name, family):
    model = build(name, family).train()
    output = model(torch.rand(2, 3, 64, 64))
    total = sum(raw.square().mean() for stage in [output.predictions, *output.auxiliary] for raw in stage.values())
    total.backward()
    missing = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    # A decoder that reads the last map alone leaves the norms of the others idle.
    assert [key for key in missing if not key.startswith("backbone.norms.")] == []
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


@first_family
def test_all_invalid_targets_give_zero_and_finite_gradients(name, family):
    model = build(name, family).train()
    output = model(torch.rand(2, 3, *ODD))
    total = torch.zeros(())
    for stage in [output.predictions, *output.auxiliary]:
        for task_name, raw in stage.items():
            task = (model.tasks | model.auxiliary_tasks)[task_name]
            if raw.shape[1] == task.channels:  # some intermediate predictions are codes of another width
                total = total + task.loss(raw, task.invalid_target(ODD).expand(2, *task.invalid_target(ODD).shape))
    assert total == 0
    total.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert not any(gradient.any() for gradient in gradients)


@first_family
def test_saved_equals_loaded(name, family, tmp_path):
    model = build(name, family)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "model.safetensors")
    other = build(name, family)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(
            model.eval()(image).predictions.values(), other.eval()(image).predictions.values(), strict=True
        ):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_permuted_tasks_give_permuted_outputs(name):
    family = accepted(name)[0]
    model = stir(build(name, family)).eval()
    permuted = build(name, family, dict(reversed(TASKS.items()))).eval()
    permuted.load_state_dict(model.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = model(image).predictions, permuted(image).predictions
    assert list(found) == list(reversed(TASKS))
    for task_name in TASKS:
        close(found[task_name], expected[task_name])


@pytest.mark.parametrize("name", NAMES)
def test_one_task_and_all_six(name):
    for tasks in ({"depth": TASKS["depth"]}, ALL_TASKS):
        output = build(name, accepted(name)[0], tasks).train()(torch.rand(2, 3, 64, 64))
        assert list(output.predictions) == list(tasks)


TEACHING = [
    name for name in NAMES if "auxiliary_tasks" in inspect.signature((DECODERS | ARCHITECTURES)[name]).parameters
]


def build_with_auxiliary(name: str, tasks=TASKS) -> MultiTaskModel:
    backbone, options = FAMILIES[accepted(name)[0]]
    torch.manual_seed(0)
    auxiliary = {name: ALL_TASKS[name] for name in ("boundary", "depth")}  # depth is predicted anyway
    decoder_options = OPTIONS[name] | {"auxiliary_tasks": auxiliary}
    return create_model(name, backbone=backbone, tasks=tasks, backbone_options=options, decoder_options=decoder_options)


def test_distilling_decoders_offer_auxiliary_tasks():
    assert {"pad-net", "pad-net-densemtl", "pad-net-plus", "mti-net", "invpt", "densemtl"} <= set(TEACHING)


@pytest.mark.parametrize("name", TEACHING)
def test_auxiliary_tasks_are_predicted_on_the_way_and_inform_the_others(name):
    model = build_with_auxiliary(name).train()
    assert list(model.auxiliary_tasks) == ["boundary"]
    output = model(torch.rand(2, 3, *ODD))
    assert list(output.predictions) == list(TASKS)
    found = [stage["boundary"] for stage in output.auxiliary if "boundary" in stage]
    assert found
    assert all(raw.shape == (2, 1, *ODD) for raw in found)
    assert all(list(stage) == [name for name in (*TASKS, "boundary") if name in stage] for stage in output.auxiliary)
    stages = [output.predictions, *output.auxiliary]
    sum(raw.square().mean() for stage in stages for raw in stage.values()).backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []
    # What is learnt for the auxiliary task alone reaches every final prediction.
    model.eval()
    own = [p for key, p in model.named_parameters() if "boundary" in key.split(".") and p.ndim == 1]
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model(image).predictions
        for parameter in own:
            parameter.add_(0.5)
        after = model(image).predictions
    assert all(not torch.equal(before[task_name], after[task_name]) for task_name in TASKS)


@pytest.mark.parametrize("name", TEACHING)
def test_permuted_tasks_give_permuted_outputs_beside_auxiliary_ones(name):
    model, permuted = stir(build_with_auxiliary(name)), build_with_auxiliary(name, dict(reversed(TASKS.items())))
    permuted.load_state_dict(model.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = model.eval()(image).predictions, permuted.eval()(image).predictions
    for task_name in TASKS:
        close(found[task_name], expected[task_name])


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_one_trains(name):
    model = build(name, accepted(name)[0]).train()
    output = model(torch.rand(1, 3, 64, 64))
    sum(raw.mean() for raw in output.predictions.values()).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert any(gradient.any() for gradient in gradients)
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", NAMES)
def test_tiny_images_work(name):
    model = build(name, accepted(name)[0]).eval()
    with torch.no_grad():
        output = model(torch.rand(1, 3, 9, 14))
    assert all(raw.shape[-2:] == (9, 14) and raw.isfinite().all() for raw in output.predictions.values())


@pytest.mark.parametrize("name", [name for name in NAMES if name in DECODERS])
def test_maps_must_come_finest_first_with_a_stride_each(name):
    options = OPTIONS.get(name, {})
    for strides in ((32, 16, 8, 4), (4, 8, 16)):
        with pytest.raises(ValueError, match="strides"):
            DECODERS[name]((8, 8, 8, 8), strides=strides, tasks=TASKS, **options)


@pytest.mark.parametrize("name", [name for name in NAMES if name in DECODERS])
def test_raises_for_a_decoder_without_maps_or_with_a_stride_of_nothing(name):
    for channels, strides in (((), ()), ((8, 8), (0, 4)), ((8, 0), (4, 8))):
        with pytest.raises(ValueError, match=r"must be 1 or more, of a map or more"):
            DECODERS[name](channels, strides=strides, tasks=TASKS, **OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", [name for name in NAMES if name in DECODERS])
def test_strides_that_do_not_double_are_handled_or_named(name):
    def build_uneven():
        return DECODERS[name]((8, 8), strides=(4, 10), tasks=TASKS, **OPTIONS.get(name, {})).train()

    if issubclass(DECODERS[name], PyramidDecoder):
        with pytest.raises(ValueError, match=r"strides are \(4, 10\); \w+ doubles its maps .* each must be 1, 2, 4"):
            build_uneven()
        return
    final = build_uneven()([torch.randn(2, 8, 20, 30), torch.randn(2, 8, 8, 12)])[-1]
    assert all(raw.isfinite().all() for raw in final.values())


@pytest.mark.parametrize("name", [name for name in NAMES if name in DECODERS])
def test_a_single_map_of_one_place_trains_with_a_batch_of_one(name):
    """Where batch norm sees one value per channel, and no finer map helps."""
    decoder = DECODERS[name]((8,), strides=(16,), tasks=TASKS, **OPTIONS.get(name, {})).train()
    stages = decoder([torch.randn(1, 8, 1, 1)])
    assert all(raw.isfinite().all() for stage in stages for raw in stage.values())
    sum(raw.mean() for raw in stages[-1].values()).backward()


@pytest.mark.parametrize("name", [name for name in NAMES if name in DECODERS])
def test_raises_for_what_is_no_task(name):
    for tasks, message in (({"depth": "depth"}, r"tasks\['depth'\] is 'depth', no Task"), ({}, "tasks is empty")):
        with shapes_unchecked(), pytest.raises(ValueError, match=message):
            DECODERS[name]((8, 8), strides=(4, 8), tasks=tasks, **OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", NAMES)
def test_raises_for_what_is_no_batch_of_images(name):
    model = build(name, accepted(name)[0]).train()
    bad = {
        r"image is torch.float32 of shape \(1, 1, 32, 32\); a backbone takes float RGB": torch.rand(1, 1, 32, 32),
        r"image is torch.float32 of shape \(3, 32, 32\)": torch.rand(3, 32, 32),
        r"image is torch.uint8 of shape \(1, 3, 32, 32\)": torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
        r"image of shape \(1, 3, 0, 32\) has no pixels": torch.rand(1, 3, 0, 32),
        r"one image of 9 x 32 is a single place at stride 32, which batch norm cannot train on": torch.rand(
            1, 3, 9, 32
        ),
    }
    for message, image in bad.items():
        with shapes_unchecked(), pytest.raises(ValueError, match=message):
            model(image)
    # Two images, one more place, or evaluation: enough.
    for image in (torch.rand(2, 3, 9, 32), torch.rand(1, 3, 9, 33)):
        assert all(raw.isfinite().all() for raw in model(image).predictions.values())
    with torch.no_grad():
        assert all(raw.isfinite().all() for raw in model.eval()(torch.rand(1, 3, 1, 1)).predictions.values())


@pytest.mark.parametrize("name", NAMES)
def test_raises_for_unknown_options(name):
    backbone, options = FAMILIES[accepted(name)[0]]
    options = options | FAMILY_OPTIONS.get(name, {})
    with pytest.raises(ValueError, match=r"has no option 'no_such_option'; its options are (?!.*auxiliary_tasks)"):
        create_model(
            name, backbone=backbone, tasks=TASKS, backbone_options=options, decoder_options={"no_such_option": 1}
        )


TWO_TASKS = dict(list(TASKS.items())[:2])
"""Graphs grow with the pairs of tasks; tracing takes minutes for all entries together."""


EXPORTED_QUICKLY = ("fcn", "mti-net", "mtan", "invpt")
"""A head, a pyramid, an architecture and attention; a plain run exports these."""


def compiled_tasks(name: str, family: str) -> dict[str, Task]:
    """All on one family, but for a decoder with four contexts for each pair of them."""
    return TASKS if family == accepted(name)[0] and name != "atrc-search" else TWO_TASKS


def check_export(model: MultiTaskModel, image: Tensor) -> None:
    with torch.no_grad(), shapes_unchecked():
        expected = model(image).predictions
        exported = torch.export.export(model, (image,)).module()(image).predictions
    for task_name, raw in expected.items():
        close(exported[task_name], raw)


def check_compile(model: MultiTaskModel, image: Tensor) -> None:
    """One graph in training, with the same gradients: in double precision, where another order of sums is no excuse."""
    torch._dynamo.reset()
    model, image = model.double(), image.double()
    gradients = []
    with shapes_unchecked():
        for run in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
            model.zero_grad()
            torch.manual_seed(0)
            output = run(image)
            stages = [output.predictions, *output.auxiliary]
            sum(raw.square().mean() for stage in stages for raw in stage.values()).backward()
            # What a loss does not reach has no gradient in eager mode and zeros when compiled.
            found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
            gradients.append(found)
    torch._dynamo.reset()
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=1e-8 * float(ours.abs().max()) + 1e-10)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in EXPORTED_QUICKLY else pytest.mark.slow) for name in NAMES]
)
def test_exported_equals_eager(name):
    check_export(build(name, accepted(name)[0], TWO_TASKS).eval(), torch.rand(1, 3, *ODD))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "family"), [pair for pair in TRACED if pair[1] != "resnet"])
def test_exported_equals_eager_on_other_families(name, family):
    check_export(build(name, family, TWO_TASKS).eval(), torch.rand(1, 3, *ODD))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "family"), TRACED)
def test_compiles_into_one_graph(name, family):
    model = build(name, family, compiled_tasks(name, family)).train()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0  # compiled and eager draw other masks
    check_compile(model, torch.rand(2, 3, *ODD))
