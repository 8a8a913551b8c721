"""Pairwise affinity losses against loops over pairs, and what they must not depend on."""

import numpy as np
import pytest
import torch

from triptych.tasks import TASKS, depth, depth_bins, human_parts, normals, normals_clusters, semseg
from triptych.types import IGNORE

KINDS = {
    "semseg": semseg(5),
    "human_parts": human_parts(),
    "depth": depth(),
    "ln depth": depth(loss="log-l1"),
    "depth bins": depth_bins(bins=6),
    "normals": normals(),
    "normals clusters": normals_clusters(5),
}
HEIGHT, WIDTH = 3, 4


def random_maps(task, generator, batch=2):
    """Raw maps and targets; every third place is invalid."""
    raw = torch.randn(batch, task.channels, HEIGHT, WIDTH, generator=generator)
    if task.target_channels is None:
        target = torch.randint(len(task.classes), (batch, HEIGHT, WIDTH), generator=generator)
        target.flatten(1)[:, ::3] = IGNORE
        return raw, target
    target = torch.rand(batch, task.target_channels, HEIGHT, WIDTH, generator=generator) + 0.1
    if task.target_channels == 3:
        target = torch.nn.functional.normalize(target - 0.5, dim=1)
    target.flatten(2)[:, :, ::3] = torch.nan
    return raw, target


def likeness(kind, a, b):
    """How alike two described places are, in plain words."""
    if kind == "classes":
        return float(np.dot(a, b))
    if kind == "normals":
        return (1 + float(np.dot(a, b))) / 2
    return min(a, b) / max(a, b)


def describe(task, raw, target):
    """What is compared of every place: probabilities, unit vectors or metres; of the prediction and of the target."""
    if task.classes:
        exponent = np.exp(raw)
        truth = np.eye(256)[target][..., : len(raw)]
        return "classes", (exponent / exponent.sum(axis=0)).transpose(1, 2, 0), truth
    decoded = task.decode(torch.from_numpy(raw)[None])[0].numpy()
    if len(target) == 3:
        return "normals", decoded.transpose(1, 2, 0), target.transpose(1, 2, 0)
    return "depth", np.maximum(decoded[0], 1e-3), target[0]


def slow_pair_loss(task, raw, target):
    errors = []
    for image, labels in zip(raw.numpy(), target.numpy(), strict=True):
        kind, predicted, wanted = describe(task, image, labels)
        valid = labels != IGNORE if labels.ndim == 2 else np.isfinite(labels).all(axis=0)
        places = [(i, j) for i in range(HEIGHT) for j in range(WIDTH) if valid[i, j]]
        for one in places:
            for other in places:
                if one != other:
                    difference = likeness(kind, predicted[one], predicted[other]) - likeness(
                        kind, wanted[one], wanted[other]
                    )
                    errors.append(difference**2)
    return np.mean(errors)


@pytest.mark.parametrize("name", KINDS)
def test_loss_equals_a_loop_over_pairs(name):
    task = KINDS[name]
    raw, target = random_maps(task, torch.Generator().manual_seed(0))
    assert task.pair_loss(raw, target).item() == pytest.approx(slow_pair_loss(task, raw, target), rel=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_gradients_are_finite_and_vanish_without_a_pair(name):
    task = KINDS[name]
    raw, target = random_maps(task, torch.Generator().manual_seed(1))
    raw.requires_grad_()
    (gradient,) = torch.autograd.grad(task.pair_loss(raw, target), raw)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
    for valid in (0, 1):  # pixels of each image: one place makes no pair
        empty = target.clone()
        empty.flatten(-2)[..., valid:] = IGNORE if task.target_channels is None else torch.nan
        loss = task.pair_loss(raw, empty)
        (gradient,) = torch.autograd.grad(loss, raw)
        assert loss.item() == 0
        assert (gradient == 0).all()


@pytest.mark.parametrize("name", KINDS)
def test_autocast_changes_nothing(name):
    task = KINDS[name]
    raw, target = random_maps(task, torch.Generator().manual_seed(1))
    raw.requires_grad_()
    found = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = task.pair_loss(raw, target)
        found.append((loss, *torch.autograd.grad(loss, raw)))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_tasks_with_balanced_losses_compare_no_pairs():
    tasks = [make(3) if name == "semseg" else make() for name, make in TASKS.items()]
    assert [task.name for task in tasks if task.pair_loss is None] == ["saliency", "boundary"]


@pytest.mark.parametrize(
    ("name", "perfect"), [("depth", lambda target: 2 * target), ("normals", lambda target: target)]
)
def test_what_is_right_up_to_scale_costs_nothing(name, perfect):
    _, target = random_maps(KINDS[name], torch.Generator().manual_seed(2))
    assert KINDS[name].pair_loss(perfect(target.nan_to_num(0.5)), target).item() == pytest.approx(0, abs=1e-10)
