"""What every task promises, for every variant of it."""

import dataclasses
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from unchecked import shapes_unchecked

from triptych import tasks
from triptych.losses import classes
from triptych.losses import depth as depth_losses
from triptych.losses import pixel as losses
from triptych.tasks import TASKS, Task
from triptych.tasks.stored import tasks_from_json
from triptych.types import IGNORE, UNUSED, valid_pixels

VARIANTS: dict[str, Callable[[], Task]] = {
    "left and right": lambda: tasks.semseg(["none", "Left-arm", "Right-arm", "leftover"]),
    "human_parts": tasks.human_parts,
    "depth bins": tasks.depth_bins,
    "normals clusters": tasks.normals_clusters,
    "heat": lambda: tasks.regression("heat", unit="K", limits=(0.0, 1.0)),
    "albedo": lambda: tasks.regression("albedo", 3, loss="mse"),
}
VARIANTS |= {f"semseg {loss}": lambda loss=loss: tasks.semseg(5, loss=loss) for loss in classes.SEGMENTATION}
VARIANTS |= {f"normals {loss}": lambda loss=loss: tasks.normals(loss=loss) for loss in losses.NORMALS}
VARIANTS |= {f"depth {loss}": lambda loss=loss: tasks.depth(loss=loss) for loss in depth_losses.DEPTH}
for channels in (1, 2):
    heads = {"saliency": (tasks.saliency, f"SALIENCY_{channels}"), "boundary": (tasks.boundary, f"BOUNDARY_{channels}")}
    for name, (constructor, table) in heads.items():
        VARIANTS |= {
            f"{name} {channels} {loss}": lambda c=constructor, n=channels, loss=loss: c(channels=n, loss=loss)
            for loss in getattr(losses, table)
        }

ROUNDING = ("depth bins", "normals clusters")
"""Variants that cannot express every target."""

SIZE = (6, 7)


def make_target(task: Task, batch: int = 2) -> Tensor:
    """Targets in the task's layout, valid everywhere."""
    if task.target_channels is None:
        return torch.randint(0, len(task.classes), (batch, *SIZE))
    values = torch.rand(batch, task.target_channels, *SIZE)
    if task.kind == "length":
        return values * 5 + 0.5
    if task.kind == "values":
        return values
    return F.normalize(values * 2 - 1, dim=1) if task.kind == "direction" else values.round()


def make_raw(task: Task, batch: int = 2) -> Tensor:
    return torch.randn(batch, task.channels, *SIZE)


@pytest.fixture(params=VARIANTS)
def task(request: pytest.FixtureRequest) -> Task:
    return VARIANTS[request.param]()


def test_every_constructor_has_a_variant() -> None:
    assert {make().name for make in VARIANTS.values() if make().kind != "values"} == set(TASKS)


def test_missing_label_costs_nothing(task: Task) -> None:
    raw = make_raw(task).requires_grad_()
    loss = task.loss(raw, torch.stack([task.invalid_target(SIZE)] * 2))
    loss.backward()
    assert loss.item() == 0
    assert raw.grad.isfinite().all()
    assert raw.grad.count_nonzero() == 0


def test_partly_labelled_batch_equals_its_labelled_part(task: Task) -> None:
    raw, target = make_raw(task), make_target(task)
    whole = task.loss(raw, torch.stack([target[0], task.invalid_target(SIZE)]))
    part = task.loss(raw[:1], target[:1])
    # The published form of DenseMTL's depth loss averages over all pixels, valid or not.
    all_pixels = task.loss in [tasks.depth(loss=f"berhu-inverse-{name}").loss for name in ("all-pixels", "published")]
    torch.testing.assert_close(whole * (2 if all_pixels else 1), part)
    assert part > 0


def test_maps_of_another_layout_are_refused(task: Task) -> None:
    """A missing axis would compare every image of the batch with all others."""
    raw, target = make_raw(task), make_target(task)
    other_axes = target[:, None] if task.target_channels is None else target[:, 0]
    other_type = target.float() if task.target_channels is None else target.long()
    wrong = [(raw, other_axes), (raw, other_type), (raw, target[..., 1:]), (raw[:1], target), (raw[:, 0], target)]
    wrong += [(torch.cat([raw, raw], dim=1), target)]
    with shapes_unchecked():
        for pair in wrong:
            with pytest.raises(
                ValueError, match=rf"^{task.name} has maps .* and a target .*; give float \(\d, {task.channels}, "
            ):
                task.loss(*pair)


