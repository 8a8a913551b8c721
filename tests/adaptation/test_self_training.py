"""Entropy, mean teachers and mixing: properties, and cases by hand."""

import math

import pytest
import torch
from adaptation.networks import ALL_TASKS, SIZE, TASKS, batch, network, unlabelled, weights
from torch import nn

from triptych.adaptation import mean_teacher
from triptych.adaptation.adversarial import MinEnt
from triptych.adaptation.base import check_label_spaces
from triptych.adaptation.mean_teacher import (
    DACS,
    DepthMix,
    MeanTeacher,
    PseudoLabel,
    blur,
    choose_classes,
    mixed_loss,
)
from triptych.augmentation.steps import INSIDE
from triptych.tasks import depth, human_parts, normals, semseg
from triptych.types import IGNORE, Sample, valid_pixels


def build(kind, model, tasks=TASKS, **options):
    return kind(model, size=SIZE, weights=weights(tasks), **options).train()


# Entropy


def test_entropy_is_the_mean_over_class_maps_and_is_one_for_even_scores() -> None:
    model = network().eval()
    with torch.no_grad():
        for name in ("early", "late"):
            head = getattr(model.decoder, name)["semseg"]
            head.weight.zero_()
            head.bias.copy_(torch.zeros(5) if name == "early" else torch.tensor([1.0, 0, 0, 0, 0]))
    source, target = batch(), unlabelled()
    target.extras[INSIDE][0, :, 30:] = 0  # the mean is over what is not padded
    loss = build(MinEnt, model, weight=2.0)(model, source, target, model(source.image))["entropy"]
    p = [math.e / (math.e + 4), *[1 / (math.e + 4)] * 4]
    entropy = -sum(x * math.log(x) for x in p) / math.log(5)
    assert loss.item() == pytest.approx(2 * (1 + entropy) / 2, rel=1e-5)


