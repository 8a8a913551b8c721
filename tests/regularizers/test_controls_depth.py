"""Controls that are told a depth: weights by hand, whose depth it is, and which labels count."""

import math
from dataclasses import replace

import pytest
import torch
from regularizers.branch import SIZE, batch, build, tasks_of
from torch import Tensor

from triptych.regularizers.inspection import inspect
from triptych.types import IGNORE

TASKS = tasks_of("semseg", "normals", "boundary", "depth")
TOLD = {
    "triplane-true-depth": {"num_samples": 4},
    "triplane-other-depth": {"num_samples": 4},
    "triplane-depth-input": {"num_samples": 1},
}
every_control = pytest.mark.parametrize("name", TOLD)


def with_depth(sample, depth: Tensor):
    return replace(sample, targets={**sample.targets, "depth": depth})


def weights_of(regularizer, sample) -> Tensor:
    z, _ = regularizer.depth_in_cube(sample)
    return regularizer.weigh(regularizer.sample_points(sample), z)


def test_weights_of_one_ray_by_hand() -> None:
    """Near 1, far 9: bins of 2 m, whose centres lie at 2, 4, 6 and 8 m. A surface at 6 m."""
    regularizer = build("triplane-true-depth", TASKS, num_samples=4, near=1.0, far=9.0, stratified=False)
    _, sample = batch(TASKS)
    weights = weights_of(regularizer, with_depth(sample, torch.full((2, 1, *SIZE), 6.0)))
    parts = [math.exp(-(bins**2) / 2) for bins in (2, 1, 0, 1)]
    expected = torch.tensor(parts) / sum(parts)
    torch.testing.assert_close(weights, expected.expand_as(weights))


def test_weights_sum_to_one_and_peak_at_the_true_depth() -> None:
    regularizer = build("triplane-true-depth", TASKS, num_samples=16)
    _, sample = batch(TASKS)
    depth = torch.rand(2, 1, *SIZE) * 12
    sample = with_depth(sample, depth)
    torch.manual_seed(0)
    points = regularizer.sample_points(sample)
    z, known = regularizer.depth_in_cube(sample)
    weights = regularizer.weigh(points, z)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 7, 8))
    nearest = (points.depths - z[:, 0, ..., None]).abs().argmin(dim=-1)
    assert torch.equal(weights.argmax(dim=-1), nearest)
    assert known.all()
    # Read at the middle of a cell; out of the box at its rim.
    row, column = int(2.5 * SIZE[0] / 7), int(3.5 * SIZE[1] / 8)
    there = 2 * (depth[1, 0, row, column] - 0.5) / 9.5 - 1
    assert z[1, 0, 2, 3].item() == pytest.approx(there.clamp(-1, 1).item(), abs=1e-6)


def test_the_other_control_reads_another_image() -> None:
    options = {"num_samples": 8, "stratified": False}
    own, other = (build(name, TASKS, **options) for name in ("triplane-true-depth", "triplane-other-depth"))
    _, sample = batch(TASKS)
    sample = with_depth(sample, torch.tensor([2.0, 7.0])[:, None, None, None].expand(2, 1, *SIZE))
    assert torch.equal(weights_of(other, sample), weights_of(own, sample).flip(0))
    assert not torch.equal(weights_of(own, sample)[0], weights_of(own, sample)[1])


def test_another_image_is_needed() -> None:
    regularizer = build("triplane-other-depth", TASKS)
    output, sample = batch(TASKS)
    one = replace(sample, image=sample.image[:1], targets={name: t[:1] for name, t in sample.targets.items()})
    with pytest.raises(ValueError, match=r"this batch has one image; use data.batch_size 2 or more"):
        regularizer(output._replace(features=[maps[:1] for maps in output.features]), one)


@every_control
def test_depth_is_told_and_not_rendered(name: str) -> None:
    """Other depths, other losses; no term of depth; gradients reach the planes and the features."""
    regularizer = build(name, TASKS, **TOLD[name], stratified=False)
    for field in regularizer.fields.values():
        torch.nn.init.normal_(field.values.weight)
    output, sample = batch(TASKS)
    near, far = (with_depth(sample, torch.full((2, 1, *SIZE), metres)) for metres in (1.0, 9.0))
    losses = regularizer(output, near)
    assert list(losses) == ["semseg", "normals", "boundary"]
    assert list(regularizer.fields) == list(losses)
    assert all(losses[task] != other for task, other in regularizer(output, far).items())
    torch.stack(list(losses.values())).sum().backward()
    assert all(maps.grad.abs().max() > 0 for maps in output.features)
    assert all(row.grad.abs().max() > 0 for row in regularizer.encoder.planes.parameters())


@every_control
@pytest.mark.parametrize("resolution", ["full", "rendered"])
def test_labels_count_where_their_rendering_has_a_depth(name: str, resolution: str) -> None:
    """Unknown depth on the right: what the labels say there changes nothing; on the left it does."""
    regularizer = build(name, TASKS, **TOLD[name], stratified=False, resolution=resolution)
    for field in regularizer.fields.values():
        torch.nn.init.normal_(field.values.weight)
    output, sample = batch(TASKS)
    depth = torch.full((2, 1, *SIZE), 3.0)
    depth[..., 40:] = torch.nan
    sample = with_depth(sample, depth)
    terms = regularizer(output, sample)
    for where, equal in ((slice(40, None), True), (slice(0, 20), False)):
        labels = sample.targets["semseg"].clone()
        labels[..., where] = IGNORE
        changed = replace(sample, targets={**sample.targets, "semseg": labels})
        assert torch.equal(regularizer(output, changed)["semseg"], terms["semseg"]) == equal
    torch.stack(list(terms.values())).sum().backward()
    assert all(maps.grad.isfinite().all() for maps in output.features)


@every_control
def test_a_task_in_metres_is_needed(name: str) -> None:
    with pytest.raises(ValueError, match=r"needs a task in metres and others to render; the tasks are semseg"):
        build(name, tasks_of("semseg"), **TOLD[name])
    with pytest.raises(ValueError, match=r"unknown task in rendered 'depth'"):
        build(name, TASKS, rendered=("depth",), **TOLD[name])


@every_control
def test_there_is_nothing_to_look_into(name: str) -> None:
    with pytest.raises(ValueError, match=r"renders with the true depth of its training images"):
        inspect(build(name, TASKS, **TOLD[name]).eval(), *batch(TASKS))