def test_infinite_targets_have_no_label(task: Task) -> None:
    raw, target = make_raw(task).requires_grad_(), make_target(task)
    if task.target_channels is None:
        return
    losses = []
    for mark in (torch.nan, torch.inf, -torch.inf):
        target[..., 2:] = mark
        losses.append(task.loss(raw, target))
        losses.append(task.loss(raw, target.double()))
    torch.stack(losses).sum().backward()
    assert raw.grad.isfinite().all()
    for loss in losses[1:]:
        torch.testing.assert_close(loss.float(), losses[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_targets_kept_in_half_precision_are_computed_in_full(task: Task, dtype: torch.dtype) -> None:
    if task.target_channels is None:
        return
    raw, target = make_raw(task).requires_grad_(), make_target(task).to(dtype)
    target[..., 2:] = torch.nan
    loss = task.loss(raw, target)
    loss.backward()
    assert raw.grad.isfinite().all()
    assert loss == task.loss(raw, target.float())


def test_class_ids_of_any_integer_type_are_labels(task: Task) -> None:
    if task.target_channels is not None:
        return
    raw, target = make_raw(task), make_target(task)
    target[:, 1] = IGNORE
    for dtype in (torch.uint8, torch.int16, torch.int32):
        assert task.loss(raw, target.to(dtype)) == task.loss(raw, target)


def test_decoded_predictions_have_physical_units(task: Task) -> None:
    decoded = task.decode(3 * make_raw(task))
    if task.target_channels is None and task.interpolation == "nearest":
        assert decoded.shape == (2, *SIZE)
        assert decoded.dtype == torch.int64
        assert set(decoded.unique().tolist()) <= set(range(task.channels))
        return
    assert decoded.shape == (2, task.target_channels or 1, *SIZE)
    assert decoded.dtype == torch.float32
    assert decoded.isfinite().all()
    if task.kind == "direction":
        torch.testing.assert_close(decoded.norm(dim=1), torch.ones(2, *SIZE))
    elif task.kind == "length":
        assert (decoded >= 0).all()
    elif task.kind == "probability":
        assert ((decoded >= 0) & (decoded <= 1)).all()


def test_half_precision_decodes_in_full(task: Task) -> None:
    raw = make_raw(task).bfloat16()
    assert torch.equal(task.decode(raw), task.decode(raw.float()))


def encoded(task: Task, target: Tensor) -> Tensor:
    """The raw map of a network that knows the target and is sure of it."""
    if task.kind == "length" or task.kind == "values":
        return task.encode(target)
    if task.kind == "direction":
        return 7 * target
    labels = target if task.target_channels is None else target[:, 0].long()
    if task.channels == 1:
        return 40.0 * labels[:, None] - 20
    return 40.0 * F.one_hot(labels, task.channels).movedim(-1, 1)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in ROUNDING])
def test_perfect_prediction(variant: str) -> None:
    """Little loss, a decoded map equal to the target, and a perfect score."""
    task = VARIANTS[variant]()
    target = make_target(task)
    raw = encoded(task, target)
    assert task.loss(raw, target).item() < 1e-3
    decoded = task.decode(raw)
    if task.decode is depth_losses.DEPTH["berhu-inverse-published"][1]:
        target = (target - 0.99).clamp(min=0)
    wanted = target[:, None].float() if decoded.ndim == 4 and target.ndim == 3 else target
    torch.testing.assert_close(decoded, wanted, atol=1e-4, rtol=1e-4)
    if task.name == "boundary":
        return  # its metric thins and matches; see its own tests
    metric = task.metric()
    metric.update(decoded, torch.where(target > 0, target, torch.nan) if task.kind == "length" else target)
    scores = metric.compute()
    assert metric.perfect == (1.0 if metric.better[metric.primary] else 0.0)
    for name, value in scores.items():
        if name in ("maxF_invpt", "mIoU_absent_zero"):
            continue
        assert value == pytest.approx(1.0 if metric.better[name] else 0.0, abs=6e-3), name