def test_descending_the_entropy_makes_target_predictions_sure() -> None:
    model, source, target = network(), batch(), unlabelled()
    adapter = build(MinEnt, model, weight=1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = adapter(model, source, target, model(source.image))["entropy"]
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.5 * values[0]


def test_entropy_needs_classes() -> None:
    tasks = {"depth": depth()}
    with pytest.raises(ValueError, match="needs a task with classes; the model has depth"):
        build(MinEnt, network(tasks), tasks)


# Teachers


def test_the_teacher_is_the_moving_average_of_the_model() -> None:
    model = network()
    adapter = build(MeanTeacher, model, decay=0.7)
    adapter.start(model)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(6):
        adapter.step = step
        with torch.no_grad():
            for value in model.state_dict().values():
                value += 1 if not value.is_floating_point() else torch.randn_like(value)
        adapter.after_step(model)
        decay = min(0.7, (2 + step) / (11 + step))
        for name, value in model.state_dict().items():
            mixed = decay * expected[name] + (1 - decay) * value
            expected[name] = mixed if value.is_floating_point() else value.clone()
            torch.testing.assert_close(adapter.teacher.state_dict()[name], expected[name])


def test_the_first_weights_of_the_model_are_the_teachers() -> None:
    model = network()
    adapter = build(MeanTeacher, model)
    with torch.no_grad():
        model.backbone.body[0].weight += 1
    adapter.start(model)
    torch.testing.assert_close(adapter.teacher.backbone.body[0].weight, model.backbone.body[0].weight)


@pytest.mark.parametrize(("steps", "oldest"), [(10, 2.0), (90, 11.0), (250, 29.0), (2000, 100.0)])
def test_a_teacher_remembers_a_ninth_of_the_training_and_no_more_than_its_decay_says(steps: int, oldest: float) -> None:
    """Weights that say which step they are of: the teacher's say how old it is."""
    clock = nn.Linear(1, 1)
    clock.tasks = {"semseg": semseg(3)}
    adapter = MeanTeacher(clock, size=SIZE, weights={"semseg": 1.0})
    for step in range(steps):
        adapter.step = step
        nn.init.constant_(clock.weight, step)
        adapter.after_step(clock)
    assert 0 < steps - 1 - adapter.teacher.weight.item() <= oldest


def test_the_teacher_does_not_train_and_labels_by_the_statistics_of_the_batch() -> None:
    """Running statistics, which are of both domains, do not matter to its labels, and stay."""
    adapter, target = build(MeanTeacher, network()), unlabelled()
    norm = adapter.teacher.backbone.body[1][0]
    for mode in (True, False):
        adapter.train(mode)
        assert [module for module in adapter.teacher.modules() if module.training] == [norm]
        before = {name: value.clone() for name, value in adapter.teacher.state_dict().items()}
        labels = adapter.label(target)
        assert all(torch.equal(value, before[name]) for name, value in adapter.teacher.state_dict().items())
        with torch.no_grad():
            norm.running_mean += 3
            norm.running_var *= 5
        for name, label in adapter.label(target).items():
            assert torch.equal(label.target, labels[name].target)


def test_norms_that_the_model_keeps_are_kept_by_its_teacher() -> None:
    """Else the teacher of a network with frozen norms would be another network."""
    model, image = network(), unlabelled().image
    with torch.no_grad():
        model.backbone.body[1][0].running_mean += 3
    model.train().freeze(["backbone"])
    teacher = build(MeanTeacher, model).teacher
    for stage, expected in zip(teacher(image).auxiliary, model(image).auxiliary, strict=True):
        torch.testing.assert_close(dict(stage), dict(expected))


def test_labels_count_more_and_more_during_the_ramp_up() -> None:
    """exp(-5 (1 - x)^2) over the first `ramp_up` of the training; in full where its length is not known."""
    adapter = MeanTeacher(
        network(), size=SIZE, weights=weights(), tasks=tuple(TASKS), threshold=0.0, ramp_up=0.5, start_step=10
    ).train()
    trust = []
    for name, steps in (("unknown", 0), ("known", 40)):
        adapter.steps = steps
        for step in (10, 20, 29, 30, 39):
            adapter.step = step
            trust.append(adapter.trust())
            for label in adapter.label(unlabelled()).values():
                assert label.weight.item() == pytest.approx(trust[-1]), name
    assert trust[:5] == [1] * 5
    assert trust[5:] == pytest.approx([math.exp(-5), math.exp(-1.25), math.exp(-5 / 400), 1, 1])
    with pytest.raises(ValueError, match=r"ramp_up is 20.0; give the share of the training that it lasts, from 0 to 1"):
        build(MeanTeacher, network(), ramp_up=20.0)


def test_a_teacher_does_not_hold_depth_back() -> None:
    """Both domains are 3 m deep and the network starts at about 0: it has to learn that as fast as without a teacher.

    One that remembers its random start and is believed at once agrees with itself on a depth that is too small.
    """
    tasks = {"depth": depth()}
    found = []
    for taught in (False, True):
        torch.manual_seed(0)
        model, source, target = network(tasks).train(), batch(tasks), unlabelled()
        source = Sample(source.image, {"depth": torch.full_like(source.targets["depth"], 3.0)}, source.key)
        adapter = MeanTeacher(model, size=SIZE, weights=weights(tasks), tasks=("depth",)).train()
        adapter.steps = 60
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for step in range(60):
            adapter.step = step
            output = model(source.image)
            loss = tasks["depth"].loss(output.predictions["depth"], source.targets["depth"])
            if taught:
                loss = loss + adapter(model, source, target, output)["depth"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            adapter.after_step(model)
        found.append(float((model(target.image).predictions["depth"] - 3).abs().mean().detach()))
    assert found[1] < 1.25 * found[0] + 0.05, found


@pytest.mark.parametrize("name", ALL_TASKS)
def test_the_teachers_labels_are_valid_targets(name: str) -> None:
    model = network(ALL_TASKS)
    adapter = MeanTeacher(model, size=SIZE, weights=weights(ALL_TASKS), tasks=tuple(ALL_TASKS), threshold=0.0).train()
    label = adapter.label(unlabelled())[name]
    expected = batch(ALL_TASKS).targets[name]
    assert label.target.shape == expected.shape
    assert label.target.dtype == expected.dtype
    assert valid_pixels(label.target).all()
    assert label.weight == 1
    task = ALL_TASKS[name]
    assert task.loss(torch.zeros(2, task.channels, *SIZE), label.target).isfinite()


def test_a_label_counts_by_the_share_of_sure_pixels() -> None:
    adapter = build(MeanTeacher, network(), threshold=0.9)
    raw = torch.zeros(1, 5, 1, 4)
    raw[0, 2, 0, :3] = torch.tensor([9.0, 9.0, 1.0])
    label = adapter._label("semseg", raw, torch.ones(1, 1, 1, 4, dtype=torch.bool))
    assert label.weight.item() == pytest.approx(0.5)
    assert label.target[0, 0, :3].tolist() == [2, 2, 2]
    label = adapter._label("semseg", raw, torch.tensor([[[[True, True, True, False]]]]))  # the last one is padded
    assert label.weight.item() == pytest.approx(2 / 3)
    assert label.target.tolist() == [[[2, 2, 2, IGNORE]]]


@pytest.mark.parametrize("kind", [MinEnt, MeanTeacher, DACS, DepthMix])
def test_what_is_padded_teaches_nothing(kind) -> None:
    """What the source pastes there has labels of its own."""
    model, source, target = network().eval(), batch(), unlabelled()
    options = {} if kind is MinEnt else {"tasks": tuple(TASKS), "threshold": 0.1, "jitter": False}
    adapter = kind(model, size=SIZE, weights=weights(), **options).train()
    inside = torch.ones(2, 1, *SIZE, dtype=torch.bool)
    inside[0, :, :8], inside[1, ..., 30:] = False, False
    target.extras[INSIDE].copy_(inside[:, 0])
    state, seen = adapter.generator.get_state(), []
    model.register_forward_hook(lambda module, inputs, output: seen.append(output.predictions))
    losses = adapter(model, source, target, model(source.image))
    raw = seen[-1]
    gradients = torch.autograd.grad(sum(losses.values()), list(raw.values()), allow_unused=True)
    taught = [each.abs().amax(dim=1, keepdim=True) > 0 for each in gradients if each is not None]
    adapter.generator.set_state(state)
    labels = {} if kind is MinEnt else adapter.label(target)
    pasted = None if kind is MinEnt else adapter.paste(source, labels)
    pasted = torch.zeros_like(inside) if pasted is None else pasted[:, None]
    assert not any((each & ~inside & ~pasted).any() for each in taught)
    assert any((each & inside & ~pasted).any() for each in taught)


def test_mixed_loss_is_a_mean_over_pixels() -> None:
    """With a loss that is a plain mean: one number per pixel, those of the teacher times its weight."""
    task = depth()
    raw, true, guess = torch.rand(3, 2, 1, 4, 6).unbind()
    pasted = torch.rand(2, 4, 6) > 0.4
    true = true.clone()
    true[0, 0, :2] = torch.nan
    pseudo = PseudoLabel(guess, torch.tensor(0.3))
    error = torch.where(pasted[:, None], (raw - true).abs(), 0.3 * (raw - guess).abs())
    known = torch.where(pasted[:, None], true.isfinite(), True)
    expected = error[known].sum() / known.sum()
    torch.testing.assert_close(mixed_loss(task, raw, true, pseudo, pasted), expected)
    torch.testing.assert_close(mixed_loss(task, raw, true, pseudo, None), 0.3 * (raw - guess).abs().mean())


@pytest.mark.parametrize("loss", ["l1", "berhu", "berhu-inverse", "berhu-inverse-all-pixels"])
def test_labels_that_are_all_true_cost_what_they_cost_without_mixing(loss: str) -> None:
    """One error everywhere, so that a loss with a threshold has the same one in every part."""
    task = depth(loss=loss)
    raw, label = torch.full((1, 1, 4, 4), 0.5), torch.full((1, 1, 4, 4), 2.0)
    pasted = torch.zeros(1, 4, 4, dtype=torch.bool)
    pasted[:, :2, :2] = True
    mixed = mixed_loss(task, raw, label, PseudoLabel(label, torch.tensor(1.0)), pasted)
    torch.testing.assert_close(mixed, task.loss(raw, label))


def test_pasted_pseudo_labels_teach_by_their_weight() -> None:
    """The loss stays what it is; the teacher's labels beside them, and other images, teach in full."""
    model, source, target = network().eval(), batch(), unlabelled()
    pasted, output, seen, found = build(DACS, model).paste(source, {}), model(source.image), [], []
    model.register_forward_hook(lambda module, inputs, output: seen.append(output.predictions["depth"]))
    for given in ({}, {"depth": {"1": 0.2}}):
        adapter = DACS(model, size=SIZE, weights=weights(), tasks=tuple(TASKS), threshold=0.0, jitter=False).train()
        adapter.pseudo_weights = given
        loss = adapter(model, source, target, output)["depth"]
        found.append((loss.detach(), *torch.autograd.grad(loss, seen[-1])))
    factor = torch.ones(2, 1, *SIZE)
    factor[1, 0][pasted[1]] = 0.2
    torch.testing.assert_close(found[1], (found[0][0], factor * found[0][1]))


@pytest.mark.parametrize("kind", [MeanTeacher, DACS, DepthMix])
def test_losses_are_the_tasks_with_their_weights(kind) -> None:
    """A teacher that is sure, no other colours: the losses can be computed from what the adapter did."""
    model, source, target = network().eval(), batch(), unlabelled()
    adapter = kind(
        model, size=SIZE, weights=weights(), tasks=tuple(TASKS), threshold=0.0, jitter=False, weight=0.5
    ).train()
    state = adapter.generator.get_state()
    found = adapter(model, source, target, model(source.image))
    adapter.generator.set_state(state)
    labels = adapter.label(target)
    pasted = adapter.paste(source, labels)
    image = target.image if pasted is None else torch.where(pasted[:, None], source.image, target.image)
    predictions = model(image).predictions
    for name, task in TASKS.items():
        label = labels[name].target
        if pasted is not None:
            place = pasted if task.target_channels is None else pasted[:, None]
            label = torch.where(place, source.targets[name], label)
        assert found[name].item() == pytest.approx(
            0.5 * task.weight * task.loss(predictions[name], label).item(), rel=1e-4
        )


@pytest.mark.parametrize("kind", [MeanTeacher, DACS, DepthMix])
def test_only_tasks_with_classes_are_labelled_unless_others_are_named(kind) -> None:
    """A quantity does not say how sure the teacher is: it learns from pasted pixels, by their share."""
    model, source, target = network(ALL_TASKS).eval(), batch(ALL_TASKS), unlabelled()
    adapter = build(kind, model, ALL_TASKS, threshold=0.0, jitter=False)
    assert adapter.labelled == ("semseg", "boundary", "saliency", "human_parts")
    labels = adapter.label(target)
    assert {name for name, label in labels.items() if label.weight > 0} == set(adapter.labelled)
    state = adapter.generator.get_state()
    found = adapter(model, source, target, model(source.image))
    adapter.generator.set_state(state)
    pasted = adapter.paste(source, labels)
    if pasted is None:
        assert set(found) == set(adapter.labelled)
        return
    assert set(found) == set(ALL_TASKS)
    predictions = model(torch.where(pasted[:, None], source.image, target.image)).predictions
    error = (predictions["depth"] - source.targets["depth"]).abs()[pasted[:, None] & source.targets["depth"].isfinite()]
    # The one invalid pixel of each image is no label where it is pasted.
    known = pasted.numel() - (pasted & ~source.targets["depth"][:, 0].isfinite()).sum()
    assert found["depth"].item() == pytest.approx((error.sum() / known).item(), rel=1e-4)


def test_self_training_without_classes_has_to_name_what_it_labels() -> None:
    tasks = {"depth": depth(), "normals": normals()}
    model = network(tasks)
    with pytest.raises(ValueError, match=r"needs a task with classes.*the model has depth, normals\. Name those"):
        MeanTeacher(model, size=SIZE, weights=weights(tasks))
    assert MeanTeacher(model, size=SIZE, weights=weights(tasks), tasks=("depth",)).labelled == ("depth",)
    with pytest.raises(ValueError, match=r"unknown task in option tasks 'semseg'.*choose from depth, normals"):
        MeanTeacher(model, size=SIZE, weights=weights(tasks), tasks=("semseg",))


def test_other_colours_depend_on_the_generator_alone_and_stay_in_range() -> None:
    adapter, images = build(MeanTeacher, network()), torch.rand(6, 3, 16, 24)
    state = adapter.generator.get_state()
    first = adapter.recolor(images)
    adapter.generator.set_state(state)
    torch.manual_seed(99)
    assert torch.equal(adapter.recolor(images), first)
    assert not torch.equal(adapter.recolor(images), first)
    assert first.min() >= 0
    assert first.max() <= 1


def test_half_of_the_images_are_blurred_and_most_get_other_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four of five get other colours."""
    adapter, images = build(MeanTeacher, network()), torch.rand(200, 3, 2, 3)

    def changed() -> float:
        return (adapter.recolor(images) != images).flatten(1).any(dim=1).float().mean().item()

    with monkeypatch.context() as patch:
        patch.setattr(mean_teacher, "JITTER", lambda sample, generator: sample)
        assert changed() == pytest.approx(0.5, abs=0.1)
    monkeypatch.setattr(mean_teacher, "blur", lambda image, sigma: image)
    assert changed() == pytest.approx(0.8, abs=0.08)


def test_blur_keeps_sums_and_has_the_width_asked_for() -> None:
    image = torch.zeros(3, 41, 41)
    image[:, 20, 20] = 1
    blurred = blur(image, 2.0)
    assert blurred[0].sum().item() == pytest.approx(1, rel=1e-5)
    place = torch.arange(41.0) - 20
    variance = (blurred[0].sum(dim=0) * place.square()).sum().item()
    assert math.sqrt(variance) == pytest.approx(2.0, rel=0.02)
    torch.testing.assert_close(blurred, blurred.transpose(1, 2))


# Mixing


def test_half_of_the_classes_that_an_image_shows_are_pasted() -> None:
    labels = torch.randint(0, 9, (5, 12, 16))
    labels[3] = torch.randint(0, 3, (12, 16))
    labels[4] = 7
    labels[:, :2] = IGNORE
    scores = torch.rand(5, 9)
    mask = choose_classes(labels, scores)
    assert not mask[labels == IGNORE].any()
    for image, chosen, score in zip(labels, mask, scores, strict=True):
        shown = image[image != IGNORE].unique()
        best = shown[score[shown].argsort(descending=True)][: (len(shown) + 1) // 2]
        assert torch.equal(chosen, torch.isin(image, best))


def test_an_image_without_labels_is_not_pasted() -> None:
    assert not choose_classes(torch.full((1, 3, 3), IGNORE), torch.rand(1, 4)).any()


def test_classes_are_those_of_the_richest_label_map_or_of_a_named_one() -> None:
    model = network(ALL_TASKS)
    assert build(DACS, model, ALL_TASKS).mixed_by == "human_parts"  # 7 classes, semseg has 5
    assert build(DACS, model, ALL_TASKS, task="semseg").mixed_by == "semseg"
    with pytest.raises(ValueError, match="unknown task with label maps 'depth'"):
        build(DACS, model, ALL_TASKS, task="depth")
    tasks = {"depth": depth(), "normals": normals()}
    with pytest.raises(ValueError, match="needs a task with label maps; the model has depth, normals"):
        build(DACS, network(tasks), tasks)


def test_what_is_nearer_in_the_source_is_pasted() -> None:
    adapter = build(DepthMix, network(), slack=0.5)
    near = torch.tensor([[[[1.0, 4.0, 4.4, torch.nan]]]])
    labels = {"depth": PseudoLabel(torch.full((1, 1, 1, 4), 4.0), torch.tensor(1.0))}
    source = Sample(torch.zeros(1, 3, 1, 4), {"depth": near})
    assert adapter.paste(source, labels).tolist() == [[[True, True, True, False]]]
    adapter.slack = 0.0
    assert adapter.paste(source, labels).tolist() == [[[True, False, False, False]]]
    with pytest.raises(ValueError, match="needs the task depth; the model has semseg"):
        build(DepthMix, network({"semseg": semseg(3)}), {"semseg": semseg(3)})


def test_mixing_images_of_two_sizes_is_refused_with_the_way_out() -> None:
    model, source = network(), batch()
    adapter = build(DACS, model)
    with pytest.raises(ValueError, match=r"\(2, 3, 32, 48\) and target images \(2, 3, 40, 48\).*set adaptation.size"):
        adapter(model, source, unlabelled(size=(40, 48)), model(source.image))


@pytest.mark.parametrize("kind", [MeanTeacher, DACS, DepthMix])
def test_views_that_follow_the_images_are_not_mixed(kind) -> None:
    """A source batch of all views of its scenes, the images themselves first, as a cross-view model has it."""
    model, views, target = network().eval(), batch(images=4), unlabelled()
    images = Sample(views.image[:2], {name: each[:2] for name, each in views.targets.items()}, views.key[:2])
    found = [build(kind, model, threshold=0.1)(model, each, target, model(each.image)) for each in (views, images)]
    torch.testing.assert_close(*found)


def test_a_decay_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"decay of the teacher is 1\.0; give a number from 0 to below 1"):
        build(MeanTeacher, network(), decay=1.0)


# Label spaces


def test_label_spaces_that_do_not_map_are_named_class_by_class() -> None:
    source = {"semseg": semseg(["road", "wall", "sky"]), "depth": depth()}
    check_label_spaces(source, {"semseg": semseg(["road", "wall", "sky"]), "human_parts": human_parts()})
    check_label_spaces(source, {})
    with pytest.raises(ValueError) as stop:
        check_label_spaces(source, {"semseg": semseg(["road", "sky", "wall", "car"])})
    message = str(stop.value)
    assert "task 'semseg'" in message
    assert "1 is 'wall' in the source and 'sky' in the target; 2 is 'sky' in the source and 'wall'" in message
    assert "3 is missing in the source and 'car' in the target" in message
    assert "0 is" not in message