def test_no_class_has_the_number_of_no_label() -> None:
    assert tasks.semseg(IGNORE).channels == IGNORE
    with pytest.raises(ValueError, match=r"256 classes, of which 255 would never count: .* '\(no class: 255 means"):
        tasks.semseg(IGNORE + 1)
    names = list(map(str, range(300)))
    names[IGNORE] = UNUSED
    assert tasks.semseg(names).channels == 300
    # A network that an older version trained has been ignoring that class.
    for given in (300, list(map(str, range(300)))):
        stored = {"tasks": [{"name": "semseg", "options": {"classes": given}}]}
        assert tasks_from_json(json.dumps(stored))["semseg"].classes == tuple(names)
    stored["tasks"][0]["options"]["loss"] = "none"
    with pytest.raises(ValueError, match="unknown segmentation loss 'none'"):
        tasks_from_json(json.dumps(stored))


def test_classes_round_little() -> None:
    """What the auxiliary classes can express: the right bin, and the nearest of 40 directions."""
    depth, normals = tasks.depth_bins(), tasks.normals_clusters()
    target = torch.rand(1, 1, *SIZE) * 8 + 1
    position = ((target / 0.7).log() / math.log(10 / 0.7) * 40).long()
    raw = torch.zeros(1, 40, *SIZE).scatter(1, position, 60.0)
    assert (depth.decode(raw) / target).log().abs().max() <= math.log(10 / 0.7) / 80 + 1e-4
    assert depth.loss(raw, target) < 1e-3

    facing = F.normalize(torch.randn(1, 3, *SIZE), dim=1)
    facing = torch.cat([facing[:, :2], -facing[:, 2:].abs()], dim=1)
    centroids = normals.loss_function.keywords["centroids"]
    nearest = torch.einsum("kc,bchw->bkhw", centroids, facing).argmax(dim=1, keepdim=True)
    raw = torch.zeros(1, 40, *SIZE).scatter(1, nearest, 60.0)
    assert normals.loss(raw, facing) < 1e-3
    cosine = (normals.decode(raw) * facing).sum(dim=1)
    assert cosine.min() > math.cos(math.radians(25))


def test_gradient_descends(task: Task) -> None:
    raw, target = (2 * make_raw(task)).requires_grad_(), make_target(task)
    loss = task.loss(raw, target)
    (gradient,) = torch.autograd.grad(loss, raw)
    step = 1e-2 * raw.detach().norm() / gradient.norm()
    assert task.loss(raw - step * gradient, target) < loss


# Geometry of targets


def float_tasks() -> list[Task]:
    return [make() for make in VARIANTS.values() if make().target_channels is not None]


def test_mirroring_twice_is_nothing(task: Task) -> None:
    target = make_target(task)
    assert torch.equal(task.mirror(task.mirror(target)), target)
    assert torch.equal(task.mirror(task.mirror(target[0])), target[0])


def test_zooming_back_is_nothing(task: Task) -> None:
    target = make_target(task)
    torch.testing.assert_close(task.zoom(task.zoom(target, 1.7), 1 / 1.7), target)
    torch.testing.assert_close(task.rotate(task.rotate(target, 0.4), -0.4), target)


def test_invalid_stays_invalid(task: Task) -> None:
    invalid = torch.stack([task.invalid_target(SIZE)])
    assert not valid_pixels(invalid).any()
    for moved in (task.mirror(invalid), task.zoom(invalid, 2.0), task.rotate(invalid, 0.3)):
        assert not valid_pixels(moved).any()
        assert moved.shape == invalid.shape
        assert moved.dtype == invalid.dtype


def test_what_moves() -> None:
    """Only normals turn, and only depth shrinks."""
    x, y, z = (torch.eye(3)[i].view(3, 1, 1) for i in range(3))
    normals = tasks.normals()
    assert torch.equal(normals.mirror(x), -x)
    assert torch.equal(normals.mirror(y + z), y + z)
    torch.testing.assert_close(normals.rotate(x, math.pi / 2), y)
    torch.testing.assert_close(normals.rotate(y, math.pi / 2), -x)
    torch.testing.assert_close(normals.rotate(z, 1.0), z)
    assert tasks.depth().zoom(torch.full((1, 1, 1), 3.0), 1.5).item() == 2.0
    for task in float_tasks():
        target = make_target(task)
        if task.unit != "m":
            assert task.zoom(target, 1.5) is target
        if task.kind != "direction":
            assert task.mirror(target) is target
            assert task.rotate(target, 0.5) is target


# Pictures


def with_holes(task: Task) -> Tensor:
    target = make_target(task)[0]
    target[..., :2, :3] = torch.nan if target.is_floating_point() else IGNORE
    return target


def test_pictures(task: Task) -> None:
    for values in (task.decode(make_raw(task))[0], make_target(task)[0], with_holes(task)):
        picture = task.colorize(values.numpy())
        assert picture.shape == (*SIZE, 3)
        assert picture.dtype == np.uint8
        stored = task.to_png(values.numpy())
        assert stored.shape == ((*SIZE, 3) if task.target_channels == 3 else SIZE)
        assert stored.dtype == (np.uint16 if task.unit else np.uint8)


def test_pictures_show_holes() -> None:
    for task in (make() for make in VARIANTS.values()):
        picture = task.colorize(with_holes(task).numpy())
        holes = picture[:2, :3].reshape(-1, 3)
        assert (holes == holes[0]).all()
        assert not (picture[2:] == holes[0]).all(axis=-1).all()


def test_stored_values() -> None:
    metres = np.array([[[1.2344, 65.5354, 65.536, 200.0, np.inf, -1.0, np.nan]]])
    assert tasks.depth().to_png(metres).tolist() == [[1234, 65535, 0, 0, 0, 0, 0]]
    assert tasks.normals().to_png(np.array([1.0, -1.0, 0.0]).reshape(3, 1, 1)).tolist() == [[[255, 0, 128]]]
    assert tasks.boundary().to_png(np.array([[[0.999, 1.0, np.nan]]])).tolist() == [[254, 255, 0]]
    assert tasks.saliency().to_png(np.array([[0, 1, 255]])).tolist() == [[0, 255, 0]]
    assert tasks.semseg(3).to_png(np.array([[2, 255]])).tolist() == [[2, 255]]


# Values


def test_tasks_are_frozen() -> None:
    task = tasks.depth()
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.weight = 2.0
    heavier = tasks.with_weight(task, 2.0)
    assert (heavier.weight, task.weight) == (2.0, 1.0)
    assert heavier.loss == task.loss


@pytest.mark.parametrize("variant", VARIANTS)
def test_predictions_become_targets(variant: str) -> None:
    """Of the shape and type of one; a probability says 0 or 1, and 1 from the level on."""
    task = VARIANTS[variant]()
    decoded = task.decode(torch.randn(2, task.channels, 3, 4, generator=torch.Generator().manual_seed(0)))
    target = task.to_target(decoded)
    unlabelled = torch.stack([task.invalid_target((3, 4))] * 2)
    assert (target.shape, target.dtype) == (unlabelled.shape, unlabelled.dtype)
    if task.kind == "probability":
        assert torch.equal(
            task.to_target(decoded, decoded.max().item()) > 0, (decoded == decoded.max()).view(target.shape)
        )
        assert torch.equal(task.to_target(decoded[0]), target[0])
    else:
        assert target is decoded


@pytest.mark.parametrize("name", TASKS)
def test_unknown_loss_lists_the_choices(name: str) -> None:
    arguments = (3,) if name == "semseg" else ()
    with pytest.raises(ValueError, match=r"unknown .* loss 'nonsense'; .*[Cc]hoose from"):
        TASKS[name](*arguments, loss="nonsense")


@pytest.mark.parametrize("constructor", [tasks.saliency, tasks.boundary])
def test_unknown_number_of_channels(constructor: Callable[..., Task]) -> None:
    with pytest.raises(ValueError, match="channels '3'"):
        constructor(channels=3)


def test_standard_sets() -> None:
    assert [task.channels for task in tasks.nyuv2_tasks().values()] == [40, 1, 3, 1]
    assert [task.channels for task in tasks.pascal_context_tasks().values()] == [21, 7, 2, 3, 1]
    assert [task.weight for task in tasks.pascal_context_tasks().values()] == [1, 2, 5, 10, 50]


def test_raw_maps_of_physical_tasks_are_what_is_decoded(task: Task) -> None:
    """What `raw_form` says, found from decoding."""
    raw = torch.rand(1, task.channels, *SIZE) + 0.5
    decoded = task.decode(raw)
    if task.kind == "direction" and task.channels == 3:
        raw = F.normalize(raw, dim=1)
    same = decoded.shape == raw.shape and torch.allclose(decoded, raw)
    assert same == task.raw_is_physical
    assert task.is_categorical == (bool(task.classes) or task.channels != task.target_channels)


def test_raw_maps_that_decode_to_something_else_are_not_physical() -> None:
    """Whatever `raw_form` was left at."""
    for decode in (torch.exp, F.softplus, lambda raw: 2 * raw, lambda raw: 1 / raw):
        assert not dataclasses.replace(tasks.depth(), decode=decode).raw_is_physical
    assert dataclasses.replace(tasks.depth(), decode=lambda raw: raw.clamp(1, 5)).raw_is_physical
    assert not dataclasses.replace(tasks.normals(), decode=lambda raw: -F.normalize(raw, dim=1)).raw_is_physical
    heat = tasks.regression("heat", limits=(250.0, 350.0))
    assert not dataclasses.replace(heat, decode=lambda raw: raw + 1).raw_is_physical


def test_class_0_has_a_color_of_its_own_in_each_task() -> None:
    first = {
        name: tuple(tasks.TASKS[name](4).colorize(np.zeros((1, 1), int))[0, 0]) for name in ("semseg", "human_parts")
    }
    first["rooms"] = tuple(tasks.semseg(4, name="rooms").colorize(np.zeros((1, 1), int))[0, 0])
    colors = [np.array(color, int) for color in first.values()]
    for i, one in enumerate(colors):
        for other in colors[:i]:
            assert np.abs(one - other).sum() > 40, first


@pytest.mark.parametrize(
    "shown", [(), [(0, 0, 0)], [(0, 0, 0), (250, 250, 255)], [(9, 9, 9), (240, 240, 240), (120, 120, 120)]]
)
def test_no_label_is_no_color_of_a_class(shown: list[tuple[int, int, int]]) -> None:
    count = len(shown) or 20
    task = tasks.semseg(count, colors_shown=shown)
    drawn = task.colorize(np.array([[*range(count), IGNORE]]))[0].astype(int)
    assert np.abs(drawn[:-1] - drawn[-1]).sum(axis=1).min() >= 90


@pytest.mark.parametrize("shown", [(), [(1 + number % 250, number // 250, 90) for number in range(300)]])
def test_each_of_many_classes_has_a_color(shown: list[tuple[int, int, int]]) -> None:
    task = tasks.semseg([UNUSED if number == IGNORE else str(number) for number in range(300)], colors_shown=shown)
    drawn = task.colorize(np.array([[256, 299, IGNORE]]))[0]
    assert (drawn[:2] != drawn[2]).any(axis=1).all()
    if shown:
        assert drawn[:2].tolist() == [list(shown[256]), list(shown[299])]


@pytest.mark.parametrize("channels", [1, 300])
def test_a_class_map_without_names_has_numbers(channels: int) -> None:
    task = dataclasses.replace(tasks.semseg(2), channels=channels, classes=())
    assert task.classes == tuple(map(str, range(max(channels, 2))))


def test_left_and_right_change_places_in_a_mirror() -> None:
    task = tasks.semseg(["none", "Left-arm", "Right-arm", "leftover"])
    target = torch.tensor([[0, 1, 2], [3, IGNORE, 1]])
    assert task.mirror(target).tolist() == [[0, 2, 1], [3, IGNORE, 2]]
    scores = F.one_hot(target.clamp(max=3), 4).permute(2, 0, 1)[None].float()
    assert torch.equal(task.decode(task.mirror_raw(scores))[0], task.mirror(target.clamp(max=3)))


def test_the_logit_of_two_classes_that_change_places_changes_its_sign() -> None:
    task = dataclasses.replace(tasks.semseg(["left", "right"]), channels=1)
    assert task.mirror_raw(torch.full((1, 1, 2, 3), 2.0)).unique().tolist() == [-2.0]


@pytest.mark.parametrize("name", ["values", "type", "half", "a.b"])
def test_names_that_no_network_can_have_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"a task cannot be called '{name}': networks keep parts by the names"):
        tasks.regression(name)


def test_words_that_the_library_would_not_understand_are_refused() -> None:
    """Of a kind of its own, depth would make no points, and a file could not be exported."""
    with shapes_unchecked():
        with pytest.raises(
            ValueError, match=r"unknown kind of task 'depth' 'distance'; .*from direction, labels, leng"
        ):
            dataclasses.replace(tasks.depth(), kind="distance")
        with pytest.raises(
            ValueError, match=r"unknown raw_form of task 'depth' 'log'; .*from encoded, physical, score"
        ):
            dataclasses.replace(tasks.depth(), raw_form="log")
